import jax
import jax.numpy as jnp
import numpy as np
import optax

from kerax.core.constant_results import constant_results

SPEC = {"a": jax.ShapeDtypeStruct((2, 3), jnp.float32), "b": jax.ShapeDtypeStruct((4,), jnp.bfloat16)}


def test_a_state_of_zeros_is_filled():
    expected = optax.adam(1e-3).init(jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), SPEC))
    found = constant_results(optax.adam(1e-3).init, SPEC)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, two)
        assert isinstance(one, np.ndarray) and one.dtype == two.dtype


def test_what_depends_on_the_weights_or_computes_is_not():
    assert constant_results(lambda tree: tree, SPEC) is None
    assert constant_results(lambda tree: {"x": jnp.zeros(3), "y": jnp.sin(jnp.zeros(3))}, SPEC) is None
    assert constant_results(lambda tree: jnp.full((2,), jnp.nan), SPEC).shape == (2,)
