"""Devices that need not be there, by the name of a topology: described to XLA, which compiles for them."""

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from kerax.errors import suggest
from kerax.plan.chips import CHIPS, Chip
from kerax.plan.quiet import without_startup_text

GPUS = {
    "a100-40gb": "NVIDIA A100-SXM4-40GB",
    "a100-80gb": "NVIDIA A100",
    "b200": "NVIDIA B200",
    "gb200": "NVIDIA GB200",
    "gh200": "NVIDIA GH200",
    "h100": "NVIDIA H100",
    "h100-nvl": "NVIDIA H100 NVL",
    "h100-pcie": "NVIDIA H100 PCIe",
    "h200": "NVIDIA H200",
    "h200-nvl": "NVIDIA H200 NVL",
}
"""What topologies call the GPUs of `CHIPS`."""

_TPUS = "v4 v5e v5p v6e"
_CUDNN = 91000
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def devices_of(topology: str) -> list:
    """The devices of a topology, which need not be there.

    TPUs by their slice (`"v5e:16x16"`, `"v5p:8x8x8"`; one v5e or v6e chip is `"v5e:1x1"`), GPUs by hosts and GPUs of a
    host (`"h100:8"`, `"h200:4x8"`). `"cpu:8"` and `"gpu:8"` are devices that must be there.

    Raises:
        ValueError: for an unknown topology, or if there are fewer devices.
        ImportError: without the packages that describe them.
    """
    kind, _, size = topology.partition(":")
    if kind in ("cpu", "gpu"):
        return _present(topology, kind, size)
    if kind in GPUS:
        return _gpus(topology, kind, size)
    if kind in _TPUS.split() or kind.startswith("v"):
        return _tpus(topology, kind, size)
    known = [*GPUS, *_TPUS.split(), "cpu", "gpu"]
    hint = suggest(kind, known) or f" Known are {', '.join(known)}."
    raise ValueError(f"plan: topology {topology!r}: nobody knows a device {kind!r}.{hint}")


def _present(topology: str, kind: str, size: str) -> list:
    wanted = int(size) if size.isdecimal() else 0
    # JAX raises where there is no such platform.
    try:
        found = jax.devices(kind)
    except RuntimeError:
        found = []
    if not 0 < wanted <= len(found):
        hints = {
            "cpu": "Set `XLA_FLAGS=--xla_force_host_platform_device_count=N` before the start.",
            "gpu": "For GPUs that are not there name the card, as in 'h100:8'.",
        }
        raise ValueError(f"plan: topology {topology!r}: there are {len(found)} such devices. {hints[kind]}")
    return list(found[:wanted])


def _tpus(topology: str, kind: str, size: str) -> list:
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError("plan: TPUs are described by the package `libtpu`. pip install 'jax[tpu]'")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu looks for the metadata server of a TPU machine
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # else two processes cannot plan at a time
    options = {}
    sizes = [int(part) for part in size.split("x") if part.isdecimal()]
    if sizes and int(np.prod(sizes)) == 1:  # smaller than a host of these, which libtpu must be told
        options["chips_per_host_bounds"] = [1] * max(len(sizes), 3)
        topology = f"{kind}:{'x'.join(map(str, sizes))}"
    try:
        return _described(platform="tpu", topology_name=topology, **options)
    except Exception as error:
        raise ValueError(
            f"plan: there is no topology {topology!r}. Expected for example 'v5e:16x16', 'v5p:8x8x8', 'v6e:4x4' or "
            f"'cpu:8'. {error}"
        ) from None


def _gpus(topology: str, kind: str, size: str) -> list:
    chip = CHIPS[GPUS[kind]]
    hosts, in_host = _hosts(topology, kind, size, chip)
    if not any(map(importlib.util.find_spec, _PLUGINS)):
        raise ImportError(
            "plan: GPUs are described by JAX's packages for CUDA, which need neither a GPU nor its driver. "
            "pip install 'kerax[plan-gpu]'"
        )
    options = {"topology": f"1x{hosts}x{in_host}", "target_config": target_config(GPUS[kind], chip)}
    try:
        return _described(platform="cuda", topology_name="", **options)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"plan: JAX's packages for CUDA do not describe {topology!r}; their version must be that of jax, "
            f"{jax.__version__}. They say: {reason}"
        ) from None


def _hosts(topology: str, kind: str, size: str, chip: Chip) -> tuple[int, int]:
    """The numbers of hosts and of GPUs in each."""
    assert chip.card is not None
    most, parts = chip.card.in_host, size.split("x")
    sizes = [int(part) for part in parts if part.isdecimal() and int(part) > 0]
    if len(sizes) == len(parts) == 1 and (sizes[0] <= most or sizes[0] % most == 0):
        return max(sizes[0] // most, 1), min(sizes[0], most)
    if len(sizes) == len(parts) == 2 and sizes[1] <= most:
        return sizes[0], sizes[1]
    raise ValueError(
        f"plan: topology {topology!r}: expected a number of GPUs, '{kind}:{most}', or hosts x GPUs of each, at most "
        f"{most}: '{kind}:4x{most}'."
    )


def target_config(name: str, chip: Chip) -> str:
    """A GPU as XLA wants it described: the text of a `GpuTargetConfigProto`."""
    card = chip.card
    if card is None or chip.memory is None or chip.bandwidth is None:
        raise ValueError(f"{name} is no GPU that programs can be compiled for.")
    numbers = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 * 2**10,
        "shared_memory_per_core": card.shared,
        "shared_memory_per_block_optin": card.shared - 2**10,
        "threads_per_core_limit": 2048,
        "core_count": card.cores,
        "fpus_per_core": card.units,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "memory_bandwidth": int(chip.bandwidth),
        "l2_cache_size": card.cache,
        "clock_rate_ghz": card.clock,
        "device_memory_size": int(chip.memory),
        "registers_per_core_limit": 2**16,
        "registers_per_block_limit": 2**16,
    }
    major, minor = card.capability
    listed = " ".join(f"{key}: {value}" for key, value in numbers.items())
    return (
        f"gpu_device_info {{ {listed} cuda_compute_capability {{ major: {major} minor: {minor} }} }} "
        'platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 patch: 0 } '
        f'device_description_str: "{name}"'
    )


def _described(**options: Any) -> list:
    """The devices of one of JAX's topologies."""
    from jax.experimental import topologies

    describe: Callable[..., Any] = topologies.get_topology_desc
    with without_startup_text():
        return list(describe(**options).devices)


@contextlib.contextmanager
def with_cudnn() -> Iterator[None]:
    """A `with` block in which JAX takes cuDNN, which attention is compiled for, as installed.

    It asks the library itself for its version, though a program that is only compiled needs no more than the number.
    """
    module: Any = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
    known = getattr(module, "check_cudnn_version", None)
    if known is None:  # another version of JAX, which may not ask
        yield
        return
    module.check_cudnn_version = lambda: _CUDNN
    try:
        yield
    finally:
        module.check_cudnn_version = known
