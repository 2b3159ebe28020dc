"""An ONNX graph while it is written: its values, constants, nodes, and the sizes that are known at run time only."""

import ast
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np
import onnx_ir as ir

from kerax.export.errors import ExportError

BOOL, INT32, INT64, FLOAT = np.dtype(bool), np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float32)
TEXT = np.dtype(object)
"""Of strings, in NumPy's arrays."""
_OPSET_OF_FLOAT8 = 19
_SIZE_TO_COMPARE = 1024
"""Bytes up to which constants are compared by their content: equal ones are one, of which there are many."""


def stored(dtype) -> np.dtype:
    """The dtype in the graph. bfloat16 is written as float32: runtimes have hardly an operator for it."""
    dtype = np.dtype(dtype)
    return FLOAT if dtype == ml_dtypes.bfloat16 else dtype


def data_type(dtype) -> ir.DataType:
    """ONNX's name for a dtype of the graph."""
    return ir.DataType.STRING if np.dtype(dtype) == TEXT else ir.DataType.from_numpy(np.dtype(dtype))


def is_known(size) -> bool:
    """Whether a size is a number, not an expression of symbols."""
    return isinstance(size, (int, np.integer))


def are_known(sizes) -> bool:
    """Whether all sizes are numbers."""
    return all(map(is_known, sizes))


def is_same(first: Sequence, second: Sequence) -> bool:
    """Whether two shapes are equal as far as one can tell."""
    return len(first) == len(second) and all(
        is_known(a) == is_known(b) and bool(a == b) for a, b in zip(first, second, strict=True)
    )


def product(sizes: Sequence) -> Any:
    """The product of sizes, of which some may be expressions."""
    total: Any = 1
    for size in sizes:
        total = size * total
    return total


@dataclasses.dataclass(slots=True)
class Operand:
    """A value of the program: a constant, or what a node gives.

    Args:
        shape: What JAX says.
        dtype: As in the graph.
        result: The node's output; `None` for a constant.
        constant: An array of shape `actual`.
        actual: 1 wherever a broadcast is still to be carried out: operators that broadcast take it as it is.
        name: What a constant is called in the file.
    """

    shape: Any
    dtype: np.dtype
    result: Any = None
    constant: Any = None
    actual: Any = None
    name: str | None = None

    def __post_init__(self):
        self.shape, self.dtype = tuple(self.shape), np.dtype(self.dtype)
        self.actual = self.shape if self.actual is None else tuple(self.actual)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_lazy(self) -> bool:
        """Whether a broadcast is still to be carried out."""
        return not is_same(self.actual, self.shape)


@dataclasses.dataclass(slots=True)
class Complex:
    """A complex value: ONNX has none, so its two parts are written."""

    real: Operand
    imaginary: Operand

    @property
    def shape(self) -> tuple:
        return self.real.shape


def constant(array, name: str | None = None) -> Any:
    """A constant of the program: a `Operand`, or a `Complex`."""
    array = cast(Any, np.asarray(array))
    if array.dtype.kind == "c":
        return Complex(constant(array.real), constant(array.imag))
    array = array.astype(stored(array.dtype), copy=False)
    return Operand(array.shape, array.dtype, constant=array, name=name)


class _Shared:
    """What a graph and the bodies of its loops share."""

    def __init__(self):
        self.initializers: list[ir.Value] = []
        self.constants: dict[Any, tuple[ir.Value, np.ndarray]] = {}
        self.symbols: dict[str, ir.Value] = {}
        self.sizes: dict[str, ir.Value] = {}
        self.names: dict[str, int] = {}  # how often each was asked for
        self.scope = ""
        self.opset = 18  # the lowest version that has all operators of the nodes


