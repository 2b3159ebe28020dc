"""Rotary positions: how fast each pair of features turns, also beyond the lengths of the training."""

import math
from typing import Any

import jax.numpy as jnp

_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": ("short_factor", "long_factor", "original_max_position_embeddings"),
}


def read_scaling(who: str, scaling: dict) -> dict[str, Any]:
    """`rope_scaling` of a config of Hugging Face, checked, with its kind under `rope_type`.

    Raises:
        ValueError: if the kind is unknown or lacks a field.
    """
    found = dict(scaling)
    kind = found["rope_type"] = found.get("rope_type", found.get("type", "default"))
    if kind not in _FIELDS:
        raise ValueError(f"{who}: `rope_type` of `scaling` must be one of {tuple(_FIELDS)}. Got {kind!r}.")
    missing = [name for name in _FIELDS[kind] if found.get(name) is None]
    if missing:
        raise ValueError(f"{who}: `scaling` of type {kind!r} needs {missing}. Got {scaling}.")
    return found


def angles(positions, size: int, base: float, scaling: dict | None = None) -> tuple[Any, Any]:
    """Angles `(..., size / 2)` of positions `(...)`, floats, and what to multiply sine and cosine by."""
    rates, factor = _SCALED[(scaling or {}).get("rope_type", "default")](positions, size, base, scaling or {})
    return positions[..., None] * rates, factor


def turned(inputs, angles, factor, axis: int, num_turned: int):
    """The inputs with the first `num_turned` features, in pairs `(i, i + num_turned / 2)`, turned by angles."""
    first, second, rest = jnp.split(inputs, [num_turned // 2, num_turned], axis)
    sine, cosine = jnp.sin(angles) * factor, jnp.cos(angles) * factor
    # In float32: half precision would lose the small differences of far positions.
    a, b = first.astype(jnp.float32), second.astype(jnp.float32)
    parts = [a * cosine - b * sine, b * cosine + a * sine]
    return jnp.concatenate([*(part.astype(inputs.dtype) for part in parts), rest], axis)


def _rates(size, base):
    """How fast each pair turns: angles per position."""
    return 1 / base ** (jnp.arange(0, size, 2, dtype=jnp.float32) / size)


def _default(positions, size, base, scaling):
    return _rates(size, base), 1.0


def _linear(positions, size, base, scaling):
    return _rates(size, base) / scaling["factor"], 1.0


def _dynamic(positions, size, base, scaling):
    """The base grows with the length, so that the slowest pair turns as far as it did in training."""
    known, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    length = jnp.maximum(jnp.max(positions) + 1, known)
    return _rates(size, base * (factor * length / known - (factor - 1)) ** (size / (size - 2))), 1.0


def _llama3(positions, size, base, scaling):
    """Slow pairs turn `factor` times more slowly, fast ones as before, those between by their number of turns."""
    rates, low, high = _rates(size, base), scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * rates / (2 * math.pi)
    share = jnp.clip((turns - low) / (high - low), 0, 1)
    return (1 - share) * rates / scaling["factor"] + share * rates, 1.0


def _yarn(positions, size, base, scaling):
    """As `_llama3`, with a ramp over the pairs' indices; attention becomes sharper by a factor."""
    factor, known = scaling["factor"], scaling["original_max_position_embeddings"]

    def pair_with(turns):
        return size * math.log(known / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = pair_with(scaling.get("beta_fast") or 32), pair_with(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    ramp = jnp.clip((jnp.arange(size // 2, dtype=jnp.float32) - first) / max(last - first, 0.001), 0, 1)
    rates = _rates(size, base)
    return rates / factor * ramp + rates * (1 - ramp), _sharpness(scaling)


def _sharpness(scaling) -> float:
    def of(scale):
        return 0.1 * scale * math.log(scaling["factor"]) + 1 if scaling["factor"] > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return scaling["attention_factor"]
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return of(scaling["mscale"]) / of(scaling["mscale_all_dim"])
    return of(1.0)


def _longrope(positions, size, base, scaling):
    """Each pair has a factor of its own, one for sequences of the length of the training and one for longer ones."""
    known = scaling["original_max_position_embeddings"]
    short, long = (jnp.asarray(scaling[f"{kind}_factor"], jnp.float32) for kind in ("short", "long"))
    rates = _rates(size, base) / jnp.where(jnp.max(positions) + 1 > known, long, short)
    factor = scaling.get("factor") or scaling.get("max_position_embeddings", known) / known
    sharpness = scaling.get("attention_factor")
    if sharpness is None:
        sharpness = math.sqrt(1 + math.log(factor) / math.log(known)) if factor > 1 else 1.0
    return rates, sharpness


_SCALED = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
    "longrope": _longrope,
}
