"""Layers that turn numbers into categories, and categories into vectors: `Discretization` and `CategoryEncoding`."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kerax.core import scope as scopes
from kerax.core import sparse as sparse_arrays
from kerax.core.host_arrays import is_foreign_type, is_frame, to_numpy
from kerax.core.layer import Layer
from kerax.core.symbolic import KerasTensor
from kerax.core.tensorflow_graphs import outside_of_graphs
from kerax.core.text import TextStep, reads_text
from kerax.layers.options import check, check_choice, check_positive, leave_out

ENCODED = ("one_hot", "multi_hot", "count")


def as_array(layer: Layer, values: Any, keeps_width: bool = False) -> Any:
    """Lists and scalars as NumPy arrays, text as arrays of `str`; arrays and symbolic tensors unchanged.

    Args:
        keeps_width: Whether NumPy's text of fixed width may stay so, which is read faster.

    Raises:
        ValueError: if lists have unequal lengths.
    """
    if isinstance(values, (jax.Array, KerasTensor, jax.ShapeDtypeStruct)) or hasattr(values, "_keras_history"):
        return values
    values = to_numpy(values) if is_foreign_type(type(values)) or is_frame(values) else values
    try:
        # Straight to objects: NumPy would make fixed-width text of it first.
        values = np.array(values, object) if _is_text_list(values) else np.asarray(values)
    except ValueError:
        raise ValueError(f"{layer}: lists must have equal lengths; pad the shorter ones. Got {values!r}.") from None
    if values.dtype.kind not in "OSUT":
        return values
    if values.dtype.kind in "UT":
        return values if keeps_width and values.dtype.kind == "U" else values.astype(object)
    if _are_strings(values.ravel().tolist()):
        return values
    return np.array([_as_str(layer, value) for value in values.ravel()], object).reshape(values.shape)


def _is_text_list(values) -> bool:
    return isinstance(values, (list, tuple)) and bool(values) and type(values[0]) is str and _are_strings(values)


def _are_strings(values) -> bool:
    try:
        # Joined, for that asks for their types twice as fast as anything else, and in pieces, for texts may be long.
        for start in range(0, len(values), 2**14):
            "".join(values[start : start + 2**14])
    except TypeError:
        return False
    return True


def _as_str(layer: Layer, value) -> str:
    if isinstance(value, bytes):
        return value.decode(getattr(layer, "encoding", "utf-8"))
    check(layer, isinstance(value, str), "expected text or numbers, not a mixture", element=value)
    return str(value)  # of NumPy's own kind of `str`, the plain one


def is_text(values: Any) -> bool:
    """Whether an array of `as_array` holds text."""
    return isinstance(values, np.ndarray) and values.dtype.kind in "OU"


def is_abstract(values: Any) -> bool:
    """Whether there are no values yet: a symbolic tensor, or a traced array."""
    return not isinstance(values, np.ndarray) and (not isinstance(values, jax.Array) or isinstance(values, Tracer))


def is_wide(values: Any) -> bool:
    """Whether NumPy integers would lose bits as JAX arrays."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or not values.size:
        return False
    held = np.iinfo(jax.dtypes.canonicalize_dtype(values.dtype))
    return values.min() < held.min or values.max() > held.max


