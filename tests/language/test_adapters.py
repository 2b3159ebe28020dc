import json
import warnings

import numpy as np
import pytest

import kerax
from kerax import language
from kerax.language import adapters
from kerax.language.data import Example, pack
from tests.language import llama, tiny

IDS = np.random.default_rng(1).integers(1, 320, (2, 7)).astype("int32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return llama.write(tmp_path_factory.mktemp("llama"))


def fill(model, seed=1):
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(random.normal(0, 0.3, weight.shape))


@pytest.mark.medium
def test_only_what_is_named_is_trained_and_nothing_changes_before(folder):
    model = language.load(folder)
    before = model(IDS)
    language.enable_lora(model, rank=2, targets=("query", "down"))
    np.testing.assert_array_equal(model(IDS), before)
    assert [weight.shape for weight in model.trainable_weights] == [(16, 2), (2, 4, 4), (24, 2), (2, 16)] * 2
    with pytest.raises(ValueError, match="LoRA is already enabled"):
        language.enable_lora(model, rank=2, targets=("query",))


@pytest.mark.medium
def test_saved_loaded_and_merged_it_is_the_same(folder, tmp_path):
    model = language.load(folder)
    language.enable_lora(model, rank=2, alpha=6, targets=("key", "output", "gate"))
    fill(model)
    language.save_adapter(model, tmp_path, base="user/name")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (2, 6.0, "user/name")
    assert config["target_modules"] == ["self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj"]
    other = language.load(folder)
    language.load_adapter(other, tmp_path)
    np.testing.assert_array_equal(other(IDS), model(IDS))
    language.save(other, tmp_path / "merged")
    np.testing.assert_allclose(language.load(tmp_path / "merged")(IDS), model(IDS), atol=1e-4)
    language.merge_lora(other)
    np.testing.assert_allclose(other(IDS), model(IDS), atol=1e-4)
    assert len(other.trainable_weights) == len(llama.tensors())
    found = llama.tensors()
    a, b = (np.asarray(getattr(model.blocks[1].attention.key_dense, f"lora_kernel_{part}").value) for part in "ab")
    found["model.layers.1.self_attn.k_proj.weight"] += 3 * np.einsum("ir,rhd->hdi", a, b).reshape(8, 16)
    other = language.load(folder)
    language.enable_lora(other, rank=2, alpha=6, targets=("key",))
    fill_from = other.blocks[1].attention.key_dense
    fill_from.lora_kernel_a.assign(a)
    fill_from.lora_kernel_b.assign(b)
    np.testing.assert_allclose(other(IDS)[0], llama.logits(found, IDS[0]), atol=1e-4)


@pytest.mark.slow
def test_quantized_weights_stay_while_their_adapters_learn(folder):
    model = language.load(folder, dtype="bfloat16", quantization="int4/8")
    language.enable_lora(model, rank=4, targets=adapters.TARGETS)
    random = np.random.default_rng(0)
    given = [Example(random.integers(1, 320, 12).astype("int32"), np.ones(12, bool)) for _ in range(8)]
    x, y, weight = pack(given, length=24)
    loss = kerax.losses.SparseCategoricalCrossentropy(True, reduction="mean_with_sample_weight")
    model.compile(kerax.optimizers.Adam(0.02), loss)
    frozen = [variable.numpy() for variable in model.non_trainable_weights]
    history = model.fit(x, y, sample_weight=weight, epochs=40, batch_size=4, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(frozen, model.non_trainable_weights, strict=True))
    found = {weight.name: weight.dtype for weight in model.blocks[0].feedforward.up_dense.weights}
    assert (found["kernel"], found["lora_kernel_a"]) == ("int8", "float32")  # two integers of 4 bits in each 8
    before = np.asarray(model(x), "float32")
    language.merge_lora(model)
    assert np.corrcoef(before.ravel(), np.asarray(model(x), "float32").ravel())[0, 1] > 0.9


def test_what_does_not_fit_is_named(folder, tmp_path):
    model = language.load(folder)
    with pytest.raises(ValueError, match=r"`targets` must be some of .* Got \('querry',\)"):
        language.enable_lora(model, targets=("querry",))
    with pytest.raises(ValueError, match="`rank` must be an integer of at least 1. Got 0"):
        language.enable_lora(model, rank=0)
    with pytest.raises(ValueError, match="has no low-rank updates"):
        language.save_adapter(model, tmp_path)
    language.enable_lora(model, rank=2)
    language.save_adapter(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for change, message in (
        ({"peft_type": "IA3"}, "expected adapters of type 'LORA'. Got 'IA3'"),
        ({"use_dora": True}, "`use_dora` of True is not supported"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            language.load_adapter(language.load(folder), tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    wider = llama.CONFIG | {"hidden_size": 32}
    with pytest.raises(ValueError, match=r"q_proj: expected lora_A \(rank, 32\) and lora_B \(32, rank\)"):
        language.load_adapter(language.create(wider), tmp_path)
    with pytest.raises(ValueError, match=r"the adapter does not fit .* Not matched: \['model.layers.1"):
        language.load_adapter(language.create(llama.CONFIG | {"num_hidden_layers": 1}), tmp_path)


CASES = {
    "llama3": (("query", "value"), ["q_proj", "o_proj"]),
    "phi3": (("query", "value", "output", "gate"), ["qkv_proj", "o_proj"]),  # several matrices in one
    "gpt2": (("key", "down"), ["c_attn", "mlp.c_proj"]),
    "bert": (("query", "down"), ["query", "output.dense"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_peft_reads_ours_and_we_read_peft_s(name, tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    theirs = tiny.make(name, tmp_path / "base")
    targets, modules = CASES[name]
    ids = np.random.default_rng(0).integers(3, 99, (2, 12)).astype("int32")

    def agree(ours, found):
        with torch.no_grad():
            outputs = found(input_ids=torch.tensor(ids.astype("int64")))
        expected = outputs["logits"] if "logits" in outputs else outputs["last_hidden_state"]
        mine = ours(ids)
        mine = mine["sequence_output"] if isinstance(mine, dict) else mine
        np.testing.assert_allclose(mine, expected.numpy(), atol=1e-4)

    ours = language.load(tmp_path / "base")
    language.enable_lora(ours, 3, 5, targets)
    fill(ours)
    language.save_adapter(ours, tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of adapters that were expected and are not there
        agree(ours, peft.PeftModel.from_pretrained(theirs, tmp_path / "ours").eval())
    base = type(theirs).from_pretrained(tmp_path / "base").eval()
    options = {"fan_in_fan_out": name == "gpt2", "use_rslora": name == "llama3", "init_lora_weights": False}
    made = peft.get_peft_model(base, peft.LoraConfig(r=3, lora_alpha=7, target_modules=modules, **options)).eval()
    made.save_pretrained(tmp_path / "theirs")
    ours = language.load(tmp_path / "base")
    language.load_adapter(ours, tmp_path / "theirs")
    agree(ours, made)
