"""Products of matrices, convolutions, windows, transforms."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.export.onnx.graph import (
    FLOAT,
    INT32,
    Complex,
    ExportError,
    Graph,
    Operand,
    are_known,
    constant,
    is_known,
    is_same,
    product,
    stored,
)
from kerax.export.onnx.interpreter import rule


@rule("dot_general")
def _dot_general(graph: Graph, equation, x: Operand, y: Operand):
    (x_summed, y_summed), (x_batch, y_batch) = equation.params["dimension_numbers"]
    aval = equation.outvars[0].aval
    dtype = stored(aval.dtype)
    kind = "MatMul"
    if {x.dtype, y.dtype} <= {np.dtype(np.int8), np.dtype(np.uint8)} and dtype == INT32:
        kind = "MatMulInteger"
    else:
        x, y = graph.cast(x, dtype), graph.cast(y, dtype)
    x, y = graph.full(x), graph.full(y)
    x_free = [axis for axis in range(x.rank) if axis not in (*x_summed, *x_batch)]
    y_free = [axis for axis in range(y.rank) if axis not in (*y_summed, *y_batch)]
    batch = tuple(x.shape[axis] for axis in x_batch)
    rows, columns = tuple(x.shape[axis] for axis in x_free), tuple(y.shape[axis] for axis in y_free)
    summed = product([x.shape[axis] for axis in x_summed])
    x = graph.transpose(x, [*x_batch, *x_free, *x_summed])
    y = graph.transpose(y, [*y_batch, *y_summed, *y_free])
    # MatMul takes more axes on the left as they are, which saves two changes of shape.
    many = rows if not batch and rows and len(columns) == 1 else (product(rows),)
    x = graph.reshape(x, (*batch, *many, summed))
    y = graph.reshape(y, (*batch, summed, product(columns)))
    result = graph.value(kind, [x, y], dtype, (*batch, *many, product(columns)))
    return graph.reshape(result, aval.shape)


@rule("conv_general_dilated")
def _conv(graph: Graph, equation, x: Operand, kernel: Operand):
    params, aval = equation.params, equation.outvars[0].aval
    if params["batch_group_count"] != 1:
        raise ExportError("ONNX has no convolution with groups of the batch, which gradients are made of")
    spec, dtype = params["dimension_numbers"], stored(aval.dtype)
    x = graph.transpose(graph.cast(graph.full(x), dtype), spec.lhs_spec)
    kernel = graph.transpose(graph.cast(graph.full(kernel), dtype), spec.rhs_spec)
    shape = tuple(aval.shape[axis] for axis in spec.out_spec)
    compute = _plain_conv if all(step == 1 for step in params["lhs_dilation"]) else _transposed_conv
    result = compute(graph, params, x, kernel, shape)
    return graph.transpose(Operand(shape, dtype, result), np.argsort(spec.out_spec))


def _plain_conv(graph: Graph, params: dict, x: Operand, kernel: Operand, shape: tuple):
    low, high = [side[0] for side in params["padding"]], [side[1] for side in params["padding"]]
    if not are_known([*low, *high]) or min([*low, *high]) < 0:
        # Of a size that is not known, "same" pads as much as that size says when it runs.
        zero = np.zeros((), x.dtype)
        padded = graph.node("Pad", [x, graph.sizes([0, 0, *low, 0, 0, *high]), zero], x.dtype)
        x = Operand(x.shape, x.dtype, padded)
        low = high = [0] * len(low)
    return graph.node(
        "Conv",
        [x, kernel],
        x.dtype,
        shape,
        strides=[int(step) for step in params["window_strides"]],
        pads=[int(amount) for amount in [*low, *high]],
        dilations=[int(step) for step in params["rhs_dilation"]],
        group=int(params["feature_group_count"]),
        kernel_shape=[int(size) for size in kernel.shape[2:]],
    )


def _transposed_conv(graph: Graph, params: dict, x: Operand, kernel: Operand, shape: tuple):
    if any(step != 1 for step in params["window_strides"]):
        raise ExportError("ONNX has no convolution with both strides and dilated inputs")
    groups, sizes = int(params["feature_group_count"]), [int(size) for size in kernel.shape[2:]]
    outputs, inputs = (int(size) for size in kernel.shape[:2])
    # From (out, in, ...) to ConvTranspose's (in of all groups, out of one, ...), mirrored.
    axes = list(range(2, kernel.rank))
    back = np.full(len(axes), -1, np.int64)
    if kernel.constant is not None:
        kernel = constant(np.flip(kernel.constant, tuple(axes)), kernel.name)
    else:
        before_first = np.full(len(axes), np.iinfo(np.int64).min + 1, np.int64)
        kernel = graph.slice(kernel, back, before_first, axes, back)
    kernel = graph.reshape(kernel, (groups, outputs // groups, inputs, *sizes))
    kernel = graph.transpose(kernel, [0, 2, 1, *range(3, kernel.rank)])
    kernel = graph.reshape(kernel, (groups * inputs, outputs // groups, *sizes))
    reach = [(size - 1) * step for size, step in zip(sizes, params["rhs_dilation"], strict=True)]
    pads = [size - side[0] for size, side in zip(reach, params["padding"], strict=True)]
    pads += [size - side[1] for size, side in zip(reach, params["padding"], strict=True)]
    missing = [max(0, -amount) for amount in pads]  # where the output is wider than all that inputs reach
    result = graph.node(
        "ConvTranspose",
        [x, kernel],
        x.dtype,
        None if any(missing) else shape,
        strides=[int(step) for step in params["lhs_dilation"]],
        pads=[max(0, int(amount)) for amount in pads],
        dilations=[int(step) for step in params["rhs_dilation"]],
        group=groups,
        kernel_shape=sizes,
    )
    if any(missing):
        half = len(missing) // 2
        amounts = np.array([0, 0, *missing[:half], 0, 0, *missing[half:]], np.int64)
        result = graph.node("Pad", [result, amounts, np.zeros((), x.dtype)], x.dtype, shape)
    return result


_WINDOWS = {("add",): "reduce_window_sum", ("max",): "reduce_window_max", ("min",): "reduce_window_min"}


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window")
def _window(graph: Graph, equation, x: Operand, *initial: Operand):
    params, name, shape = equation.params, equation.primitive.name, equation.outvars[0].aval.shape
    if name == "reduce_window":
        name = _WINDOWS.get(tuple(inner.primitive.name for inner in params["jaxpr"].eqns))
    if name is None or any(step != 1 for step in params["base_dilation"]):
        raise ExportError("ONNX has pools of sums, averages and maxima only")
    axes = [axis for axis in range(x.rank) if _moves(params, axis)]
    if not axes:
        return x
    if x.is_lazy and x.constant is not None and x.constant.size == 1 and are_known([x.shape[axis] for axis in axes]):
        return _count(equation, x, initial, axes)
    dtype, given = x.dtype, graph.full(x)
    # Pools take (batch, channels, ...): all other axes as one, in front.
    others = [axis for axis in range(x.rank) if axis not in axes]
    order = [*others, *axes]
    y = graph.transpose(graph.cast(given, FLOAT if dtype.kind != "f" else dtype), order)
    lead = y.shape[: len(others)]
    if len(others) != 2:
        y = graph.reshape(y, (product(lead), 1, *y.shape[len(others) :]))
    outer = (*y.shape[:2], *(shape[axis] for axis in axes))
    y = _pool(graph, name, y, outer, {key: [params[key][axis] for axis in axes] for key in _OF_AXES})
    y = graph.reshape(y, (*lead, *outer[2:]))
    return graph.cast(graph.transpose(y, np.argsort(order)), dtype)


_OF_AXES = ("window_dimensions", "window_strides", "padding", "window_dilation")


def _moves(params: dict, axis: int) -> bool:
    window, step, padding = (params[key][axis] for key in _OF_AXES[:3])
    return not is_same((window, step, *padding), (1, 1, 0, 0))


def _count(equation, x: Operand, initial: Sequence[Operand], axes: Sequence[int]) -> Operand:
    """How many entries a window holds, which an average divides by: the same along all other axes."""
    small = [int(size) if axis in axes else 1 for axis, size in enumerate(x.shape)]
    with jax.ensure_compile_time_eval():
        array = jnp.broadcast_to(jnp.asarray(x.constant.reshape(())), small)
        result = equation.primitive.bind(array, *(jnp.asarray(v.constant) for v in initial), **equation.params)
    result = np.asarray(result[0] if isinstance(result, (list, tuple)) else result)
    return Operand(equation.outvars[0].aval.shape, x.dtype, None, result, result.shape)


def _pool(graph: Graph, name: str, y: Operand, shape: tuple, window: dict[str, list[Any]]) -> Operand:
    sizes, low = [int(size) for size in window["window_dimensions"]], [side[0] for side in window["padding"]]
    high = [side[1] for side in window["padding"]]
    is_sum = name == "reduce_window_sum"
    if name == "reduce_window_min":
        y = graph.elementwise("Neg", [y])
    # ONNX wants each padding smaller than its window.
    if not are_known([*low, *high]) or any(
        amount >= size for amount, size in zip([*low, *high], sizes * 2, strict=True)
    ):
        fill = np.array(0 if is_sum else -np.inf, y.dtype)
        padded = graph.node("Pad", [y, graph.sizes([0, 0, *low, 0, 0, *high]), fill], y.dtype)
        y = Operand(y.shape, y.dtype, padded)
        low = high = [0] * len(sizes)
    common: dict[str, Any] = {
        "kernel_shape": sizes,
        "strides": [int(step) for step in window["window_strides"]],
        "pads": [int(amount) for amount in [*low, *high]],
    }
    dilations = [int(step) for step in window["window_dilation"]]
    if not is_sum:
        y = graph.value("MaxPool", [y], y.dtype, shape, dilations=dilations, **common)
        return graph.elementwise("Neg", [y]) if name == "reduce_window_min" else y
    if any(step != 1 for step in dilations):
        raise ExportError("ONNX has no sums of dilated windows")
    y = graph.value("AveragePool", [y], y.dtype, shape, count_include_pad=1, **common)
    return graph.elementwise("Mul", [y, constant(np.array(np.prod(sizes), y.dtype))])


# Fourier transforms. Matrices for those from complex to real numbers: ONNX's operator has them from opset 20 on.


@rule("fft")
def _fft_of_real(graph: Graph, equation, x: Operand):
    kind, lengths = equation.params["fft_type"].name, equation.params["fft_lengths"]
    if kind != "RFFT":
        return _fft(graph, equation, Complex(x, constant(np.zeros((1,) * x.rank, x.dtype))))
    first = _transform(graph, graph.reshape(graph.full(x), (*x.shape, 1)), x.rank - 1, onesided=True)
    return _along_others(graph, first, lengths, inverse=0)


@rule("complex fft")
def _fft(graph: Graph, equation, x: Complex):
    kind, lengths = equation.params["fft_type"].name, equation.params["fft_lengths"]
    if kind in ("FFT", "IFFT"):
        stacked = _stacked(graph, x)
        return _along_others(
            graph, _transform(graph, stacked, len(x.shape) - 1, kind == "IFFT"), lengths, kind == "IFFT"
        )
    x = _along_others(graph, x, lengths, inverse=True) if len(lengths) > 1 else x
    return _to_real(graph, x, int(lengths[-1]), equation.outvars[0].aval.shape)


def _along_others(graph: Graph, x: Complex, lengths: Sequence, inverse) -> Complex:
    for axis in range(len(x.shape) - len(lengths), len(x.shape) - 1):
        x = _transform(graph, _stacked(graph, x), axis, bool(inverse))
    return x


def _stacked(graph: Graph, x: Complex) -> Operand:
    thin = (*x.shape, 1)
    whole = [Operand(x.shape, v.dtype, v.result, v.constant, v.actual) for v in (x.real, x.imaginary)]
    return graph.concatenate([graph.reshape(graph.full(v), thin) for v in whole], len(x.shape), (*x.shape, 2))


def _transform(graph: Graph, x: Operand, axis: int, inverse: bool = False, onesided: bool = False) -> Complex:
    size = x.shape[axis] // 2 + 1 if onesided else x.shape[axis]
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 : -1])
    result = graph.node("DFT", [x, None], x.dtype, (*shape, 2), axis=axis, inverse=int(inverse), onesided=int(onesided))
    pair = [graph.value("Gather", [result, np.array(index)], x.dtype, shape, axis=len(shape)) for index in (0, 1)]
    return Complex(*pair)


def _to_real(graph: Graph, x: Complex, size: int, shape: tuple) -> Operand:
    if not is_known(x.shape[-1]):
        raise ExportError("the length of an inverse transform must be known")
    frequency, time = np.arange(x.shape[-1])[:, None], np.arange(size)[None]
    weight = np.where((frequency == 0) | (2 * frequency == size), 1.0, 2.0) / size
    # Whole turns are left out before rounding: the angles stay small.
    angle = 2 * np.pi * ((frequency * time) % size) / size
    tables = (weight * np.cos(angle), -weight * np.sin(angle))
    terms = [
        graph.value("MatMul", [graph.full(part), table.astype(part.dtype)], part.dtype, shape)
        for part, table in zip((x.real, x.imaginary), tables, strict=True)
    ]
    return graph.elementwise("Add", terms)
