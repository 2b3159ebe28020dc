"""What a compiled program does, read from its text: operations, bytes moved, messages between devices.

XLA's own `cost_analysis` counts the body of a loop once; here it counts as often as the loop turns. All numbers are
those of one device.
"""

import functools
import math
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from kerax.plan.flops import products_along
from kerax.plan.kernels import Kernel

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute")
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"),
    *("partition-id", "replica-id", "iota", "opt-barrier", "optimization-barrier", "domain", "add-dependency"),
}
_UPDATES = ("dynamic-update-slice", "scatter")
_SLICES = ("dynamic-slice", "slice", "gather")
_COSTLY = ("dot", "convolution", "exponential", "tanh", "log", "power", "erf", "custom-call")
_COPYING = {"copy", "copy-start", "bitcast", "reshape", "parameter", "tuple", "slice", "concatenate", "broadcast"}
_MANY, _LARGE = 2**16, 2**20  # elements of an array that counts, and of one whose layout does
_FRAME = r"stack_frame_id=(\d+)"
_VIEWS = ("bitcast", "bitcast-convert", "reshape", "convert", "copy", "transpose")


class Collective(NamedTuple):
    """A message between devices: what kind, the bytes of its result on a device, among which devices, how often."""

    kind: str
    num_bytes: int
    group: tuple[int, ...]
    num_messages: int


class Counts(NamedTuple):
    """What one device does in one run: operations of products, bytes from and to its main memory, messages, and the
    kernels that move the bytes."""

    flops: float
    num_bytes: float
    collectives: list[Collective]
    kernels: list[Kernel]


class _Array(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    is_in_main_memory: bool
    layout: str = ""  # "{2,1,0:T(8,128)}": the axes, the fastest first

    @property
    def num_bytes(self) -> int:
        # The number in the name, as in `f32`; `s4` takes half a byte.
        bits = _BITS.get(self.dtype) or int((re.findall(r"\d+", self.dtype) or ["0"])[0])
        return math.ceil(math.prod(self.shape) * bits / 8)

    @property
    def fastest(self) -> int | None:
        """Of three axes and more the size of that whose neighbours lie side by side, if no other has it."""
        found = re.match(r"\{(\d+)", self.layout)
        size = self.shape[int(found[1])] if found and len(self.shape) > 2 else None
        return size if self.shape.count(size or 0) == 1 else None


class _Instruction(NamedTuple):
    name: str
    arrays: list[_Array]
    opcode: str
    operands: list[str]
    attributes: str
    is_root: bool
    inside: str  # what stands in the parentheses

    def attribute(self, pattern: str) -> str:
        found = re.search(pattern, self.attributes)
        return found[1] if found else ""


class _Computation(NamedTuple):
    instructions: dict[str, _Instruction]

    @property
    def root(self) -> _Instruction:
        return next(i for i in self.instructions.values() if i.is_root)

    def users(self, name: str) -> list[_Instruction]:
        return [i for i in self.instructions.values() if name in i.operands]


_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](\{[^}]*\})?")


# Cached, for the same few types stand in thousands of lines.
@functools.cache
def _arrays(text: str) -> list[_Array]:
    """The arrays of a type: one, or those of a tuple."""
    return [
        _Array(
            dtype,
            tuple(int(size.strip("<=")) for size in shape.split(",") if size),
            not re.search(r"S\([1-9]", layout),
            layout,
        )
        for dtype, shape, layout in _ARRAY.findall(text)
    ]


