import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import kerax
from kerax import language
from kerax.core.tracking import descendants
from kerax.quantizers.compressible import Compressible
from tests.language import llama
from tests.saving.hub_server import Hub

IDS = np.random.default_rng(1).integers(1, 320, (2, 7)).astype("int32")


def all_tensors(folder):
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return llama.write(tmp_path_factory.mktemp("llama"), num_files=3)


@pytest.fixture(scope="module")
def model(folder):
    return language.load(folder)


@pytest.mark.medium
def test_logits_are_those_of_the_formula(model, folder):
    expected = [llama.logits(llama.tensors(), row) for row in IDS]
    np.testing.assert_allclose(model(IDS), expected, atol=2e-5)


@pytest.mark.medium
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model, side):
    rows = np.full((2, 10), 9, "int32")
    mask = np.zeros((2, 10), bool)
    place = slice(3, None) if side == "left" else slice(0, 7)
    rows[:, place], mask[:, place] = IDS, True
    found = model({"token_ids": rows, "padding_mask": mask})
    np.testing.assert_allclose(found[:, place], model(IDS), atol=1e-5)


@pytest.mark.medium
def test_segments_do_not_see_each_other(model):
    rows = {
        "token_ids": IDS.reshape(1, 14),
        "segment_ids": np.repeat([[1, 2]], 7, axis=1).astype("int32"),
        "positions": np.tile(np.arange(7, dtype="int32"), 2)[None],
    }
    np.testing.assert_allclose(model(rows).reshape(2, 7, -1), model(IDS), atol=1e-5)
    with pytest.raises(ValueError, match=r"inputs must be token ids, or a dict of .* Got \['tokens'\]"):
        model({"tokens": IDS})


@pytest.mark.parametrize("max_shard_size, num_files", [(5e9, 1), (20_000, 4)])
def test_what_is_written_is_what_was_read(model, folder, tmp_path, max_shard_size, num_files):
    language.save(model, tmp_path / "out", max_shard_size)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == num_files
    before, after = all_tensors(folder), all_tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == llama.CONFIG
    again = language.load(tmp_path / "out")
    np.testing.assert_array_equal(again(IDS), model(IDS))


@pytest.mark.medium
def test_half_precision_stays_as_it_is(tmp_path):
    found = llama.tensors(dtype=jax.numpy.bfloat16)
    config = {name: value for name, value in llama.CONFIG.items() if name != "torch_dtype"}
    model = language.load(llama.write(tmp_path / "in", found, config))
    assert {weight.dtype for weight in model.weights} == {"bfloat16"} and model(IDS).dtype == "bfloat16"
    language.save(model, tmp_path / "out")
    after = all_tensors(tmp_path / "out")
    assert all(value.tobytes() == after[name].tobytes() for name, value in found.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    wide = language.load(tmp_path / "out", dtype="float32")
    np.testing.assert_allclose(
        wide(IDS)[0], llama.logits({k: v.astype("f4") for k, v in found.items()}, IDS[0]), atol=2e-5
    )


def test_nothing_is_drawn_and_each_weight_goes_to_its_place(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr("kerax.core.variable.materialize", lambda variables: drawn.extend(variables))
    monkeypatch.setattr("kerax.core.variable._fresh_array", lambda *_: drawn.append(_))
    mesh = kerax.distribution.DeviceMesh((1,), ["model"], jax.devices()[:1])
    layout = kerax.distribution.LayoutMap(mesh)
    layout[".*query/kernel"] = (None, "model", None)
    with kerax.distribution.ModelParallel(layout_map=layout, batch_dim_name="model").scope():
        model = language.load(folder)
        kernel = model.blocks[0].attention.query_dense.kernel
        assert kernel.value.sharding.spec == jax.sharding.PartitionSpec(None, "model")
    assert drawn == []


def test_a_model_is_made_of_a_config_and_saved_as_any_other(tmp_path):
    model = language.create(llama.CONFIG)
    assert model.count_params() == sum(value.size for value in llama.tensors().values())
    model.save(tmp_path / "model.keras")
    again = kerax.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(IDS), model(IDS))
    language.save(again, tmp_path / "out")
    np.testing.assert_array_equal(language.load(tmp_path / "out")(IDS), model(IDS))


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode, config",
    [
        ("int8", None),
        ("int4/8", kerax.quantizers.Int4QuantizationConfig(block_size=8)),
        ("nf4/8", kerax.quantizers.NF4QuantizationConfig(block_size=8)),
    ],
)
def test_quantized_as_it_is_read_equals_quantized_afterwards(folder, mode, config, tmp_path):
    model, other = language.load(folder, quantization=mode), language.load(folder)
    assert model.token_embedding.quantization_mode is None
    for layer in (item for block in other.blocks for item in descendants(block) if isinstance(item, Compressible)):
        layer.quantize(mode.partition("/")[0], config=config)
    np.testing.assert_allclose(model(IDS), other(IDS), atol=1e-5)
    language.save(model, tmp_path)  # as floats
    with_floats = language.load(tmp_path)
    assert with_floats.blocks[0].feedforward.up_dense.kernel.dtype == "float32"
    np.testing.assert_allclose(with_floats(IDS), model(IDS), atol=1e-4 if config else 0.2)  # int8 rounds inputs too


