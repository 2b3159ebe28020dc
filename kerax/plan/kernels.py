"""Where a compiled program's bytes go: its kernels by layer, what they only move, and what they compute again."""

import re
from collections import Counter, defaultdict
from typing import NamedTuple


class Kernel(NamedTuple):
    """A kernel or a call of a library in one run of a program.

    Attributes:
        name: XLA's name for it.
        operation: Where it comes from, as JAX notes it: `jit(step)/jvp(gpt)/block/dense/dot_general`.
        num_read, num_written: Bytes of main memory in all its runs.
        num_runs: How often it runs.
        kind: `"transposes"`, `"copies"`, `"float32 copies"` (of bfloat16 arrays) or `""`, if it does nothing else.
        costly: The products and transcendental functions in it, each by what tells it from others.
        fastest: Of its large results of three axes and more the sizes of the axes whose neighbours lie side by side.
    """

    name: str
    operation: str
    num_read: float
    num_written: float
    num_runs: int
    kind: str
    costly: tuple[tuple[str, ...], ...]
    fastest: tuple[int, ...] = ()

    @property
    def num_bytes(self) -> float:
        """Bytes read and written."""
        return self.num_read + self.num_written


class Usage(NamedTuple):
    """What a layer reads and writes in one direction of a step."""

    layer: str
    is_backward: bool
    num_read: float
    num_written: float
    num_kernels: int


class Repeated(NamedTuple):
    """A product or function that several kernels compute of the same numbers."""

    layer: str
    operation: str
    shape: str
    times: int


_WRAPPER = re.compile(r"^(?:jit|pjit|vmap|shard_map|custom_\w+)\(.*\)$")
_NO_LAYERS = {
    *("while", "body", "cond", "scan", "body_fun", "cond_fun", "branch_0_fun", "branch_1_fun"),
    *("checkpoint", "rematted_computation", "closed_call"),
}
OUTSIDE = "(outside of layers)"
_MANY = 5


def layer_of(operation: str) -> tuple[str, bool]:
    """The path of the layer that an operation stands in, and whether it is the gradient's."""
    is_backward = "transpose(" in operation
    parts: list[str] = []
    for part in _split(operation)[:-1]:  # the last is the primitive
        differentiated = re.match(r"^(?:transpose\()?jvp\((.*?)\)+$", part)
        if differentiated:
            # A rule of differentiation notes where it was called, and then once more where it stands.
            parts = [differentiated[1]]
        elif not _WRAPPER.match(part) and part not in _NO_LAYERS:
            parts.append(part)
    parts = [part for part in parts if part]
    for size in range(len(parts) // 2, 0, -1):
        if parts[-size:] == parts[-2 * size : -size]:  # the same in a loop
            parts = parts[:-size]
    return "/".join(parts) or OUTSIDE, is_backward


def _split(operation: str) -> list[str]:
    """The parts between slashes, of which some stand in parentheses."""
    parts, depth = [""], 0
    for letter in operation:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "/" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def usage(kernels: list[Kernel]) -> list[Usage]:
    """What each layer reads and writes, the most first. Layers of one kind beside each other count as one."""
    places = {kernel.operation: layer_of(kernel.operation) for kernel in kernels}
    alike = _alike({layer for layer, _ in places.values()})
    found: dict[tuple[str, bool], list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    for kernel in kernels:
        layer, is_backward = places[kernel.operation]
        sums = found[alike[layer], is_backward]
        for place, size in enumerate((kernel.num_read, kernel.num_written, kernel.num_runs)):
            sums[place] += size
    used = [Usage(*place, read, written, int(runs)) for place, (read, written, runs) in found.items()]
    return sorted(used, key=lambda one: -(one.num_read + one.num_written))


def _alike(layers: set[str]) -> dict[str, str]:
    """The path of each layer with `block*` for `block`, `block_1` and so on if there are at least five."""
    siblings: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for layer in layers:
        parts = layer.split("/")
        for depth, part in enumerate(parts):
            siblings[*parts[:depth], _stem(part)].add(part)
    found = {}
    for layer in layers:
        parts = layer.split("/")
        stems = [(part, siblings[*parts[:depth], _stem(part)]) for depth, part in enumerate(parts)]
        found[layer] = "/".join(_stem(part) + "*" if len(same) >= _MANY else part for part, same in stems)
    return found


def _stem(part: str) -> str:
    return re.sub(r"_\d+$", "", part)


def shares(kernels: list[Kernel]) -> dict[str, float]:
    """The fraction of all bytes that is moved by kernels of each kind."""
    total = sum(kernel.num_bytes for kernel in kernels)
    kinds = sorted({kernel.kind for kernel in kernels} - {""}) if total else []
    return {kind: sum(one.num_bytes for one in kernels if one.kind == kind) / total for kind in kinds}


def repeated(kernels: list[Kernel]) -> list[Repeated]:
    """What more than one kernel computes, products first, then the largest."""
    times = Counter(costly for kernel in kernels for costly in set(kernel.costly))
    alike = _alike({layer_of(operation)[0] for _, operation, *_ in times})
    found: Counter = Counter()
    for (opcode, operation, shape, *_), count in times.items():
        if count > 1:
            found[alike[layer_of(operation)[0]], opcode, shape] += count - 1
    again = [Repeated(layer, opcode, shape, count) for (layer, opcode, shape), count in found.items()]
    return sorted(again, key=lambda one: (one.operation != "dot", -_size(one.shape) * one.times))


def _size(shape: str) -> int:
    size = 1
    for number in re.findall(r"\d+", shape.partition("[")[2]):
        size *= int(number)
    return size
