"""Low-rank adaptation: a frozen weight plus a trained product of two small ones.

    weight + alpha / rank * a @ b

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

from kerax.core.layer import Layer
from kerax.core.variable import Variable
from kerax.layers.options import check_positive


def configure(layer: Layer, rank, alpha):
    """Sets `lora_rank`, `lora_alpha` and `lora_enabled` from a constructor's arguments."""
    if rank is not None:
        check_positive(layer, lora_rank=rank)
    layer.lora_rank, layer.lora_alpha, layer.lora_enabled = rank, rank if alpha is None else alpha, False


def enable(layer: Layer, name: str, rank: int, alpha=None, a_initializer="he_uniform", b_initializer="zeros"):
    """Freezes the weight `name` of a built layer, and adds `lora_{name}_a` and `lora_{name}_b`, which are trained.

    Raises:
        ValueError: if the layer is not built, has a constraint on the weight, or has them already.
    """
    check_positive(layer, rank=rank)
    if getattr(layer, name, None) is None:
        raise ValueError(f"{layer}: `enable_lora` needs a built layer. Call it on data or `build` it first.")
    if getattr(layer, f"{name}_constraint") is not None:
        raise ValueError(f"{layer}: LoRA does not go with `{name}_constraint`. Make the layer without it.")
    if layer.lora_enabled:
        raise ValueError(f"{layer}: LoRA is already enabled, with rank {layer.lora_rank}.")
    weight = getattr(layer, name)
    *rows, columns = weight.shape
    options = {"dtype": "float32", "regularizer": getattr(layer, f"{name}_regularizer")}
    for part, shape, initializer in (("a", (*rows, rank), a_initializer), ("b", (rank, columns), b_initializer)):
        own = f"lora_{name}_{part}"
        setattr(layer, own, layer.add_weight(name=own, shape=shape, initializer=initializer, **options))
    weight.trainable = False
    layer.lora_enabled, layer.lora_rank, layer.lora_weight = True, rank, name
    layer.lora_alpha = rank if alpha is None else alpha
    layer._ready = False  # the new weights have no arrays yet


def enable_if_asked(layer: Layer, name: str):
    """What `enable` does, in the `build` of a layer that was made with `lora_rank`."""
    if layer.lora_rank is not None:
        enable(layer, name, layer.lora_rank, layer.lora_alpha)


def merged(layer: Layer, name: str):
    """The value of the weight `name`, with its low-rank part if there is one, in the layer's compute dtype then."""
    value = getattr(layer, name).value
    return (value + _update(layer, name)).astype(layer.compute_dtype) if layer.lora_enabled else value


def _update(layer: Layer, name: str):
    return scaled(layer, name) @ getattr(layer, f"lora_{name}_b").value


def scaled(layer: Layer, name: str):
    """`alpha / rank * a`."""
    return getattr(layer, f"lora_{name}_a").value * (layer.lora_alpha / layer.lora_rank)


def adapters(layer: Layer) -> list[Variable]:
    """The two small weights of a layer with LoRA, which files do not hold: they hold the merged weight."""
    if not getattr(layer, "lora_enabled", False):
        return []
    return [getattr(layer, f"lora_{layer.lora_weight}_{part}") for part in ("a", "b")]


def value_to_save(layer: Layer, variable: Variable):
    """The value that a file holds for one of the layer's variables."""
    if getattr(layer, "lora_enabled", False) and variable is getattr(layer, layer.lora_weight):
        return (variable.value + _update(layer, layer.lora_weight)).astype(variable.dtype)
    return variable.value


def configured(layer: Layer, config: dict) -> dict:
    """`config` with `lora_rank` and `lora_alpha` where LoRA is enabled or asked for, without them elsewhere."""
    config = {name: value for name, value in config.items() if name not in ("lora_rank", "lora_alpha")}
    if layer.lora_rank is not None:
        config |= {"lora_rank": layer.lora_rank, "lora_alpha": layer.lora_alpha}
    return config
