"""Whether a traced program keeps the rows of a batch apart: found by following their axis from equation to equation.

Rows that fill a batch up may only be added where this holds. What is not known to hold is taken not to: the answer errs
to the side that costs a program, never to the one that costs a number.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

from kerax.core import masks
from kerax.core.jaxprs import called, interpret, scan_counts

Tree = Any
_MARK = "kerax_rows"


class _Rows(NamedTuple):
    """Where the rows lie: axis `axis` has `before * rows * after` elements, of which row `i` made its own alone."""

    axis: int
    before: int = 1
    after: int = 1


_FREE: Any = "free of rows"
_MIXED: Any = "mixed"  # of no row at all; of several


def keeps_rows_apart(jaxpr, of_rows: Sequence[bool], num_rows: int, results: slice = slice(None)) -> bool:
    """Whether row `i` of each result is made of row `i` of the inputs alone.

    Args:
        jaxpr: An open jaxpr.
        of_rows: Whether an input has the rows of the batch along axis 0.
        num_rows: How many there are.
        results: Which outputs are asked for. Values under `marked` take the place of them all.
    """
    if num_rows == 1:  # there is no other
        return True
    found = []

    def rule(equation, inputs):
        if equation.primitive.name == "name" and equation.params["name"] == _MARK:
            found.append(inputs[0])
        return _follow(equation, inputs, num_rows)

    arguments = [_Rows(0) if has_rows else _FREE for has_rows in of_rows]
    outputs = interpret(jaxpr, [_FREE] * len(jaxpr.constvars), arguments, rule)[results]
    return all(value == _Rows(0) for value in found or outputs)


def function_keeps_rows_apart(function: Callable, *arguments: Tree) -> bool:
    """Whether a function keeps apart the rows along axis 0 of its arguments, shapes and dtypes, in all it returns."""
    num_rows = jax.tree.leaves(arguments)[0].shape[0]
    if num_rows == 1:  # which tells nothing of several

        def doubled(leaf):
            return jax.ShapeDtypeStruct((2, *leaf.shape[1:]) if leaf.shape[:1] == (1,) else leaf.shape, leaf.dtype)

        arguments, num_rows = jax.tree.map(doubled, arguments), 2
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return keeps_rows_apart(jaxpr, [var.aval.shape[:1] == (num_rows,) for var in jaxpr.invars], num_rows)


def marked(tree: Tree) -> Tree:
    """The arrays of a tree, named for `keeps_rows_apart`, with the masks that they have."""

    def mark(leaf):
        named = checkpoint_name(leaf, _MARK)
        masks.set_mask(named, masks.get_mask(leaf))
        return named

    return jax.tree.map(mark, tree)


def _join(values: Sequence) -> Any:
    """Where the rows lie in a value whose elements are made of those in the same places of several."""
    places = {value for value in values if value is not _FREE}
    return _FREE if not places else places.pop() if len(places) == 1 else _MIXED


def _is_of_rows(value) -> bool:
    return isinstance(value, _Rows) or value is _MIXED


def _follow(equation, inputs: list, num_rows: int) -> list | None:
    """Where the rows lie in each output of an equation; `None` if it calls a program that tells."""
    # Literals are read as numbers.
    inputs = [value if _is_of_rows(value) else _FREE for value in inputs]
    name, count = equation.primitive.name, len(equation.outvars)
    if all(value is _FREE for value in inputs):
        return [_FREE] * count
    if called(equation):
        return None
    if name in _LOOPS:
        return _LOOPS[name](equation, inputs, num_rows)
    if name == "optimization_barrier":
        return inputs
    if _MIXED in inputs:
        return [_MIXED] * count
    if name in _ELEMENTWISE:
        # But for bits that are read as numbers of another size, which takes an axis away or adds one.
        ndims = {var.aval.ndim for var, value in zip(equation.invars, inputs, strict=True) if value is not _FREE}
        return [_join(inputs) if ndims == {equation.outvars[0].aval.ndim} else _MIXED] * count
    if name in _ALONG:
        place, axes = _join(inputs), _ALONG[name](equation)
        return [_MIXED if place is _MIXED or place.axis in axes else place] * count
    if name in _RULES:
        return [_RULES[name](equation, inputs, num_rows)] * count
    return [_MIXED] * count


_ELEMENTWISE = frozenset(
    "add sub mul div max min pow rem and or xor not neg sign floor ceil round exp exp2 log log1p expm1 tanh sin cos "
    "tan asin acos atan sinh cosh asinh acosh atanh atan2 logistic erf erfc erf_inv sqrt rsqrt cbrt abs is_finite "
    "integer_pow square eq ne lt le gt ge lt_to le_to eq_to select_n clamp convert_element_type copy copy_p nextafter "
    "lgamma digamma igamma igammac igamma_grad_a bessel_i0e bessel_i1e regularized_incomplete_beta polygamma zeta "
    "shift_left shift_right_logical shift_right_arithmetic population_count clz real imag conj complex "
    "reduce_precision name sharding_constraint add_any stop_gradient bitcast_convert_type".split()
)


def _ndim(equation) -> int:
    return equation.invars[0].aval.ndim


def _windowed(equation) -> set[int]:
    """Axes along which a window sees more than one element."""
    params, axes = equation.params, set()
    for axis, size in enumerate(params["window_dimensions"]):
        padding, stride = params["padding"][axis], params["window_strides"][axis]
        if size != 1 or stride != 1 or tuple(padding) != (0, 0) or params["base_dilation"][axis] != 1:
            axes.add(axis)
    return axes


def _last(count: int) -> Callable:
    return lambda equation: range(_ndim(equation) - count, _ndim(equation))


_cumulated = lambda equation: (equation.params["axis"],)
_windows = ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum")
_decomposed = ("cholesky", "lu", "qr", "householder_product", "eigh", "eig", "svd", "schur", "tridiagonal")
# Primitives whose results lie as their operands do, and the axes along which elements of several places meet.
_ALONG: dict[str, Callable] = (
    dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulated)
    | dict.fromkeys(_windows, _windowed)
    | dict.fromkeys(_decomposed, _last(2))
    | {
        "triangular_solve": _last(2),
        "sort": lambda equation: (equation.params["dimension"],),
        "rev": lambda equation: equation.params["dimensions"],
        "split": lambda equation: (equation.params["axis"],),
        "concatenate": lambda equation: (equation.params["dimension"],),
        "top_k": lambda equation: (equation.params.get("axis", _ndim(equation) - 1) % _ndim(equation),),
        "fft": lambda equation: _last(len(equation.params["fft_lengths"]))(equation),
    }
)


# Rules of primitives that move axes: functions of (equation, where rows lie in the inputs, rows).


def _moved(place, axes: Sequence[int]):
    """The place after axes were moved: axis `i` of the result was axis `axes[i]`."""
    return place._replace(axis=list(axes).index(place.axis)) if place.axis in axes else _MIXED


def _broadcast(equation, inputs, num_rows):
    return inputs[0]._replace(axis=equation.params["broadcast_dimensions"][inputs[0].axis])


def _transpose(equation, inputs, num_rows):
    return _moved(inputs[0], equation.params["permutation"])


def _kept_axes(equation, gone) -> list[int]:
    return [axis for axis in range(_ndim(equation)) if axis not in gone]


def _reduce(equation, inputs, num_rows):
    place = _join(inputs)
    gone = equation.params["axes" if "axes" in equation.params else "dimensions"]
    return place if place is _MIXED else _moved(place, _kept_axes(equation, gone))


def _stack(equation, inputs, num_rows):
    place = _join(inputs)
    return place if place is _MIXED else place._replace(axis=place.axis + (place.axis >= equation.params["axis"]))


def _unstack(equation, inputs, num_rows):
    return _moved(inputs[0], _kept_axes(equation, (equation.params["axis"],)))


def _reshape(equation, inputs, num_rows):
    (place, *_), shape = inputs, equation.outvars[0].aval.shape
    outer = math.prod(equation.invars[0].aval.shape[: place.axis]) * place.before
    for axis, size in enumerate(shape):
        before, rest = divmod(outer, math.prod(shape[:axis]) or 1)
        if rest == 0 and before and size % (before * num_rows) == 0:
            return _Rows(axis, before, size // (before * num_rows))
    return _MIXED


def _slice(equation, inputs, num_rows):
    place, params, shape = inputs[0], equation.params, equation.invars[0].aval.shape
    axis, strides = place.axis, params["strides"]
    is_whole = params["start_indices"][axis] == 0 and params["limit_indices"][axis] == shape[axis]
    return place if is_whole and (strides is None or strides[axis] == 1) else _MIXED


def _dynamic_slice(equation, inputs, num_rows):
    place, *starts = inputs
    is_whole = isinstance(place, _Rows) and (
        equation.params["slice_sizes"][place.axis] == equation.invars[0].aval.shape[place.axis]
    )
    return place if is_whole and all(start is _FREE for start in starts) else _MIXED


def _dynamic_update_slice(equation, inputs, num_rows):
    place, starts = _join(inputs[:2]), inputs[2:]
    if not isinstance(place, _Rows) or any(start is not _FREE for start in starts):
        return _MIXED
    operand, update = (var.aval.shape[place.axis] for var in equation.invars[:2])
    return place if operand == update else _MIXED


def _pad(equation, inputs, num_rows):
    place, value = inputs
    if value is not _FREE or tuple(equation.params["padding_config"][place.axis]) != (0, 0, 0):
        return _MIXED
    return place


def _dot_general(equation, inputs, num_rows):
    (contracted, batched), ndims = equation.params["dimension_numbers"], [var.aval.ndim for var in equation.invars]
    free = [
        [axis for axis in range(ndim) if axis not in (*summed, *shared)]
        for ndim, summed, shared in zip(ndims, contracted, batched, strict=True)
    ]
    places = []
    for side, place in enumerate(inputs):
        if place is _FREE:
            continue
        if place.axis in batched[side]:
            places.append(place._replace(axis=list(batched[side]).index(place.axis)))
        elif place.axis in free[side] and inputs[1 - side] is _FREE:
            before = len(batched[0]) + (len(free[0]) if side else 0)
            places.append(place._replace(axis=before + free[side].index(place.axis)))
        else:
            return _MIXED
    # Rows of one side in a shared axis meet what the other has there, of the same row or of none.
    return _join(places)


def _convolution(equation, inputs, num_rows):
    (place, kernel), numbers = inputs, equation.params["dimension_numbers"]
    if kernel is not _FREE or place.axis != numbers.lhs_spec[0] or equation.params["batch_group_count"] != 1:
        return _MIXED
    return place._replace(axis=numbers.out_spec[0])


def _high_level(equation, inputs, num_rows):
    # JAX 0.12 searches in sorted numbers by one of its primitives that are made of others.
    is_search = type(equation.params.get("_prim")).__name__ == "SearchSorted"
    return inputs[1] if is_search and inputs[0] is _FREE else _MIXED


def _gather(equation, inputs, num_rows):
    (operand, indices), numbers = inputs, equation.params["dimension_numbers"]
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    around = [axis for axis in range(equation.outvars[0].aval.ndim) if axis not in numbers.offset_dims]
    if operand is not _FREE:
        axis, shared = operand.axis, list(numbers.operand_batching_dims)
        if axis not in shared:  # each index takes the whole of the axis
            inside = [one for one in range(len(shape)) if one not in (*numbers.collapsed_slice_dims, *shared)]
            is_whole = sizes[axis] == shape[axis] and axis in inside and axis not in numbers.start_index_map
            if indices is not _FREE or not is_whole:
                return _MIXED
            return operand._replace(axis=numbers.offset_dims[inside.index(axis)])
        operand = operand._replace(axis=numbers.start_indices_batching_dims[shared.index(axis)])
    place = _join([operand, indices])
    is_index = place is not _MIXED and place.axis == equation.invars[1].aval.ndim - 1
    return _MIXED if place is _MIXED or is_index else place._replace(axis=around[place.axis])


def _scatter(equation, inputs, num_rows):
    (operand, indices, updates), numbers = inputs, equation.params["dimension_numbers"]
    operand_shape, update_shape = equation.invars[0].aval.shape, equation.invars[2].aval.shape
    shared, places = list(numbers.operand_batching_dims), [operand]
    around = [axis for axis in range(len(update_shape)) if axis not in numbers.update_window_dims]
    inside = [one for one in range(len(operand_shape)) if one not in (*numbers.inserted_window_dims, *shared)]

    def of_batch(place):
        """In the operand, of the axis of the indices at which rows lie."""
        dims = list(numbers.scatter_indices_batching_dims)
        return place._replace(axis=shared[dims.index(place.axis)]) if place.axis in dims else _MIXED

    if indices is not _FREE:
        places.append(of_batch(indices))
    if updates is not _FREE and updates.axis in around:
        places.append(of_batch(updates._replace(axis=around.index(updates.axis))))
    elif updates is not _FREE:
        axis = inside[list(numbers.update_window_dims).index(updates.axis)]
        is_whole = operand_shape[axis] == update_shape[updates.axis]
        is_moved = axis in numbers.scatter_dims_to_operand_dims
        places.append(updates._replace(axis=axis) if is_whole and not is_moved else _MIXED)
    place = _join(places)
    # An operand of rows alone may be written to at places that no row chose.
    return place if place is not _MIXED and place.axis not in numbers.scatter_dims_to_operand_dims else _MIXED


def _attention(equation, inputs, num_rows):
    # cuDNN's: queries, keys, values, bias and lengths have the batch first, as the results have.
    place = _join(inputs)
    return place if place == _Rows(0) else _MIXED


_reductions = "sum max min prod and or xor".split()
_RULES: dict[str, Callable] = (
    dict.fromkeys(map("reduce_{}".format, _reductions), _reduce)
    | dict.fromkeys(("reduce", "argmax", "argmin", "squeeze"), _reduce)
    | dict.fromkeys(("scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul"), _scatter)
    | dict.fromkeys(("scatter_min", "scatter_max"), _scatter)
    | {
        "broadcast_in_dim": _broadcast,
        "transpose": _transpose,
        "reshape": _reshape,
        "stack": _stack,
        "unstack": _unstack,
        "slice": _slice,
        "dynamic_slice": _dynamic_slice,
        "dynamic_update_slice": _dynamic_update_slice,
        "pad": _pad,
        "dot_general": _dot_general,
        "conv_general_dilated": _convolution,
        "gather": _gather,
        "dot_product_attention_fwd_wrapper": _attention,
        "call_hi_primitive": _high_level,
    }
)


# Programs inside programs.


def _inside(closed, inputs: list, num_rows: int) -> list:
    jaxpr = getattr(closed, "jaxpr", closed)
    rule = functools.partial(_follow, num_rows=num_rows)
    outputs = interpret(jaxpr, [_FREE] * len(jaxpr.constvars), inputs, rule)
    return [value if _is_of_rows(value) else _FREE for value in outputs]


def _settle(step: Callable[[list], list], carry: list) -> list:
    """Where rows lie in a carry that `step` changes, once another turn changes nothing."""
    while (new := [_join(pair) for pair in zip(carry, step(carry), strict=True)]) != carry:
        carry = new
    return carry


def _scan(equation, inputs, num_rows):
    body, (num_fixed, num_carried) = equation.params["jaxpr"], scan_counts(equation)
    ends = num_fixed, num_fixed + num_carried
    constants, carry, xs = inputs[: ends[0]], inputs[ends[0] : ends[1]], inputs[ends[1] :]
    # Along axis 0 one row after the other would be read.
    xs = [
        (place._replace(axis=place.axis - 1) if place.axis else _MIXED) if isinstance(place, _Rows) else place
        for place in xs
    ]
    inside = lambda carry: _inside(body, [*constants, *carry, *xs], num_rows)
    carry = _settle(lambda carry: inside(carry)[: len(carry)], carry)
    ys = inside(carry)[len(carry) :]
    return [*carry, *(place._replace(axis=place.axis + 1) if isinstance(place, _Rows) else place for place in ys)]


def _while(equation, inputs, num_rows):
    params = equation.params
    ends = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    of_cond, constants, carry = inputs[: ends[0]], inputs[ends[0] : ends[1]], inputs[ends[1] :]
    carry = _settle(lambda carry: _inside(params["body_jaxpr"], [*constants, *carry], num_rows), carry)
    # One row's turns would be those of all.
    is_free = _inside(params["cond_jaxpr"], [*of_cond, *carry], num_rows) == [_FREE]
    return carry if is_free else [_MIXED] * len(carry)


def _cond(equation, inputs, num_rows):
    index, *operands = inputs
    if index is not _FREE:
        return [_MIXED] * len(equation.outvars)
    branches = [_inside(branch, operands, num_rows) for branch in equation.params["branches"]]
    return [_join(places) for places in zip(*branches, strict=True)]


_LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
