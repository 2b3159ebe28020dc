"""GPUs that are not there: described, compiled for and planned for, where JAX's packages for CUDA are."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kerax.plan import planning
from kerax.plan.chips import CHIPS, chip_of
from kerax.plan.devices import GPUS, devices_of, target_config
from kerax.plan.quiet import without_startup_text

ROOT = Path(__file__).parents[2]
needs_cuda = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None, reason="needs the extra plan-gpu"
)
PLAN = """
import jax, kerax
from kerax import layers, ops
inputs = kerax.Input((128, 64))
hidden = layers.MultiHeadAttention(2, 32)(inputs, inputs, use_causal_mask=True)
hidden = layers.LayerNormalization()(inputs + hidden)
model = kerax.Model(inputs, layers.Dense(256)(ops.gelu(layers.Dense(256)(hidden))), name="small")
model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
batch = jax.ShapeDtypeStruct((64, 128, 64), "float32"), jax.ShapeDtypeStruct((64, 128), "int32")
found = model.plan("{topology}", batch, distribution="{distribution}")
print(found)
"""


def run(code: str, *words: str, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, *(words or ("-c", code))]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=ROOT)


def test_every_card_of_a_topology_is_in_the_table():
    for kind, name in GPUS.items():
        chip = CHIPS[name]
        assert chip_of(name) == chip and chip.card is not None
        assert f'device_description_str: "{name}"' in target_config(name, chip)
        assert 100 < chip.card.cores < 200 and 1 < chip.card.clock < 3, kind
    with pytest.raises(ValueError, match="is no GPU"):
        target_config("TPU v4", CHIPS["TPU v4"])


def test_without_the_packages_one_line_says_what_is_needed():
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        with pytest.raises(ImportError, match=r"pip install 'kerax\[plan-gpu\]'"):
            devices_of("h100:8")


def test_messages_beyond_a_host_go_by_its_network():
    mesh: Any = SimpleNamespace(devices=np.array([SimpleNamespace(id=number) for number in range(16)]))
    chip = CHIPS["NVIDIA H100"]
    rate = lambda kind, *group: planning._rate(kind, mesh, group, chip)
    assert rate("all-reduce", *range(8)) == 450e9
    assert rate("all-reduce", *range(16)) == 8 * 50e9  # over the cards of all eight
    assert rate("all-reduce", 0, 8) == rate("all-to-all", *range(16)) == 50e9
    assert planning._rate("all-gather", mesh, tuple(range(16)), CHIPS["NVIDIA GB200"]) == 900e9
    assert planning._rate("all-gather", mesh, tuple(range(16)), CHIPS["NVIDIA H100 PCIe"]) is None


def test_lines_of_the_start_of_cuda_are_left_out(capfd):
    with without_startup_text():
        os.write(2, b"I0000 cudart_stub.cc:31] Could not find cuda drivers\nsomething else\n")
    assert capfd.readouterr().err == "something else\n"


@needs_cuda
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["h100:8", "h200:2x4", "a100-80gb:8", "b200:8", "gb200:2x4"])
def test_a_plan_for_gpus(topology):
    ran = run(PLAN.format(topology=topology, distribution="fsdp"))
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "fits" in ran.stdout and "over batch" in ran.stdout and "where the bytes go" in ran.stdout, ran.stdout
    assert "small/multi_head_attention" in ran.stdout, ran.stdout


@needs_cuda
@pytest.mark.slow
def test_the_command_prints_nothing_of_a_missing_driver():
    ran = run("", "-m", "kerax", "plan", "configs/digits_mlp.yaml", "--topology", "h100:8", "--distribution", "data")
    assert ran.returncode == 0 and "8 x NVIDIA H100" in ran.stdout, ran.stderr[-3000:]
    assert ran.stderr == ""
