"""What devices can do, for estimates: operations, memory, and bytes per second to memory and to other devices."""

import importlib.util
import os
from typing import Any, NamedTuple

import jax
import numpy as np


class Chip(NamedTuple):
    """One kind of device. Sizes in bytes, rates per second; `None` where unknown.

    Attributes:
        flops: Operations on dense bfloat16 matrices.
        memory: Size of the main memory, as far as programs may use it.
        bandwidth: Bytes from or to main memory.
        link: Bytes to other devices: of a TPU along one axis of the torus, both ways round; of a GPU in all.
    """

    flops: float | None = None
    memory: float | None = None
    bandwidth: float | None = None
    link: float | None = None


CHIPS = {
    # https://cloud.google.com/tpu/docs/system-architecture-tpu-vm and https://jax-ml.github.io/scaling-book/tpus/
    "TPU v4": Chip(275e12, 32 * 2**30, 1200e9, 90e9),
    "TPU v5 lite": Chip(197e12, 15.75 * 2**30, 819e9, 90e9),
    "TPU v5e": Chip(197e12, 15.75 * 2**30, 819e9, 90e9),
    "TPU v5": Chip(459e12, 95 * 2**30, 2765e9, 180e9),
    "TPU v6 lite": Chip(918e12, 32 * 2**30, 1640e9, 180e9),
    "TPU v6e": Chip(918e12, 32 * 2**30, 1640e9, 180e9),
    # https://www.nvidia.com/en-us/data-center/h100/ and the like; NVLink, one direction. The sheets give twice the
    # operations, for matrices of which half the elements are zero.
    "NVIDIA A100-SXM4-40GB": Chip(312e12, 40e9, 1555e9, 300e9),
    "NVIDIA A100": Chip(312e12, 80e9, 2039e9, 300e9),
    "NVIDIA H100 PCIe": Chip(756e12, 80e9, 2000e9, 300e9),
    "NVIDIA H100 NVL": Chip(835e12, 94e9, 3900e9, 300e9),
    "NVIDIA H100": Chip(989e12, 80e9, 3350e9, 450e9),
    "NVIDIA GH200": Chip(989e12, 96e9, 4000e9, 450e9),
    "NVIDIA H200 NVL": Chip(835e12, 141e9, 4800e9, 450e9),
    "NVIDIA H200": Chip(989e12, 141e9, 4800e9, 450e9),
    "NVIDIA B200": Chip(2250e12, 180e9, 8000e9, 900e9),
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


def devices_of(topology: str) -> list:
    """The devices of a topology, which need not be there: `"v5e:16x16"`, `"v5p:8x8x8"`, or `"cpu:8"`, `"gpu:8"`.

    A TPU's is described by the `libtpu` package; the others must be there. One v5e or v6e chip is `"v5e:1x1"`.

    Raises:
        ValueError: for an unknown topology, or if there are fewer devices.
        ImportError: without `libtpu`.
    """
    kind, _, size = topology.partition(":")
    if kind in ("cpu", "gpu"):
        wanted = int(size) if size.isdecimal() else 0
        # JAX raises where there is no such platform.
        try:
            found = jax.devices(kind)
        except RuntimeError:
            found = []
        if not 0 < wanted <= len(found):
            hint = (
                " Set `XLA_FLAGS=--xla_force_host_platform_device_count=N` before the start." if kind == "cpu" else ""
            )
            raise ValueError(f"plan: topology {topology!r}: there are {len(found)} such devices.{hint}")
        return list(found[:wanted])
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError("plan: TPUs are described by the package `libtpu`. pip install 'jax[tpu]'")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu looks for the metadata server of a TPU machine
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # else two processes cannot plan at a time
    from jax.experimental import topologies

    options = {}
    sizes = [int(part) for part in size.split("x") if part.isdecimal()]
    if sizes and int(np.prod(sizes)) == 1:  # smaller than a host of these, which libtpu must be told
        options["chips_per_host_bounds"] = [1] * max(len(sizes), 3)
        topology = f"{kind}:{'x'.join(map(str, sizes))}"
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices)
    except Exception as error:
        raise ValueError(
            f"plan: there is no topology {topology!r}. Expected for example 'v5e:16x16', 'v5p:8x8x8', 'v6e:4x4' or "
            f"'cpu:8'. {error}"
        ) from None
