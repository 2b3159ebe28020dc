"""What happens inside a model for given inputs: outputs of layers, weights of attention, and their pictures."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.callbacks.history import new_figure
from kerax.core import calling
from kerax.core.layer import Layer
from kerax.core.tracking import descendants
from kerax.errors import suggest

_SCORES = "return_attention_scores"


def layer_outputs(model, inputs, layers=None) -> dict[str, np.ndarray]:
    """What layers of a model put out for given inputs, at inference. Keras has no such function.

    Args:
        model: Any model or layer; it is called as it is, layer by layer.
        inputs: What it is called with.
        layers: Layers inside it or their names, at any depth. Default: all whose output is an array.

    Returns: `{name: outputs}` in the order of the calls; of a layer that is called several times the last.

    Raises:
        ValueError: for a layer that is not in the model, or is not called.
    """
    inputs = _build(model, inputs)
    wanted = None if layers is None else _find(model, layers, "layer_outputs")
    found: dict[str, np.ndarray] = {}

    def tap(layer, outputs):
        # The tap sees every call in the order in which calls end: the inner layers of a nested model before the model.
        if layer is not model and (wanted is None or any(layer is other for other in wanted)):
            if isinstance(outputs, (jax.Array, np.ndarray)):
                found.pop(layer.name, None)  # so that a layer that is called again stands where its last call was
                found[layer.name] = np.asarray(outputs)

    _call(model, inputs, tap)
    missing = [layer.name for layer in wanted or () if layer.name not in found]
    if missing:
        raise ValueError(f"layer_outputs: {model} does not call {', '.join(missing)}, or they put out no single array.")
    return found


def _build(model, inputs):
    """Inputs as arrays, for which all layers are built."""
    inputs = jax.tree.map(jnp.asarray, inputs)
    # Built beforehand: the tap would otherwise see the calls that only find out shapes.
    if not all(child.built for child in descendants(model) if isinstance(child, Layer)):
        model.kerax_build_from(inputs)
    return inputs


def _call(model, inputs, tap=None):
    token = calling.call_context.set(calling.CallContext(False, tap))
    try:
        model(inputs)
    finally:
        calling.call_context.reset(token)


def _find(model, layers, who: str) -> list[Layer]:
    """The layers of a model that are meant by names or by themselves."""
    inside = [child for child in descendants(model) if isinstance(child, Layer) and child is not model]
    found = []
    for given in layers if isinstance(layers, (list, tuple)) else [layers]:
        match = next((layer for layer in inside if given is layer or given == layer.name), None)
        if match is None:
            names = [layer.name for layer in inside]
            shown = getattr(given, "name", given)
            raise ValueError(
                f"{who}: {model} has no layer {shown!r}. It has {', '.join(names)}.{suggest(shown, names)}"
            )
        found.append(match)
    return found


def attention_scores(model, inputs, layers=None) -> dict[str, np.ndarray]:
    """The weights that attention layers give to each position, for given inputs, at inference. Keras has no such
    function; its layers return them when they are called by hand.

    Args:
        model: Any model or layer.
        inputs: What it is called with.
        layers: Attention layers inside it or their names. Default: all.

    Returns: `{name: weights}`, of heads `(batch, heads, queries, keys)`, else `(batch, queries, keys)`.

    Raises:
        ValueError: if there is no such layer.
    """
    inputs = _build(model, inputs)
    inside = [child for child in descendants(model) if isinstance(child, Layer) and _has_scores(child)]
    chosen = inside if layers is None else _find(model, layers, "attention_scores")
    others = [layer.name for layer in chosen if not _has_scores(layer)]
    if not chosen or others:
        names = ", ".join(layer.name for layer in inside) or "none"
        raise ValueError(f"attention_scores: expected attention layers. Got {others or 'none'}; {model} has {names}.")
    found: dict[str, np.ndarray] = {}
    before = [(layer, vars(layer).get("call")) for layer in chosen]
    try:
        for layer in chosen:
            # Past the layer's own `__setattr__`, which would track what it is given.
            object.__setattr__(layer, "call", _keeping_scores(layer, found))
        _call(model, inputs)
    finally:
        # Also after an error: a layer may have had a `call` of its own, else the class's shows again.
        for layer, own in before:
            object.__delattr__(layer, "call") if own is None else object.__setattr__(layer, "call", own)
    return found


def _has_scores(layer: Layer) -> bool:
    return _SCORES in inspect.signature(type(layer).call).parameters


def _keeping_scores(layer: Layer, found: dict):
    """The layer's `call`, which notes the weights on the way."""
    signature = inspect.signature(type(layer).call)

    def call(*args, **kwargs):
        bound = signature.bind(layer, *args, **kwargs)
        # The layer around it may expect a single output.
        wants_scores = bound.arguments.get(_SCORES, False)
        bound.arguments[_SCORES] = True
        outputs, scores = type(layer).call(*bound.args, **bound.kwargs)
        found[layer.name] = np.asarray(scores)
        return (outputs, scores) if wants_scores else outputs

    return call


