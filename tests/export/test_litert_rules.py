"""What is written for LiteRT in place of JAX's primitives computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax.core import jaxprs
from kerax.export.litert_rules import RULES
from kerax.export.rewriting import rewritten

RNG = np.random.default_rng(0)
FLOATS = RNG.normal(size=(4, 6)).astype("float32")
WHOLE = RNG.integers(-(2**31), 2**31 - 1, (4, 6)).astype("int32")
OTHER = RNG.integers(-(2**31), 2**31 - 1, (4, 6)).astype("int32")
HOLES = np.where(FLOATS > 1, np.nan, np.round(FLOATS, 1))
SQUARE = (FLOATS @ FLOATS.T + np.eye(4)).astype("float32")
ROWS = np.array([3, 0, 3, 9, -1], "int32")
UPDATES = RNG.normal(size=(5, 6)).astype("float32")
IMAGE, KERNEL = RNG.normal(size=(2, 5, 4, 4, 6)).astype("float32"), RNG.normal(size=(2, 3, 2, 2, 4)).astype("float32")


def convolution(x, kernel, **options):
    spec = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, ("NDHWC", "DHWIO", "NDHWC"))
    return jax.lax.conv_general_dilated(x, kernel, (1, 1, 1), [(0, 1)] * 3, dimension_numbers=spec, **options)


CASES = {
    "sort": (lambda x: jnp.sort(x, 0), HOLES),
    "argsort": (lambda x: jnp.argsort(x, -1), HOLES),
    "sort of integers": (jnp.sort, WHOLE),
    "and": (lambda x, y: (x & y, x | y, (x > y) ^ (y > 0)), WHOLE, OTHER),
    "bytes": (lambda x, y: (x & y, x | y), WHOLE.astype("int8"), OTHER.astype("int8")),
    "shift": (lambda x: x << jnp.arange(6), WHOLE),
    "round": (lambda x: jax.lax.round(4 * x, jax.lax.RoundingMethod.AWAY_FROM_ZERO), np.round(FLOATS * 8) / 8),
    "rem": (lambda x: jnp.fmod(5 * x, jnp.float32(0.7)), FLOATS),
    "rem of integers": (lambda x: jax.lax.rem(x, x // 2**30), WHOLE),
    "set": (lambda x, u: jnp.asarray(x).at[ROWS].set(u), FLOATS, UPDATES),
    "add": (lambda x, u: jnp.asarray(x).at[ROWS].add(u), FLOATS, UPDATES),
    "mul": (lambda x, u: jnp.asarray(x).at[ROWS].mul(u), FLOATS, UPDATES),
    "max": (lambda x, u: jnp.asarray(x).at[ROWS].max(u), FLOATS, UPDATES),
    "min of integers": (lambda x: jnp.asarray(x).at[ROWS, ROWS].min(7), WHOLE),
    "add in rows": (jax.vmap(lambda x: jnp.zeros(5).at[jnp.arange(6) % 4].add(x)), FLOATS),
    "solve": (jnp.linalg.solve, SQUARE, FLOATS),
    "cholesky": (jnp.linalg.cholesky, SQUARE),
    "det": (jnp.linalg.det, SQUARE),
    "stretched": (lambda x, k: convolution(x[..., :2], k, lhs_dilation=(2, 3, 1)), IMAGE, KERNEL),
    "groups": (lambda x, k: convolution(x, jnp.tile(k, (1, 1, 1, 1, 3)), feature_group_count=3), IMAGE, KERNEL),
}

LACKING = {"sort", "scatter", "scatter-add", "scatter-max", "scatter-mul", "scatter-min", "lu", "cholesky"}
LACKING |= {"triangular_solve", "custom_linear_solve", "shift_left"}


@pytest.mark.parametrize("name", CASES)
def test_rules_compute_what_the_primitives_do(name):
    function, *arrays = CASES[name]
    by_rules = rewritten(function, RULES)
    for one, other in zip(jax.tree.leaves(function(*arrays)), jax.tree.leaves(by_rules(*arrays)), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    program = jax.make_jaxpr(by_rules)(*arrays).jaxpr
    assert not LACKING & {equation.primitive.name for equation in jaxprs.equations(program)}


def test_large_scatters_stay():
    program = jax.make_jaxpr(rewritten(lambda x: jnp.zeros(3000).at[jnp.arange(2000)].add(x), RULES))(
        np.ones(2000, "f4")
    )
    assert "scatter-add" in {equation.primitive.name for equation in jaxprs.equations(program.jaxpr)}