def _closing(text: str, start: int) -> int:
    """The position of the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return len(text)


def _read_instruction(line: str) -> _Instruction | None:
    found = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
    if not found:
        return None
    begin = found.end()
    # The type of several results is in parentheses, and may hold spaces.
    end = _closing(line, begin) + 1 if line[begin] == "(" else line.index(" ", begin)
    opening = line.find("(", end)
    closing = _closing(line, opening)
    inside = line[opening + 1 : closing]
    return _Instruction(
        found[2],
        _arrays(line[begin:end]),
        line[end:opening].strip(),
        re.findall(r"%([\w.\-]+)", inside),
        line[closing + 1 :],
        bool(found[1]),
        inside,
    )


def read_program(text: str) -> tuple[dict[str, _Computation], str]:
    """The computations of a program by name, and the name of the one that it begins with."""
    computations: dict[str, _Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line)
        if header:
            current = computations[header[2]] = _Computation({})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _read_instruction(line)) is not None:
            current.instructions[instruction.name] = instruction
    return computations, entry


def count(text: str) -> Counts:
    """What the program with this text does."""
    computations, entry = read_program(text)
    times: Counter = Counter()
    inner: set[str] = set()  # computations inside a fusion, whose results are not written to memory
    _count_runs(computations, entry, 1, times, inner)
    flops = num_bytes = 0.0
    kernels: list[Kernel] = []
    collectives: Counter = Counter()
    chains = set()
    for name, runs in times.items():
        computation = computations[name]
        for instruction in computation.instructions.values():
            flops += runs * _flops(instruction, computation)
            read, written = (0, 0) if name in inner else _moved(instruction, computation, computations)
            if read + written:
                num_bytes += runs * (read + written)
                kernels.append(_kernel(instruction, computation, computations, runs, read, written))
            kind = instruction.opcode.removesuffix("-start")
            # Pieces of one message that XLA has cut up bear one number, and count once.
            chain = kind, instruction.attribute(r'chain_id="(\w+)"')
            if kind in _COLLECTIVES and not (chain[1] and chain in chains):
                chains.add(chain)
                size, group = _result_bytes(instruction, computation), _group(instruction)
                if kind == "all-reduce" and name in inner and computation.root.opcode == "dynamic-slice":
                    kind, size = "reduce-scatter", size // max(len(group), 1)  # as XLA writes it for TPUs
                collectives[kind, size, group] += runs
    messages = [Collective(kind, size, group, runs) for (kind, size, group), runs in collectives.items()]
    return Counts(flops, num_bytes, messages, kernels)


def _count_runs(computations, name: str, runs: int, times: Counter, inner: set[str], in_fusion=False):
    """Adds how often each computation runs, if the one with this name runs so often."""
    times[name] += runs
    if in_fusion:
        inner.add(name)
    for instruction in computations[name].instructions.values():
        if instruction.opcode == "while":
            turns = _turns(instruction, computations)
            _count_runs(
                computations, instruction.attribute(r"body=%?([\w.\-]+)"), runs * turns, times, inner, in_fusion
            )
        elif instruction.opcode == "conditional":
            branches = instruction.attribute(r"branch_computations=\{([^}]*)\}") or instruction.attributes
            for branch in set(re.findall(r"%([\w.\-]+)", branches)) & computations.keys():
                _count_runs(computations, branch, runs, times, inner, in_fusion)
        elif instruction.opcode in ("fusion", "call", "async-start"):
            called = instruction.attribute(r"(?:calls|to_apply)=%?([\w.\-]+)")
            if called in computations:
                is_fused = in_fusion or instruction.opcode == "fusion"
                _count_runs(computations, called, runs, times, inner, is_fused)


def _turns(loop: _Instruction, computations) -> int:
    """How often a loop turns: as XLA notes it, else by the bound of its condition and the step of its counter, which
    begins at 0; 1 if unknown."""
    # XLA says it where it knows it.
    noted = loop.attribute(r'known_trip_count":\{"n":"(\d+)"')
    if noted:
        return int(noted)
    condition = computations[loop.attribute(r"condition=%?([\w.\-]+)")]
    bound = max(_constants(condition.instructions.values()), default=1)
    counter = next((i for i in condition.instructions.values() if i.opcode == "get-tuple-element"), None)
    body = computations[loop.attribute(r"body=%?([\w.\-]+)")]
    step = 1
    if counter is not None and body.root.opcode == "tuple":
        # The new value of the counter: what the body returns in its place.
        new = body.instructions[body.root.operands[int(counter.attribute(r"index=(\d+)"))]]
        if new.opcode == "add":
            step = max(_constants(body.instructions[name] for name in new.operands), default=1)
    return max(math.ceil(bound / max(step, 1)), 1)


def _constants(instructions) -> list[int]:
    """The whole numbers among instructions."""
    scalars = [i for i in instructions if i.opcode == "constant" and i.arrays[0].shape == ()]
    return [int(i.inside) for i in scalars if i.inside.isdecimal()]


def _shapes(instruction: _Instruction, computation: _Computation) -> list[list[_Array]]:
    """The arrays of each operand."""
    known = computation.instructions
    return [known[name].arrays for name in instruction.operands if name in known]


def _flops(instruction: _Instruction, computation: _Computation) -> float:
    """Operations of a product or convolution, a multiplication and an addition being two; 0 for anything else."""
    if instruction.opcode == "dot":
        (left, *_), *_ = _shapes(instruction, computation)
        axes = instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}")
        contracted = math.prod(left.shape[int(axis)] for axis in axes.split(",") if axis)
        return 2.0 * math.prod(instruction.arrays[0].shape) * contracted
    if instruction.opcode == "convolution":
        (left, *_), (kernel, *_) = _shapes(instruction, computation)
        return _convolution_flops(instruction, left.shape, kernel.shape, instruction.arrays[0].shape)
    if instruction.opcode == "custom-call":
        return _call_flops(instruction, [arrays[0].shape for arrays in _shapes(instruction, computation) if arrays])
    return 0.0


def _convolution_flops(instruction: _Instruction, left, kernel, outputs) -> float:
    """Operations of a convolution of arrays of these shapes."""
    # `b01f_01io->b01f`: which axis of inputs, kernel and result is batch, features or spatial axis n.
    data, window, result = re.split("_|->", instruction.attribute(r"dim_labels=([\w>\-]+)"))
    options = instruction.attribute(r"window=\{([^}]*)\}")
    products = outputs[result.index("b")] * outputs[result.index("f")] * kernel[window.index("i")]
    for label in filter(str.isdigit, result):
        sizes = left[data.index(label)], kernel[window.index(label)], outputs[result.index(label)]
        products *= products_along(*sizes, *_window(options, int(label)))
    return 2.0 * products


def _call_flops(instruction: _Instruction, operands: list) -> float:
    """Operations of a call of cuDNN or cuBLAS; a causal mask leaves half of attention's."""
    target, result = instruction.attribute(r'custom_call_target="([^"]*)"'), instruction.arrays[0].shape
    # Gradients bear the labels of the forward convolution.
    if target.startswith("__cudnn$convBackwardInput"):
        return _convolution_flops(instruction, result, operands[1], operands[0])
    if target.startswith("__cudnn$convBackwardFilter"):
        return _convolution_flops(instruction, operands[0], result, operands[1])
    if target.startswith("__cudnn$conv"):
        return _convolution_flops(instruction, operands[0], operands[1], result)
    if target.startswith("__cudnn$fmha"):
        scores = re.findall(
            r"\d+", instruction.attribute(r'"intermediate_tensor_shape": ?\{.*?"dimensions": ?\[(.*?)\]')
        )
        share = 0.5 if "CAUSAL" in instruction.attribute(r'"mask_type": ?"(\w+)"') else 1.0
        products = 5 if "Backward" in target else 2
        return products * share * 2.0 * math.prod(map(int, scores)) * result[-1]
    if target.startswith("__cublas"):
        axes = re.findall(r"\d+", instruction.attribute(r'"lhs_contracting_dimensions": ?\[(.*?)\]'))
        return 2.0 * math.prod(result) * math.prod(operands[0][int(axis)] for axis in axes)
    return 0.0