def plot_feature_maps(
    model, inputs, layers=None, example=0, max_maps=32, cmap: Any = "viridis", scale=2.2, data_format=None
):
    """Draws what layers put out for one example: of images a tile for each channel, of series a row for each feature.

    Each tile has its own scale, from its least (dark) to its largest value.

    Args:
        model: Any model; or `{name: outputs}`, as `layer_outputs` gives, without `inputs`.
        inputs: What it is called with.
        layers: Layers inside it or their names. Default: all with images or series as output, one for each size and
            kind, so that activations, dropout and normalization do not repeat what is before them.
        example: Number of the row of the batch.
        max_maps: Most channels to draw of a layer.
        cmap: Colours, by matplotlib's name.
        scale: Inches for the height of each layer.
        data_format: Of the outputs. Default: `config.image_data_format()`.

    Returns: the figure. Keras has no such function.

    Raises:
        ValueError: if there is nothing to draw.
    """
    found = dict(model) if isinstance(model, Mapping) else layer_outputs(model, inputs, layers)
    maps = {name: outputs[example] for name, outputs in found.items() if np.ndim(outputs) in (3, 4)}
    if layers is None and not isinstance(model, Mapping):
        maps = _telling(model, maps)
    if not maps:
        raise ValueError("plot_feature_maps: no layer puts out images (batch, height, width, channels) or series.")
    tiles = {name: _tile(outputs, max_maps, data_format) for name, outputs in maps.items()}
    # Series are strips whose height follows the number of features, images are tiles of one height.
    is_series = {name: outputs.ndim == 2 for name, outputs in maps.items()}
    heights = [scale * min(1, 0.2 + len(tiles[name][0]) / 20) if is_series[name] else scale for name in tiles]
    widths = [3.5 if is_series[name] else min(tile.shape[1] / len(tile), 6) for name, (tile, _) in tiles.items()]
    size = (scale * max(widths) + 0.4, sum(heights) + 0.3 * len(tiles))
    grid = {"height_ratios": heights}
    figure, axes = new_figure("plot_feature_maps", len(tiles), squeeze=False, figsize=size, gridspec_kw=grid)
    for axis, (name, (tile, text)) in zip(axes.flat, tiles.items()):
        axis.imshow(tile, cmap=cmap, interpolation="nearest", aspect="auto" if is_series[name] else "equal")
        axis.set_anchor("W")
        axis.set_title(f"{name}: {text}", fontsize=9, loc="left")
        axis.axis("off")
    return figure