def encode(layer: "_Categorical", indices: Any, depth: int, weights: Any = None) -> Any:
    """Indices as the layer's `output_mode` wants them; those outside `[0, depth)` are left out.

    `"int"`: unchanged; `"one_hot"`: a vector for each, in place of a last axis of size 1; `"multi_hot"`, `"count"`:
    one vector for the last axis, as Keras documents; for three axes and more Keras reduces another one. NumPy arrays
    give NumPy arrays; a layer with `sparse=True` gives BCOO where there are values.
    """
    mode = layer.output_mode
    if mode == "int":
        return indices.astype("int32")
    if layer.sparse and not (isinstance(indices, Tracer) or scopes.infers_shapes()):
        return _encode_sparse(layer, np.asarray(indices), depth, weights)
    if indices.ndim == 0:  # one value is its own last axis
        indices = indices.reshape(1)
    if mode == "one_hot":
        if indices.ndim == 1 or indices.shape[-1] != 1:
            indices = indices[..., None]
        positions = np.arange(depth) if isinstance(indices, np.ndarray) else jnp.arange(depth)
        return (indices == positions).astype(layer.compute_dtype)
    if not isinstance(indices, np.ndarray):
        return _count(indices, weights, depth, mode == "multi_hot", layer.compute_dtype)
    rows = indices.reshape(math.prod(indices.shape[:-1]), indices.shape[-1])  # also of empty ones
    # Indices to be left out meet in one more column, which is cut off again: `np.add.at` would count -1 as the last.
    rows = np.where((rows < 0) | (rows >= depth), depth, rows)
    counts = np.zeros((len(rows), depth + 1), layer.compute_dtype)
    np.add.at(counts, (np.arange(len(rows))[:, None], rows), 1)
    counts = np.minimum(counts, 1) if mode == "multi_hot" else counts
    return counts[:, :depth].reshape(*indices.shape[:-1], depth)


def _encode_sparse(layer: "_Categorical", indices: np.ndarray, depth: int, weights: Any) -> Any:
    """The vectors as BCOO, with an entry for each place that is not 0; never dense, for a vocabulary may be large."""
    from jax.experimental.sparse import BCOO

    indices = np.atleast_1d(indices)
    if layer.output_mode == "one_hot" and (indices.ndim == 1 or indices.shape[-1] != 1):
        indices = indices[..., None]  # each index is a vector of its own
    counts = np.ones(indices.shape, "float32") if weights is None else np.broadcast_to(weights, indices.shape)
    kept = (indices >= 0) & (indices < depth)
    *places, _ = np.nonzero(kept)
    found = np.stack([*places, indices[kept]], axis=-1)
    # Several of one place are one entry: their sum, or 1 for "is there".
    unique, where = np.unique(found, axis=0, return_inverse=True)
    values = np.bincount(where.ravel(), counts[kept], len(unique))
    values = np.ones(len(unique)) if layer.output_mode == "multi_hot" else values
    entries = jnp.asarray(values, layer.compute_dtype), jnp.asarray(unique, "int32")
    return BCOO(entries, shape=(*indices.shape[:-1], depth), indices_sorted=True, unique_indices=True)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))  # in one program XLA never stores the one-hot vectors
def _count(indices, weights, depth: int, only_presence: bool, dtype: str):
    is_there = indices[..., None] == jnp.arange(depth)  # (..., size, depth)
    if only_presence:
        return is_there.any(-2).astype(dtype)
    weights = jnp.ones((), dtype) if weights is None else weights[..., None].astype(dtype)
    return jnp.sum(is_there.astype(dtype) * weights, -2)


def _as_sparse(call: Callable) -> Callable:
    """A layer's `__call__` whose vectors are sparse if the layer says so."""

    @functools.wraps(call)
    def called(self, inputs, **kwargs):
        outputs = call(self, inputs, **kwargs)
        if not self.sparse or isinstance(outputs, KerasTensor) or sparse_arrays.is_sparse(outputs):
            return outputs
        outputs = jnp.asarray(outputs)
        is_known = not isinstance(outputs, Tracer)
        # Each index of the inputs makes one element at most.
        return sparse_arrays.from_dense(outputs, int(jnp.count_nonzero(outputs)) if is_known else np.size(inputs))

    return called


