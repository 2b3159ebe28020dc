"""`Plan`: what a compiled training step needs and takes on a device, and how that is shown."""

from dataclasses import dataclass, field
from typing import NamedTuple

from kerax.core.display import format_bytes
from kerax.plan import kernels
from kerax.plan.chips import Chip
from kerax.plan.kernels import Kernel, Repeated, Usage

_MOST_LINES, _MOST_REPEATED = 10, 5


class Traffic(NamedTuple):
    """Messages of one kind in a step: along which axes of the mesh, how many, their bytes and seconds on a device."""

    kind: str
    axes: tuple[str, ...]
    num_messages: int
    num_bytes: float
    seconds: float | None


@dataclass
class Plan:
    """What a training step needs and takes on one of the devices. Sizes in bytes, times in seconds.

    Attributes:
        topology: The devices' name; `num_devices`: how many; `device_kind`: what they are.
        distribution: How weights and batches are spread.
        batch_size: Rows of a step, on all devices together.
        memory: By kind: `"weights"`, `"optimizer"`, `"batch"`, `"activations"` (what the gradient needs of the forward
            pass), `"temporary"` (whatever else lives during a step, gradients too), `"other"` (metrics, padding, the
            program itself).
        available: Memory of a device, if known.
        flops: Operations of matrix products and convolutions, what is computed again included.
        model_flops: Operations that the model needs for the step on all devices: three times the forward pass's.
        num_bytes: Bytes read from and written to main memory.
        traffic: Messages between devices.
        kernels: What moves the bytes, on one device.
        compile_time: How long compiling took here.
        problem: What the compiler said, if the program does not fit.
    """

    topology: str
    num_devices: int
    device_kind: str
    distribution: str
    batch_size: int
    memory: dict[str, float]
    chip: Chip = field(repr=False, default=Chip())
    flops: float = 0.0
    model_flops: float = 0.0
    num_bytes: float = 0.0
    traffic: list[Traffic] = field(default_factory=list, repr=False)
    kernels: list[Kernel] = field(default_factory=list, repr=False)
    compile_time: float = 0.0
    problem: str | None = None

    @property
    def total_memory(self) -> float:
        """Bytes of memory on a device at the peak."""
        return sum(self.memory.values())

    @property
    def available(self) -> float | None:
        """Memory of a device, if known."""
        return self.chip.memory

    @property
    def fits(self) -> bool | None:
        """Whether the memory suffices; `None` if nobody knows how much there is."""
        if self.problem is not None:  # the compiler gave up for lack of memory
            return False
        return None if self.available is None else self.total_memory <= self.available

    @property
    def seconds(self) -> dict[str, float | None]:
        """How long products, memory and messages would take at the devices' peak rates, each alone."""
        chip, times = self.chip, [traffic.seconds for traffic in self.traffic]
        return {
            "compute": None if chip.flops is None else self.flops / chip.flops,
            "memory": None if chip.bandwidth is None else self.num_bytes / chip.bandwidth,
            "messages": None if None in times else sum(time or 0.0 for time in times),
        }

    def _known_seconds(self) -> dict[str, float]:
        """`seconds` if all of them are known and the program fits, else nothing."""
        # A roofline of which a side is missing would be taken for a promise.
        known = {name: value for name, value in self.seconds.items() if value is not None}
        return known if len(known) == 3 and self.problem is None else {}

    @property
    def num_kernels(self) -> int:
        """Kernels and calls of libraries in a step, on one device."""
        return sum(kernel.num_runs for kernel in self.kernels)

    def count_fastest(self, size: int) -> int:
        """How many large arrays are laid out with an axis of this size as the fastest, the batch's for example."""
        return sum(kernel.fastest.count(size) for kernel in self.kernels)

    def rate_of(self, count: float, compute: float = 0.75, memory: float = 0.85) -> float | None:
        """How many of the `count` things of a step, tokens for example, are done in a second.

        Args:
            compute, memory: The fractions of peak rates that are reached; nothing overlaps.
        """
        times = self._known_seconds()
        if not times:
            return None
        return count / (times["compute"] / compute + times["memory"] / memory + times["messages"])

    @property
    def usage(self) -> list[Usage]:
        """What each layer reads and writes, forward and backward apart, the most first."""
        return kernels.usage(self.kernels)

    @property
    def moved_only(self) -> dict[str, float]:
        """The fractions of all bytes that are moved by transposes, copies, and float32 copies of bfloat16 arrays."""
        return kernels.shares(self.kernels)

    @property
    def repeated(self) -> list[Repeated]:
        """What is computed more than once in a step, products first."""
        return kernels.repeated(self.kernels)

    @property
    def step_time(self) -> float | None:
        """By a roofline: as long as the slowest of computing, memory and messages takes, if all overlap."""
        return max(self._known_seconds().values(), default=None)

    @property
    def step_time_apart(self) -> float | None:
        """The step's time if messages never overlap with the rest."""
        times = self._known_seconds()
        return max(times["compute"], times["memory"]) + times["messages"] if times else None

    @property
    def mfu(self) -> float | None:
        """Share of the devices' peak that the model's operations make in `step_time`, from 0 to 1."""
        if not self.step_time or self.chip.flops is None:
            return None
        return self.model_flops / (self.step_time * self.chip.flops * self.num_devices)

    def __str__(self):
        lines = [
            f"{self.topology}: {self.num_devices} x {self.device_kind}, {self.distribution}, "
            f"batch {self.batch_size} (compiled in {self.compile_time:.0f} s)",
            "memory of a device",
            *(f"  {kind:<12} {format_bytes(size):>10}" for kind, size in self.memory.items()),
            f"  {'total':<12} {format_bytes(self.total_memory):>10}" + self._verdict(),
        ]
        if self.problem is not None:
            return "\n".join([*lines, self.problem])
        lines += [
            f"step: {self.flops:.3g} FLOPs and {format_bytes(self.num_bytes)} on a device; the model needs "
            f"{self.model_flops:.3g} FLOPs on all",
            *(
                f"  {t.kind:<18} over {'+'.join(t.axes) or '-':<10} x{t.num_messages:<5} "
                + f"{format_bytes(t.num_bytes):>10}"
                + ("" if t.seconds is None else f" {t.seconds * 1e3:9.2f} ms")
                for t in self.traffic
            ),
        ]
        times, apart = self._known_seconds(), self.step_time_apart
        if apart is not None:
            parts = ", ".join(f"{name} {value * 1e3:.1f}" for name, value in times.items())
            lines.append(
                f"time at peak rates, ms: {parts}; step {max(times.values()) * 1e3:.1f} (MFU {self.mfu or 0:.0%}), "
                f"{apart * 1e3:.1f} if nothing overlaps"
            )
        return "\n".join(lines + (self._bytes_by_layer() if self.kernels else []))

    def _bytes_by_layer(self) -> list[str]:
        """Lines that say where the bytes go."""
        usage = self.usage[:_MOST_LINES]
        width = max(len(used.layer) for used in usage)
        lines = [f"where the bytes go: {self.num_kernels:,} kernels and calls in a step"]
        for used in usage:
            direction = "backward" if used.is_backward else "forward"
            sizes = f"{format_bytes(used.num_read):>10} read {format_bytes(used.num_written):>10} written"
            lines.append(f"  {used.layer:<{width}} {direction:<8} {sizes} in {used.num_kernels}")
        moved = ", ".join(f"{kind} {share:.1%}" for kind, share in sorted(self.moved_only.items())) or "nothing"
        lines.append(f"moved without being computed with, share of all bytes: {moved}")
        again = [f"{one.operation} {one.shape} in {one.layer} x{one.times}" for one in self.repeated[:_MOST_REPEATED]]
        return [*lines, "computed again: " + ("; ".join(again) or "nothing")]

    def _verdict(self) -> str:
        if self.fits is None:
            return ""
        size = "" if self.available is None else f" of {format_bytes(self.available)}"
        return f"{size}: {'fits' if self.fits else 'DOES NOT FIT'}"


class Plans(list):
    """Several plans, which print as one table."""

    def __str__(self):
        return table(self)


def table(plans: list[Plan]) -> str:
    """Several plans in one table, a line each."""
    header = ("distribution", "devices", "batch", "weights", "optimizer", "rest", "total", "fits", "step ms", "MFU")
    rows: list[tuple[str, ...]] = [header]
    for plan in plans:
        state = [plan.memory.get(kind, 0) for kind in ("weights", "optimizer")]
        known = {True: "yes", False: "no", None: "?"}[plan.fits]
        time_and_share = ("-", "-") if plan.step_time is None else (f"{plan.step_time * 1e3:.1f}", f"{plan.mfu:.0%}")
        sizes = [*state, plan.total_memory - sum(state), plan.total_memory]
        names = (plan.distribution, str(plan.num_devices), str(plan.batch_size))
        rows.append((*names, *map(format_bytes, sizes), known, *time_and_share))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
