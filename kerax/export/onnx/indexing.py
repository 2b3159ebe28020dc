"""Primitives that take or put entries at positions, sort them, or reduce axes."""

from collections.abc import Sequence

import numpy as np

from kerax.export.onnx.graph import (
    BOOL,
    INT32,
    INT64,
    ExportError,
    Graph,
    Operand,
    is_known,
    is_same,
)
from kerax.export.onnx.interpreter import rule

_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_and": "ReduceMin",
    "reduce_or": "ReduceMax",
}


@rule(*_REDUCTIONS)
def _reduce(graph: Graph, equation, x: Operand):
    axes, shape, dtype = equation.params["axes"], equation.outvars[0].aval.shape, x.dtype
    if not axes:
        return x
    x = graph.full(x)
    if dtype.kind in "biu" and dtype not in (INT32, INT64):
        x = graph.cast(x, INT32 if dtype.itemsize < 4 else INT64)
    kind = _REDUCTIONS[equation.primitive.name]
    result = graph.value(kind, [x, np.array(axes, np.int64)], x.dtype, shape, keepdims=0)
    return graph.cast(result, dtype)


@rule("argmax", "argmin")
def _arg(graph: Graph, equation, x: Operand):
    kind, shape = {"argmax": "ArgMax", "argmin": "ArgMin"}[equation.primitive.name], equation.outvars[0].aval.shape
    x = graph.cast(graph.full(x), INT32) if x.dtype == BOOL else graph.full(x)
    result = graph.value(kind, [x], INT64, shape, axis=int(equation.params["axes"][0]), keepdims=0)
    return graph.cast(result, equation.params["index_dtype"])


@rule("cumsum")
def _cumsum(graph: Graph, equation, x: Operand):
    axis, reverse = np.array(equation.params["axis"], np.int64), int(equation.params["reverse"])
    dtype, x = x.dtype, graph.full(x)
    if dtype.kind in "iu" and dtype not in (INT32, INT64):
        x = graph.cast(x, INT64)
    return graph.cast(graph.value("CumSum", [x, axis], x.dtype, x.shape, reverse=reverse), dtype)


@rule("sort")
def _sort(graph: Graph, equation, *values: Operand):
    axis, num_keys = equation.params["dimension"], equation.params["num_keys"]
    values = tuple(graph.full(value) for value in values)
    # By the last key first, each time keeping the order of equal ones: TopK puts the lower index first.
    for index in reversed(range(num_keys)):
        key = values[index]
        size = graph.size(key.shape[axis])
        sortable = key if key.dtype.kind == "f" or key.dtype in (INT32, INT64) else graph.cast(key, INT64)
        _, order = graph.node("TopK", [sortable, size], outputs=2, axis=axis, largest=0, sorted=1)
        values = tuple(
            graph.value("GatherElements", [value, order], value.dtype, value.shape, axis=axis) for value in values
        )
    return list(values)


@rule("top_k")
def _top_k(graph: Graph, equation, x: Operand):
    axis = equation.params.get("axis", -1)
    values, aval = equation.outvars
    sortable = graph.full(x) if x.dtype.kind == "f" or x.dtype in (INT32, INT64) else graph.cast(graph.full(x), INT64)
    found, at = graph.node("TopK", [sortable, graph.size(equation.params["k"])], outputs=2, axis=axis)
    taken = graph.cast(Operand(values.aval.shape, sortable.dtype, found), x.dtype)
    return [taken, graph.cast(Operand(aval.aval.shape, INT64, at), aval.aval.dtype)]


# Positions.


def _clipped(graph: Graph, at, high: Sequence):
    """int64 positions between 0 and `high`, one number for each column."""
    return graph.node("Min", [graph.node("Max", [at, np.array(0)], INT64), graph.sizes(high)], INT64)


def _is_filled(params: dict) -> bool:
    return "FILL" in str(params["mode"]).upper()