def _telling(model, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of layers with kernels or of another size than what is before them."""
    kept, shape = {}, None
    # An activation or a normalisation has no kernel, and leaves the size as it was.
    for name, outputs in maps.items():
        (layer,) = _find(model, name, "plot_feature_maps")
        if outputs.shape != shape or any(weight.ndim > 1 for weight in layer.weights):
            kept[name] = outputs
        shape = outputs.shape
    return kept


def _tile(outputs: np.ndarray, max_maps: int, data_format) -> tuple[np.ndarray, str]:
    """Maps side by side, each scaled to [0, 1], with gaps of NaN; and what they are."""
    if outputs.ndim == 2:  # (steps, features)
        steps, features = outputs.shape
        return outputs.T[:max_maps], f"{min(features, max_maps)} of {features} features over {steps} steps"
    if config.standardize_data_format(data_format) == "channels_last":
        outputs = outputs.transpose(2, 0, 1)
    count = min(len(outputs), max_maps)
    height, width = outputs.shape[1:]
    # About four times as wide as high.
    columns = min(count, max(1, math.ceil(math.sqrt(count * 4 * height / width))))
    rows, gap = -(-count // columns), max(1, height // 12)
    # NaN is drawn as nothing: gaps have no value of the colour scale.
    tile = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for index, image in enumerate(outputs[:count].astype(np.float32)):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        # Each by its own range: one strong channel would make all others dark.
        low, high = np.nanmin(image), np.nanmax(image)
        tile[top : top + height, left : left + width] = (image - low) / ((high - low) or 1.0)
    return tile, f"{count} of {len(outputs)} maps of {height} x {width}"


def plot_attention_maps(
    scores,
    inputs=None,
    layer=None,
    example: int = 0,
    tokens: Sequence | None = None,
    key_tokens=None,
    cmap: Any = "magma",
    scale: float = 2.6,
):
    """Draws how much each query (row) attends to each key (column), a picture for each head.

    Brightness goes with the square root of the weight, so that attention that is spread out is seen too.

    Args:
        scores: Weights `(batch, heads, queries, keys)` or `(batch, queries, keys)`; or a model, together with `inputs`.
        inputs: What the model is called with.
        layer: Its attention layer or the name. Default: the only one.
        example: Number of the row of the batch.
        tokens: What the queries are, for the ticks.
        key_tokens: What the keys are. Default: `tokens`, where there are as many.
        cmap: Colours, by matplotlib's name.
        scale: Inches per head.

    Returns: the figure. Keras has no such function.

    Raises:
        ValueError: for weights of another form, or if there are several layers and none is chosen.
    """
    title = ""
    if isinstance(scores, Layer):
        found = attention_scores(scores, inputs, layer)
        if len(found) > 1:
            raise ValueError(f"plot_attention_maps: choose a `layer` of {', '.join(found)}.")
        ((title, scores),) = found.items()
    scores = np.asarray(scores)
    if scores.ndim not in (3, 4):
        raise ValueError(f"plot_attention_maps: expected (batch, heads, queries, keys). Got shape {scores.shape}.")
    heads = scores[example] if scores.ndim == 4 else scores[example][None]
    queries, keys = heads.shape[1:]
    key_tokens = tokens if key_tokens is None and tokens is not None and len(tokens) == keys else key_tokens
    columns = min(len(heads), 4)
    rows = -(-len(heads) // columns)
    size = (scale * columns + 0.8, scale * rows * max(0.4, min(queries / keys, 2)) + 0.5)
    figure, axes = new_figure("plot_attention_maps", rows, columns, squeeze=False, figsize=size)
    from matplotlib.colors import PowerNorm

    # One scale for all heads, so that they can be compared.
    norm = PowerNorm(0.5, vmin=0, vmax=float(heads.max()))
    image: Any = None
    for index, axis in enumerate(axes.flat):
        if index >= len(heads):
            axis.remove()
            continue
        image = axis.imshow(heads[index], cmap=cmap, norm=norm, interpolation="nearest")
        axis.set_title(f"head {index}" if len(heads) > 1 else title, fontsize=9)
        # Ticks at the left and at the bottom only, where they serve a whole row and column.
        if index % columns:
            axis.set_yticks([])
        elif tokens is not None:
            axis.set_yticks(range(queries), [str(token) for token in tokens], fontsize=7)
        if index + columns < len(heads):
            axis.set_xticks([])
        elif key_tokens is not None:
            axis.set_xticks(range(keys), [str(token) for token in key_tokens], fontsize=7, rotation=90)
    figure.colorbar(image, ax=list(axes.flat[: len(heads)]), shrink=0.8, label="weight")
    figure.supxlabel("key", fontsize=9)
    figure.supylabel("query", fontsize=9)
    if len(heads) > 1 and title:
        figure.suptitle(title, fontsize=10)
    return figure