class _Categorical(Layer):
    """A layer without weights that also takes lists, and on text works on the host, in NumPy."""

    _in_keras_only: tuple[str, ...] = ("vocabulary_size", "has_input_vocabulary")

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # These calls look at values, which tensors of a graph do not have.
        if "__call__" in cls.__dict__:
            cls.__call__ = outside_of_graphs(_as_sparse(cls.__call__))

    def __init__(self, output_mode="int", sparse=False, modes=("int", *ENCODED), **kwargs):
        super().__init__(**kwargs)
        check_choice(self, "output_mode", output_mode, modes)
        check(self, not sparse or output_mode != "int", "`sparse=True` needs vectors", output_mode=output_mode)
        self.output_mode, self.sparse = output_mode, sparse
        self.autocast = False  # integers and bin boundaries lose their meaning when they are rounded
        self.built = True

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """The layer that `get_config` described. What Keras's configs hold beside a constructor's arguments is left."""
        return super().from_config({name: value for name, value in config.items() if name not in cls._in_keras_only})

    @outside_of_graphs
    @_as_sparse
    def __call__(self, inputs: Any, **kwargs) -> Any:
        inputs = as_array(self, inputs, keeps_width=True)
        on_host = is_text(inputs) or is_wide(inputs)
        return self.call_on_host(inputs) if on_host else super().__call__(inputs, **kwargs)

    def compute_output_spec(self, inputs: Any, *args, **kwargs) -> Any:
        """Symbolic outputs for symbolic inputs, without recording a node."""
        first = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        if not isinstance(first, KerasTensor) or not reads_text(inputs):
            outputs = super().compute_output_spec(inputs, *args, **kwargs)
        else:
            dtype = "int32" if self.output_mode == "int" else self.compute_dtype
            outputs = KerasTensor(self._shape_for_text(first.shape), dtype)
        outputs.sparse = self.sparse
        return outputs

    def _depth(self) -> int:
        """Entries of a vector of the outputs."""
        return getattr(self, "num_bins", 0)

    def _shape_for_text(self, shape: tuple) -> tuple:
        """The outputs' shape for text of this shape, as `encode` makes it."""
        if self.output_mode == "int":
            return shape
        if self.output_mode == "one_hot" and (len(shape) == 1 or shape[-1] != 1):
            return (*shape, self._depth())
        return (*shape[:-1], self._depth())

    def kerax_text_steps(self, shape: tuple) -> list[TextStep]:
        """What is made of text of this shape, for runtimes that do it by operations of their own."""
        raise ValueError(f"{self}: inputs must be numbers. Use `StringLookup` for text.")

    def kerax_encode_step(self, depth: int, weights: Any = None) -> TextStep:
        """What makes outputs of indices, as `encode`."""
        return TextStep("encode", dict(mode=self.output_mode, depth=depth, weights=weights, dtype=self.compute_dtype))

    def call_on_host(self, inputs: Any) -> np.ndarray:
        """The outputs for text, or for integers beyond JAX's, as NumPy arrays."""
        expected = "numbers. Use `StringLookup` for text" if is_text(inputs) else "32-bit integers"
        raise ValueError(f"{self}: inputs must be {expected}. Got {inputs.ravel()[:3].tolist()}...")


