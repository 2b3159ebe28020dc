import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers, quantizers

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
INT4 = np.random.default_rng(1).integers(-8, 8, (5, 3)).astype("int8")


def assert_same(found, expected, tolerance=1e-6):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(found) == len(expected)
    for own, theirs in zip(found, expected, strict=True):
        assert jnp.asarray(own).dtype == jnp.asarray(theirs).dtype
        np.testing.assert_allclose(own, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_abs_max_quantize_equals_keras(dtype):
    import keras

    x = X.astype(dtype)
    for arguments in ({"axis": 0}, {"axis": -1, "to_numpy": True}, {"axis": (0, 1), "value_range": (-8, 7)}):
        assert_same(
            quantizers.abs_max_quantize(x, **arguments), keras.quantizers.abs_max_quantize(x, **arguments), 1e-3
        )


def test_abs_max_quantize_brings_the_largest_to_the_end_of_the_range():
    integers, scale = quantizers.abs_max_quantize(np.array([[1.0, -2.0]]), axis=1)
    assert integers.tolist() == [[64, -127]] and scale.shape == (1, 1)
    assert quantizers.abs_max_quantize(np.zeros((1, 2)), axis=1)[0].tolist() == [[0, 0]]


@pytest.mark.parametrize("block_size", [2, 3, 5, 128])
def test_groups_with_zero_point_equal_keras_on_the_host(block_size):
    import keras

    for shift in (0, 1, -5):
        expected = keras.quantizers.abs_max_quantize_grouped_with_zero_point(X + shift, block_size, to_numpy=True)
        for to_numpy in (False, True):
            found = quantizers.abs_max_quantize_grouped_with_zero_point(X + shift, block_size, to_numpy=to_numpy)
            assert_same(found, expected, 1e-7)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_packing_equals_keras_and_is_undone(axis, dtype):
    import keras

    values = INT4 if dtype == "int8" else (INT4 + 8).astype("uint8")
    packed, shape, size = quantizers.pack_int4(values, axis, dtype)
    theirs = keras.quantizers.pack_int4(values, axis, dtype)
    assert (packed.tolist(), shape, size) == (np.asarray(theirs[0]).tolist(), tuple(theirs[1]), theirs[2])
    assert_same(quantizers.unpack_int4(packed, size, axis, dtype), values)
    assert_same(quantizers.pack_int4(np.int8([[-3, 7], [2, -8], [1, 0]]))[0], np.int8([[45, -121], [1, 0]]))


def test_float8_functions_equal_keras():
    import keras

    for amax in (0.0, 2.0, np.inf):
        arguments = np.float32(amax), np.float32(0.5), 448.0, 1
        assert_same(quantizers.compute_float8_scale(*arguments), keras.quantizers.compute_float8_scale(*arguments))
    history = np.arange(1, 4, dtype="float32")
    found = quantizers.compute_float8_amax_history(X, history)
    assert_same(found, keras.quantizers.compute_float8_amax_history(X, history))
    assert found.tolist() == [np.abs(X).max(), 3, 1]
    for dtype in ("float8_e4m3fn", "float8_e5m2"):
        arguments = X * 300, 0.7, dtype, "float32"
        assert_same(
            quantizers.quantize_and_dequantize(*arguments), keras.quantizers.quantize_and_dequantize(*arguments)
        )


@pytest.mark.parametrize("bounds", [(-0.7, 0.9), (0.1, 0.9), (-1.0, -0.2)])
@pytest.mark.parametrize("options", [{"num_bits": 4}, {"num_bits": 8, "narrow_range": True}])
def test_fake_quant_and_its_gradients_equal_keras(bounds, options):
    import keras

    def results(module):
        def loss(*arguments):
            outputs = module.fake_quant_with_min_max_vars(*arguments, **options)
            return jnp.sum(outputs * jnp.cos(jnp.arange(20.0)).reshape(5, 4)), outputs

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(jnp.asarray(X), *map(jnp.float32, bounds))

    assert_same(results(quantizers), results(keras.quantizers), 1e-5)


def test_fake_quant_per_channel_is_that_of_each_channel():
    low, high = np.float32([-0.5, -0.6, -0.7, -0.8]), np.float32([0.6, 0.9, 0.75, 1.8])
    found = quantizers.fake_quant_with_min_max_vars(X, low, high, axis=1)
    single = [quantizers.fake_quant_with_min_max_vars(X[:, i], low[i], high[i]) for i in range(4)]
    np.testing.assert_allclose(found, np.stack(single, 1), rtol=1e-6)
    np.testing.assert_allclose(quantizers.fake_quant_with_min_max_vars(X.T, low, high, axis=0), found.T, rtol=1e-6)


def test_quantizer_objects_have_keras_configs():
    import keras

    own, theirs = quantizers.AbsMaxQuantizer(axis=0), keras.quantizers.AbsMaxQuantizer(axis=0)
    assert own.get_config() == theirs.get_config()
    again = quantizers.deserialize(quantizers.serialize(own))
    assert_same(again(X), theirs(X))
    assert_same(quantizers.get("abs_max_quantizer")(X, axis=-1), keras.quantizers.AbsMaxQuantizer()(X, axis=-1))
    assert quantizers.get(None) is None
    for name in ("Int8QuantizationConfig", "Int4QuantizationConfig"):
        config = getattr(quantizers, name)()
        assert set(config.get_config()) == set(getattr(keras.quantizers, name)().get_config())
        assert type(config).from_config(config.get_config()).get_config() == config.get_config()


LAYERS = {
    "Dense": (lambda L: L.Dense(6, "relu"), (3, 5), None),
    "Dense-3d": (lambda L: L.Dense(3, use_bias=False), (2, 3, 4), None),
    "EinsumDense": (lambda L: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (2, 3, 4), None),
    "EinsumDense-two": (lambda L: L.EinsumDense("abcd,cde->abe", (None, 3), bias_axes="e"), (2, 3, 4, 2), None),
    "Embedding": (lambda L: L.Embedding(7, 5), (2, 3), 7),
}


MODES = [("int8", None), ("int4", 2)]
MODES += [pytest.param("int4", size, marks=pytest.mark.slow) for size in (128, None)]


@pytest.mark.slow
@pytest.mark.parametrize("mode, block_size", MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_quantized_layers_equal_keras(name, mode, block_size):
    import keras

    make, shape, high = LAYERS[name]
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, high, shape) if high else generator.normal(size=shape).astype("float32")
    own, theirs = make(layers), make(keras.layers)
    own.build(shape)
    theirs.build(shape)
    weights = [generator.normal(size=weight.shape).astype("float32") for weight in own.weights]
    own.set_weights(weights)
    theirs.set_weights(weights)
    if mode == "int8":
        own.quantize(mode)
        theirs.quantize(mode)
    else:
        own.quantize(mode, config=quantizers.Int4QuantizationConfig(block_size=block_size))
        theirs.quantize(mode, config=keras.quantizers.Int4QuantizationConfig(None, None, block_size or -1))
    listed = [[(w.name, tuple(w.shape), w.dtype, w.trainable) for w in layer.weights] for layer in (own, theirs)]
    assert listed[0] == listed[1]
    for found, expected in zip(own.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(own(inputs), theirs(inputs), rtol=1e-4, atol=1e-5)
    variables = own.variables_tree()
    np.testing.assert_allclose(jax.jit(own.apply)(variables, inputs)[0], own(inputs), rtol=1e-4, atol=1e-5)
    if not high:
        expected = jax.grad(lambda x: jnp.sum(theirs(x) ** 2))(jnp.asarray(inputs))
        found = jax.grad(lambda x: jnp.sum(own.apply(variables, x)[0] ** 2))(jnp.asarray(inputs))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_ellipsis_means_the_same_as_letters(mode):  # Keras cannot quantize it
    found = []
    for equation in ("...x,xy->...y", "abx,xy->aby"):
        layer = layers.EinsumDense(equation, 3 if "." in equation else (None, 3))
        layer.build((1, 5, 4))
        layer.set_weights([X.T[:, :3]])
        layer.quantize(mode)
        found.append(layer(X[None]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_allclose(found[0], (X @ X.T[:, :3])[None], atol=0.1 if mode == "int8" else 1)


@pytest.mark.slow
def test_model_quantizes_its_layers():
    import keras

    def make(K):
        return K.Sequential(
            [K.layers.Input((4,)), K.layers.Dense(6, name="first"), K.layers.LayerNormalization(), K.layers.Dense(2)]
        )

    own, theirs = make(kerax), make(keras)
    theirs.set_weights(own.get_weights())
    before = own.predict(X, verbose=0)
    own.quantize("int8")
    theirs.quantize("int8")
    assert [layer.quantization_mode for layer in (own.layers[0], own.layers[-1])] == ["int8", "int8"]
    after = own.predict(X, verbose=0)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, theirs(X), rtol=1e-4, atol=1e-5)
    for filters in ("^first$", ["nothing", "^first$"], lambda layer: layer.name == "first"):
        model = make(kerax)
        model.quantize("int4", filters=filters)
        assert (model.layers[0].quantization_mode, model.layers[-1].quantization_mode) == ("int4", None)
    with pytest.raises(ValueError, match="`filters` leaves no layer"):
        make(kerax).quantize("int8", filters="nothing")


def test_weights_alone_can_be_integers():
    layer = layers.Dense(3)
    before = layer(X)
    layer.quantize(config=quantizers.Int8QuantizationConfig(activation_quantizer=None))
    np.testing.assert_allclose(layer(X), before, atol=0.05)
    np.testing.assert_allclose(layer(X), X @ (layer.kernel.value / layer.kernel_scale.value), rtol=1e-4, atol=1e-5)


def test_bad_calls_are_refused():
    layer = layers.Dense(3)
    with pytest.raises(ValueError, match="needs a built layer"):
        layer.quantize("int8")
    layer.build((None, 4))
    with pytest.raises(ValueError, match=r"`mode` must be one of \('int8', 'int4'\)"):
        layer.quantize("float8")
    with pytest.raises(ValueError, match="`config` must be for mode 'int8'"):
        layer.quantize("int8", config=quantizers.Int4QuantizationConfig())
    layer.quantize("int8")
    with pytest.raises(ValueError, match="quantized already"):
        layer.quantize("int4")
    lora = layers.Dense(3, lora_rank=1)
    lora.build((None, 4))
    with pytest.raises(ValueError, match="with LoRA cannot be quantized"):
        lora.quantize("int8")
    table = layers.ReversibleEmbedding(3, 2)
    table.build()
    with pytest.raises(ValueError, match="type_check=False"):
        table.quantize("int8")
    with pytest.raises(ValueError, match="has a `call` of its own"):
        table.quantize("int8", type_check=False)
    with pytest.raises(ValueError, match="`axis` must be given"):
        quantizers.AbsMaxQuantizer()(X)
    with pytest.raises(ValueError, match=r"must have shape \(rows, columns\)"):
        quantizers.abs_max_quantize_grouped_with_zero_point(X[0], 2)
    with pytest.raises(ValueError, match="`dtype` must be 'int8' or 'uint8'"):
        quantizers.pack_int4(INT4, dtype="int16")
    with pytest.raises(ValueError, match="`block_size` must be positive"):
        quantizers.Int4QuantizationConfig(block_size=0)
