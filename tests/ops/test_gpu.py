"""Formulations for GPUs, computed here on CPU: the numbers of the plain ones, forward, in both modes and twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import config, layers, losses, ops
from kerax.distribution import DataParallel
from kerax.ops import gpu, products
from kerax.optimizers import clipping

ROWS = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
LABELS = np.array([[0, 3, 7, 1, 2], [-1, 8, 4, 4, 0]])
SOFT = np.random.default_rng(1).dirichlet(np.ones(8), size=(2, 5)).astype("float32")
WEIGHTS = np.random.default_rng(2).normal(size=(2, 8)).astype("float32") + 1


def normalized(x, weights):
    return ops.layer_normalization(x, weights[0], weights[1], axis=-1, epsilon=1e-3)


FORMULATIONS = {
    "gelu": lambda x, weights: ops.gelu(x),
    "layer_normalization": normalized,
    "over two axes": lambda x, weights: ops.layer_normalization(x, axis=(1, 2), epsilon=1e-3),
    "rms_normalization": lambda x, weights: ops.rms_normalization(x, weights[0], axis=-1),
    "sparse crossentropy": lambda x, weights: ops.sparse_categorical_crossentropy(LABELS, x * weights[0], True),
    "on another axis": lambda x, weights: ops.categorical_crossentropy(SOFT, x, True, axis=1),
    "statistics in one pass": lambda x, weights: jnp.stack(gpu._two_sums(x, (2,))),
    "crossentropy": lambda x, weights: ops.categorical_crossentropy(SOFT, x * weights[0], True),
}


def results(function, x, weights):
    """Outputs, gradients, a tangent, and a product with the Hessian."""
    loss = lambda x, weights: jnp.sum(jnp.sin(function(x, weights)))
    outputs, tangent = jax.jvp(lambda x: function(x, weights), (x,), (jnp.cos(x),))
    gradients = jax.grad(loss, (0, 1))(x, weights)
    curved = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x, weights), jnp.cos(x)))(x)
    return outputs, tangent, gradients, curved


@pytest.mark.parametrize("name", FORMULATIONS)
def test_formulations_compute_what_the_plain_ones_do(name):
    def run():  # of its own for each platform: JAX keeps traces by function
        return jax.jit(lambda x, weights: results(FORMULATIONS[name], x, weights))(ROWS, WEIGHTS)

    plain = run()
    with config.compiling_for("gpu"):
        formulated = run()
    for expected, found in zip(jax.tree.leaves(plain), jax.tree.leaves(formulated), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.medium
def test_half_precision_is_computed_in_float32():
    with config.compiling_for("gpu"):
        outputs = normalized(jnp.asarray(ROWS, "bfloat16") + 3, jnp.asarray(WEIGHTS))
    assert outputs.dtype == jnp.bfloat16
    exact = normalized(jnp.asarray(jnp.asarray(ROWS, "bfloat16") + 3, "float32"), WEIGHTS)
    np.testing.assert_allclose(outputs.astype("float32"), exact, rtol=1e-2, atol=1e-2)


def test_moments_of_a_batch_in_half_precision_take_one_pass():
    layer = layers.BatchNormalization(dtype="mixed_bfloat16")
    x = jnp.asarray(3 * ROWS + 2, "bfloat16")
    layer.build(x.shape)
    run = lambda x: layer.apply(layer.variables_tree(), x, training=True)
    expected, state = run(x)
    with config.compiling_for("gpu"):
        outputs, found = run(x)
        assert str(jax.make_jaxpr(lambda x: run(x))(x)).count(" reduce[") == 1
    np.testing.assert_allclose(outputs.astype("float32"), expected.astype("float32"), rtol=2e-2, atol=2e-2)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.medium
def test_a_bias_is_added_before_the_product_is_rounded():
    layer = layers.Dense(4, dtype="mixed_bfloat16", bias_initializer="normal")
    x = jnp.asarray(ROWS, "bfloat16")
    plain = layer(x)
    with config.compiling_for("gpu"):
        outputs, gradients = jax.value_and_grad(lambda v: jnp.sum(layer.apply(v, x)[0].astype("float32") ** 2))(
            layer.variables_tree()
        )
        text = str(jax.make_jaxpr(lambda v: layer.apply(v, x)[0])(layer.variables_tree()))
    assert "preferred_element_type=float32" in text
    np.testing.assert_allclose(outputs, jnp.sum(plain.astype("float32") ** 2), rtol=2e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}
    wide = layers.Dense(9, dtype="mixed_bfloat16")
    wide.build((None, 8))
    with config.compiling_for("gpu"):
        text = str(jax.make_jaxpr(lambda v: wide.apply(v, x)[0])(wide.variables_tree()))
    assert "preferred_element_type=float32" not in text


@pytest.mark.medium
def test_masked_classes_and_lost_labels_cost_nothing():
    logits = jnp.asarray([[1.0, -jnp.inf, 2.0], [0.0, 1.0, 2.0]])
    with config.compiling_for("gpu"):
        loss = losses.sparse_categorical_crossentropy(jnp.array([0, 5]), logits, from_logits=True)
        slope = jax.grad(lambda x: jnp.sum(ops.sparse_categorical_crossentropy(jnp.array([0, 5]), x, True)))(logits)
    np.testing.assert_allclose(loss, [np.log1p(np.e), 0], rtol=1e-6)
    assert not np.isnan(slope).any() and (slope[1] == 0).all() and slope[0, 1] == 0


def test_of_logits_in_half_precision_no_copy_in_float32_is_kept():
    logits, labels = jnp.zeros((4, 5, 64), "bfloat16"), jnp.zeros((4, 5), "int32")

    def kept(logits):
        return jax.tree.leaves(jax.vjp(lambda x: ops.sparse_categorical_crossentropy(labels, x, True), logits)[1])

    with config.compiling_for("gpu"):
        large = [leaf for leaf in jax.eval_shape(kept, logits) if leaf.size == logits.size]
    assert [leaf.dtype for leaf in large] == [jnp.dtype("bfloat16")]


def test_a_table_for_all_rows_does_not_dictate_their_layout():
    table = jnp.asarray(ROWS[0])
    loss = lambda table: jnp.sum(products.repeated(table, 2) * ROWS)

    def text():  # of its own for each platform: JAX keeps traces by function
        return str(jax.make_jaxpr(jax.grad(lambda table: loss(table)))(table))

    assert "layout_constraint" not in text() and "dot_general" not in text()
    with config.compiling_for("gpu"):
        np.testing.assert_array_equal(products.repeated(table, 3), jnp.broadcast_to(table, (3, 5, 8)))
        np.testing.assert_allclose(jax.grad(loss)(table), ROWS.sum(0), rtol=1e-6)
        assert "layout_constraint" in text()
        with DataParallel().scope():
            assert jax.device_count() == 1 or "dot_general" in text()


@pytest.mark.medium
def test_the_norm_of_all_gradients_is_that_of_each():
    grads = {"a": jnp.ones((3, 20000)), "b": jnp.full(7, 2.0), "c": jnp.full((2, 2), -1.0)}
    plain = clipping.clipped(grads, None, None, 1.0)
    with config.compiling_for("gpu"):
        text = str(jax.make_jaxpr(lambda grads: clipping.clipped(grads, None, None, 1.0))(grads))
        joined = clipping.clipped(grads, None, None, 1.0)
    assert "optimization_barrier" in text
    for expected, found in zip(jax.tree.leaves(plain), jax.tree.leaves(joined), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_one_row_is_multiplied_as_any_other(bias):
    row = np.random.default_rng(0).normal(size=(1, 1, 2, 8)).astype("float32")
    layer = layers.EinsumDense("abcd,cdef->abef", (None, 3, 4), bias_axes="ef" if bias else None)
    expected, variables = layer(row), layer.variables_tree()
    with config.compiling_for("gpu"):
        found, _ = layer.apply(variables, row)
        # Of one row XLA would make all products first: the program has a product of two.
        assert "[2,16]" in str(jax.make_jaxpr(lambda row: layer.apply(variables, row)[0])(row))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    found = products.contract(jnp.asarray(row), jnp.ones((2, 8, 3)), 2)
    with config.compiling_for("gpu"):
        np.testing.assert_allclose(products.contract(jnp.asarray(row), jnp.ones((2, 8, 3)), 2), found, rtol=1e-5)
