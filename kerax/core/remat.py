"""Rematerialization: intermediate results are computed again for the gradient instead of being kept."""

import functools
import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from kerax.core import masks, symbolic
from kerax.core import scope as scopes


class RematMode(NamedTuple):
    """Which layers' calls are rematerialized."""

    mode: str | None
    output_size_threshold: int
    layer_names: tuple[str, ...]


_current: ContextVar[RematMode | None] = ContextVar("kerax_remat", default=None)
_MODES = ("full", "activations", "larger_than", "list_of_layers", None)


def current_mode() -> RematMode | None:
    """The mode of the innermost open `RematScope`, which a layer that is made in it keeps."""
    return _current.get()


class RematScope:
    """Layers made inside this `with` block compute their intermediate results again for the gradient.

    Args:
        mode: `"full"`: every layer. `"activations"`: layers with an activation. `"larger_than"`: layers whose output
            has more elements than `output_size_threshold`. `"list_of_layers"`: those named in `layer_names`. `None`:
            no layer.
        output_size_threshold: Number of elements.
        layer_names: Names of layers.

    Raises:
        ValueError: for an unknown mode.
    """

    def __init__(self, mode="full", output_size_threshold=1024, layer_names=None):
        if mode not in _MODES:
            raise ValueError(f"RematScope: `mode` must be one of {_MODES}. Got {mode!r}.")
        self.mode, self.output_size_threshold, self.layer_names = mode, output_size_threshold, layer_names or []

    def __enter__(self) -> "RematScope":
        self._token = _current.set(RematMode(self.mode, self.output_size_threshold, tuple(self.layer_names)))
        return self

    def __exit__(self, *_):
        _current.reset(self._token)


def applies_to(mode: RematMode, layer, inputs) -> bool:
    """Whether a layer's call on these inputs is rematerialized in this mode."""
    if mode.mode == "larger_than":
        scope = scopes.current_scope()
        if scope is None or scope.shapes_only:
            return False
        outputs = layer.compute_output_spec(jax.tree.map(lambda x: symbolic.KerasTensor(x.shape, x.dtype), inputs))
        return sum(math.prod(output.shape) for output in jax.tree.leaves(outputs)) > mode.output_size_threshold
    if mode.mode == "list_of_layers":
        return layer.name in mode.layer_names
    return mode.mode == "full" or (mode.mode == "activations" and getattr(layer, "activation", None) is not None)


def remat(f: Callable, policy: Callable | None = None) -> Callable:
    """`f` with its intermediate results computed again for the gradient instead of being kept in memory.

    Pure: what `f` writes to variables, the losses it adds and the masks of its outputs come through. Source: Chen et
    al. 2016, https://arxiv.org/abs/1604.06174

    Args:
        f: Function of arrays, a method, or a layer.
        policy: One of `jax.checkpoint_policies`: which results are kept all the same. Default: none.
    """

    @functools.wraps(getattr(type(f), "call", f))
    def rematerialized(*args, **kwargs):
        outer = scopes.current_scope()
        # Pure calls alone: without a scope, what is written inside would have nowhere to go.
        if outer is None or outer.shapes_only or symbolic.is_symbolic(args, kwargs):
            return f(*args, **kwargs)
        key_scope = scopes.find_key()
        # Drawn outside: the second computation must have the same key as the first.
        key = None if key_scope is None else key_scope.next_key()
        visible = _visible(outer)
        # `jax.checkpoint` takes arrays alone; the rest is closed over.
        is_array = [isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((args, kwargs))]
        leaves, treedef = jax.tree.flatten((args, kwargs))
        effects: dict[str, Any] = {}

        def pure(carrier):
            arrays = iter(carrier.tree)
            given = [next(arrays) if flag else leaf for leaf, flag in zip(leaves, is_array, strict=True)]
            # A scope of its own: what is written inside must come out as results, or tracers would leak.
            inner = scopes.Scope(key=key)
            inner.values = dict(visible)
            inner_args, inner_kwargs = jax.tree.unflatten(treedef, given)
            with inner:
                outputs = f(*inner_args, **inner_kwargs)
            effects["written"] = list(inner.written)
            effects["losses"] = [layer for layer, _ in inner.added_losses]
            written = [inner.values[name] for name in effects["written"]]
            return masks.Carrier(outputs), written, [loss for _, loss in inner.added_losses]

        arrays = [leaf for leaf, flag in zip(leaves, is_array, strict=True) if flag]
        outputs, written, losses = jax.checkpoint(pure, policy=policy)(masks.Carrier(arrays))
        for name, value in zip(effects["written"], written, strict=True):
            holder = _holder(outer, name)
            holder.values[name] = value
            holder.written.add(name)
        outer.added_losses += zip(effects["losses"], losses, strict=True)
        return outputs.tree

    return rematerialized


def _visible(scope: scopes.Scope | None) -> dict:
    """The values of all variables that a scope and those around it hold, inner ones first."""
    values: dict = {}
    while scope is not None:
        values = scope.values | values
        scope = scope.parent
    return values


def _holder(scope: scopes.Scope, name: int) -> scopes.Scope:
    while name not in scope.values and scope.parent is not None:
        scope = scope.parent
    return scope


def computed_for_gradient(slope: Callable, *known) -> Any:
    """`slope(*known)`, a linear function of the last arguments, of which reverse mode keeps the arguments alone.

    For rules of differentiation: what else `slope` computes of the others is computed when the gradient is.
    """
    return jax.checkpoint(slope, prevent_cse=False)(*known)


def opaque_zero() -> jax.Array:
    """A 0 of which XLA does not know that it is one: what is computed of a sum with it is not found elsewhere."""
    return lax.optimization_barrier(jnp.zeros((), jnp.float32))