def _window(options: str, axis: int) -> tuple[int, int, int, int]:
    """Stride, padding before, distance of inputs and of taps of a convolution along an axis."""

    def option(name, default):
        found = re.search(rf"(?:^| ){name}=([\dx_\-]+)", options)
        return int((found[1].split("x")[axis] if found else default).split("_")[0])

    return option("stride", "1"), option("pad", "0_0"), option("lhs_dilate", "1"), option("rhs_dilate", "1")


def _main_bytes(arrays: list[_Array]) -> int:
    return sum(array.num_bytes for array in arrays if array.is_in_main_memory)


def _moved(instruction: _Instruction, computation: _Computation, computations) -> tuple[int, int]:
    """Bytes of main memory that an instruction reads and writes. Of what it cuts a slice from, that slice."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
        return 0, 0
    operands = _shapes(instruction, computation)
    if opcode == "fusion":
        # Of a fusion only operands and results touch the memory; what is between stays in registers.
        inside = computations[instruction.attribute(r"calls=%?([\w.\-]+)")]
        parameters = {int(i.inside): i for i in inside.instructions.values() if i.opcode == "parameter"}
        read = sum(_read_of(parameters[n], inside) for n in range(len(operands)) if n in parameters)
        return read, _written_by(inside.root, inside)
    if opcode in _SLICES:
        return _main_bytes(instruction.arrays), _main_bytes(instruction.arrays)
    # In place: what is replaced is written, and the update read.
    if opcode == "dynamic-update-slice":
        return _main_bytes(operands[1]), _main_bytes(operands[1])
    if opcode == "scatter" and len(operands) == 3:
        return _main_bytes(operands[1]) + _main_bytes(operands[2]), _main_bytes(operands[2])
    read = sum(map(_main_bytes, operands))
    # TPUs fetch weights into the memory of their cores this way: then nothing is written to main memory. What a run
    # begins with the run before has fetched at its end.
    if opcode == "copy-start":
        read = 0 if "cross_program_prefetch_index" in instruction.attributes else read
        return read, _main_bytes(instruction.arrays[:1])
    return read, read if opcode.endswith("-start") else _main_bytes(instruction.arrays)


def _kernel(instruction: _Instruction, computation: _Computation, computations, runs, read, written) -> Kernel:
    """An instruction that moves bytes as a `Kernel`."""
    inside = computations.get(instruction.attribute(r"calls=%?([\w.\-]+)"))
    parts = [instruction] if inside is None else list(inside.instructions.values())
    costly = tuple(
        (part.opcode, _operation(part), f"{part.arrays[0].dtype}{list(part.arrays[0].shape)}", part.attribute(_FRAME))
        for part in parts
        if part.opcode in _COSTLY and math.prod(part.arrays[0].shape) >= _MANY
    )
    operands = [array for arrays in _shapes(instruction, computation) for array in arrays]
    kind = _kind(instruction, parts, operands)
    fastest = tuple(array.fastest for array in instruction.arrays if array.fastest and math.prod(array.shape) >= _LARGE)
    return Kernel(instruction.name, _operation(instruction), runs * read, runs * written, runs, kind, costly, fastest)


def _operation(instruction: _Instruction) -> str:
    return instruction.attribute(r'op_name="((?:[^"\\]|\\.)*)"')


def _kind(instruction: _Instruction, parts: list[_Instruction], operands: list[_Array]) -> str:
    """What a kernel does if it only moves numbers, or writes them in float32 that came in bfloat16."""
    sizes = {(array.dtype, math.prod(array.shape)) for array in operands}
    large = [array for array in instruction.arrays if math.prod(array.shape) >= _MANY]
    if any(
        array.dtype == "f32" and {("bf16", size)} <= sizes and ("f32", size) not in sizes
        for array in large
        for size in [math.prod(array.shape)]
    ):
        return "float32 copies"
    codes = {part.opcode for part in parts}
    if instruction.opcode == "copy-start" and not instruction.arrays[0].is_in_main_memory:
        return ""
    if "transpose" in codes and not codes & {"dot", "convolution", "custom-call"}:
        return "transposes"
    return "copies" if codes <= _COPYING else ""


def _read_of(parameter: _Instruction, inside: _Computation) -> int:
    """Bytes that a fusion reads of one of its operands."""
    whole = _main_bytes(parameter.arrays)
    return min(_read_through(parameter, inside, whole), whole)


def _read_through(array: _Instruction, inside: _Computation, whole: int) -> int:
    """Bytes of a fusion's operand, `whole` in all, that are read by what uses an array as large as it."""
    total = 0
    for user in inside.users(array.name):
        is_first = user.operands[0] == array.name
        if user.opcode in _SLICES and is_first:
            total += _main_bytes(user.arrays)
        elif user.opcode in _VIEWS and not user.is_root:
            total += _read_through(user, inside, whole)
        # What a slice is replaced in is not read; any other use reads the whole operand.
        elif not (user.opcode in _UPDATES and is_first):
            return whole
    return total