def changed(folder, **changes):
    found = {name: value for name, value in llama.tensors().items() if changes.get(name, 0) is not None}
    found |= {name: value for name, value in changes.items() if value is not None}
    return llama.write(folder, found)


def test_missing_surplus_and_misshapen_tensors_are_named(tmp_path):
    wrong = {
        "model.norm.weight": None,
        "model.norms.weight": np.ones(16, "f4"),
        "lm_head.weight": np.ones((320, 15), "f4"),
    }
    with pytest.raises(ValueError) as error:
        language.load(changed(tmp_path / "a", **wrong))
    text = str(error.value)
    assert "model.norm.weight: missing. Did you mean 'model.norms.weight'?" in text
    assert "lm_head.weight: expected shape (320, 16), found (320, 15)" in text
    assert "model.norms.weight: in the files only" in text
    surplus = changed(
        tmp_path / "b", **{"score.weight": np.ones(3, "f4"), "model.rotary_emb.inv_freq": np.ones(2, "f4")}
    )
    with pytest.raises(ValueError, match=r"score.weight: in the files only\nWith `strict=False`"):
        language.load(surplus)
    with pytest.warns(UserWarning, match=r"left out, as the model has no use for them: score.weight."):
        assert language.load(surplus, strict=False)(IDS).shape == (2, 7, 320)


def test_a_tied_table_that_is_stored_twice_is_read_once(tmp_path):
    found = llama.tensors()
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    model = language.load(llama.write(tmp_path / "in", found, llama.CONFIG | {"tie_word_embeddings": True}))
    np.testing.assert_allclose(model(IDS)[0], llama.logits(found, IDS[0]), atol=2e-5)
    language.save(model, tmp_path / "out")
    assert all_tensors(tmp_path / "out").keys() == found.keys() - {"lm_head.weight"}


def test_what_cannot_be_a_checkpoint_is_refused_with_the_way_out(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="expected a folder with config.json, or 'hf://user/name'"):
        language.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="the folder has no config.json"):
        language.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(llama.CONFIG | {"model_type": "lama"}))
    with pytest.raises(ValueError, match=r"architecture 'lama' is not known. Known: llama, .* Did you mean 'llama'\?"):
        language.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(llama.CONFIG))
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor model.safetensors.index.json"):
        language.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"pytorch_model.bin, a pickle, .*save_pretrained"):
        language.load(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(ValueError, match="names a file outside the folder"):
        language.load(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(FileNotFoundError, match="a file of the checkpoint is missing"):
        language.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"0" * 40)
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        language.load(tmp_path)
    with pytest.raises(ValueError, match=re.escape("needs 'hidden_size'")):
        language.create({**llama.CONFIG, "hidden_size": None})
    with pytest.raises(ValueError, match="activation 'quick' is not one of"):
        language.create({**llama.CONFIG, "hidden_act": "quick"})
    with pytest.raises(ValueError, match="was not made by kerax.language"):
        language.save(kerax.Sequential([kerax.layers.Dense(1)]), tmp_path)


def test_older_configs_say_the_same():
    scaling = {"type": "linear", "factor": 2.0}
    old = language.create(llama.CONFIG | {"rope_scaling": scaling})
    config = {name: value for name, value in llama.CONFIG.items() if name != "rope_theta"}
    new = language.create(config | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}})
    gemma = {"model_type": "gemma3_text", "rope_local_base_freq": 10.0, "sliding_window": 4, "num_hidden_layers": 6}
    mixed = language.create(llama.CONFIG | gemma)
    assert [block.attention.rotary.max_wavelength for block in mixed.blocks] == [10.0] * 5 + [100.0]
    assert [block.sliding_window for block in mixed.blocks] == [4] * 5 + [None]
    new.set_weights(old.get_weights())
    np.testing.assert_array_equal(old(IDS), new(IDS))


@pytest.mark.slow
def test_checkpoints_of_the_hub_are_read_where_they_are_kept(folder, tmp_path, model):
    pytest.importorskip("huggingface_hub")
    code = "import numpy as np; from kerax import language; model = language.load('hf://me/tiny@main')\n"
    code += f"np.save({str(tmp_path / 'found.npy')!r}, model(np.array({IDS.tolist()})))"
    with Hub() as hub:
        hub.repositories["me/tiny"] = {path.name: path.read_bytes() for path in folder.iterdir()} | {"big.bin": b"0"}
        settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        subprocess.run([sys.executable, "-c", code], env=os.environ | settings, check=True, timeout=300)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), model(IDS), atol=1e-6)
    assert list((tmp_path / "home").rglob("config.json")) and not list((tmp_path / "home").rglob("*.bin"))
