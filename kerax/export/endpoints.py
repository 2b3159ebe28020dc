"""What is exported: a function of weights and inputs, with the shapes of its inputs and everybody's names."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from kerax import config
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.core.scope import Scope
from kerax.core.symbolic import is_shape
from kerax.core.text import TEXT
from kerax.core.tracking import descendants, walk
from kerax.core.variable import materialize
from kerax.export.errors import ExportError
from kerax.export.text import Text, is_spec


class Endpoint:
    """A function that a file offers.

    Args:
        name: What it is called in files that hold several.
        function: Of the inputs, in JAX; what it reads of the layers' variables comes from the weights.
        owners: The layers whose variables are its weights.
        signature: One structure of `InputSpec`s for each argument of `function`.
        batch: The size of the first axis; `None`: any.
        text: What is done before with strings among the inputs; `function` takes what that gives.

    Attributes:
        weights: `{"params": {path: array}, "state": {path: array}}`.
        variables: The variables by path.
        output: Shape and dtype of what `function` returns.
        dtypes: Those that it computes in and that its weights are kept in.
        smallest_table: Integers below it are rows of every embedding of the library's.
        specs: The shapes of the function's arguments, in which sizes that are not known are symbols.
        inputs: Those of the file's inputs, flat: with `text` some are strings.
        input_names, output_names: One for each array.

    Raises:
        ValueError: if `function` cannot be computed for such inputs.
    """

    def __init__(
        self,
        name: str,
        function: Callable,
        owners: Sequence,
        signature: Sequence,
        batch: int | None = None,
        text: Text | None = None,
    ):
        self.name, self._function, self.text = name, function, text
        self.variables = _variables(owners)
        materialize(variable for _, variable in self.variables)
        self.signature = tuple(signature)
        self.specs, output = self._infer(batch)
        self.output: Any = output
        layers: list[Any] = [
            layer for owner in owners for layer in (owner, *descendants(owner)) if isinstance(layer, Layer)
        ]
        sizes = [getattr(layer, "input_dim", None) for layer in layers]
        self.dtypes = {str(leaf.dtype) for leaf in (*jax.tree.leaves(output), *jax.tree.leaves(self.weights))}
        self.dtypes |= {str(layer.compute_dtype) for layer in layers}
        self.smallest_table = min([size for size in sizes if isinstance(size, int) and size], default=2)
        self.input_names = names_of_inputs(self.signature)
        self.inputs: list[Any] = jax.tree.leaves(_specs(self.signature, batch, False) if text else self.specs)
        self.output_names = names_of_outputs(output)

    @property
    def weights(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {"params": {}, "state": {}}
        for path, variable in self.variables:
            found["params" if variable.trainable else "state"][path] = variable.value
        return found

    @property
    def flat_specs(self) -> list[jax.ShapeDtypeStruct]:
        """Shape and dtype of each input."""
        return jax.tree.leaves(self.specs)

    @property
    def is_dynamic(self) -> bool:
        """Whether there are sizes that are known at run time only."""
        return any(not isinstance(size, int) for spec in self.inputs for size in spec.shape)

    def call(self, weights: dict, arguments: tuple) -> Any:
        """The outputs for weights and inputs: pure."""
        values = weights["params"] | weights["state"]
        with Scope([(variable, values[path]) for path, variable in self.variables]):
            return self._function(*arguments)

    def call_flat(self, weights: dict, *inputs) -> list:
        """As `call`, of a flat list of inputs to a flat list of outputs."""
        return jax.tree.leaves(self.call(weights, self.unflatten(inputs)))

    def computed(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs for the file's inputs, as this machine infers."""
        inputs = inputs if self.text is None else self.text.compute(list(inputs))
        return [np.asarray(output) for output in jax.jit(self.call_flat)(self.weights, *inputs)]

    def unflatten(self, inputs: Sequence) -> tuple:
        """A flat list of inputs as the arguments of `call`."""
        return jax.tree.unflatten(jax.tree.structure(self.specs), inputs)

    def sized(self, batch: int) -> list[tuple[int, ...]]:
        """Shapes of inputs with numbers for the symbols: `batch` for the first axis, something that fits for others."""
        for other in (12, 16, 32, 7, 64, 256):
            shapes = [
                tuple(
                    size if isinstance(size, int) else batch if axis == 0 else other
                    for axis, size in enumerate(spec.shape)
                )
                for spec in self.inputs
            ]
            if self.text is not None:
                return shapes
            specs = [
                jax.ShapeDtypeStruct(shape, spec.dtype) for shape, spec in zip(shapes, self.flat_specs, strict=True)
            ]
            try:
                jax.eval_shape(self.call_flat, self.weights, *specs)
            except (TypeError, ValueError):
                continue
            return shapes
        raise ExportError(f"{self.name}: no input sizes were found to try the file with. Give `verify=False`.")

    def _infer(self, batch: int | None) -> tuple[tuple, Any]:
        mistake: Exception | None = None
        # Sizes along one axis of several inputs are one size where the function does not go otherwise.
        for is_shared in (False, True):
            specs = _specs(self.text.signature if self.text else self.signature, batch, is_shared)
            try:
                with plain_formulations():
                    return specs, jax.eval_shape(self.call, self.weights, specs)
            except (TypeError, ValueError) as error:
                mistake = mistake or error
        raise ValueError(
            f"export: {self.name!r} cannot be computed for inputs of {_described(self.signature)}: {mistake} Give "
            "`input_signature`, with numbers for the sizes that must be known."
        ) from mistake


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """Shape of an input of strings, as `jax.ShapeDtypeStruct`, which knows none."""

    shape: tuple
    dtype: str


