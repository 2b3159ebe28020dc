import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers, quantizers
from kerax.quantizers import schemes

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")


def make(K, dtype="float32"):
    return K.Sequential(
        [
            K.Input((4,)),
            K.layers.Dense(6, "relu", dtype=dtype),
            K.layers.EinsumDense("ab,bc->ac", (2,), bias_axes="c", dtype=dtype),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", ["adam", {"class_name": "SGD", "config": {"learning_rate": 0.1, "momentum": 0.9}}]
)
def test_training_with_8_bit_floats_equals_keras(optimizer):
    import keras

    own, theirs = make(kerax), make(keras)
    theirs.set_weights(own.get_weights())
    for model in (own, theirs):
        model.quantize("float8")
    own.compile(kerax.optimizers.get(optimizer), "mse")
    theirs.compile(keras.optimizers.get(optimizer), "mse")
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    histories = [model.fit(X, Y, **options).history["loss"] for model in (own, theirs)]
    np.testing.assert_allclose(*histories, rtol=1e-5)
    assert [w.name for w in own.weights] == [w.name for w in theirs.weights]
    for found, expected in zip(own.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(own.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=1e-4, atol=1e-5)
    assert [v.shape for v in own.optimizer.variables] == [tuple(v.shape) for v in theirs.optimizer.variables]


@pytest.mark.medium
def test_scales_follow_the_largest_magnitudes():
    layer = layers.Dense(1, use_bias=False)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0], [-2.0]])])
    layer.quantize("float8")
    variables = layer.variables_tree()
    x = jnp.array([[4.0, 3.0]])
    grads = jax.grad(lambda v: jnp.sum(3 * layer.apply(v, x)[0]))(variables)["params"]
    assert [float(grads[f"{name}_amax_history"][0]) for name in ("inputs", "kernel", "outputs_grad")] == [4, 2, 3]
    assert float(grads["inputs_scale"]) == 1  # of the history before
    variables = {"params": variables["params"] | {k: v for k, v in grads.items() if k != "kernel"}, "state": {}}
    grads = jax.grad(lambda v: jnp.sum(layer.apply(v, x)[0]))(variables)["params"]
    np.testing.assert_allclose(grads["inputs_scale"], 4 / 448)
    np.testing.assert_allclose(grads["outputs_grad_scale"], 3 / 57344)
    assert grads["inputs_amax_history"].shape == (1024,)


def test_rounding_is_that_of_8_bit_floats():
    one = jnp.ones(())
    history = jnp.zeros(4)
    np.testing.assert_array_equal(schemes.float8_operand(jnp.array([1.0, 1.06, 500.0]), one, history), [1, 1, 448])
    outputs, pull_back = jax.vjp(lambda x: schemes.float8_gradient(x, one, history), jnp.array([1.06]))
    assert outputs == jnp.array([1.06]) and pull_back(jnp.array([1.3]))[0] == 1.25


@pytest.mark.slow
def test_small_batches_and_norms_leave_the_scales_alone():
    """Of parts of a batch the largest magnitude counts; scales are no part of the gradient's norm."""
    found = []
    for micro_batches in (1, 4):
        kerax.utils.set_random_seed(0)
        model = make(kerax)
        model.quantize("float8")
        model.compile("sgd", "mse", micro_batches=micro_batches, log_gradient_norm=True)
        history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
        found.append((model.layers[0].inputs_amax_history.numpy(), history["gradient_norm"]))
        assert model.layers[0].inputs_amax_history.numpy()[0] == np.abs(X).max()
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=0.1)


@pytest.mark.medium
@pytest.mark.parametrize("policy", ["bfloat16", "mixed_float16"])
def test_float8_in_half_precision_learns(policy):
    model = make(kerax, policy)
    model.quantize("float8")
    model.compile("adam", "mse")
    losses = model.fit(X, X[:, :2], batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.layers[0].inputs_scale.value.dtype == "float32" and model.layers[0].inputs_scale.value != 1


@pytest.mark.medium
def test_integers_come_back_from_every_form():
    kernel = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    for equation, shape in (("abc,cde->abde", (4, 2, 3)), ("abcd,cde->abe", (4, 2, 3)), ("ab,cb->ac", (8, 3))):
        weight = kernel.reshape(shape)
        parts = schemes.split_int8(weight, quantizers.Int8QuantizationConfig(), equation)
        np.testing.assert_allclose(schemes.join_int8(parts, equation), weight, atol=0.02)
    table = kernel.reshape(8, 3)
    for size in (None, 2):
        parts = schemes.split_matrix(table.T, quantizers.Int4QuantizationConfig(block_size=size), pack_axis=0)
        rows = {k: v if k == "g_idx" else v.T for k, v in parts.items()}
        assert rows[""].shape == (8, 2)
        table, matrix = schemes.join_int4(rows, 3, has_scaled_rows=True), schemes.join_int4(parts, 3, pack_axis=0)
        np.testing.assert_array_equal(table, matrix.T)


@pytest.mark.medium
@pytest.mark.parametrize("rows", [8, 7])
def test_scales_of_rows_one_after_the_other_are_those_that_the_indices_pick(rows):
    config = quantizers.Int4QuantizationConfig(block_size=4)
    matrix = np.random.default_rng(0).normal(size=(rows, 6)).astype("float32")
    parts = schemes.split_matrix(matrix, config, pack_axis=-1)
    picked, spread = schemes.join_int4(parts, 6), schemes.join_int4(parts, 6, block_size=4)
    np.testing.assert_array_equal(picked, spread)


@pytest.mark.medium
def test_the_numbers_of_nf4_are_the_quantiles_of_the_paper():
    quantile = statistics.NormalDist().inv_cdf
    outermost = 0.9677083
    above = [quantile(0.5 + (outermost - 0.5) * index / 8) for index in range(9)]
    below = [quantile(0.5 - (outermost - 0.5) * index / 7) for index in range(8)]
    expected = np.sort([*below, *above[1:]]) / quantile(outermost)
    column = np.float32(expected)[:, None]
    parts = schemes.split_nf4(column, 16, 0)
    assert np.asarray(parts[""]).ravel().tolist() == [high << 4 | high - 1 for high in range(1, 16, 2)]
    np.testing.assert_allclose(schemes.join_nf4(parts, 16, 16, 0), column, atol=1e-6)


@pytest.mark.medium
@pytest.mark.parametrize(("size", "ratio"), [(64, 0.98), (128, 0.94), (-1, 0.85)])
def test_normal_weights_are_closer_in_nf4_than_in_integers_with_zero_points(size, ratio):
    matrix = np.random.default_rng(0).normal(size=(512, 64)).astype("float32")
    found = schemes.join_nf4(schemes.split_nf4(matrix, size, -1), 64, size, -1)
    blocks = 512 if size == -1 else size
    integers = schemes.split_matrix(matrix, quantizers.Int4QuantizationConfig(block_size=blocks), -1)
    errors = [np.sqrt(np.mean((other - matrix) ** 2)) for other in (found, schemes.join_int4(integers, 64))]
    assert errors[0] < ratio * errors[1]
    again = schemes.join_nf4(schemes.split_nf4(found, size, -1), 64, size, -1)
    np.testing.assert_allclose(again, found, atol=1e-6)


@pytest.mark.medium
def test_nf4_takes_rows_that_fill_no_block_and_zeros():
    matrix = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    matrix[:, 0] = 0
    found = schemes.join_nf4(schemes.split_nf4(matrix, 4, -1), 5, 4, -1)
    assert found.shape == (7, 5) and (found[:, 0] == 0).all()
    assert np.abs(found - matrix).max() < 0.2 * np.abs(matrix).max()
