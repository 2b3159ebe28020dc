"""Clipping of gradients by value, by each one's norm or by that of all together."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax.ops import gpu

Tree = Any


def clipped(grads: Tree, clipnorm: float | None, clipvalue: float | None, global_clipnorm: float | None) -> Tree:
    """The gradients within the limit that is set, if one is."""
    # The constructor lets only one of the three be set.
    if clipvalue is not None:
        return jax.tree.map(lambda grad: jnp.clip(grad, -clipvalue, clipvalue), grads)
    if clipnorm is not None:
        return jax.tree.map(lambda grad: grad * _shrink(_norm(grad), clipnorm), grads)
    if global_clipnorm is not None:
        shrink = _shrink(_norm(grads), global_clipnorm)
        return jax.tree.map(lambda grad: grad * shrink, grads)
    return grads


def _norm(tree: Tree):
    """The L2 norm of all arrays of a tree together."""
    leaves = jax.tree.leaves(tree)
    if gpu.is_target() and len(leaves) > 1:
        return jnp.sqrt(gpu.sum_of_squares(leaves))
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in leaves))


def _shrink(norm, limit):
    """The factor that brings a norm down to `limit`; 1 below it."""
    # Without a branch, and finite for a norm of 0.
    return limit / jnp.maximum(norm, limit)