class Adaptable(_Categorical):
    """A layer whose table is given, or found in data by `adapt`. A subclass says what is counted, and what is found."""

    already: str  # what the error says where `adapt` has nothing to find
    _given = False  # whether the table came with the constructor or by a setter: data change it no more

    def adapt(self, data: Any, steps: Any = None) -> None:
        """Finds the layer's table in data, and forgets what it found before.

        Args:
            data: Array or nested lists, or an iterable of batches (arrays, or tuples with the inputs first).
            steps: Number of batches to look at. Default: all.

        Raises:
            ValueError: if the layer has been given its table, or there are no data.
        """
        if self._given:
            raise ValueError(f"{self}: {self.already}")
        self.reset_state()
        for batch in batches_of(data, steps):
            self.update_state(batch)
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Counts a batch."""

    def finalize_state(self) -> None:
        """Makes the table from the counts."""

    def reset_state(self) -> None:
        """Forgets the counts, and the table that was made from them."""


class Discretization(Adaptable):
    """The number of the range in which each input lies.

    Args:
        bin_boundaries: The ranges' inner boundaries, ascending: `[0., 1.]` gives `(-inf, 0)`, `[0, 1)`, `[1, inf)`.
        num_bins: Number of ranges that `adapt` shall find, equally full. Either this or `bin_boundaries`.
        epsilon: Fraction of the data by which the found boundaries may be off.
        output_mode: `"int"`, `"one_hot"` (a vector for each input), `"multi_hot"` or `"count"` (one for the last axis).
        sparse: Whether vectors come as JAX's sparse `BCOO`; not with "int".

    Input shape: any. Output shape: the same with `"int"` (int32), else with a last axis of one entry for each range,
        in the layer's compute dtype. NaN counts as beyond the last boundary.

    Raises:
        ValueError: if both or neither of `bin_boundaries` and `num_bins` are given, or boundaries do not ascend.
    """

    already = "`adapt` finds what `bin_boundaries` already say. Give `num_bins` instead."

    def __init__(
        self,
        bin_boundaries=None,
        num_bins=None,
        epsilon=0.01,
        output_mode="int",
        sparse=False,
        dtype=None,
        name=None,
        **kwargs,
    ):
        super().__init__(output_mode, sparse, dtype=dtype, name=name, **kwargs)
        given = {"num_bins": num_bins, "bin_boundaries": bin_boundaries}
        is_one = (bin_boundaries is None) != (num_bins is None)
        check(self, is_one, "give either `num_bins` or `bin_boundaries`", **given)
        check(self, 0 < epsilon < 1, "`epsilon` must be between 0 and 1", epsilon=epsilon)
        self.num_bins, self.epsilon, self.bin_boundaries = num_bins, epsilon, None
        self._given = bin_boundaries is not None
        if num_bins is not None:
            check_positive(self, num_bins=num_bins)
        else:
            boundaries = np.asarray(bin_boundaries, "float32")
            ascends = boundaries.ndim == 1 and not np.any(np.diff(boundaries) < 0)
            check(self, ascends, "`bin_boundaries` must be a list in ascending order", bin_boundaries=bin_boundaries)
            self.bin_boundaries = boundaries.tolist()
        self.reset_state()

    @property
    def output_dtype(self) -> str:
        """The dtype of what comes out, as in Keras."""
        return "int32" if self.output_mode == "int" else self.compute_dtype

    def call(self, inputs: Any) -> Any:
        if self.bin_boundaries is None and self.num_bins and scopes.infers_shapes():
            return encode(self, jnp.zeros(inputs.shape, "int32"), self.num_bins)  # a model made before `adapt`
        if self.bin_boundaries is None:
            raise ValueError(f"{self}: the boundaries are not known yet. Call `adapt(data)` first.")
        boundaries = jnp.asarray(self.bin_boundaries, "float32")
        # Compared with all at once: a binary search is a loop, slow on accelerators for the few boundaries there are.
        indices = jnp.searchsorted(boundaries, inputs.astype("float32"), side="right", method="compare_all")
        return encode(self, indices, len(self.bin_boundaries) + 1)

    def update_state(self, data: Any) -> None:
        """Adds a batch to what `finalize_state` finds the boundaries from."""
        values = np.sort(np.asarray(data, "float32"), axis=None)
        step = max(1.0, values.size * self.epsilon)
        picked = values[int(step - 1) :: int(step)]  # each stands for the `step` values up to it
        self._summary = _merge(np.stack([picked, np.full_like(picked, step)]), self._summary, self.epsilon)

    def finalize_state(self) -> None:
        """Sets `bin_boundaries` from the batches seen."""
        if self.num_bins is None:  # the boundaries were given
            return
        if not self._summary.size:
            raise ValueError(f"{self}: `adapt` got no data.")
        self.bin_boundaries = _compress(self._summary, 1 / self.num_bins)[0, :-1].tolist()

    def reset_state(self) -> None:
        """Forgets the batches seen."""
        self._summary = np.zeros((2, 0), "float32")
        if not self._given:
            self.bin_boundaries = None

    def load_own_variables(self, store: Any) -> None:
        """Does nothing: configs hold the boundaries. Old files of Keras have the data's summary, which is kept."""
        if len(store) == 1:
            self._summary = np.asarray(store["0"], "float32")

    def get_config(self) -> dict:
        """The constructor's arguments, with the boundaries that were found in place of `num_bins`."""
        config = super().get_config() | {"dtype": self.dtype_policy.name, "bin_boundaries": self.bin_boundaries}
        config["num_bins"] = self.num_bins if self.bin_boundaries is None else None
        return leave_out(config, "trainable")