@contextmanager
def plain_formulations() -> Iterator[None]:
    """A block in which layers are traced for no platform's sake, and no file of this machine is named in programs."""
    frames = jax.config.jax_traceback_in_locations_limit  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        with config.compiling_for("export"):
            yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", frames)


def _variables(owners: Sequence) -> list[tuple[str, Any]]:
    """The variables of layers by their paths, which begin with the layer's name where there are several."""
    found: dict[int, tuple[str, Any]] = {}
    for owner in owners:
        for path, variable in walk(owner):
            name = "/".join(path if len(owners) == 1 else (owner.name, *path))
            found.setdefault(id(variable), (name, variable))
    return list(found.values())


# Signatures.


def signature_of(model, given: Any = None) -> tuple:
    """What a model takes, as structures of `InputSpec`s, one for each argument.

    Raises:
        ValueError: if a model that is not built has none, or `given` does not fit it.
    """
    if given is not None:
        signature = standardize_signature(given)
        # One structure for the whole model, or a list with one for each argument, as Keras takes both.
        _check_fit(model, signature)
        return signature
    if not model.built:
        raise ValueError(
            f"export: {model} is not built, so that its inputs are not known. Call it on data first, or give "
            "`input_signature`."
        )
    symbolic = getattr(model, "input", None) if hasattr(model, "kerax_graph") else None
    if symbolic is None and getattr(model, "inputs", None):
        symbolic = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    if symbolic is not None:
        return (jax.tree.map(_as_spec, symbolic, is_leaf=_is_like_spec),)
    shapes = list((model.kerax_build_shapes or {}).values())
    if not shapes:
        raise ValueError(f"export: the inputs of {model} are not known. Give `input_signature`.")
    return tuple(
        jax.tree.map(lambda s: InputSpec(shape=(None, *s[1:]), dtype="float32"), shape, is_leaf=is_shape)
        for shape in shapes
    )


def standardize_signature(given: Any) -> tuple:
    """A signature as users give it, a structure or a list with one for each argument, as `InputSpec`s.

    Raises:
        TypeError: for what is no spec.
        ValueError: for one without a shape.
    """
    arguments = given if isinstance(given, (list, tuple)) else [given]
    return tuple(jax.tree.map(_as_spec, argument, is_leaf=_is_like_spec) for argument in arguments)


