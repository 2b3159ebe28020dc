"""Layers on tensors of a TensorFlow graph, as inside `tf.data.Dataset.map`.

They run on the host, when the graph runs.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kerax.core.host_arrays import GraphTensorGiven, is_graph_tensor, to_numpy


def outside_of_graphs(call: Callable) -> Callable:
    """A method that on tensors of a graph becomes a step of that graph."""

    @functools.wraps(call)
    def called(self, *args, **kwargs):
        try:
            return call(self, *args, **kwargs)
        except GraphTensorGiven:
            return call_in_graph(self, args, kwargs, call.__name__)

    # What has this attribute TensorFlow calls as it is; else it would rewrite all functions below, which takes seconds.
    called.autograph_info__ = {}  # pyright: ignore[reportAttributeAccessIssue]
    return called


def call_in_graph(layer: Any, args: tuple, kwargs: dict, method: str = "__call__") -> Any:
    """The outputs of a layer's call, or of another method, as tensors of the graph that its inputs are of.

    Shapes are those that two calls on made-up data of different sizes have in common.
    """
    tf: Any = sys.modules["tensorflow"]  # there is a graph, so the user imported it
    leaves, treedef = jax.tree.flatten((args, kwargs))
    places = [place for place, leaf in enumerate(leaves) if is_graph_tensor(leaf)]
    tensors = [leaves[place] for place in places]

    def run(*arrays):
        given = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            given[place] = array
        args, kwargs = jax.tree.unflatten(treedef, given)
        return jax.tree.flatten(getattr(layer, method)(*args, **kwargs))

    probes = [run(*[_made_up(layer, tensor, size) for tensor in tensors]) for size in (2, 3)]
    first, second = ([to_numpy(np.asarray(leaf)) for leaf in found] for found, _ in probes)
    kinds = [_kind(tf, leaf) for leaf in first]
    as_kind = lambda leaf, kind: _as_bytes(leaf) if kind == tf.string else np.asarray(leaf, kind.as_numpy_dtype)
    host = lambda *arrays: [as_kind(leaf, kind) for leaf, kind in zip(run(*arrays)[0], kinds, strict=True)]
    outputs = tf.numpy_function(host, tensors, kinds)
    for output, one, two in zip(outputs, first, second, strict=True):
        if one.ndim == two.ndim and all(tensor.shape.rank is not None for tensor in tensors):
            output.set_shape([a if a == b else None for a, b in zip(one.shape, two.shape, strict=True)])
    return jax.tree.unflatten(probes[0][1], outputs)


def _made_up(layer, tensor, size: int) -> np.ndarray:
    """Data of a tensor's form: zeros, or a token that the layer knows; `size` for each size that is unknown."""
    shape = [size if length is None else length for length in (tensor.shape.as_list() if tensor.shape.rank else [])]
    tokens = layer.get_vocabulary() if hasattr(layer, "get_vocabulary") else []
    if tensor.dtype.name == "string":
        token = str(tokens[-1]) if tokens else "a"
        # So many words that the length of a sentence is not taken for a fixed one.
        return np.full(shape, " ".join([token] * (size if hasattr(layer, "split") else 1)), object)
    fill = tokens[-1] if tokens and isinstance(tokens[-1], int) else 0
    return np.full(shape, fill, tensor.dtype.as_numpy_dtype)


def _kind(tf, array: np.ndarray) -> Any:
    return tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)


def _as_bytes(texts) -> np.ndarray:
    encoded = np.empty(np.shape(texts), object)
    encoded[...] = np.reshape([str(text).encode() for text in np.ravel(texts)], np.shape(texts))
    return encoded
