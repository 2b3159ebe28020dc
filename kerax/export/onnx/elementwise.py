"""Primitives that act on each number alone, and those that only move or repeat numbers."""

import jax
import numpy as np

from kerax.export.onnx.graph import (
    BOOL,
    INT32,
    INT64,
    Complex,
    ExportError,
    Graph,
    Operand,
    are_known,
    constant,
    is_known,
    is_same,
    stored,
)
from kerax.export.onnx.interpreter import FUNCTIONS, PARTWISE, rule

_OPERATORS = {
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "floor": "Floor",
    "ceil": "Ceil",
    "sign": "Sign",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "add_any": "Add",
}
_COMPARISONS = {
    "eq": "Equal",
    "lt": "Less",
    "gt": "Greater",
    "le": "LessOrEqual",
    "ge": "GreaterOrEqual",
    "lt_to": "Less",  # an order of all floats, NaN too, which sorting asks for: NaN is not told apart here
    "le_to": "LessOrEqual",
}
PARTWISE.update(("add", "sub", "neg", "add_any", "select_n", "copy", "copy_p", "stop_gradient", "optimization_barrier"))
PARTWISE.update(("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "concatenate", "split", "tile"))
PARTWISE.update(("stack", "unstack", "slice", "rev", "dynamic_slice", "gather", "reduce_sum", "pad"))

# Whole, for onnxruntime joins them with the convolution before: MobileNetV3Small takes a third of the time that it does
# with their parts, MobileNetV2 two thirds.
_FROM_0_TO_6 = constant(np.float32(0)), constant(np.float32(6))
FUNCTIONS.update(
    hard_sigmoid=(jax.nn.hard_sigmoid, lambda graph, x: graph.elementwise("HardSigmoid", [x], alpha=1 / 6, beta=0.5)),
    hard_silu=(jax.nn.hard_silu, lambda graph, x: graph.elementwise("HardSwish", [x])),
    relu6=(jax.nn.relu6, lambda graph, x: graph.elementwise("Clip", [x, *_FROM_0_TO_6])),
)


@rule(*_OPERATORS)
def _operator(graph: Graph, equation, *values: Operand):
    kind, dtype = _OPERATORS[equation.primitive.name], values[0].dtype
    if dtype.kind in "iu" and kind in ("Add", "Sub", "Mul", "Abs", "Neg", "Sign") and dtype not in (INT32, INT64):
        return _through(graph, equation, values)
    return graph.elementwise(kind, values)


def _through(graph: Graph, equation, values) -> Operand:
    """Small and unsigned integers by int64, whose last bits are the same: runtimes have hardly an operator for them."""
    dtype = values[0].dtype
    wide = graph.elementwise(_OPERATORS[equation.primitive.name], [graph.cast(value, INT64) for value in values])
    return graph.cast(wide, dtype)


@rule(*_COMPARISONS)
def _comparison(graph: Graph, equation, x: Operand, y: Operand):
    return _compare(graph, _COMPARISONS[equation.primitive.name], x, y)


def _compare(graph: Graph, kind: str, x: Operand, y: Operand) -> Operand:
    if x.dtype == BOOL and kind != "Equal":
        x, y = graph.cast(x, INT32), graph.cast(y, INT32)
    elif x.dtype.kind in "iu" and x.dtype not in (INT32, INT64):
        x, y = graph.cast(x, INT64), graph.cast(y, INT64)
    return graph.elementwise(kind, [x, y], BOOL)


@rule("ne")
def _not_equal(graph: Graph, equation, x: Operand, y: Operand):
    if x.dtype == BOOL:
        return graph.elementwise("Xor", [x, y])
    return graph.elementwise("Not", [_compare(graph, "Equal", x, y)])


@rule("div")
def _div(graph: Graph, equation, x: Operand, y: Operand):
    if x.dtype.kind == "f":
        return graph.elementwise("Div", [x, y])
    return _of_integers(graph, "Div", x, y, constant(np.full((), -1).astype(x.dtype)))


@rule("rem")
def _rem(graph: Graph, equation, x: Operand, y: Operand):
    if x.dtype.kind == "f":
        return graph.elementwise("Mod", [x, y], fmod=1)  # of the sign of what is divided, as in C
    return _of_integers(graph, "Mod", x, y, x, fmod=1)


def _of_integers(graph: Graph, kind: str, x: Operand, y: Operand, by_zero: Operand, **attributes) -> Operand:
    """A division, which gives `by_zero` where XLA does not fail and runtimes do."""
    if y.constant is not None and np.all(y.constant != 0):
        return graph.elementwise(kind, [x, y], **attributes)
    is_zero = graph.elementwise("Equal", [y, constant(np.zeros((), y.dtype))], BOOL)
    divisor = graph.elementwise("Where", [is_zero, constant(np.ones((), y.dtype)), y], y.dtype)
    result = graph.elementwise(kind, [x, divisor], **attributes)
    return graph.elementwise("Where", [is_zero, by_zero, result], x.dtype)


@rule("pow")
def _pow(graph: Graph, equation, x: Operand, y: Operand):
    return graph.elementwise("Pow", [x, y])


@rule("square")
def _square(graph: Graph, equation, x: Operand):
    return graph.elementwise("Mul", [x, x])


@rule("rsqrt")
def _rsqrt(graph: Graph, equation, x: Operand):
    return graph.elementwise("Reciprocal", [graph.elementwise("Sqrt", [x])])


@rule("erfc")
def _erfc(graph: Graph, equation, x: Operand):
    return graph.elementwise("Sub", [constant(np.ones((), x.dtype)), graph.elementwise("Erf", [x])])


@rule("exp2")
def _exp2(graph: Graph, equation, x: Operand):
    return graph.elementwise("Pow", [constant(np.full((), 2, x.dtype)), x])


@rule("is_finite")
def _is_finite(graph: Graph, equation, x: Operand):
    odd = [graph.elementwise(kind, [x], BOOL) for kind in ("IsInf", "IsNaN")]
    return graph.elementwise("Not", [graph.elementwise("Or", odd)])


@rule("round")
def _round(graph: Graph, equation, x: Operand):
    if int(equation.params["rounding_method"]) == 1:  # halves to even
        return graph.elementwise("Round", [x])
    half = graph.elementwise("Add", [graph.elementwise("Abs", [x]), constant(np.full((), 0.5, x.dtype))])
    return graph.elementwise("Mul", [graph.elementwise("Sign", [x]), graph.elementwise("Floor", [half])])


@rule("copy", "copy_p", "stop_gradient", "sharding_constraint", "pvary")
def _same(graph: Graph, equation, x: Operand):
    return x


@rule("optimization_barrier")
def _all_the_same(graph: Graph, equation, *values: Operand):
    return list(values)


@rule("reduce_precision")
def _reduce_precision(graph: Graph, equation, x: Operand):
    return x  # of the bits of a smaller float: those of bfloat16 are written as float32


@rule("convert_element_type")
def _convert(graph: Graph, equation, x: Operand):
    dtype = equation.params["new_dtype"]
    if np.dtype(dtype).kind == "c":
        return Complex(graph.cast(x, np.float32), constant(np.zeros((1,) * x.rank, np.float32)))
    return graph.cast(x, stored(dtype))


@rule("max", "min")
def _extremum(graph: Graph, equation, x: Operand, y: Operand):
    name = equation.primitive.name
    if x.dtype == BOOL:
        return graph.elementwise("Or" if name == "max" else "And", [x, y])
    for one, other in ((x, y), (y, x)):
        if one.constant is None or one.constant.ndim or one.dtype.kind != "f":
            continue
        if one.constant == (-np.inf if name == "max" else np.inf):  # softmax writes max(-inf, x)
            return other
        if name == "max" and one.constant == 0:
            return graph.elementwise("Relu", [other])
    return graph.elementwise(name.title(), [x, y])


@rule("and", "or", "xor", "not")
def _logic(graph: Graph, equation, *values: Operand):
    kind = equation.primitive.name.title()
    return graph.elementwise(kind if values[0].dtype == BOOL else f"Bitwise{kind}", values)


@rule("shift_left", "shift_right_logical")
def _shift(graph: Graph, equation, x: Operand, y: Operand):
    unsigned = np.dtype(f"uint{x.dtype.itemsize * 8}")
    direction = "LEFT" if equation.primitive.name == "shift_left" else "RIGHT"
    given = [graph.cast(x, unsigned), graph.cast(y, unsigned)]
    return graph.cast(graph.elementwise("BitShift", given, direction=direction), x.dtype)


@rule("shift_right_arithmetic")
def _shift_right(graph: Graph, equation, x: Operand, y: Operand):
    if x.dtype.kind == "u":
        return _shift(graph, equation, x, y)
    # x >> y is floor(x / 2^y), and ONNX divides towards zero: a negative number by way of its complement.
    negative = graph.elementwise("Less", [x, constant(np.zeros((), x.dtype))], BOOL)
    flipped = graph.elementwise("Where", [negative, graph.elementwise("BitwiseNot", [x]), x], x.dtype)
    shifted = _shift(graph, equation, flipped, y)
    return graph.elementwise("Where", [negative, graph.elementwise("BitwiseNot", [shifted]), shifted], x.dtype)


@rule("integer_pow")
def _integer_pow(graph: Graph, equation, x: Operand):
    power = equation.params["y"]
    result = x
    if abs(power) in (2, 3):
        for _ in range(abs(power) - 1):
            result = graph.elementwise("Mul", [result, x])
    elif abs(power) != 1:
        result = graph.elementwise("Pow", [x, constant(np.full((), abs(power), x.dtype))])
    return graph.elementwise("Reciprocal", [result]) if power < 0 else result


@rule("clamp")
def _clamp(graph: Graph, equation, low: Operand, x: Operand, high: Operand):
    return graph.elementwise("Min", [graph.elementwise("Max", [x, low]), high])


@rule("select_n")
def _select(graph: Graph, equation, which: Operand, *cases: Operand):
    dtype = cases[0].dtype
    if dtype.kind in "iu" and dtype not in (INT32, INT64):
        wide = _select(graph, equation, which, *(graph.cast(value, INT64) for value in cases))
        return graph.cast(wide, dtype)
    if which.dtype == BOOL:
        return graph.elementwise("Where", [which, cases[1], cases[0]], dtype)
    result = cases[-1]
    for index in reversed(range(len(cases) - 1)):
        test = graph.elementwise("Equal", [which, constant(np.full((), index, which.dtype))], BOOL)
        result = graph.elementwise("Where", [test, cases[index], result], result.dtype)
    return result


# Shapes.


@rule("broadcast_in_dim")
def _broadcast(graph: Graph, equation, x: Operand, *sizes: Operand):
    shape = equation.outvars[0].aval.shape
    actual: list = [1] * len(shape)
    for axis, target in enumerate(equation.params["broadcast_dimensions"]):
        actual[target] = x.actual[axis]
    if x.constant is not None:
        return Operand(shape, x.dtype, None, x.constant.reshape([int(size) for size in actual]), actual, x.name)
    moved = graph.reshape(Operand(x.actual, x.dtype, x.result), actual)
    return Operand(shape, x.dtype, moved.result, actual=tuple(actual))


def _is_one(size) -> bool:
    return is_known(size) and size == 1


@rule("reshape", "squeeze", "expand_dims")
def _reshape(graph: Graph, equation, x: Operand, *sizes: Operand):
    shape = equation.outvars[0].aval.shape
    if equation.primitive.name == "reshape" and equation.params["dimensions"] is not None:  # axes in another order
        x = graph.transpose(x, equation.params["dimensions"])
    wide = [(size, actual) for size, actual in zip(x.shape, x.actual, strict=True) if not _is_one(size)]
    if x.is_lazy and is_same([size for size, _ in wide], [size for size in shape if not _is_one(size)]):
        # Only ones come and go: what is to be broadcast later still is.
        left = iter(wide)
        actual = [1 if _is_one(size) else next(left)[1] for size in shape]
        moved = graph.reshape(Operand(x.actual, x.dtype, x.result, x.constant, name=x.name), actual)
        return Operand(shape, x.dtype, moved.result, moved.constant, tuple(actual))
    return graph.reshape(graph.full(x), shape)


@rule("transpose")
def _transpose(graph: Graph, equation, x: Operand):
    return graph.transpose(x, equation.params["permutation"])


@rule("concatenate")
def _concatenate(graph: Graph, equation, *values: Operand):
    shape = equation.outvars[0].aval.shape
    return graph.concatenate([graph.full(value) for value in values], equation.params["dimension"], shape)


@rule("split")
def _split(graph: Graph, equation, x: Operand):
    sizes = equation.params["sizes"]
    if len(sizes) == 1:
        return [x]
    results = graph.node("Split", [graph.full(x), graph.sizes(sizes)], outputs=len(sizes), axis=equation.params["axis"])
    return [Operand(v.aval.shape, x.dtype, result) for v, result in zip(equation.outvars, results, strict=True)]


@rule("tile")
def _tile(graph: Graph, equation, x: Operand):
    shape = equation.outvars[0].aval.shape
    return graph.value("Tile", [graph.full(x), graph.sizes(equation.params["reps"])], x.dtype, shape)


@rule("stack")
def _stack(graph: Graph, equation, *values: Operand):
    axis, shape = equation.params["axis"], tuple(equation.outvars[0].aval.shape)
    thin = (*shape[:axis], 1, *shape[axis + 1 :])
    return graph.concatenate([graph.reshape(graph.full(value), thin) for value in values], axis, shape)


@rule("unstack")
def _unstack(graph: Graph, equation, x: Operand):
    axis, x = equation.params["axis"], graph.full(x)
    return [
        graph.value("Gather", [x, np.array(index, np.int64)], x.dtype, variable.aval.shape, axis=axis)
        for index, variable in enumerate(equation.outvars)
    ]


@rule("slice")
def _slice(graph: Graph, equation, x: Operand):
    params, x, shape = equation.params, graph.full(x), equation.outvars[0].aval.shape
    starts, ends, steps = params["start_indices"], params["limit_indices"], params["strides"] or (1,) * x.rank
    cut = [
        axis
        for axis in range(x.rank)
        if not (is_same((starts[axis], steps[axis]), (0, 1)) and is_same((ends[axis],), (x.shape[axis],)))
    ]
    if not cut:
        return x
    chosen = [graph.sizes([numbers[axis] for axis in cut]) for numbers in (starts, ends, steps)]
    result = graph.slice(x, chosen[0], chosen[1], cut, chosen[2])
    return Operand(shape, x.dtype, result.result)


@rule("rev")
def _reverse(graph: Graph, equation, x: Operand):
    axes, x = equation.params["dimensions"], graph.full(x)
    back = np.full(len(axes), -1, np.int64)
    before_first = np.full(len(axes), np.iinfo(np.int64).min + 1, np.int64)
    return Operand(x.shape, x.dtype, graph.slice(x, back, before_first, axes, back).result)


@rule("pad")
def _pad(graph: Graph, equation, x: Operand, fill: Operand):
    config, x = equation.params["padding_config"], graph.full(x)
    for axis, (_, _, inside) in enumerate(config):
        if inside:
            x = _spread(graph, x, fill, axis, inside)
    low, high = [side[0] for side in config], [side[1] for side in config]
    if are_known([*low, *high]) and not any([*low, *high]):
        return x
    if x.dtype.kind in "biu" and x.dtype not in (INT32, INT64):  # runtimes pad these only
        wide = graph.value(
            "Pad", [graph.cast(x, INT32), graph.sizes([*low, *high]), graph.cast(fill, INT32)], INT32, ()
        )
        return graph.cast(Operand(equation.outvars[0].aval.shape, INT32, wide.result), x.dtype)
    # Negative amounts cut, in ONNX too.
    shape = equation.outvars[0].aval.shape
    return graph.value("Pad", [x, graph.sizes([*low, *high]), fill], x.dtype, shape)


def _spread(graph: Graph, x: Operand, fill: Operand, axis: int, inside: int) -> Operand:
    """`inside` fills between the entries of an axis: (n) to (n, 1) to (n, 1 + inside), in one row, and cut."""
    size, before, after = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    x = graph.reshape(x, (*before, size, 1, *after))
    ends = np.zeros(2 * x.rank, np.int64)
    ends[x.rank + axis + 1] = inside
    x = graph.value("Pad", [x, ends, fill], x.dtype, (*before, size, 1 + inside, *after))
    x = graph.reshape(x, (*before, size * (1 + inside), *after))
    whole = size + (size - 1) * inside
    cut = graph.slice(x, np.array([0]), graph.size(whole), [axis])
    return Operand((*before, whole, *after), x.dtype, cut.result)


@rule("iota")
def _iota(graph: Graph, equation, *sizes: Operand):
    axis, shape = equation.params["dimension"], equation.outvars[0].aval.shape
    dtype, size = stored(equation.params["dtype"]), shape[axis]
    actual = tuple(size if index == axis else 1 for index in range(len(shape)))
    if is_known(size):
        return Operand(shape, dtype, None, np.arange(size, dtype=dtype).reshape([int(s) for s in actual]), actual)
    counted = graph.node("Range", [np.array(0), graph.scalar_size(size), np.array(1)], INT64, (size,))
    numbers = graph.reshape(graph.cast(Operand((size,), INT64, counted), dtype), actual)
    return Operand(shape, dtype, numbers.result, actual=actual)


@rule("dim_as_value")
def _size(graph: Graph, equation):
    size = Operand((), INT64, graph.scalar_size(equation.params["dim"]))
    return graph.cast(size, equation.outvars[0].aval.dtype)


@rule("bitcast_convert_type")
def _bitcast(graph: Graph, equation, x: Operand):
    dtype = stored(equation.params["new_dtype"])
    if {x.dtype.kind, dtype.kind} <= set("iu") and x.dtype.itemsize == dtype.itemsize:
        return graph.cast(x, dtype)
    raise ExportError("ONNX does not read the bits of a float as an integer")


# Complex numbers.


@rule("complex")
def _complex(graph: Graph, equation, real: Operand, imaginary: Operand):
    return Complex(real, imaginary)


@rule("complex real")
def _real(graph: Graph, equation, x: Complex):
    return x.real


@rule("complex imag")
def _imag(graph: Graph, equation, x: Complex):
    return x.imaginary


@rule("complex conj")
def _conj(graph: Graph, equation, x: Complex):
    return Complex(x.real, graph.elementwise("Neg", [x.imaginary]))


@rule("complex abs")
def _complex_abs(graph: Graph, equation, x: Complex):
    squares = [graph.elementwise("Mul", [part, part]) for part in (x.real, x.imaginary)]
    return graph.elementwise("Sqrt", [graph.elementwise("Add", squares)])


@rule("complex mul")
def _complex_mul(graph: Graph, equation, x, y):
    if not isinstance(x, Complex) or not isinstance(y, Complex):
        return _scaled(graph, *((x, y) if isinstance(x, Complex) else (y, x)))

    def times(a, b):
        return graph.elementwise("Mul", [a, b])

    real = graph.elementwise("Sub", [times(x.real, y.real), times(x.imaginary, y.imaginary)])
    imaginary = graph.elementwise("Add", [times(x.real, y.imaginary), times(x.imaginary, y.real)])
    return Complex(real, imaginary)


def _scaled(graph: Graph, x: Complex, factor: Operand) -> Complex:
    return Complex(*(graph.elementwise("Mul", [part, factor]) for part in (x.real, x.imaginary)))


@rule("complex convert_element_type")
def _convert_complex(graph: Graph, equation, x: Complex):
    return x if np.dtype(equation.params["new_dtype"]).kind == "c" else x.real
