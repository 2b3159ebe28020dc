"""One row of bfloat16 by a matrix, and rows of a table, as XLA's CPU backend is fast with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kerax.ops import cpu


def drawn(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "bfloat16")


@pytest.mark.medium
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("features", [16, 12])  # with and without whole groups of 8
def test_few_rows_and_their_gradients_are_the_products(rows, features):
    left, right = drawn(0, rows, features), drawn(1, features, 5)

    def own(left, right):
        return cpu.product_of_few_rows(left, right, jnp.float32)

    def plain(left, right):
        return jnp.matmul(left.astype("float32"), right.astype("float32"))

    np.testing.assert_allclose(own(left, right), plain(left, right), rtol=1e-5, atol=1e-5)
    for argument in (0, 1):
        found, expected = (
            jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), argument)(left, right) for f in (own, plain)
        )
        np.testing.assert_allclose(np.float32(found), np.float32(expected), rtol=2e-2, atol=2e-2)
        assert found.dtype == jnp.bfloat16


@pytest.mark.medium
def test_rows_of_a_table_are_those_of_take():
    table, index = drawn(0, 6, 3), jnp.array([[0, 5], [-1, 6]])
    found, expected = cpu.take_rows(table, index), jnp.take(table, index, axis=0)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found.astype("float32"), expected.astype("float32"))
    found, expected = (
        jax.grad(lambda table, f=f: f(table).astype("float32").sum())(table)
        for f in (lambda table: cpu.take_rows(table, index[0]), lambda table: jnp.take(table, index[0], axis=0))
    )
    np.testing.assert_array_equal(found, expected)


def test_loops_keep_no_wider_copy_of_the_weights():
    matrix, table = drawn(0, 64, 64), drawn(1, 128, 64)

    def run(matrix, table, row):
        def turn(_, row):
            row = cpu.product_of_few_rows(row, matrix) + cpu.take_rows(table, row[:, 0].astype("int32"))
            return jnp.tanh(row)

        return lax.fori_loop(0, 9, turn, row)

    compiled = jax.jit(run).lower(matrix, table, drawn(2, 1, 64)).compile()
    loop = next(line for line in compiled.as_text().splitlines() if " while(" in line)
    assert "f32[64,64]" not in loop and "f32[128,64]" not in loop
    # Nothing of the table's size beside the arguments.
    assert compiled.memory_analysis().temp_size_in_bytes < matrix.nbytes