def _is_like_spec(value) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _as_spec(value) -> InputSpec:
    if not _is_like_spec(value):
        raise TypeError(f"input_signature: expected `InputSpec`s, tensors or arrays. Got {value!r}.")
    if value.shape is None:
        raise ValueError("input_signature: each spec must have a shape, `None` for sizes that are not known.")
    operation = getattr(value, "operation", None)
    named = operation if isinstance(operation, Layer) else value  # an input's layer has the name that the user gave it
    dtype = getattr(value.dtype, "name", value.dtype) or "float32"
    sizes = [size if size is None else int(size) for size in tuple(value.shape)]
    return InputSpec(shape=sizes, dtype=str(dtype), name=getattr(named, "name", None))


def _check_fit(model, signature: tuple):
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return
    given = jax.tree.leaves(signature, is_leaf=_is_like_spec)
    if len(given) != len(inputs):
        raise ValueError(f"input_signature: {model} has {len(inputs)} inputs. Got {len(given)} specs.")
    by_name = {tensor.operation.name: tensor for tensor in inputs}
    for tensor, spec in zip(inputs, given, strict=True):
        expected = by_name.get(spec.name, tensor).shape if spec.name else tensor.shape
        fits = len(spec.shape) == len(expected) and all(
            want is None or size is None or want == size for size, want in zip(spec.shape, expected, strict=True)
        )
        if not fits:
            raise ValueError(
                f"input_signature: {spec.name or tensor.operation.name!r} of {model} has shape {tuple(expected)}. Got "
                f"{spec.shape}."
            )


def _specs(signature: tuple, batch: int | None, is_shared: bool) -> tuple:
    """Arguments' shapes: `batch` or a symbol for the first axis, a symbol for each other size that is not known."""
    scope, count = jax.export.SymbolicScope(), itertools.count()

    def symbol(name: str):
        return jax.export.symbolic_shape(name, scope=scope)[0]

    def spec(one: InputSpec) -> jax.ShapeDtypeStruct | TextSpec:
        number, sizes = next(count), []
        for axis, size in enumerate(one.shape or ()):
            if axis == 0 and batch is not None and size in (None, batch):
                sizes.append(batch)
            elif size is not None:
                sizes.append(size)
            else:
                sizes.append(symbol("batch" if axis == 0 else f"size_{axis}" if is_shared else f"size_{number}_{axis}"))
        if one.dtype == TEXT:
            return TextSpec(tuple(sizes), TEXT)
        return jax.ShapeDtypeStruct(sizes, jax.dtypes.canonicalize_dtype(np.dtype(one.dtype)))

    return tuple(jax.tree.map(spec, argument, is_leaf=is_spec) for argument in signature)


def names_of_inputs(signature: tuple) -> list[str]:
    """The specs' names; of a dict its keys; else `input`, or `input_0`, `input_1` and so on."""
    names: list[str] = []
    leaves = jax.tree_util.tree_leaves_with_path(signature, is_leaf=is_spec)
    for index, (path, spec) in enumerate(leaves):
        key = getattr(path[-1], "key", None) if len(path) > 1 else None
        name = spec.name or (key if isinstance(key, str) else None)
        name = name or ("input" if len(leaves) == 1 else f"input_{index}")
        names.append(name if name not in names else f"{name}_{index}")
    return names


def names_of_outputs(output: Any) -> list[str]:
    """Of a dict its keys, else `output_0`, `output_1` and so on, as in Keras's files."""
    leaves = jax.tree_util.tree_leaves_with_path(output)
    keys = [getattr(path[-1], "key", None) if path else None for path, _ in leaves]
    if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
        return [str(key) for key in keys]
    return [f"output_{index}" for index in range(len(leaves))]


def _described(signature: tuple) -> str:
    leaves = jax.tree.leaves(signature, is_leaf=is_spec)
    return ", ".join(f"{spec.dtype}{tuple(spec.shape)}" for spec in leaves)
