import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import quantizers
from kerax.quantizers import functions

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


@pytest.mark.medium
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


@pytest.mark.medium
def test_fake_quant_per_channel_is_that_of_each_channel():
    low, high = np.float32([-0.5, -0.6, -0.7, -0.8]), np.float32([0.6, 0.9, 0.75, 1.8])
    found = quantizers.fake_quant_with_min_max_vars(X, low, high, axis=1)
    single = [quantizers.fake_quant_with_min_max_vars(X[:, i], low[i], high[i]) for i in range(4)]
    np.testing.assert_allclose(found, np.stack(single, 1), rtol=1e-6)
    np.testing.assert_allclose(quantizers.fake_quant_with_min_max_vars(X.T, low, high, axis=0), found.T, rtol=1e-6)


@pytest.mark.medium
def test_parameters_and_maps_equal_keras():
    from keras.src.quantizers import quantizers as theirs

    for options in (
        {"bits": 4},
        {"bits": 3, "per_channel": True, "symmetric": True},
        {"bits": 4, "per_channel": True, "group_size": 3, "signed": True, "epsilon": 1e-3},
        {"bits": 8, "per_channel": True, "group_size": 2, "symmetric": True, "signed": True},
    ):
        found = functions.compute_quantization_parameters(X, **options)
        assert_same(found, theirs.compute_quantization_parameters(X, **options))
    scale, zero, largest = functions.compute_quantization_parameters(X, bits=4, per_channel=True, group_size=3)
    groups = np.arange(4) // 3
    integers = functions.quantize_with_sz_map(X, scale, zero, groups, largest)
    assert_same(integers, theirs.quantize_with_sz_map(X, scale, zero, groups, largest))
    restored = functions.dequantize_with_sz_map(integers, scale, zero, groups)
    assert_same(restored, theirs.dequantize_with_sz_map(integers, scale, zero, groups))
    np.testing.assert_allclose(restored, X, atol=np.asarray(scale).max())


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match=r"must have shape \(out, in\)"):
        functions.compute_quantization_parameters(X[0], bits=4)
    with pytest.raises(ValueError, match=r"must have shape \(rows, columns\)"):
        quantizers.abs_max_quantize_grouped_with_zero_point(X[0], 2)
    with pytest.raises(ValueError, match="`dtype` must be 'int8' or 'uint8'"):
        quantizers.pack_int4(INT4, dtype="int16")