def _written_by(root: _Instruction, inside: _Computation) -> int:
    """Bytes that a fusion writes: of an array of which it replaces a slice, that slice."""
    # XLA wraps the update in these, which change nothing about what is written.
    while root.opcode in ("bitcast", "convert") and root.operands[0] in inside.instructions:
        below = inside.instructions[root.operands[0]]
        if below.opcode not in ("bitcast", *_UPDATES):
            break
        root = below
    if root.opcode == "tuple":
        return sum(_written_by(inside.instructions[name], inside) for name in root.operands)
    if root.opcode == "dynamic-update-slice":
        return _main_bytes(inside.instructions[root.operands[1]].arrays)
    # Numbers that are put into what is given lie where it lay; into what is made here, all of it is written.
    if root.opcode == "scatter" and len(root.operands) == 3 and _is_given(root.operands[0], inside):
        return _main_bytes(inside.instructions[root.operands[2]].arrays)
    return _main_bytes(root.arrays)


def _is_given(name: str, inside: _Computation) -> bool:
    """Whether an array in a fusion is one of its operands, seen in whatever form."""
    instruction = inside.instructions[name]
    while instruction.opcode == "bitcast":
        instruction = inside.instructions[instruction.operands[0]]
    return instruction.opcode == "parameter"


def _result_bytes(instruction: _Instruction, computation: _Computation) -> int:
    """Bytes of a collective's result on a device; that of an asynchronous one is the last of its tuple."""
    # (operands, results, context): what is begun holds both, except for an all-reduce, whose result is all it has.
    arrays = instruction.arrays
    if instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start":
        operands = len(instruction.operands)
        arrays = arrays[operands : 2 * operands] or arrays
    return sum(array.num_bytes for array in arrays)


