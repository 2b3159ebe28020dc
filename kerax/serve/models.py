"""Models as the server runs them: kerax's own and ONNX files, each a function of arrays with sizes of batches."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core.input_spec import InputSpec
from kerax.data.arrays import pack_x_y_sample_weight
from kerax.data.source import BatchSpec
from kerax.export.endpoints import names_of_inputs, names_of_outputs, signature_of
from kerax.serve.tensors import TEXT, TensorSpec
from kerax.train.feed import single
from kerax.train.program import Program
from kerax.train.programs import predict_program
from kerax.train.state import Carried, inference_values, state_variables

_MOST_PROGRAMS = 64
"""Programs that are kept beside the prepared ones; each shape that is asked for needs one."""
_OPEN_SIZES = (12, 16, 32, 64, 128, 256)  # tried for sizes that the model leaves open


class Runnable(Protocol):
    """A model that the server can run.

    Attributes:
        platform: What runs it.
        inputs, outputs: What a row is made of.
        sizes: Rows that a batch may have, in ascending order.
        mixes_rows: Whether a row's outputs depend on the other rows of its batch. Then requests are computed as they
            are: none is joined with others, and none filled up.
        num_programs: Programs compiled so far.
    """

    platform: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    sizes: list[int]
    mixes_rows: bool

    @property
    def num_programs(self) -> int: ...

    def prepare(self, lengths: Sequence[int]) -> None:
        """Compiles what is known to be needed, and tries it; where sizes are open, for these lengths."""
        ...

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs for inputs of one of the sizes."""
        ...

    def close(self) -> None:
        """Answers what was asked of it, once it is asked no more."""
        ...


def batch_sizes(max_batch: int, fixed: int | None) -> list[int]:
    """The powers of 2 up to `max_batch`, and that itself; or what a model was built for."""
    if fixed is not None:
        return [fixed]
    return sorted({1 << power for power in range(max_batch.bit_length())} | {max_batch})


class KeraxModel:
    """A model of kerax, computed by the programs of its `predict`.

    Args:
        model: A built model. Later changes of its weights are not seen.
        max_batch: Rows that are computed at once at most.

    Raises:
        ValueError: for a model that is not built, or takes several arguments.
    """

    platform = "kerax"

    def __init__(self, model, max_batch: int):
        self._model, self.num_programs, self._number = model, 0, 0
        signature = signature_of(model)
        if len(signature) != 1:
            raise ValueError(
                f"serve: {model} takes {len(signature)} arguments; a server gives one structure of inputs."
            )
        specs, self._structure = jax.tree.flatten(signature[0], is_leaf=lambda leaf: isinstance(leaf, InputSpec))
        self.inputs = [
            TensorSpec(name, _dtype_of(spec.dtype), tuple(spec.shape[1:]))
            for name, spec in zip(names_of_inputs(signature), specs)
        ]
        (fixed,) = {spec.shape[0] for spec in specs} if len({spec.shape[0] for spec in specs}) == 1 else {None}
        self.sizes, self._is_fixed, self.mixes_rows = batch_sizes(max_batch, fixed), fixed is not None, False
        variables = state_variables(model, with_optimizer=False, with_metrics=False)
        self._variables, carried = variables, Carried(variables)
        self._constants, self._carry = carried.split(inference_values(model, carried.owners, self))
        self._prepared: dict[BatchSpec, Program] = {}
        self._programs: OrderedDict[BatchSpec, Program] = OrderedDict()
        self.outputs = self._find_outputs()

    def prepare(self, lengths: Sequence[int]) -> None:
        """Compiles and runs the programs of all sizes; where rows have open ones, those of the lengths."""
        if not self.mixes_rows:
            for arrays in _all_sizes(self, lengths):
                self.run(arrays)
        self._prepared |= self._programs
        self._programs.clear()

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        batch = self._batch(arrays)
        piece = single(batch)
        program = self._program(piece.spec)
        # What programs carry is donated to them; each request starts from the same.
        carry = tuple(map(jnp.copy, self._carry))
        # Numbered, for layers that draw random numbers to draw new ones for each batch.
        self._number = (self._number + 1) % 2**31
        _, outputs = program(self._constants, carry, piece, self._number)
        return list(jax.device_get(jax.tree.leaves(outputs)))

    def close(self) -> None:
        """Nothing: the batcher has what is asked."""

    def _batch(self, arrays: Sequence[np.ndarray]) -> Any:
        """What the programs take: of texts, what the layers that read text make of them."""
        x = jax.tree.unflatten(self._structure, arrays)
        return pack_x_y_sample_weight(self._model.kerax_used_inputs(x))

    def _program(self, spec: BatchSpec) -> Program:
        if spec in self._prepared:
            return self._prepared[spec]
        if spec not in self._programs:
            self._programs[spec] = predict_program(self._model, self._variables, spec)
            self.num_programs += 1
            if self._prepared and len(self._programs) > _MOST_PROGRAMS:
                self._programs.popitem(last=False)
        return self._programs[spec]

    def _find_outputs(self) -> list[TensorSpec]:
        """The outputs' names and shapes, by following the model without computing."""
        size = self.sizes[-1] if self._is_fixed else max(self.sizes[-1], 2)  # one row tells nothing of others
        found: list = []
        for open_size in _OPEN_SIZES if _is_open(self) else (None,):
            try:
                piece = single(self._batch([_made_up(spec, size, open_size) for spec in self.inputs]))
                program = self._program(piece.spec)
            except (TypeError, ValueError) as error:
                if open_size in (None, _OPEN_SIZES[-1]) and not found:
                    raise ValueError(f"serve: {self._model} cannot be computed for its inputs: {error}") from error
                continue
            found.append(program.outputs)
            self.mixes_rows = self.mixes_rows or not (program.fills_up or size == 1)
            if len(found) == 2:
                break
        leaves = [jax.tree.leaves(outputs) for outputs in (found[0], found[-1])]
        names = names_of_outputs(found[0])
        specs = []
        for name, one, other in zip(names, *leaves):
            if one.shape[:1] != (size,):
                raise ValueError(
                    f"serve: output {name!r} of {self._model} has shape {one.shape}, not one row for each."
                )
            # Where texts are as long as the longest, a shape says nothing about others.
            shape = tuple(a if a == b else None for a, b in zip(one.shape[1:], other.shape[1:]))
            specs.append(TensorSpec(name, one.dtype.name, shape))
        return specs


