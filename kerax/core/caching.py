"""Caches: what layers keep of the positions before, a pytree that goes into a pure call and comes out of it.

A call with a cache opens `Calling` for its length, as the pure scope is open for variables. Layers that keep something
find their part there by their path; every other layer, and whatever holds the layers, knows nothing of it.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kerax import tree
from kerax.core import placement
from kerax.core.calling import signature_of
from kerax.core.scope import holding
from kerax.core.tracking import Path, are_built, structure

_running: ContextVar["Calling | None"] = ContextVar("kerax_cache", default=None)


class NotCached(ValueError):
    """A layer cannot go on from a cache."""


class Part(NamedTuple):
    """A layer's part of the cache of the running call, and the positions of the call."""

    values: dict[str, Any]
    positions: Any


class Calling:
    """The caches and positions of one pure call.

    Args:
        parts: What each layer has, by the layer's identity; `None` in a call that has positions alone.
        positions: `()`, `(batch,)`: of the first input of all rows or of each; `(batch, inputs)`; or `None`, from the
            start, where nothing of the caches is looked at.
    """

    def __init__(self, parts: dict[int, Any] | None, positions: Any = None):
        self.parts, self.positions = parts, positions
        self.written: set[int] = set()


def current() -> Calling | None:
    """What the running call has."""
    return _running.get()


def hiding() -> Any:
    """A `with` block in which layers find no cache and no positions."""
    return holding(_running, None)


def positions_of_call(length: Any) -> Any:
    """The positions of `length` inputs in the running call, `(length,)` or `(batch, length)`; `None` if it has none."""
    running = _running.get()
    if running is None or running.positions is None:
        return None
    return _each(running.positions, length)


def _each(positions, length: Any):
    """`(length,)` or `(batch, length)` for positions of the first inputs; those of all as they are."""
    return positions if positions.ndim == 2 else positions[..., None] + jnp.arange(length, dtype=positions.dtype)


def part_of(layer) -> Part | None:
    """The layer's part of the cache of the running call, or `None` in a call without a cache.

    Raises:
        NotCached: if the cache has no part for it, or it was written in this call already.
    """
    running = _running.get()
    if running is None or running.parts is None:
        return None
    if id(layer) not in running.parts:
        raise NotCached(f"{layer}: the cache has no part for this layer. Make it by `init_cache` of the same model.")
    if id(layer) in running.written:
        raise NotCached(f"{layer}: called twice in a model, but its cache holds one call. Use a layer for each call.")
    return Part(running.parts[id(layer)], running.positions)


def keep(layer, values: Any) -> None:
    """Puts a layer's new part in the place of that of the running call."""
    running: Any = _running.get()
    running.parts[id(layer)] = values
    running.written.add(id(layer))


def _cached_layers(root) -> list[tuple[Path, Any]]:
    found = structure(root)
    pairs = zip(found.paths, found.items, strict=True)
    return [(path, item) for path, item in pairs if hasattr(item, "kerax_own_cache")]


def init_cache(layer, batch_size: int, length: int, dtype: Any = None) -> dict:
    """An empty cache for this layer and all below it: a nested dict by structure, empty where nothing is kept.

    Args:
        batch_size: Number of rows.
        length: Number of positions that it has room for.
        dtype: Of what is kept: a float dtype, or `"int8"` with a scale for each head and position. Default: the compute
            dtype of each layer.

    Raises:
        ValueError: if a size is below 1 or the dtype is another one.
    """
    for name, size in {"batch_size": batch_size, "length": length}.items():
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{layer}: `{name}` of a cache must be an integer of at least 1. Got {size!r}.")
    if dtype is not None and jnp.dtype(dtype) != jnp.int8 and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{layer}: `dtype` of a cache must be a float dtype or 'int8'. Got {dtype!r}.")

    def make():
        each = [(path, item.kerax_own_cache(batch_size, length, dtype)) for path, item in _cached_layers(layer)]
        return tree.nest(((*path, name), leaf) for path, own in each for name, leaf in own.items())

    # In a program where a distribution says which device holds which heads.
    return make() if placement.active() is None else jax.jit(make)()


def apply(layer, variables: dict, args: tuple, kwargs: dict, key: Any, cache: Any, positions: Any) -> tuple:
    """`layer.apply` with a cache, which comes out of it renewed, or with positions alone.

    Returns: the outputs, the new state, and the new cache if there was one.

    Raises:
        ValueError: if positions or cache have another form than the layer's.
    """
    names = signature_of(type(layer).call).names
    if positions is not None:
        positions = _checked_positions(layer, positions, cache)
    is_cached = cache is not None and "cache" not in names  # what `call` takes under this name is its own
    if cache is not None and not is_cached:
        kwargs = kwargs | {"cache": cache}
    if positions is not None and not is_cached and "positions" in names:
        kwargs = kwargs | {"positions": _each(positions, args[0].shape[1])}
    if not are_built(structure(layer).items):
        layer.kerax_build_from(*args, **kwargs)
    with layer.kerax_bind_variables(variables, key) as scope:
        if is_cached:
            outputs, renewed = call_with(layer, cache, positions, lambda: layer(*args, **kwargs))
        else:
            with holding(_running, Calling(None, positions)):
                outputs, renewed = layer(*args, **kwargs), None
    state = layer.kerax_collect_state(scope, variables.get("state", {}))
    return (outputs, state, renewed) if is_cached else (outputs, state)


def call_with(layer, cache: Any, positions: Any, function: Callable[[], Any]) -> tuple[Any, dict]:
    """What a function that calls `layer` returns if the layers below find their parts in `cache`, and the new cache."""
    layers = _cached_layers(layer)
    parts = {id(item): _at(layer, cache, path) for path, item in layers}
    with holding(_running, Calling(parts, positions)):
        outputs = function()
    return outputs, tree.nest(((*path, name), leaf) for path, item in layers for name, leaf in parts[id(item)].items())


def _at(layer, cache, path: Path) -> dict:
    for part in path:
        if not isinstance(cache, dict) or part not in cache:
            raise ValueError(
                f"{layer}: the cache has nothing at {'/'.join(path)!r}. Make it by `init_cache` of the same model."
            )
        cache = cache[part]
    return dict(cache)


def _checked_positions(layer, positions, cache):
    is_known = isinstance(positions, (int, np.ndarray, np.integer))
    found = jnp.asarray(positions)
    if not jnp.issubdtype(found.dtype, jnp.integer) or found.ndim > 2:
        raise ValueError(
            f"{layer}: `positions` must be integers of shape (), (batch,) or (batch, inputs). "
            f"Got {found.dtype} of shape {found.shape}."
        )
    lengths = {leaf.shape[2] for leaf in jax.tree.leaves(cache) if getattr(leaf, "ndim", 0) >= 3}
    if is_known and lengths and np.max(positions) >= min(lengths):
        raise ValueError(
            f"{layer}: position {np.max(positions)} lies behind the cache, which has room for {min(lengths)}. "
            "Make a longer one by `init_cache`."
        )
    return found.astype(jnp.int32)