class Graph:
    """A graph, or the body of a loop, which sees the values around it."""

    def __init__(self, parent: "Graph | None" = None):
        self.nodes: list[ir.Node] = []
        self.root: Graph = self if parent is None else parent.root
        self.shared: _Shared = _Shared() if parent is None else parent.shared

    # Names, constants, nodes.

    def unique(self, name: str) -> str:
        """`name`, numbered where it was given before."""
        count = self.shared.names.get(name, 0)
        free = f"{name}_{count}" if count else name
        while count and free in self.shared.names:
            count += 1
            free = f"{name}_{count}"
        self.shared.names[name] = count + 1
        self.shared.names.setdefault(free, 1)
        return free

    def initializer(self, array: np.ndarray, name: str | None = None) -> ir.Value:
        """A constant that is kept in the file."""
        small = array.nbytes <= _SIZE_TO_COMPARE
        content = str(array.tolist()) if array.dtype == TEXT else array.tobytes()
        key = (array.dtype.str, array.shape, content) if small else id(array)
        if key not in self.shared.constants:
            name = self.unique(name or f"constant_{len(self.shared.initializers)}")
            if array.dtype == TEXT:
                tensor = ir.StringTensor(np.strings.encode(array.astype(str)), shape=ir.Shape(array.shape), name=name)
            else:
                tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
            value = ir.Value(
                name=name,
                shape=tensor.shape,
                type=ir.TensorType(data_type(array.dtype)),
                const_value=tensor,
            )
            self.shared.initializers.append(value)
            # The array is kept beside it, for its id must not become another's.
            self.shared.constants[key] = value, array
        return self.shared.constants[key][0]

    def input(self, value: Any) -> ir.Value | None:
        """What a node takes for a value, a NumPy array, or nothing."""
        if value is None or isinstance(value, ir.Value):
            return value
        if isinstance(value, Operand):
            return value.result if value.constant is None else self.initializer(value.constant, value.name)
        return self.initializer(np.asarray(value))

    def node(
        self, kind: str, inputs: Sequence, dtype=None, shape=None, outputs: int = 1, domain: str = "", **attributes
    ) -> Any:
        """Writes a node. Returns its output, or a list of several."""
        label = f"{self.shared.scope}/{kind}" if self.shared.scope else kind
        results = [ir.Value(name=self.unique(f"{label}:{index}")) for index in range(outputs)]
        if outputs == 1 and dtype is not None:
            results[0].type = ir.TensorType(data_type(dtype))
        if outputs == 1 and shape is not None:
            results[0].shape = ir.Shape([int(size) if is_known(size) else str(size) for size in shape])
        given = {name: _attribute(value) for name, value in attributes.items()}
        read = [self.input(value) for value in inputs]
        self.nodes.append(ir.node(kind, read, given, domain=domain, outputs=results, name=self.unique(label)))
        return results[0] if outputs == 1 else results

    def value(self, kind: str, inputs: Sequence, dtype, shape, actual=None, **attributes) -> Operand:
        """Writes a node of one output and returns it as a value of the program."""
        given = shape if actual is None else actual
        return Operand(shape, dtype, self.node(kind, inputs, dtype, given, **attributes), actual=actual)

    # Sizes.

    def size(self, size) -> ir.Value:
        """A size at run time: a vector of one int64."""
        if is_known(size):
            return self.initializer(np.array([size], np.int64))
        text = str(size)
        if text not in self.shared.sizes:
            # In the outermost graph, where every body sees it. `str` of a size is JAX's documented grammar.
            tree = ast.parse(text.replace("^", "**"), mode="eval")
            self.shared.sizes[text] = self.root._expression(tree.body)
        return self.shared.sizes[text]

    def scalar_size(self, size) -> ir.Value:
        """A size at run time: a scalar of int64."""
        return self.node("Squeeze", [self.size(size), np.array([0])], INT64, ())

    def _expression(self, tree: ast.expr) -> ir.Value:
        match tree:
            case ast.Constant(value=number):
                return self.initializer(np.array([number], np.int64))
            case ast.Name(id=name):
                return self.shared.symbols[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.node("Neg", [self._expression(operand)], INT64, (1,))
            case ast.BinOp(left=base, op=ast.Pow(), right=ast.Constant(value=int(power))):
                factor = self._expression(base)
                result = factor
                for _ in range(power - 1):
                    result = self.node("Mul", [result, factor], INT64, (1,))
                return result
            case ast.BinOp(left=left, op=op, right=right):
                kind = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}[type(op)]
                return self.node(kind, [self._expression(left), self._expression(right)], INT64, (1,))
            case ast.Call(func=ast.Name(id="max" | "min" as name), args=[left, right]):
                return self.node(name.title(), [self._expression(left), self._expression(right)], INT64, (1,))
            case ast.Call(func=ast.Name(id=name), args=[left, right]):
                whole, part = self._expression(left), self._expression(right)
                rest = self.node("Mod", [whole, part], INT64, (1,))  # of the divisor's sign, as JAX's
                if name == "mod":
                    return rest
                return self.node("Div", [self.node("Sub", [whole, rest], INT64, (1,)), part], INT64, (1,))
        raise ExportError(f"the size {ast.unparse(tree)} cannot be written")

    def sizes(self, sizes: Sequence) -> ir.Value:
        """Sizes at run time: a vector of int64."""
        if are_known(sizes):
            return self.initializer(np.array(sizes, np.int64))
        if len(sizes) == 1:
            return self.size(sizes[0])
        key = str(tuple(sizes))
        if key not in self.shared.sizes:
            parts, known = [], []
            for size in [*sizes, None]:
                if size is not None and is_known(size):
                    known.append(int(size))
                    continue
                parts += [np.array(known, np.int64)] if known else []
                parts += [] if size is None else [self.size(size)]
                known = []
            self.shared.sizes[key] = self.root.node("Concat", parts, INT64, (len(sizes),), axis=0)
        return self.shared.sizes[key]

    # What most rules need.

    def full(self, value: Operand) -> Operand:
        """A value with its broadcast carried out."""
        if not value.is_lazy:
            return value
        if value.constant is not None and are_known(value.shape):
            return Operand(value.shape, value.dtype, constant=np.broadcast_to(value.constant, value.shape))
        return self.value("Expand", [value, self.sizes(value.shape)], value.dtype, value.shape)

    def reshape(self, value: Operand, shape: Sequence) -> Operand:
        """A value, its broadcast carried out, in another shape."""
        if is_same(value.shape, shape):
            return value
        if value.constant is not None and are_known(shape):
            return Operand(
                shape, value.dtype, constant=value.constant.reshape([int(s) for s in shape]), name=value.name
            )
        unknown = [index for index, size in enumerate(shape) if not is_known(size)]
        if len(unknown) <= 1 and 0 not in [size for size in shape if is_known(size)]:
            target = np.array([-1 if index in unknown else size for index, size in enumerate(shape)], np.int64)
        else:
            target = self.sizes(shape)
        return self.value("Reshape", [value, target], value.dtype, shape)

    def transpose(self, value: Operand, axes: Iterable) -> Operand:
        """A value with its axes in another order, its broadcast left as it is."""
        axes = [int(axis) for axis in axes]
        if axes == list(range(value.rank)):
            return value
        shape, actual = (tuple(sizes[axis] for axis in axes) for sizes in (value.shape, value.actual))
        if value.constant is not None:
            return Operand(shape, value.dtype, None, np.transpose(value.constant, axes), actual, value.name)
        return self.value("Transpose", [value], value.dtype, shape, actual, perm=axes)

    def cast(self, value: Operand, dtype) -> Operand:
        """A value in another dtype."""
        dtype = np.dtype(dtype)
        if value.dtype == dtype:
            return value
        if value.constant is not None and value.constant.nbytes <= _SIZE_TO_COMPARE:
            return Operand(value.shape, dtype, None, value.constant.astype(dtype), value.actual)
        if "float8" in f"{dtype} {value.dtype}":
            self.shared.opset = _OPSET_OF_FLOAT8
        to = int(ir.DataType.from_numpy(dtype))
        return self.value("Cast", [value], dtype, value.shape, value.actual, to=to)

    def elementwise(self, kind: str, values: Sequence[Operand], dtype=None, **attributes) -> Operand:
        """An operator that broadcasts: what its inputs have left to broadcast is left in its output."""
        rank = max(value.rank for value in values)
        shape, actual = _broadcast([v.shape for v in values], rank), _broadcast([v.actual for v in values], rank)
        return self.value(kind, values, np.dtype(dtype or values[0].dtype), shape, actual, **attributes)

    def concatenate(self, values: Sequence[Operand], axis: int, shape: Sequence) -> Operand:
        """Values with their broadcasts carried out, beside each other."""
        if len(values) == 1:
            return values[0]
        return self.value("Concat", values, values[0].dtype, shape, axis=axis)

    def slice(self, value: Operand, starts, ends, axes, steps=None) -> Operand:
        """A part of a value; its shape is left to the caller, who knows it."""
        given = [value, starts, ends, np.array(axes, np.int64), *([] if steps is None else [steps])]
        return Operand(value.shape, value.dtype, self.node("Slice", given, value.dtype))

    def body(self, function, specs: Sequence[tuple]) -> ir.Graph:
        """The body of a loop or of a branch.

        Args:
            function: From the graph and the values of its inputs to the values of its outputs.
            specs: Shape and dtype of each input.
        """
        graph = Graph(self)
        inputs = []
        for shape, dtype in specs:
            sizes = ir.Shape([int(size) if is_known(size) else str(size) for size in shape])
            kind = ir.TensorType(data_type(dtype))
            inputs.append(Operand(shape, dtype, ir.Value(name=self.unique("in"), type=kind, shape=sizes)))
        outputs = [graph.full(value) for value in function(graph, *inputs)]
        # An output of a body is made in the body, also where it is a constant or comes from outside.
        results = [graph.node("Identity", [value], value.dtype, value.shape) for value in outputs]
        return ir.Graph([v.result for v in inputs], results, nodes=graph.nodes, name=self.unique("body"))


def _broadcast(shapes: Sequence[Sequence], rank: int) -> tuple:
    sizes: list = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if not (is_known(size) and size == 1):
                sizes[axis] = size
    return tuple(sizes)


def _attribute(value):
    if isinstance(value, np.integer):
        return int(value)
    # A list that is empty says nothing of its type.
    return ir.AttrInt64s("", [int(item) for item in value]) if isinstance(value, list) and not value else value
