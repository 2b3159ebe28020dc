"""Crossentropy without all logits: the numbers of the plain one, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import Input, ops

DRAW = np.random.default_rng(0)
HIDDEN = DRAW.normal(size=(3, 7, 4)).astype("float32")
TABLE = DRAW.normal(size=(11, 4)).astype("float32")
TARGET = DRAW.integers(-1, 12, (3, 7))


def plain(hidden, table):
    return ops.sparse_categorical_crossentropy(TARGET, hidden @ table.T, from_logits=True)


@pytest.mark.medium
@pytest.mark.parametrize("most_logits", [None, 3 * 11 * 2, 1])
def test_values_and_gradients_are_those_of_all_logits(most_logits):
    blocks = lambda hidden, table: ops.linear_crossentropy(TARGET, hidden, table, most_logits=most_logits)
    np.testing.assert_allclose(blocks(HIDDEN, TABLE), plain(HIDDEN, TABLE), rtol=1e-5, atol=1e-6)

    def gradients(loss):
        return jax.grad(lambda *given: jnp.sum(jnp.sin(loss(*given))), (0, 1))(HIDDEN, TABLE)

    expected, found = gradients(plain), gradients(blocks)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_rows_without_positions_and_a_soft_cap():
    found = ops.linear_crossentropy(TARGET[:, 0], HIDDEN[:, 0], TABLE, soft_cap=0.5, most_logits=11)
    logits = 0.5 * np.tanh(HIDDEN[:, 0] @ TABLE.T / 0.5)
    expected = ops.sparse_categorical_crossentropy(TARGET[:, 0], logits, from_logits=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_half_precision_gives_losses_and_the_table_s_gradient_in_float32():
    hidden = jnp.asarray(HIDDEN, "bfloat16")
    loss, slope = jax.value_and_grad(lambda table: jnp.sum(ops.linear_crossentropy(TARGET, hidden, table)))(TABLE)
    assert loss.dtype == slope.dtype == jnp.float32


def test_memory_is_that_of_a_block():
    hidden, table = jax.ShapeDtypeStruct((4, 512, 16), "float32"), jax.ShapeDtypeStruct((2048, 16), "float32")
    target = jax.ShapeDtypeStruct((4, 512), "int32")

    def temporary(most_logits):
        loss = lambda h, t, y: jnp.sum(ops.linear_crossentropy(y, h, t, most_logits=most_logits))
        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, table, target).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(2**17) < temporary(None) / 4


def test_wrong_shapes_and_graphs():
    with pytest.raises(ValueError, match=r"linear_crossentropy: expected `target` \(batch, ...\)"):
        ops.linear_crossentropy(TARGET, HIDDEN, TABLE.T)
    assert ops.linear_crossentropy(Input((7,), dtype="int32"), Input((7, 4)), TABLE).shape == (None, 7)
