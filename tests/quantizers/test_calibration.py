import json

import numpy as np
import pytest

import kerax
from kerax import quantizers
from kerax.quantizers import calibration

TOKENS = [np.random.default_rng(0).integers(0, 11, 40) for _ in range(3)]
OPTIONS = {"num_samples": 4, "sequence_length": 6}


def make(K, num_blocks=1):
    """A model of tokens with residual blocks, and its structure."""

    def block():
        inputs = K.Input((None, 8))
        x = K.layers.EinsumDense("abc,cde->abde", (None, 2, 5), bias_axes="de", activation="relu")(inputs)
        x = K.layers.EinsumDense("abde,dec->abc", (None, 8), bias_axes="c")(x)
        return K.Model(inputs, K.layers.Dense(8, use_bias=False)(K.layers.Add()([x, inputs])))

    table, blocks = K.layers.Embedding(11, 8), [block() for _ in range(num_blocks)]
    inputs = K.Input((6,), dtype="int32")
    x = table(inputs)
    for part in blocks:
        x = part(x)
    model = K.Model(inputs, K.layers.Dense(11, name="head")(x))
    return model, {"pre_block_layers": [table], "sequential_blocks": blocks}


def mended(cls, mode):
    quantized_call = getattr(cls, f"_{mode}_call")

    def call(self, inputs, training=False):
        return quantized_call(self, inputs) if getattr(self, f"is_{mode}_calibrated") else self.call(inputs)

    return call


