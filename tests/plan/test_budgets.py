"""Budgets of programs for an H200 that is not there: bytes, kernels and memory of training steps must not grow.

The figures are those of jax 0.10.2, with a tenth above them for other versions of XLA.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
needs_cuda = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None, reason="needs the extra plan-gpu"
)
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
MEASURE = """
import json, sys
sys.path.insert(0, "scripts")
from contenders import programs
plans, rows = programs.plans_of(sys.argv[1], sys.argv[2], by_nnx=False), programs.MODELS[sys.argv[1]].rows
facts = lambda plan: (plan.num_bytes, plan.num_kernels, plan.count_fastest(rows), plan.memory["temporary"])
print(json.dumps([facts(plans["kerax"]), facts(plans["JAX by hand"])]))
"""
BUDGETS = {  # bytes, kernels, temporary memory, bytes over those of the step by hand
    "small_gpt": (1.3e9, 135, 0.17e9, 0.75),
    "small_llama": (0.65e9, 96, 0.08e9, 0.97),
    "small_unet": (0.37e9, 190, 0.05e9, 0.98),
    "mlp": (0.26e9, 40, 0.05e9, 1.02),
    "lstm": (15.3e9, 3300, 1.5e9, 1.02),
}


def measure_code(code: str, *arguments: str) -> list:
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@needs_cuda
@pytest.mark.slow
@pytest.mark.parametrize("name", BUDGETS)
def test_a_step_stays_within_its_budget(name):
    num_bytes, num_kernels, memory, ratio = BUDGETS[name]
    found, by_hand = measure_code(MEASURE, name, "h200:1")
    assert found[0] <= num_bytes and found[1] <= num_kernels and found[3] <= memory, found
    assert found[2] <= by_hand[2] if name == "small_unet" else found[2] == 0, "the batch is the fastest axis of arrays"
    assert found[0] <= ratio * by_hand[0], (found, by_hand)


# The kernels of attention alone take minutes to compile for a TPU.
@needs_libtpu
@pytest.mark.slow
def test_a_step_on_a_tpu_moves_no_more_than_one_by_hand():
    found, by_hand = measure_code(MEASURE, "mlp", "v5p:2x2x1")
    assert found[0] <= 1.02 * by_hand[0], (found, by_hand)


DECODING = """
import json, sys
import jax, jax.numpy as jnp
from kerax import language
from kerax.models import decoding
from kerax.plan import planning
from kerax.models import generation_plan as plans
sizes = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16, "num_key_value_heads": 4}
config = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 32000, "max_position_embeddings": 4096}
model = language.create(sizes | config | {"rms_norm_eps": 1e-5, "hidden_act": "silu"}, "bfloat16")
table = 2 * 32000 * 2048  # of which a row for each token is read
found = []
for rows in (1, 8):
    # Of a part of a TPU, one chip: a slice cannot be smaller.
    spread = planning.resolve_distribution("data", planning.devices_of(sys.argv[1])[:1])
    plan = model.plan(batch_size=rows, distribution=spread, generate=2048)
    found.append((plan.num_bytes, plan.memory["weights"] - table, plan.memory["cache"], plan.memory["temporary"]))
# The loop of `generate` renews the caches where they lie, as a single step does.
step = decoding.plain_step(model, decoding.Rules(is_greedy=True), None)
with spread.scope(), planning.compiling_for(planning.platform_of(spread.device_mesh.devices.flat)):
    state, stops = plans.state_specs(model, spread, 8, 2048, None), jax.ShapeDtypeStruct((4,), jnp.int32)
    given = [plans.variable_specs(model, spread)], state, {}, stops, jax.ShapeDtypeStruct((), jnp.int32)
    sizes = jax.jit(decoding.program(step), donate_argnums=1).lower(*given).compile().memory_analysis()
print(json.dumps([found, [sizes.alias_size_in_bytes, sizes.temp_size_in_bytes]]))
"""


# A TPU keeps some weights in another layout for the length of a loop.
@pytest.mark.slow
@pytest.mark.parametrize(
    "topology, share",
    [pytest.param("h200:1", 0.1, marks=needs_cuda), pytest.param("v5p:2x2x1", 0.5, marks=needs_libtpu)],
)
def test_decoding_reads_weights_and_caches_once(topology, share):
    single, (aliased, temporary) = measure_code(DECODING, topology)
    for num_bytes, weights, cache, own in single:
        assert num_bytes <= 1.05 * (weights + cache), single
        assert own < share * cache, single
    assert aliased >= single[1][2] and temporary < share * single[1][2], (aliased, temporary)