def _is_inside(graph: Graph, at: Operand, limits: Sequence) -> Operand:
    """Whether each row of positions is one of the operand."""
    low = graph.node("GreaterOrEqual", [at, np.array(0)], BOOL, at.shape)
    high = graph.node("LessOrEqual", [at, graph.sizes(limits)], BOOL, at.shape)
    both = graph.cast(Operand(at.shape, BOOL, graph.node("And", [low, high], BOOL, at.shape)), INT32)
    every = graph.value("ReduceMin", [both, np.array([-1])], INT32, at.shape[:-1], keepdims=0)
    return graph.cast(every, BOOL)


def _fill_value(given, dtype: np.dtype):
    if given is not None:
        return given
    if dtype.kind == "f":
        return np.nan
    return True if dtype == BOOL else getattr(np.iinfo(dtype), "min" if dtype.kind == "i" else "max")


@rule("gather")
def _gather(graph: Graph, equation, x: Operand, at: Operand):
    params, out = equation.params, equation.outvars[0].aval
    numbers, slice_sizes = params["dimension_numbers"], params["slice_sizes"]
    x, at = graph.full(x), graph.cast(graph.full(at), INT64)
    batch = at.shape[:-1]
    limits = [x.shape[axis] - slice_sizes[axis] for axis in numbers.start_index_map]
    inside = _is_inside(graph, at, limits) if _is_filled(params) else None
    if "PROMISE" not in str(params["mode"]).upper() and limits:
        at = Operand(at.shape, INT64, _clipped(graph, at, limits))
    taken, labels = _take(graph, numbers, slice_sizes, x, at)
    # Where XLA wants each axis: those of a slice at `offset_dims`, those of the positions in between.
    offsets = [a for a in range(x.rank) if a not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)]
    placed = dict(zip(numbers.offset_dims, (("slice", axis) for axis in offsets), strict=True))
    rest = iter(range(len(batch)))
    wanted = [placed[axis] if axis in placed else ("batch", next(rest)) for axis in range(len(out.shape))]
    taken = graph.transpose(taken, [labels.index(label) for label in wanted])
    if inside is None:
        return taken
    shape = tuple(size if kind == "batch" else 1 for (kind, _), size in zip(wanted, out.shape, strict=True))
    fill = np.asarray(_fill_value(params["fill_value"], x.dtype), x.dtype)
    return graph.value("Where", [graph.reshape(inside, shape), taken, fill], x.dtype, out.shape)


def _take(graph: Graph, numbers, slice_sizes, x: Operand, at: Operand) -> tuple[Operand, list[tuple[str, int]]]:
    """The slices at positions, and of each axis what it is: one of the positions, or one of the slices."""
    batch, indexed = at.shape[:-1], list(numbers.start_index_map)
    x_batch, at_batch = list(numbers.operand_batching_dims), list(numbers.start_indices_batching_dims)
    whole = [axis for axis in range(x.rank) if axis not in (*numbers.collapsed_slice_dims, *x_batch)]
    windows = [axis for axis in whole if not is_same((slice_sizes[axis],), (x.shape[axis],))]
    if any(not is_known(slice_sizes[axis]) for axis in windows):
        raise ExportError("ONNX takes no windows whose size is not known")
    kept = [axis for axis in whole if axis not in windows]
    if len(indexed) == 1 and not windows and not x_batch and indexed[0] in numbers.collapsed_slice_dims:
        axis = indexed[0]
        shape = (*x.shape[:axis], *batch, *x.shape[axis + 1 :])
        taken = graph.value("Gather", [x, graph.reshape(at, batch)], x.dtype, shape, axis=axis)
        labels = [("slice", a) for a in range(axis)] + [("batch", i) for i in range(len(batch))]
        return taken, labels + [("slice", a) for a in range(axis + 1, x.rank)]
    # GatherND: the operand as (batch, indexed, kept), the positions as (batch, others, windows, columns).
    single = [axis for axis in range(x.rank) if axis in numbers.collapsed_slice_dims or axis in windows]
    if not single:
        raise ExportError("a gather without positions")
    others = [index for index in range(len(batch)) if index not in at_batch]
    at = graph.transpose(at, [*at_batch, *others, len(batch)])
    grid = (*at.shape[:-1], *(int(slice_sizes[axis]) for axis in windows), 1)
    columns = []
    for axis in single:
        columns.append(_column(graph, at, grid, indexed.index(axis) if axis in indexed else None))
        if axis in windows:
            place = len(at.shape) - 1 + windows.index(axis)
            steps = np.arange(slice_sizes[axis]).reshape([-1 if i == place else 1 for i in range(len(grid))])
            columns[-1] = graph.value("Add", [columns[-1], steps], INT64, grid, grid)
    positions = graph.concatenate(columns, len(grid) - 1, (*grid[:-1], len(columns)))
    shape = (*grid[:-1], *(x.shape[axis] for axis in kept))
    operand = graph.transpose(x, [*x_batch, *single, *kept])
    taken = graph.value("GatherND", [operand, positions], x.dtype, shape, batch_dims=len(x_batch))
    labels = [("batch", index) for index in [*at_batch, *others]]
    return taken, labels + [("slice", axis) for axis in [*windows, *kept]]