class OnnxModel:
    """An ONNX file, computed by onnxruntime.

    Args:
        path: Of the file.
        max_batch: Rows that are computed at once at most.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that it does not read, or one whose inputs have no axis of rows.
    """

    platform = "onnxruntime_onnx"

    def __init__(self, path: str, max_batch: int):
        try:
            import onnxruntime
        except ImportError:
            raise ImportError(f"serve: {path!r} needs onnxruntime: pip install 'kerax[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; it warns of a machine without GPU
        try:
            # From memory: a file that is replaced while it is served is not read any more.
            content = Path(path).read_bytes()
            self._session = onnxruntime.InferenceSession(
                content, options, providers=onnxruntime.get_available_providers()
            )
        except OSError:
            raise
        except Exception as error:  # classes of its own
            raise ValueError(f"serve: onnxruntime does not read {path!r}: {error}") from None
        self.num_programs, self.mixes_rows = 0, False
        self.inputs = [_of_onnx(path, node) for node in self._session.get_inputs()]
        self.outputs = [_of_onnx(path, node) for node in self._session.get_outputs()]
        first = {node.shape[0] for node in self._session.get_inputs()}
        fixed = next((size for size in first if isinstance(size, int)), None)
        self.sizes = batch_sizes(max_batch, fixed)

    def prepare(self, lengths: Sequence[int]) -> None:
        """Runs each size once, with open ones of these lengths."""
        for arrays in _all_sizes(self, lengths):
            self.run(arrays)
        if len(self.sizes) > 1 and not _is_open(self):
            self.mixes_rows = _seems_to_mix_rows(self)

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        given = {
            spec.name: array.astype(object) if spec.dtype == TEXT else array for spec, array in zip(self.inputs, arrays)
        }
        return [np.asarray(output) for output in self._session.run(None, given)]

    def close(self) -> None:
        """Nothing: the batcher has what is asked."""


_ONNX_DTYPES: dict[str, str] = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "string": TEXT,
}


def _of_onnx(path: str, node) -> TensorSpec:
    kind: str = node.type.removeprefix("tensor(").removesuffix(")")
    if not node.shape:
        raise ValueError(f"serve: {node.name!r} of {path!r} has no axis of rows.")
    shape = tuple(size if isinstance(size, int) else None for size in node.shape[1:])
    return TensorSpec(node.name, _ONNX_DTYPES.get(kind, kind), shape)


def _dtype_of(name: str) -> str:
    return name if name == TEXT else jax.dtypes.canonicalize_dtype(np.dtype(name)).name


def _is_open(model: Runnable) -> bool:
    """Whether rows have sizes that only requests know."""
    return any(None in spec.shape for spec in model.inputs)


def _all_sizes(model: Runnable, lengths: Sequence[int]) -> Iterator[list[np.ndarray]]:
    """Inputs of all shapes that are known beforehand."""
    # A text of one shape has any number of words.
    has_text = any(spec.dtype == TEXT for spec in model.inputs)
    known: list[int | None] = [] if _is_open(model) else [None]
    for length in [*known, *lengths] if has_text or not known else known:
        for size in model.sizes:
            yield [_made_up(spec, size, length) for spec in model.inputs]


def _made_up(spec: TensorSpec, rows: int, open_size: int | None, fill: Callable | None = None) -> np.ndarray:
    shape = (rows, *(open_size or 1 if size is None else size for size in spec.shape))
    if spec.dtype == TEXT:
        return np.full(shape, " ".join(["a"] * (open_size or 1)))
    return np.zeros(shape, spec.dtype) if fill is None else fill(shape).astype(spec.dtype)


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """By more than products of another size, in few bits, may."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    scale = np.abs(other).max(initial=0)
    return bool(np.isfinite(scale) and np.abs(one - other).max(initial=0) > 0.05 * scale)


def _seems_to_mix_rows(model: Runnable) -> bool:
    """Whether a row's output is another beside another row."""
    rng = np.random.default_rng(0)
    two = [_made_up(spec, 2, None, lambda shape: rng.random(shape).round(1)) for spec in model.inputs]
    one = [array[:1] for array in two]
    return any(_differ(first[:1], other) for first, other in zip(model.run(two), model.run(one)))
