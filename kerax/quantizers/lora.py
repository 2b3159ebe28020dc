"""Low-rank adaptation: a frozen weight plus a trained product of two small ones.

    weight + alpha / rank * a @ b

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

import jax.numpy as jnp

from kerax.core.layer import Layer
from kerax.core.variable import Variable


def configure(layer: Layer, rank, alpha):
    """Sets `lora_rank`, `lora_alpha` and `lora_enabled` from a constructor's arguments."""
    _check_rank(layer, "lora_rank", 1 if rank is None else rank)
    layer.lora_rank, layer.lora_alpha, layer.lora_enabled = rank, rank if alpha is None else alpha, False


def enable(layer: Layer, name: str, rank: int, alpha=None, a_initializer="he_uniform", b_initializer="zeros"):
    """Freezes the weight `name` of a built layer, and adds `lora_{name}_a` and `lora_{name}_b`, which are trained.

    Raises:
        ValueError: if the layer is not built, has a constraint on the weight, or has them already.
    """
    _check_rank(layer, "rank", rank)
    if layer.main_shape is None:
        raise ValueError(f"{layer}: `enable_lora` needs a built layer. Call it on data or `build` it first.")
    if getattr(layer, f"{name}_constraint") is not None:
        raise ValueError(f"{layer}: LoRA does not go with `{name}_constraint`. Make the layer without it.")
    if layer.lora_enabled:
        raise ValueError(f"{layer}: LoRA is already enabled, with rank {layer.lora_rank}.")
    *rows, columns = layer.main_shape
    options = {"dtype": "float32", "regularizer": getattr(layer, f"{name}_regularizer")}
    for part, shape, initializer in (("a", (*rows, rank), a_initializer), ("b", (rank, columns), b_initializer)):
        own = f"lora_{name}_{part}"
        setattr(layer, own, layer.add_weight(name=own, shape=shape, initializer=initializer, **options))
    getattr(layer, name).trainable = False
    layer.lora_enabled, layer.lora_rank, layer.lora_weight = True, rank, name
    layer.lora_alpha = rank if alpha is None else alpha
    layer._ready = False  # the new weights have no arrays yet


def _check_rank(layer: Layer, name: str, rank):
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"{layer}: `{name}` must be an integer of at least 1. Got {name}={rank!r}.")


def enable_if_asked(layer: Layer, name: str):
    """What `enable` does, in the `build` of a layer that was made with `lora_rank`."""
    if layer.lora_rank is not None:
        enable(layer, name, layer.lora_rank, layer.lora_alpha)


def merged(layer: Layer, name: str):
    """The value of the weight `name`, with its low-rank part if there is one, in the layer's compute dtype then."""
    value = getattr(layer, name).value
    return (value + update(layer)).astype(layer.compute_dtype) if layer.lora_enabled else value


def update(layer: Layer):
    """`alpha / rank * a @ b`, of the shape of the main weight."""
    return scaled(layer, layer.lora_weight) @ getattr(layer, f"lora_{layer.lora_weight}_b").value


def update_of(layer: Layer, inputs, equation: str):
    """The einsum of inputs with `update`, without making that where it can be done without."""
    if equation.split("->")[0][-1] != equation[-1]:
        return jnp.einsum(equation, inputs, update(layer))
    narrow = jnp.einsum(equation, inputs, scaled(layer, layer.lora_weight))
    return narrow @ getattr(layer, f"lora_{layer.lora_weight}_b").value


def scaled(layer: Layer, name: str):
    """`alpha / rank * a`."""
    return getattr(layer, f"lora_{name}_a").value * (layer.lora_alpha / layer.lora_rank)


def adapters(layer: Layer) -> list[Variable]:
    """The two small weights of a layer with LoRA, which files do not hold: they hold the merged weight."""
    if not layer.lora_enabled:
        return []
    return [getattr(layer, f"lora_{layer.lora_weight}_{part}") for part in ("a", "b")]


def configured(layer: Layer, config: dict) -> dict:
    """`config` with `lora_rank` and `lora_alpha` where LoRA is enabled or asked for, without them elsewhere."""
    config = {name: value for name, value in config.items() if name not in ("lora_rank", "lora_alpha")}
    if layer.lora_rank is not None:
        config |= {"lora_rank": layer.lora_rank, "lora_alpha": layer.lora_alpha}
    return config
