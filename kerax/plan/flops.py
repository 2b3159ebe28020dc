"""Floating-point operations of traced programs, models and layers, counted without compiling or running anything."""

import math
from typing import NamedTuple

import jax
import numpy as np

from kerax import tree
from kerax.core.jaxprs import inner_jaxprs
from kerax.core.layer import Layer
from kerax.core.symbolic import KerasTensor
from kerax.core.tracking import walk


class Operations(NamedTuple):
    """Operations of matrix products and convolutions, and of all else; a multiplication and an addition are two."""

    products: float
    others: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.products + self.others


_ELEMENTWISE = {
    *("add", "add_any", "sub", "mul", "div", "rem", "neg", "abs", "sign", "max", "min", "square", "floor", "ceil"),
    *("round", "clamp", "select_n", "is_finite", "nextafter", "convert_element_type", "reduce_precision"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "population_count"),
    *("shift_left", "shift_right_logical", "shift_right_arithmetic", "cumsum", "cumprod", "cummax", "cummin"),
}
# Operations for each number that comes out, as many as XLA's cost analysis counts: none for what devices have an
# instruction for (`exp`, `tanh`, `rsqrt`), else those of the formula. It differs in loops, whose bodies it counts once,
# in cumulative sums, where it counts a window for each number (63 for 64), in `argmax` and in random numbers.
_COSTS = dict.fromkeys(_ELEMENTWISE, 1) | {"exp2": 1, "logistic": 3, "erf_inv": 37, "lgamma": 53, "erfc": 62}


def count(jaxpr) -> Operations:
    """What a program does, what is in loops as often as the loops turn.

    Of branches the most costly counts; loops of unknown length count once. Where the window of a convolution lies in
    padding nothing is counted.
    """
    products = others = 0.0
    for equation in jaxpr.eqns:
        parts = [_count_equation(equation), *map(count, inner_jaxprs(equation))]
        # Which branch is taken is not known before it runs.
        if equation.primitive.name == "cond":
            parts = [max(parts, key=lambda part: part.total)]
        # A `while` has no length: its body counts once.
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        products += times * sum(part.products for part in parts)
        others += times * sum(part.others for part in parts)
    return Operations(products, others)


def _count_equation(equation) -> Operations:
    """What an equation does beside the programs in it."""
    name, parameters = equation.primitive.name, equation.params
    inputs: list[tuple[int, ...]] = [getattr(var.aval, "shape", ()) for var in equation.invars]
    outputs: list[tuple[int, ...]] = [getattr(var.aval, "shape", ()) for var in equation.outvars]
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return Operations(2.0 * math.prod(outputs[0]) * math.prod(inputs[0][axis] for axis in contracted), 0.0)
    if name == "conv_general_dilated":
        return Operations(_count_convolution(inputs[0], inputs[1], outputs[0], parameters), 0.0)
    if name.startswith("dot_product_attention_fwd"):  # cuDNN's, of (batch, positions, heads, features)
        share = 0.5 if "CAUSAL" in str(parameters.get("mask_type")) else 1.0
        return Operations(share * 4.0 * math.prod(inputs[0]) * inputs[1][1], 0.0)
    size = float(math.prod(outputs[0])) if outputs else 0.0
    if name == "integer_pow":
        power = abs(parameters["y"])  # by squaring
        size *= max(power.bit_length() + power.bit_count() - 2, 0) + (parameters["y"] < 0)
    elif name.startswith("reduce_window"):
        size *= math.prod(parameters["window_dimensions"]) - 1
    elif name == "select_and_scatter_add":
        size = math.prod(inputs[0]) * float(math.prod(parameters["window_dimensions"]))
    elif name.startswith("scatter-"):
        size = float(math.prod(inputs[2]))
    # To reduce n numbers takes n - 1 operations; `reduce_precision` only looks like one of these.
    elif name.startswith(("reduce_", "arg")) and name != "reduce_precision":
        size = math.prod(inputs[0]) - size
    elif name == "sort":  # comparisons of a merge sort
        size *= math.ceil(math.log2(max(inputs[0][parameters["dimension"]], 2)))
    elif name == "fft":
        size = 8.0 * max(size, math.prod(inputs[0])) * sum(int(math.log2(n)) for n in parameters["fft_lengths"])
    else:
        size *= _COSTS.get(name, 0)
    return Operations(0.0, size)