def _compress(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """A summary (values, weights) interpolated at every `epsilon` of its weight, unless it is shorter already."""
    if summary.shape[1] * epsilon < 1:
        return summary
    total = np.cumsum(summary[1])
    fractions = epsilon + np.arange(0.0, 1.0, epsilon)
    values, weights = (np.interp(fractions, total / total[-1], row) for row in (summary[0], total))
    return np.stack([values, np.diff(weights, prepend=0)]).astype("float32")


def _merge(first: np.ndarray, second: np.ndarray, epsilon: float) -> np.ndarray:
    """The summary of two parts of the data together."""
    both = np.concatenate([first, second], axis=1)
    return _compress(both[:, np.argsort(both[0])], epsilon)


def batches_of(data: Any, steps: Any = None):
    """The batches of an array, of nested lists (one batch), or of an iterable of arrays or of tuples with the inputs
    first; at most `steps`."""
    if isinstance(data, (str, bytes, np.ndarray, jax.Array)) or _is_listed(data):
        data = [data]
    for number, batch in enumerate(data):
        if steps is not None and number >= steps:
            return
        yield batch[0] if isinstance(batch, tuple) and not _is_listed(batch) else batch


def _is_listed(data) -> bool:
    while isinstance(data, (list, tuple)) and len(data):
        data = data[0]
    return isinstance(data, (str, bytes, bool, int, float, np.generic))


class CategoryEncoding(_Categorical):
    """Vectors of `num_tokens` entries that say which integers are there.

    Args:
        num_tokens: Number of categories: the largest integer plus 1.
        output_mode: `"one_hot"`: a vector for each integer; `"multi_hot"`: one for the last axis, 1 where an integer is
            there; `"count"`: how often it is.
        sparse: Whether vectors come as JAX's sparse `BCOO`; not with "int".

    Call arguments: `inputs`; `count_weights`, of the same shape, what each integer counts for with `"count"`.
    Input shape: any, integers in `[0, num_tokens)`; others are left out.
    Output shape: `(..., num_tokens)`, in the layer's compute dtype.
    """

    def __init__(self, num_tokens=None, output_mode="multi_hot", sparse=False, **kwargs):
        super().__init__(output_mode, sparse, ENCODED, **kwargs)
        if num_tokens is None:  # Keras's default, which it refuses itself
            raise ValueError(f"{self}: `num_tokens` must be given. `IntegerLookup` finds the categories by itself.")
        check_positive(self, num_tokens=num_tokens)
        self.num_tokens = num_tokens

    def __call__(self, inputs: Any, count_weights: Any = None, **kwargs) -> Any:
        if count_weights is None:
            return super().__call__(inputs, **kwargs)
        return super().__call__(inputs, count_weights=as_array(self, count_weights), **kwargs)

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        if count_weights is not None:
            counts, shape = self.output_mode == "count", count_weights.shape
            check(self, counts, "`count_weights` needs output_mode='count'", output_mode=self.output_mode)
            expected = f"`count_weights` must have the inputs' shape {inputs.shape}"
            check(self, shape == inputs.shape, expected, shape=shape)
            count_weights = count_weights.reshape(shape or (1,))  # as `encode` makes an axis of one value
        return encode(self, inputs.astype("int32"), self.num_tokens, count_weights)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        # Keras 3.15 never writes it, later ones do.
        return super().get_config() if self.sparse else leave_out(super().get_config(), "sparse")
