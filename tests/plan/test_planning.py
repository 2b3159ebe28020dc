"""`Model.plan`: on eight virtual devices in a process of their own, and for TPUs where `libtpu` describes them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerax.plan import chips, planning
from kerax.plan.devices import devices_of
from kerax.plan.report import Plan, Plans, Traffic

HERE = Path(__file__).parent
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
TPU = """
import jax, kerax, numpy as np
from kerax import layers
model = kerax.Sequential([kerax.Input((256,)), layers.Stack(layers.Dense(256, "relu"), 4), layers.Dense(1)])
model.compile("adam", "mse")
batch = jax.ShapeDtypeStruct((256, 256), "float32"), jax.ShapeDtypeStruct((256, 1), "float32")
plan = model.plan("v5e:4x4", batch)
assert plan.num_devices == 16 and plan.fits and plan.step_time > 0 and 0 < plan.mfu < 1, str(plan)
assert plan.flops * 16 >= 0.8 * plan.model_flops, str(plan)
assert {"all-gather"} <= {traffic.kind for traffic in plan.traffic}, str(plan)
found = model.plan("v5e:2x2", batch, batch_size="largest")
assert found.fits and found.total_memory > 0.6 * found.available, str(found)
print("all is well")
"""


@pytest.mark.slow
def test_on_eight_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, str(HERE / "on_eight_devices.py")], env=environment, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout[-6000:]


@needs_libtpu
@pytest.mark.slow
def test_for_tpus_that_are_not_there():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    ran = subprocess.run([sys.executable, "-c", TPU], env=environment, capture_output=True, text=True, timeout=900)
    assert ran.stdout.endswith("all is well\n"), ran.stderr[-3000:]


def test_a_step_takes_as_long_as_the_slowest_part():
    chip = chips.Chip(flops=100.0, memory=1000.0, bandwidth=10.0, link=1.0)
    memory = {"weights": 400.0, "optimizer": 500.0, "temporary": 50.0}
    plan = Plan(
        "v9:2", 2, "TPU v9", "FSDP", 8, memory, chip, 500.0, 600.0, 20.0, [Traffic("all-gather", ("x",), 1, 8, 4.0)]
    )
    assert plan.seconds == {"compute": 5.0, "memory": 2.0, "messages": 4.0}
    assert (plan.step_time, plan.step_time_apart, plan.mfu, plan.fits) == (5.0, 9.0, 600 / (5 * 100 * 2), True)
    assert "fits" in str(plan) and "all-gather" in str(plan)
    plan.memory["temporary"] = 200.0
    assert plan.fits is False and "DOES NOT FIT" in str(plan)
    unknown = Plan("cpu:2", 2, "cpu", "FSDP", 8, memory)
    assert unknown.fits is None and unknown.mfu is None and unknown.step_time is None
    assert [line.split()[0] for line in str(Plans([plan, unknown])).splitlines()] == ["distribution", "FSDP", "FSDP"]


def test_what_the_compiler_says_of_a_program_that_does_not_fit():
    said = "XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm."
    assert planning._said_to_need(said, 5 * 2**30) == 15 * 2**30
    said = "Ran out of memory on HBM, the total memory required for HLO temporaries (1.50M) exceeds available HBM (9G)."
    assert planning._said_to_need(said, 5 * 2**30) == 1.5 * 2**20
    assert planning._said_to_need("RESOURCE_EXHAUSTED", 1.0) == 0


def test_an_unknown_topology_is_an_error():
    with pytest.raises(ImportError if importlib.util.find_spec("libtpu") is None else ValueError, match="plan: "):
        devices_of("v99:4x4")
    with pytest.raises(ValueError, match="there are 0 such devices. For GPUs that are not there name the card"):
        devices_of("gpu:1")
    with pytest.raises(ValueError, match="nobody knows a device 'h2000'. Did you mean 'h200'"):
        devices_of("h2000:8")
    for size in ("", "9", "2x9", "0x8", "2x2x2", "x"):
        with pytest.raises(ValueError, match="expected a number of GPUs, 'h100:8', or hosts x GPUs"):
            devices_of(f"h100:{size}")
