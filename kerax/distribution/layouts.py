"""Layouts for common kinds of models, made from the model itself: rules for its weights' exact paths.

A weight whose size the axis does not divide is left whole. `fully sharded` needs no rules: that is `FSDP`, which takes
any of these beside it.
"""

import math
import re
from collections.abc import Iterator

from kerax.core.layer import Layer
from kerax.core.tracking import descendants
from kerax.core.variable import Variable
from kerax.distribution.mesh import DeviceMesh, LayoutMap
from kerax.layers.attention import MultiHeadAttention
from kerax.layers.conv import Conv1D, Conv2D, Conv3D
from kerax.layers.dense import Dense
from kerax.layers.embedding import Embedding
from kerax.layers.grouped_attention import GroupQueryAttention
from kerax.layers.normalization import LayerNormalization, RMSNormalization
from kerax.layers.stack import Stack

Axes = tuple[str | None, ...]


def transformer(model, device_mesh: DeviceMesh, axis: str = "model", sequence: bool = False) -> LayoutMap:
    """Tensor parallelism: each device computes some heads, and some features of the networks between attentions.

    Kernels of dense layers that widen are cut by columns and those that narrow by rows, so that a pair of them needs
    one sum over the devices; tables of embeddings are cut by rows. Source: Shoeybi et al. 2019,
    https://arxiv.org/abs/1909.08053

    Args:
        model: A built model of attention, dense, embedding and normalization layers, also in a `Stack`.
        device_mesh: The mesh; rows of batches are spread over its first axis unless `ModelParallel` is told otherwise.
        axis: Name of the mesh axis to compute in parallel over.
        sequence: Whether, between these layers, positions are spread over that axis too: normalizations then compute a
            part each, and activations take less memory. Source: Korthikanti et al. 2022,
            https://arxiv.org/abs/2205.05198
    """
    rules = LayoutMap(device_mesh)
    rules.logical_axes = {"heads": axis}
    for layer, paths in _layers(model):
        if isinstance(layer, (MultiHeadAttention, GroupQueryAttention)):
            # Heads are cut on their way in and out, so that between them each device has heads of its own.
            for part in (layer.query_dense, layer.key_dense, layer.value_dense):
                _cut(rules, paths, part.kernel, (None, axis, None))
                _cut(rules, paths, part.bias, (axis, None))
            _cut(rules, paths, layer.output_dense.kernel, (axis, None, None))
        elif isinstance(layer, Dense):
            size, units = layer.kernel.shape
            # Square layers are left whole: nothing tells whether they open or close a pair.
            if units > size:
                _cut(rules, paths, layer.kernel, (None, axis))
                _cut(rules, paths, layer.bias, (axis,))
            elif units < size:
                _cut(rules, paths, layer.kernel, (axis, None))
        elif isinstance(layer, Embedding):
            _cut(rules, paths, layer.embeddings, (axis, None))
            _cut(rules, paths, getattr(layer, "reverse_embeddings", None), (None, axis))
        elif sequence and isinstance(layer, (LayerNormalization, RMSNormalization)) and layer.path:
            rules[re.escape(f"{layer.path}/output")] = (device_mesh.axis_names[0], axis)
    return rules


def convolutional(model, device_mesh: DeviceMesh, axis: str = "model") -> LayoutMap:
    """Each device computes some of the output channels of every convolution, and some units of every dense layer.

    Args:
        model, device_mesh, axis: As in `transformer`; the model of convolutional and dense layers.
    """
    rules = LayoutMap(device_mesh)
    for layer, paths in _layers(model):
        if isinstance(layer, (Conv1D, Conv2D, Conv3D, Dense)) and hasattr(layer, "kernel"):
            _cut(rules, paths, layer.kernel, (*[None] * (len(layer.kernel.shape) - 1), axis))
            _cut(rules, paths, layer.bias, (axis,))
    return rules


def _layers(model) -> Iterator[tuple[Layer, dict[int, str]]]:
    """Every layer of a model, also those that a `Stack` repeats, with the paths of weights that lie stacked."""
    for layer in descendants(model):
        if isinstance(layer, Layer):
            yield layer, {}
        # The weights of a block lie stacked under other paths; the rules are about those of one block.
        if isinstance(layer, Stack):
            paths = {id(variable): stacked.path for variable, stacked in layer.pairs}
            yield from ((inner, paths) for inner, _ in _layers(layer.block))


def _cut(rules: LayoutMap, paths: dict[int, str], variable: Variable | None, axes: Axes):
    """Adds a rule for a weight, if it is there and can be cut so."""
    if not isinstance(variable, Variable) or len(axes) != len(variable.shape):
        return
    parts = [rules.device_mesh.axis_size(axis) for axis in axes]
    # Exact paths, for rules are regular expressions and paths may hold their signs.
    rule = re.escape(paths.get(id(variable), variable.path))
    if (
        rule not in rules
        and math.prod(parts) > 1
        and not any(size % count for size, count in zip(variable.shape, parts, strict=True))
    ):
        rules[rule] = axes