def _column(graph: Graph, at: Operand, grid: tuple, index: int | None) -> Operand:
    """One column of the positions, for every place in a window; zeros for an axis that is not indexed."""
    if index is None:
        return graph.full(Operand(grid, INT64, None, np.zeros((1,) * len(grid), np.int64), (1,) * len(grid)))
    one = graph.slice(at, np.array([index]), np.array([index + 1]), [at.rank - 1])
    wide = graph.reshape(
        Operand((*at.shape[:-1], 1), INT64, one.result), (*at.shape[:-1], *(1,) * (len(grid) - at.rank), 1)
    )
    return graph.full(Operand(grid, INT64, wide.result, actual=wide.shape))


@rule("dynamic_slice")
def _dynamic_slice(graph: Graph, equation, x: Operand, *starts: Operand):
    x, shape = graph.full(x), equation.outvars[0].aval.shape
    axes = [axis for axis in range(x.rank) if not is_same((shape[axis],), (x.shape[axis],))]
    if not axes:
        return x
    given = [graph.reshape(graph.cast(starts[axis], INT64), (1,)) for axis in axes]
    joined = graph.concatenate(given, 0, (len(axes),))
    low = _clipped(graph, joined, [x.shape[axis] - shape[axis] for axis in axes])
    high = graph.node("Add", [low, graph.sizes([shape[axis] for axis in axes])], INT64)
    return Operand(shape, x.dtype, graph.slice(x, low, high, axes).result)


@rule("dynamic_update_slice")
def _dynamic_update_slice(graph: Graph, equation, x: Operand, update: Operand, *starts: Operand):
    x, update = graph.full(x), graph.full(update)
    axes = [axis for axis in range(x.rank) if not is_same((update.shape[axis],), (x.shape[axis],))]
    end = np.array([np.iinfo(np.int64).max])

    def put(part: Operand, left: list[int]) -> Operand:
        # Before, the update between what is around it along the next axis, and after.
        if not left:
            return update
        axis = left[0]
        size = update.shape[axis]
        start = _clipped(graph, graph.reshape(graph.cast(starts[axis], INT64), (1,)), [x.shape[axis] - size])
        stop = graph.node("Add", [start, graph.size(size)], INT64)
        middle = put(graph.slice(part, start, stop, [axis]) if left[1:] else part, left[1:])
        around = [graph.slice(part, np.array([0]), start, [axis]), middle, graph.slice(part, stop, end, [axis])]
        return graph.concatenate(around, axis, x.shape)

    return put(x, axes)


