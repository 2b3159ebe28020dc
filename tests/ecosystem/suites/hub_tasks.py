"""Tasks of KerasHub's: text that is generated, images that are classified, presets, LoRA, quantization, samplers."""

import os

import keras
import keras_hub
import numpy as np
import pytest
from hub_models import ids, make

M = keras_hub.models
CAUSAL = ["GPT2", "Gemma", "Llama", "Llama3", "Mistral", "Mixtral", "Qwen", "Qwen3", "Phi3", "OPT", "Bloom", "Falcon"]
CAUSAL += ["GPTNeoX", "GptOss", "SmolLM3", "QwenMoe"]


def prompt(length=8, given=3):
    batch = ids(length=length)
    batch["padding_mask"] = np.repeat([[1] * given + [0] * (length - given)], 2, 0).astype("int32")
    return batch


def causal(name, **kwargs):
    cls, arguments, _ = make(f"{name}Backbone")
    return getattr(M, f"{name}CausalLM")(preprocessor=None, backbone=cls(**(arguments | kwargs)))


@pytest.mark.parametrize("name", CAUSAL)
def test_generate(name, tmp_path):
    model = causal(name)
    model.compile(sampler="greedy", optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    given = prompt()
    outputs = model.generate(given, stop_token_ids=None)["token_ids"]
    assert outputs.shape == (2, 8)
    np.testing.assert_array_equal(np.asarray(outputs)[:, :3], given["token_ids"][:, :3])
    # Token by token, without a cache.
    tokens = given["token_ids"].copy()
    for place in range(3, 8):
        mask = np.repeat([[1] * place + [0] * (8 - place)], 2, 0)
        logits = model({"token_ids": tokens, "padding_mask": mask})
        tokens[:, place] = np.argmax(np.asarray(logits, "float32")[:, place - 1], -1)
    np.testing.assert_array_equal(outputs, tokens)
    first = model.generate_function
    model.generate(given, stop_token_ids=None)
    assert model.generate_function is first
    history = model.fit(ids(length=8), ids(length=8)["token_ids"], verbose=0)
    assert np.isfinite(history.history["loss"][0])
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    np.testing.assert_allclose(model(given), loaded(given), rtol=1e-4, atol=1e-5)


def test_generate_compiles_once_for_each_shape():
    import jax

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    model = causal("GPT2")
    model.compile(sampler="greedy")
    model.generate(prompt(), stop_token_ids=None)
    count = len(compiled)
    model.generate(prompt(given=4), stop_token_ids=None)
    assert len(compiled) == count


@pytest.mark.parametrize("sampler", ["greedy", "top_k", "top_p", "beam", "random", "contrastive"])
def test_samplers(sampler):
    model = causal("GPT2")
    model.compile(sampler=sampler)
    outputs = model.generate(prompt(), stop_token_ids=None)["token_ids"]
    assert np.asarray(outputs).shape == (2, 8)


def test_seq2seq_generates():
    cls, arguments, _ = make("BartBackbone")
    model = M.BartSeq2SeqLM(preprocessor=None, backbone=cls(**arguments))
    model.compile(sampler="greedy")
    given = {f"encoder_{k}": v for k, v in ids(length=5).items()} | {f"decoder_{k}": v for k, v in prompt().items()}
    outputs = model.generate(given, stop_token_ids=None)
    assert np.asarray(outputs["decoder_token_ids"]).shape == (2, 8)


def test_lora_and_its_weights(tmp_path):
    model = causal("Gemma")
    model.backbone.enable_lora(2)
    trainable = len(model.trainable_weights)
    assert 0 < trainable < len(model.weights)
    model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(ids(length=8), ids(length=8)["token_ids"], verbose=0)
    path = str(tmp_path / "model.lora.h5")
    model.backbone.save_lora_weights(path)
    other = causal("Gemma")
    other.backbone.load_lora_weights(path)
    for one, two in zip(model.trainable_weights, other.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantize(mode, tmp_path):
    model = causal("Llama")
    model.quantize(mode)
    given = prompt()
    before = model(given)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(before, keras.saving.load_model(tmp_path / "model.keras")(given), rtol=1e-4, atol=1e-4)
    model.save_to_preset(str(tmp_path / "preset"))
    again = M.CausalLM.from_preset(str(tmp_path / "preset"), preprocessor=None)
    np.testing.assert_allclose(before, again(given), rtol=1e-4, atol=1e-4)


def test_sharded_preset(tmp_path):
    model = causal("GPT2", max_sequence_length=64)
    model.save_to_preset(str(tmp_path / "preset"), max_shard_size=1.5e-6)
    assert any(name.endswith(".weights.json") for name in os.listdir(tmp_path / "preset"))
    again = M.CausalLM.from_preset(str(tmp_path / "preset"), preprocessor=None)
    np.testing.assert_allclose(model(prompt()), again(prompt()), rtol=1e-5, atol=1e-6)


def test_policies():
    with keras.device("cpu:0"):
        model = causal("Gemma", dtype="bfloat16")
    assert keras.backend.standardize_dtype(model.backbone.token_embedding.embeddings.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(model.backbone(prompt()).dtype) == "bfloat16"


@pytest.mark.parametrize(
    "name, cls, arguments",
    [
        ("Bert", "BertTextClassifier", {"num_classes": 3}),
        ("Roberta", "RobertaTextClassifier", {"num_classes": 3, "hidden_dim": 4}),
        ("DistilBert", "DistilBertTextClassifier", {"num_classes": 3, "hidden_dim": 4}),
    ],
)
def test_text_classifier(name, cls, arguments, tmp_path):
    backbone, own, batch = make(f"{name}Backbone")
    model = getattr(M, cls)(backbone=backbone(**own), preprocessor=None, **arguments)
    history = model.fit(batch, np.array([0, 2]), verbose=0)  # compiled with its own defaults
    assert np.isfinite(history.history["loss"][0])
    model.save_to_preset(str(tmp_path / "preset"))
    again = M.TextClassifier.from_preset(str(tmp_path / "preset"), preprocessor=None)
    np.testing.assert_allclose(model.predict(batch, verbose=0), again.predict(batch, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["ResNet", "ViT", "DenseNet", "MobileNet"])
def test_image_classifier(name, tmp_path):
    backbone, own, batch = make(f"{name}Backbone")
    model = getattr(M, f"{name}ImageClassifier")(backbone=backbone(**own), preprocessor=None, num_classes=3)
    history = model.fit(batch, np.array([0, 2]), verbose=0)
    assert np.isfinite(history.history["loss"][0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(model.predict(batch, verbose=0), loaded.predict(batch, verbose=0), rtol=1e-5, atol=1e-5)


def test_layout_by_path():
    model = causal("Gemma")
    mesh = keras.distribution.DeviceMesh((1, 1), ["batch", "model"], keras.distribution.list_devices()[:1])
    layouts = M.GemmaBackbone.get_layout_map(mesh)
    plan = keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    axes = [plan.get_variable_layout(weight).axes for weight in model.backbone.weights]
    assert sum(any(axis is not None for axis in of_one) for of_one in axes) > 10


def test_converter_of_hugging_face(tmp_path):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    cases = {
        "gpt2": (
            transformers.GPT2Config(vocab_size=12, n_layer=2, n_head=2, n_embd=8, n_positions=16),
            transformers.GPT2Model,
            M.GPT2Backbone,
        ),
        "llama": (
            transformers.LlamaConfig(
                vocab_size=12,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=16,
            ),
            transformers.LlamaForCausalLM,
            M.LlamaBackbone,
        ),
        "bert": (
            transformers.BertConfig(
                vocab_size=12,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=16,
            ),
            transformers.BertModel,
            M.BertBackbone,
        ),
    }
    batch = ids(length=6) | {"segment_ids": np.zeros((2, 6), "int32")}
    for name, (config, theirs, ours) in cases.items():
        torch.manual_seed(0)
        model = theirs(config).eval()
        model.save_pretrained(tmp_path / name)
        backbone = ours.from_preset(str(tmp_path / name))
        with torch.no_grad():
            base = getattr(model, "model", model)
            expected = base(
                input_ids=torch.tensor(batch["token_ids"]).long(),
                attention_mask=torch.tensor(batch["padding_mask"]),
            ).last_hidden_state
        given = {key: batch[key] for key in ("token_ids", "padding_mask")}
        outputs = backbone(batch)["sequence_output"] if name == "bert" else backbone(given)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