@pytest.fixture
def samples(monkeypatch):
    """Keras's windows of the tokens, and Keras mended.

    In Keras 3.15 no layer ever sees the data: they are noted in `call`, which layers with a dtype policy of GPTQ or AWQ
    do not use.
    """
    import keras
    from keras.src.quantizers import gptq_core

    for cls in (keras.layers.Dense, keras.layers.EinsumDense):
        for mode in ("gptq", "awq"):
            monkeypatch.setattr(cls, f"_{mode}_call", mended(cls, mode))
    found = gptq_core.get_dataloader(object(), 6, TOKENS, num_samples=4)[:, 0]
    monkeypatch.setattr(calibration, "windows", lambda config: found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name, options", [("GPTQConfig", {"group_size": 4}), ("AWQConfig", {"group_size": -1})])
def test_calibrated_models_equal_keras_mended(name, options, samples, tmp_path):
    import keras

    (own, own_structure), (theirs, their_structure) = make(kerax), make(keras)
    generator = np.random.default_rng(1)
    weights = [0.3 * generator.normal(size=weight.shape) for weight in own.get_weights()]
    own.set_weights(weights)
    theirs.set_weights(weights)
    before = np.asarray(own(samples))
    for model, module, structure in ((own, quantizers, own_structure), (theirs, keras.quantizers, their_structure)):
        config = getattr(module, name)(TOKENS, object(), quantization_layer_structure=structure, **OPTIONS | options)
        model.quantize(config.mode, config=config, filters=lambda layer: layer.name != "head")
    np.testing.assert_allclose(own(samples), theirs(samples), rtol=1e-4, atol=1e-5)
    assert np.abs(own(samples) - before).max() > 1e-4
    for block, other in zip(own_structure["sequential_blocks"], their_structure["sequential_blocks"], strict=True):
        for layer, their_layer in zip(block.layers, other.layers, strict=True):
            listed = [[(w.name, tuple(w.shape), w.dtype) for w in each.weights] for each in (layer, their_layer)]
            assert listed[0] == listed[1]
            for own_weight, weight in zip(layer.weights, their_layer.weights, strict=True):
                expected = np.floor(weight) if weight.name == "g_idx" else weight  # Keras does not round it for GPTQ
                np.testing.assert_allclose(own_weight.value, expected, rtol=1e-5)
    # Keras leaves the zero points out of its own files, so that it cannot read them; kerax's are complete.
    path = str(tmp_path / "model.weights.h5")
    own.save_weights(path)
    for again in (kerax.models.model_from_json(own.to_json()), theirs):
        again.load_weights(path)
        np.testing.assert_allclose(again(samples), own(samples), rtol=1e-4, atol=1e-5)
    again = keras.layers.EinsumDense.from_config(
        json.loads(json.dumps(own_structure["sequential_blocks"][0].layers[1].get_config()))
    )
    assert again.quantization_mode == config.mode


@pytest.mark.slow
def test_matrices_equal_keras():
    import keras
    from keras.src.quantizers.awq import awq_quantize_matrix
    from keras.src.quantizers.gptq import GPTQ

    generator = np.random.default_rng(0)
    inputs = (generator.normal(size=(40, 6)) * generator.uniform(0.1, 3, 6)).astype("float32")
    inputs[:, 3] = 0
    kernel = generator.normal(size=(6, 3)).astype("float32")
    for options in (
        {"group_size": -1, "per_channel": False},
        {"group_size": 4, "symmetric": True},
        {"group_size": 4, "activation_order": True, "weight_bits": 8, "hessian_damping": 0.1},
    ):
        config = quantizers.GPTQConfig(None, None, **options)
        layer = keras.layers.Dense(3)
        layer.build((None, 6))
        layer.set_weights([kernel, np.zeros(3)])
        theirs = keras.quantizers.GPTQConfig(None, None, **options)
        layer.quantize(config=theirs)
        found = GPTQ(layer, theirs)
        found.update_hessian_with_batch(inputs)
        found.quantize_and_correct_layer()
        parts = calibration.matrix_for(config, kernel, 2 / 40 * inputs.T @ inputs)
        integers = parts[""]
        if config.weight_bits == 4:
            integers = quantizers.pack_int4(integers, axis=0, dtype="uint8")[0]
        np.testing.assert_array_equal(integers, layer.quantized_kernel)
        np.testing.assert_allclose(parts["_scale"], layer.kernel_scale, rtol=1e-6)
        np.testing.assert_array_equal(parts["_zero"], layer.kernel_zero)
        np.testing.assert_array_equal(parts["g_idx"], np.floor(layer.g_idx))
    for size in (-1, 4):
        config = quantizers.AWQConfig(None, None, group_size=size, num_grid_points=7)
        parts = calibration.matrix_for(config, kernel, np.abs(inputs).max(0))
        expected = awq_quantize_matrix(kernel.T, np.abs(inputs).max(0), num_grid_points=7, group_size=size)
        for name, value in zip(("", "_scale", "_zero", "awq_scales", "g_idx"), expected, strict=True):
            np.testing.assert_allclose(parts[name], value, rtol=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize("mode, options", [("gptq", {}), ("awq", {})])
def test_data_make_the_outputs_better(mode, options):
    """On inputs of unequal size, what the data say beats plain rounding."""
    generator = np.random.default_rng(0)
    factors = np.array([30.0, 20.0, *[0.3] * 14], "float32")
    mixing = generator.normal(size=(16, 16)).astype("float32")
    inputs = (
        (generator.normal(size=(4, 64, 16)) * factors).astype("float32") @ mixing
        if mode == "gptq"
        else (generator.normal(size=(4, 64, 16)) * factors).astype("float32")
    )
    dense = kerax.layers.Dense(12, use_bias=False)
    expected = dense(inputs)
    kernel = np.asarray(dense.kernel.value)
    spread = kerax.layers.Lambda(lambda tokens: inputs[np.asarray(tokens)[0, 0]][None])
    config = {"gptq": quantizers.GPTQConfig, "awq": quantizers.AWQConfig}[mode]
    tokens = np.arange(4).repeat(2)
    config = config(
        [tokens],
        object(),
        num_samples=4,
        sequence_length=2,
        group_size=-1,
        quantization_layer_structure={"pre_block_layers": [spread], "sequential_blocks": [dense]},
    )
    kerax.Sequential([dense]).quantize(config=config)
    error = np.mean((dense(inputs) - expected) ** 2)
    low, high = kernel.min(0), kernel.max(0)
    scale = (high - low) / 15
    zero = np.round(-low / scale)
    plain = (np.clip(np.round(kernel / scale + zero), 0, 15) - zero) * scale
    assert error < 0.7 * np.mean((inputs @ plain - np.asarray(expected)) ** 2)
    assert dense.quantization_config.dataset is None and dense.dtype_policy.name == f"{mode}/4/-1_from_float32"


def test_windows_are_spread_over_the_tokens_and_short_data_repeated():
    config = quantizers.AWQConfig([np.arange(10), [10, 11]], object(), num_samples=3, sequence_length=4)
    assert calibration.windows(config).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]

    class Tokenizer:
        def tokenize(self, text):
            return [ord(letter) for letter in text]

    config = quantizers.AWQConfig(["ab", "c"], Tokenizer(), num_samples=2, sequence_length=5)
    assert calibration.windows(config).tolist() == [[97, 98, 99, 97, 98], [98, 99, 97, 98, 99]]


@pytest.mark.medium
def test_attention_is_calibrated_and_low_rank_updates_are_merged():
    table, attention = kerax.layers.Embedding(11, 4), kerax.layers.MultiHeadAttention(2, 3)

    class Model(kerax.Model):
        def __init__(self):
            super().__init__()
            self.table, self.block = table, Attend()

        def call(self, tokens):
            return self.block(self.table(tokens))

        def get_quantization_layer_structure(self, mode):
            return {"pre_block_layers": [self.table], "sequential_blocks": [self.block]}

    class Attend(kerax.layers.Layer):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def call(self, inputs):
            return self.attention(inputs, inputs)

    model = Model()
    model(TOKENS[0][None])
    attention.value_dense.enable_lora(1, b_initializer="ones")
    before = model(TOKENS[0][None])
    model.quantize(config=quantizers.GPTQConfig(TOKENS, object(), weight_bits=8, group_size=-1, **OPTIONS))
    parts = [getattr(attention, f"{part}_dense") for part in ("query", "key", "value", "output")]
    assert [part.quantization_mode for part in parts] == ["gptq"] * 4 and table.quantization_mode is None
    assert not attention.value_dense.lora_enabled and len(attention.value_dense.weights) == 5
    np.testing.assert_allclose(model(TOKENS[0][None]), before, atol=0.02)
    with pytest.raises(ValueError, match="LoRA does not go with quantization mode 'gptq'"):
        attention.value_dense.enable_lora(1)


@pytest.mark.medium
def test_groups_across_many_columns():
    """Where a group is no divisor of 128, or all columns are one of more than 128, Keras fails."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(400, 150)).astype("float32")
    kernel = generator.normal(size=(150, 3)).astype("float32")
    for size in (-1, 48):
        config = quantizers.GPTQConfig(None, None, group_size=size, weight_bits=8)
        parts = calibration.matrix_for(config, kernel, 2 / 400 * inputs.T @ inputs)
        assert parts["_scale"].shape == (3, 1 if size == -1 else 4)
        groups = parts["g_idx"].astype(int)
        restored = (parts[""].astype(float) - parts["_zero"][:, groups]) * parts["_scale"][:, groups]
        np.testing.assert_allclose(inputs @ restored.T, inputs @ kernel, atol=0.6)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"quantization_layer_structure": None}, ValueError, "must know the model's blocks"),
        ({"quantization_layer_structure": {}}, ValueError, "must know the model's blocks"),
        ({"quantization_layer_structure": {"pre_block_layers": []}}, ValueError, "has no 'sequential_blocks'"),
        ({"dataset": None}, ValueError, "needs `dataset` and `tokenizer`"),
        ({"dataset": "text"}, TypeError, "`dataset` must be an iterable of texts or of arrays"),
        ({"dataset": []}, ValueError, "`dataset` has no tokens"),
    ],
)
def test_bad_data_are_refused(change, error, message):
    model, structure = make(kerax)
    arguments = {"dataset": TOKENS, "tokenizer": object(), "quantization_layer_structure": structure} | OPTIONS | change
    with pytest.raises(error, match=message):
        model.quantize("gptq", config=quantizers.GPTQConfig(**arguments))


def test_kernels_that_are_no_matrices_are_left_as_floats():
    odd = kerax.layers.EinsumDense("abc,bd->acd", (8, 3), name="odd")
    block = kerax.Sequential([kerax.Input((6, 8)), kerax.layers.Dense(8), odd])
    table = kerax.layers.Embedding(11, 8)
    structure = {"pre_block_layers": [table], "sequential_blocks": [block]}
    config = quantizers.AWQConfig(TOKENS, object(), quantization_layer_structure=structure, group_size=-1, **OPTIONS)
    with pytest.warns(UserWarning, match="not of the form inputs @ kernel"):
        kerax.Sequential([table, block]).quantize(config=config)
    assert [layer.quantization_mode for layer in block.layers] == ["awq", None]


@pytest.mark.parametrize("mode", ["gptq", "awq"])
@pytest.mark.parametrize("name", ["Dense", "EinsumDense"])
def test_a_layer_alone_is_prepared_as_in_keras(mode, name, tmp_path):
    import keras

    def made(module):
        layers_, kind = module.layers, {"gptq": "GPTQConfig", "awq": "AWQConfig"}[mode]
        layer = layers_.Dense(6) if name == "Dense" else layers_.EinsumDense("ab,bc->ac", 6)
        layer.build((None, 8))
        config = getattr(module.quantizers, kind)(dataset=None, tokenizer=None, group_size=4)
        layer.quantize(config=config)
        return layer

    ours, theirs = made(kerax), made(keras)
    assert ours.dtype_policy.name == theirs.dtype_policy.name
    assert {(w.shape, str(w.dtype), w.trainable) for w in ours.weights} == {
        (tuple(w.shape), w.dtype, w.trainable) for w in theirs.weights
    }
    flag = f"is_{mode}_calibrated"
    assert getattr(ours, flag) is getattr(theirs, flag) is False
    x, kernel = np.random.default_rng(0).normal(size=(3, 8)), np.asarray(ours.kernel)
    np.testing.assert_allclose(ours(x), x @ kernel, rtol=1e-4, atol=1e-5)  # not calibrated: the floats
    model = kerax.Sequential([kerax.Input((8,)), ours])
    setattr(ours, flag, True)
    rounded = model(x)
    np.testing.assert_allclose(rounded, x @ kernel, atol=0.4)
    assert not np.allclose(rounded, x @ kernel, atol=1e-4)
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(kerax.models.load_model(tmp_path / "m.keras")(x), rounded, rtol=1e-5, atol=1e-6)