_SCATTERS = {"scatter": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@rule(
    "scatter",
    *(f"scatter{sign}{kind}" for sign in "-_" for kind in ("add", "mul", "max", "min")),
)
def _scatter(graph: Graph, equation, x: Operand, at: Operand, update: Operand):
    numbers = equation.params["dimension_numbers"]
    kind = _SCATTERS[equation.primitive.name.replace("_", "-").removeprefix("scatter-")]
    dtype, is_bool = x.dtype, x.dtype == BOOL
    x, update, at = graph.full(x), graph.full(update), graph.cast(graph.full(at), INT64)
    if is_bool and kind != "none":
        x, update = graph.cast(x, INT32), graph.cast(update, INT32)
    indexed = list(numbers.scatter_dims_to_operand_dims)
    windows = [axis for axis in indexed if axis not in numbers.inserted_window_dims]
    window_axes = list(numbers.update_window_dims)
    update_axes = [axis for axis in range(update.rank) if axis not in window_axes] + window_axes
    if windows:
        at, update = _spread_windows(graph, numbers, x, at, update, windows)
        update_axes = list(range(update.rank))
    at, indexed, rest = _with_batches(graph, numbers, x, at, indexed)
    update = graph.transpose(update, update_axes)
    y = graph.transpose(x, indexed + rest)
    limits = [x.shape[axis] for axis in indexed]
    # What falls outside is dropped: it goes to a row beyond the last, which is cut off again.
    inside = _is_inside(graph, at, [size - 1 for size in limits])
    inside = graph.reshape(inside, (*at.shape[:-1], 1))
    at = Operand(at.shape, INT64, graph.node("Where", [inside, at, graph.sizes(limits)], INT64))
    pads = np.array([0] * y.rank + [1] * len(indexed) + [0] * len(rest), np.int64)
    padded = y if y.dtype != BOOL else graph.cast(y, INT32)
    update = update if y.dtype != BOOL else graph.cast(update, INT32)
    grown = graph.node("Pad", [padded, pads, np.array(0, padded.dtype)], padded.dtype)
    put = graph.node("ScatterND", [grown, at, update], padded.dtype, reduction=kind)
    cut = graph.slice(
        Operand(y.shape, padded.dtype, put), np.zeros(len(indexed), np.int64), graph.sizes(limits), range(len(indexed))
    )
    result = graph.cast(Operand(y.shape, padded.dtype, cut.result), dtype)
    return graph.transpose(result, np.argsort(indexed + rest))


def _with_batches(graph: Graph, numbers, x: Operand, at: Operand, indexed: list[int]):
    """Positions with a column more for each axis that positions and operand share, which is indexed by its own
    numbers."""
    rest = [axis for axis in range(x.rank) if axis not in indexed]
    for axis, place in zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True):
        size = at.shape[place]
        counted = graph.node("Range", [np.array(0), graph.scalar_size(size), np.array(1)], INT64, (size,))
        thin = tuple(size if index == place else 1 for index in range(at.rank))
        column = graph.reshape(Operand((size,), INT64, counted), thin)
        column = graph.full(Operand((*at.shape[:-1], 1), INT64, column.result, column.constant, thin))
        at = graph.concatenate([at, column], at.rank - 1, (*at.shape[:-1], at.shape[-1] + 1))
        indexed = [*indexed, axis]
        rest.remove(axis)
    return at, indexed, rest


def _spread_windows(graph: Graph, numbers, x: Operand, at: Operand, update: Operand, windows: list[int]):
    """Positions of single entries for those of windows; the update with its axes in their order."""
    if numbers.operand_batching_dims or set(windows) != set(numbers.scatter_dims_to_operand_dims):
        raise ExportError("ONNX has no counterpart to this kind of scatter")
    window_axes = list(numbers.update_window_dims)
    operand_axes = [axis for axis in range(x.rank) if axis not in numbers.inserted_window_dims]
    of_window = [window_axes[operand_axes.index(axis)] for axis in windows]
    sizes = [update.shape[axis] for axis in of_window]
    lead = at.shape[:-1]
    grid = (*lead, *sizes, len(windows))
    at = graph.reshape(at, (*lead, *(1,) * len(windows), len(windows)))
    steps = np.stack(np.meshgrid(*(np.arange(int(size)) for size in sizes), indexing="ij"), -1)
    at = graph.value("Add", [at, steps.reshape((1,) * len(lead) + steps.shape)], INT64, grid)
    others = [axis for axis in range(update.rank) if axis not in window_axes]
    left = [axis for axis in window_axes if axis not in of_window]
    return at, graph.transpose(update, [*others, *of_window, *left])


@rule("select_and_gather_add", "select_and_scatter_add")
def _of_gradients(graph: Graph, equation, *values: Operand):
    raise ExportError("it computes a gradient")


@rule("clz", "population_count")
def _bits(graph: Graph, equation, x: Operand):
    raise ExportError("ONNX does not count bits")