def _count_convolution(data, kernel, outputs, parameters) -> float:
    """Operations of a convolution, given the shapes of its arrays."""
    numbers = parameters["dimension_numbers"]
    # Batch, output channels, and the input channels of a group; then the spatial axes, one factor each.
    total = 2.0 * outputs[numbers.out_spec[0]] * outputs[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for place, (in_axis, window_axis, out_axis) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        total *= products_along(
            data[in_axis],
            kernel[window_axis],
            outputs[out_axis],
            stride=parameters["window_strides"][place],
            before=parameters["padding"][place][0],
            holes=parameters["lhs_dilation"][place],
            taps=parameters["rhs_dilation"][place],
        )
    return total / parameters["batch_group_count"]


def products_along(size: int, window: int, outputs: int, stride=1, before=0, holes=1, taps=1) -> int:
    """How many pairs of an output and a tap of a window meet an input, and neither padding nor a hole, along an axis.

    Args:
        size, window, outputs: Sizes of the input, the window and the output.
        stride: Of the window.
        before: Padding before the first input.
        holes: Distance between inputs.
        taps: Distance between taps.
    """
    position = np.arange(outputs)[:, None] * stride + np.arange(window) * taps - before
    return int(np.sum((position >= 0) & (position <= (size - 1) * holes) & (position % holes == 0)))


def count_flops(layer, *args, batch_size: int = 1, **kwargs) -> int | None:
    """Operations of one call of a layer, model or op at inference.

    Args:
        layer: A built layer or model, or an op of a graph. Its weights are not touched, nor made.
        *args, **kwargs: Arguments of its call; arrays, specs or symbolic tensors.
        batch_size: Size of the first axis of symbolic tensors where it is not known.

    Returns: as `count` counts; `None` where a size other than the first is not known.
    """
    leaves, treedef = jax.tree.flatten((args, kwargs))
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, KerasTensor) or hasattr(leaf, "dtype")]
    specs = [_spec(leaves[place], batch_size) for place in places]
    if None in specs:  # the length of sequences, for example
        return None

    def call(variables, tensors):
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        inner_args, inner_kwargs = jax.tree.unflatten(treedef, filled)
        if not isinstance(layer, Layer):  # an op
            return layer(*inner_args, **inner_kwargs)
        return layer.apply(variables, *inner_args, **inner_kwargs)[0]

    variables = _variable_specs(layer) if isinstance(layer, Layer) else {}
    # Traced with shapes in the place of weights: those of a model that no memory holds are counted, too.
    return int(count(jax.make_jaxpr(call)(variables, specs).jaxpr).total)


def _spec(tensor, batch_size: int) -> jax.ShapeDtypeStruct | None:
    shape = tuple(tensor.shape)
    if shape and shape[0] is None:
        shape = (batch_size, *shape[1:])
    return None if None in shape else jax.ShapeDtypeStruct(shape, tensor.dtype)


def _variable_specs(layer: Layer) -> dict:
    """The variables in the form that `apply` takes, as shapes and dtypes."""
    found: dict[str, list] = {"params": [], "state": []}
    for path, variable in walk(layer):
        spec = jax.ShapeDtypeStruct(variable.shape, variable.stored_dtype)
        found["params" if variable.is_parameter else "state"].append((path, spec))
    return {name: tree.nest(pairs) for name, pairs in found.items()}


def layer_flops(layer) -> int | None:
    """Operations per example of a layer or op in a graph, where it was called last; `None` outside of a graph."""
    if not layer.inbound_nodes or not getattr(layer, "built", True):
        return None
    node = layer.inbound_nodes[-1]  # a shared layer may have been called for inputs of another size before
    if not node.inputs:  # an input
        return 0
    return count_flops(layer, *node.args, **node.kwargs)


def model_flops(model) -> int | None:
    """Operations per example of a whole model; `None` if the form of its inputs is not known."""
    inputs = getattr(model, "input", None) if getattr(model, "inputs", None) else _built_inputs(model)
    return None if inputs is None else count_flops(model, inputs)


def _built_inputs(model):
    """Symbolic inputs of the one shape that a model was built for."""
    shapes = list((model.kerax_build_shapes or {}).values())
    if not model.built or len(shapes) != 1 or not isinstance(shapes[0], tuple):
        return None
    return KerasTensor((None, *shapes[0][1:]), model.compute_dtype)
