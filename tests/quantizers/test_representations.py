"""Every representation in every layer that computes with one: values, gradients, files, configs, and LoRA on top."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers, quantizers
from kerax.quantizers import calibration

ATOL = {
    "nf4": 0.4,
    "float8": 0.2,
    "int8": 0.05,
    "int8-weights": 0.05,
    "int4": 0.4,
    "int4-blocks": 0.4,
    "gptq": 0.05,
    "awq": 0.4,
}
CONFIGS = {
    "int8": quantizers.Int8QuantizationConfig,
    "int8-weights": lambda: quantizers.Int8QuantizationConfig(activation_quantizer=None),
    "int4": lambda: quantizers.Int4QuantizationConfig(block_size=-1),
    "int4-blocks": lambda: quantizers.Int4QuantizationConfig(block_size=8),
    "nf4": lambda: quantizers.NF4QuantizationConfig(block_size=8),
    "float8": quantizers.Float8QuantizationConfig,
    "gptq": lambda: quantizers.GPTQConfig(None, None, weight_bits=8, group_size=8),
    "awq": lambda: quantizers.AWQConfig(None, None, group_size=8),
}
LAYERS = {  # a layer, its inputs' shape, and for layers that pick rows their number
    "Dense": (lambda **kw: layers.Dense(6, "tanh", **kw), (3, 16), None),
    "Dense-3d": (lambda **kw: layers.Dense(6, use_bias=False, **kw), (2, 3, 16), None),
    "EinsumDense": (
        lambda **kw: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", **kw),
        (2, 3, 16),
        None,
    ),
    "EinsumDense-odd": (lambda **kw: layers.EinsumDense("abc,dc->abd", (None, 3), **kw), (2, 3, 16), None),
    "Embedding": (lambda **kw: layers.Embedding(7, 16, **kw), (2, 3), 7),
    "ReversibleEmbedding": (lambda **kw: layers.ReversibleEmbedding(7, 16, **kw), (2, 3, 16), None),
    "ReversibleEmbedding-untied": (
        lambda **kw: layers.ReversibleEmbedding(7, 16, tie_weights=False, **kw),
        (2, 3, 16),
        None,
    ),
    "Conv1D": (lambda **kw: layers.Conv1D(5, 2, padding="causal", **kw), (2, 6, 8), None),
    "Conv2D": (lambda **kw: layers.Conv2D(6, 2, groups=2, activation="tanh", **kw), (2, 5, 5, 8), None),
    "Conv2D-first": (lambda **kw: layers.Conv2D(5, 2, 2, data_format="channels_first", **kw), (2, 4, 5, 5), None),
    "Conv3D": (lambda **kw: layers.Conv3D(3, 2, **kw), (1, 3, 3, 3, 2), None),
    "Conv1DTranspose": (lambda **kw: layers.Conv1DTranspose(3, 2, strides=2, **kw), (2, 4, 8), None),
    "Conv2DTranspose": (lambda **kw: layers.Conv2DTranspose(3, 2, **kw), (1, 4, 4, 4), None),
    "DepthwiseConv2D": (lambda **kw: layers.DepthwiseConv2D(4, depth_multiplier=2, **kw), (1, 5, 5, 3), None),
    "SeparableConv1D": (lambda **kw: layers.SeparableConv1D(5, 8, padding="same", **kw), (2, 6, 8), None),
}
DENSE = ("Dense", "Dense-3d", "EinsumDense")
QUICK = {
    ("Dense", "int8"),
    ("Embedding", "int4-blocks"),
    ("Conv2D", "int8"),
    ("Conv1D", "int4-blocks"),
    ("Dense", "nf4"),
}
GRID = [
    pytest.param(name, mode, marks=() if (name, mode) in QUICK else pytest.mark.slow)
    for name in LAYERS
    for mode in CONFIGS
    if name in DENSE or mode.startswith(("int", "nf4"))
]


def how(layer) -> dict:
    """Further arguments of the layer's call."""
    return {"reverse": True} if isinstance(layer, layers.ReversibleEmbedding) else {}


def made(name, **kwargs):
    """A built layer with random weights, and inputs."""
    make, shape, high = LAYERS[name]
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, high, shape) if high else generator.normal(size=shape).astype("float32")
    layer = make(**kwargs)
    layer.build(shape)
    if layer.quantization_mode is None:
        layer.set_weights([generator.uniform(-0.5, 0.5, size=weight.shape) for weight in layer.weights])
    return layer, jnp.asarray(inputs)


def quantize(layer, mode):
    if mode in ("gptq", "awq"):
        config = CONFIGS[mode]()
        num_rows = layer.representations["kernel"].num_rows
        calibration.store(layer, config, jnp.eye(num_rows) if mode == "gptq" else jnp.ones(num_rows))
    else:
        layer.quantize(config=CONFIGS[mode]())


