"""What devices can do, for estimates: operations, memory, and bytes per second to memory and to other devices."""

import os
from typing import Any, NamedTuple

import jax


class Card(NamedTuple):
    """What only GPUs have: what XLA must know to compile for one, and how GPUs are put together.

    Attributes:
        capability: CUDA's compute capability.
        cores: Multiprocessors.
        units: float32 units of a multiprocessor.
        clock: GHz, at most.
        cache: Bytes of the cache before main memory.
        shared: Bytes of a multiprocessor's shared memory.
        in_host: GPUs of a host.
        linked: GPUs that `Chip.link` reaches, of one host or several.
        network: Bytes per second from a GPU to others beyond that, one way; `None` where every maker's host differs.
    """

    capability: tuple[int, int]
    cores: int
    units: int
    clock: float
    cache: int
    shared: int
    in_host: int = 8
    linked: int = 8
    network: float | None = None


class Chip(NamedTuple):
    """One kind of device. Sizes in bytes, rates per second; `None` where unknown.

    Attributes:
        flops: Operations on dense bfloat16 matrices.
        memory: Size of the main memory, as far as programs may use it.
        bandwidth: Bytes from or to main memory.
        link: Bytes to other devices: of a TPU along one axis of the torus, both ways round; of a GPU in all.
        card: The rest, of a GPU.
    """

    flops: float | None = None
    memory: float | None = None
    bandwidth: float | None = None
    link: float | None = None
    card: Card | None = None


_AMPERE = Card((8, 0), 108, 64, 1.41, 40 * 2**20, 164 * 2**10, network=25e9)
_HOPPER = Card((9, 0), 132, 128, 1.98, 50 * 2**20, 228 * 2**10, network=50e9)
_PCIE = _HOPPER._replace(clock=1.785, linked=2, network=None)
_BLACKWELL = Card((10, 0), 148, 128, 1.965, 126 * 2**20, 228 * 2**10, network=50e9)


CHIPS = {
    # https://cloud.google.com/tpu/docs/system-architecture-tpu-vm and https://jax-ml.github.io/scaling-book/tpus/
    "TPU v4": Chip(275e12, 32 * 2**30, 1200e9, 90e9),
    "TPU v5 lite": Chip(197e12, 15.75 * 2**30, 819e9, 90e9),
    "TPU v5e": Chip(197e12, 15.75 * 2**30, 819e9, 90e9),
    "TPU v5": Chip(459e12, 95 * 2**30, 2765e9, 180e9),
    "TPU v6 lite": Chip(918e12, 32 * 2**30, 1640e9, 180e9),
    "TPU v6e": Chip(918e12, 32 * 2**30, 1640e9, 180e9),
    # https://www.nvidia.com/en-us/data-center/h100/ and the like; NVLink and network, one direction, the latter of
    # NVIDIA's own DGX hosts. The sheets give twice the operations, for matrices of which half the elements are zero.
    "NVIDIA A100-SXM4-40GB": Chip(312e12, 40e9, 1555e9, 300e9, _AMPERE),
    "NVIDIA A100": Chip(312e12, 80e9, 2039e9, 300e9, _AMPERE),
    "NVIDIA H100 PCIe": Chip(756e12, 80e9, 2000e9, 300e9, _PCIE._replace(cores=114, clock=1.755)),
    "NVIDIA H100 NVL": Chip(835e12, 94e9, 3900e9, 300e9, _PCIE),
    "NVIDIA H100": Chip(989e12, 80e9, 3350e9, 450e9, _HOPPER),
    "NVIDIA GH200": Chip(989e12, 96e9, 4000e9, 450e9, _HOPPER._replace(in_host=1, linked=1, network=50e9)),
    "NVIDIA H200 NVL": Chip(835e12, 141e9, 4800e9, 450e9, _PCIE._replace(linked=4)),
    "NVIDIA H200": Chip(989e12, 141e9, 4800e9, 450e9, _HOPPER),
    "NVIDIA B200": Chip(2250e12, 180e9, 8000e9, 900e9, _BLACKWELL),
    "NVIDIA GB200": Chip(2500e12, 186e9, 8000e9, 900e9, _BLACKWELL._replace(in_host=4, linked=72)),
}
"""By the start of JAX's `device_kind`, from the vendors' data sheets."""


def chip_of(device_kind: str | None = None) -> Chip:
    """What a kind of device can do, by default the first device's; `None` for each number that nobody knows."""
    kind = jax.devices()[0].device_kind if device_kind is None else device_kind
    # The longest name that fits: "NVIDIA H100 PCIe" is not an "NVIDIA H100".
    known = [name for name in CHIPS if kind.startswith(name)]
    return CHIPS[max(known, key=len)] if known else Chip()


def memory_of(device: Any) -> float:
    """Bytes of memory that programs may use: as the device says, by its data sheet, or four fifths of the machine's."""
    said = (device.memory_stats() or {}).get("bytes_limit")
    known = said or chip_of(device.device_kind).memory
    if not known and not hasattr(os, "sysconf"):  # Windows
        raise ValueError("find_batch_size: nobody knows how much memory this device has; give `memory`.")
    return float(known or 0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