def _group(instruction: _Instruction) -> tuple[int, ...]:
    """The devices of the first group, by their numbers in the program."""
    if "source_target_pairs" in instruction.attributes:
        pairs = re.findall(r"\{(\d+),(\d+)\}", instruction.attributes)
        # The pair that lies farthest apart is the slowest. A pair of a device with itself is no message.
        return max((tuple(map(int, pair)) for pair in pairs), key=lambda pair: abs(pair[0] - pair[1]))
    # Three notations: by axes of a mesh, as a reshaped range (`[2,4]<=[8]`), or listed (`{{0,1},{2,3}}`).
    text = instruction.attribute(r"replica_groups=(.*)")
    mesh = re.match(r"mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? ?\{([^}]*)\}", text)
    if mesh:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        names, wanted = list(sizes), re.findall(r"'(\w+)'", mesh[4])
        numbers = np.arange(math.prod(map(int, sizes.values()))).reshape(_integers(mesh[2] or "-1"))
        numbers = numbers.transpose(_integers(mesh[3])) if mesh[3] else numbers
        grid = numbers.reshape([int(size) for size in sizes.values()])
        index = tuple(slice(None) if name in wanted else 0 for name in names)
        return tuple(map(int, grid[index].ravel()))
    listed = re.match(r"\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if listed:
        grid = np.arange(int(listed[1]) * int(listed[2])).reshape(_integers(listed[3]))
        grid = grid.transpose(_integers(listed[4])) if listed[4] else grid
        return tuple(map(int, grid.reshape(int(listed[1]), -1)[0]))
    first = re.match(r"\{\{([\d,]*)\}", text)
    return tuple(_integers(first[1])) if first else ()


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