@pytest.mark.medium
@pytest.mark.parametrize("name, mode", GRID)
def test_every_layer_computes_with_every_representation(name, mode, tmp_path):
    layer, inputs = made(name)
    before, floats = layer(inputs, **how(layer)), {key: weight.value for key, weight in layer.representations.items()}
    quantize(layer, mode)
    tolerance = ATOL[mode]
    after = layer(inputs, **how(layer))
    assert after.dtype == before.dtype
    assert not np.array_equal(after, before)
    np.testing.assert_allclose(after, before, atol=tolerance)
    for key, weight in layer.representations.items():
        assert weight.value.shape == floats[key].shape
        np.testing.assert_allclose(weight.value, floats[key], atol=tolerance / 4)
        if mode.startswith("int"):
            assert vars(layer)[key].dtype == "int8" and not vars(layer)[key].trainable
            assert f"{key}_scale" in [variable.name for variable in layer.weights]

    # Gradients reach the inputs, close to those of the floats.
    variables = layer.variables_tree()
    np.testing.assert_allclose(
        jax.jit(lambda v: layer.apply(v, inputs, **how(layer))[0])(variables), after, rtol=1e-4, atol=1e-4
    )
    if LAYERS[name][2] is None:
        other, _ = made(name)
        slopes = [
            jax.grad(lambda x, of=of: jnp.sum(of.apply(of.variables_tree(), x, **how(of))[0]))(inputs)
            for of in (layer, other)
        ]
        np.testing.assert_allclose(*slopes, atol=4 * tolerance)
        assert np.abs(slopes[0]).max() > 0.1

    # Its config comes back quantized; with the values of a file it gives the same numbers.
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    again.build(LAYERS[name][1])
    assert again.quantization_mode == layer.quantization_mode
    assert [(w.name, w.shape, w.dtype) for w in again.stored_variables()] == [
        (w.name, w.shape, w.dtype) for w in layer.stored_variables()
    ]
    held = {}
    layer.save_own_variables(held)
    again.load_own_variables(held)
    np.testing.assert_array_equal(again(inputs, **how(layer)), after)


@pytest.mark.parametrize("mode", [None, "int8", "int4-blocks"])
@pytest.mark.parametrize("name", LAYERS)
def test_low_rank_updates_lie_on_every_representation(name, mode):
    layer, inputs = made(name)
    if mode:
        quantize(layer, mode)
    before, weight = layer(inputs, **how(layer)), next(iter(layer.representations.values())).value
    layer.enable_lora(2, lora_alpha=4)
    np.testing.assert_allclose(layer(inputs, **how(layer)), before, rtol=1e-5, atol=1e-5)
    own = next(iter(layer.representations.values()))
    low, high = own.variables["a"], own.variables["b"]
    generator = np.random.default_rng(1)
    for variable in (low, high):
        variable.assign(generator.uniform(-1, 1, variable.shape))
    np.testing.assert_allclose(own.value, weight + 2 * low.value @ high.value, rtol=1e-5, atol=1e-6)
    assert {v.name for v in layer.trainable_weights} >= {low.name, high.name}
    held = {}
    layer.save_own_variables(held)
    merged, _ = made(name)
    if mode:
        merged.quantize(config=CONFIGS[mode]())
    merged.load_own_variables(held)
    if not name.startswith("ReversibleEmbedding-untied"):  # whose logits do not see the updated table
        assert not np.allclose(layer(inputs, **how(layer)), before, atol=0.1)
    np.testing.assert_allclose(
        merged(inputs, **how(layer)), layer(inputs, **how(layer)), atol=8 * ATOL[mode] if mode else 1e-4
    )


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Conv2D(4, 3, padding="same", name="first")
        self.shared = layers.Conv2D(4, 1, name="shared")

    def call(self, inputs):
        return self.shared(self.shared(self.first(inputs)))


@pytest.mark.medium
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_models_quantize_nested_and_shared_convolutions(mode, tmp_path):
    kerax.saving.register_keras_serializable("test")(Block)
    inputs = kerax.Input((6, 6, 3))
    x = Block(name="block")(inputs)
    x = layers.SeparableConv2D(4, 2, name="separable")(x)
    model = kerax.Model(inputs, layers.Dense(2, name="last")(layers.GlobalAveragePooling2D()(x)))
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype("float32")
    before = model.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.quantize(mode)
    block = model.get_layer("block")
    assert [layer.quantization_mode for layer in (block.first, block.shared)] == [mode, mode]
    after = model.predict(x, verbose=0)
    np.testing.assert_allclose(after, before, atol={"int8": 0.03, "int4": 0.4}[mode])
    model.save(tmp_path / "model.keras")
    again = kerax.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("separable").pointwise_kernel.dtype == "int8"
    np.testing.assert_allclose(again.predict(x, verbose=0), after, rtol=1e-5, atol=1e-6)
    model.compile("sgd", "mse")  # biases are trained on
    model.fit(x, np.zeros((4, 2)), verbose=0)
    assert not np.array_equal(model.predict(x, verbose=0), after)


def test_float_layers_call_one_function_on_the_way_to_the_product():
    """`Layer.__call__`, `call`, `project`, and then JAX."""
    import traceback

    found = []
    layer = layers.Dense(3)
    x = jnp.ones((2, 4))
    layer(x)
    plain = jnp.matmul
    try:
        jnp.matmul = lambda *args: (found.extend(traceback.extract_stack()), plain(*args))[1]
        layer(x)
    finally:
        jnp.matmul = plain
    frames = [frame.name for frame in found if "kerax" in frame.filename and "tests" not in frame.filename]
    assert frames == ["__call__", "call", "project"]
