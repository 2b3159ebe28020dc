"""`Model.plan(generate=)` for a CPU, which is always there. `test_budgets` has an H200."""

import jax
import numpy as np
import pytest

import kerax
from kerax import layers


def make(cached=True):
    tokens = kerax.Input((None,), dtype="int32")
    hidden = layers.Embedding(300, 64)(tokens)
    block = layers.DecoderBlock(4, num_key_value_heads=2) if cached else layers.Conv1D(64, 3, padding="causal")
    return kerax.Model(tokens, layers.Dense(300)(block(hidden)))


@pytest.mark.medium
def test_a_step_of_generation_is_planned_without_weights():
    model = make()
    plan = model.plan("cpu:1", batch_size=3, distribution="data", generate=128)
    assert all(variable._value is None for variable in model.variables)
    # 2 heads of 16 numbers, keys and values, in float32.
    assert plan.memory["cache"] == 3 * 128 * 2 * 2 * 16 * 4
    assert plan.memory["weights"] == 4 * model.count_params() and plan.batch_size == 3
    # The logits' product alone, and all products at most once for each weight and row, with attention's.
    assert 2 * 3 * 64 * 300 < plan.model_flops < 2 * 3 * (model.count_params() + 2 * 128 * 64)
    assert plan.num_bytes > plan.memory["weights"] - 4 * 300 * 64
    assert "cache" in str(plan)
    half = model.plan("cpu:1", batch_size=3, distribution="data", generate=128, cache_dtype="bfloat16")
    assert half.memory["cache"] == plan.memory["cache"] / 2
    assert jax.tree.leaves(model.generate(np.arange(4), 2))  # plans leave the model as it was


def test_what_cannot_be_planned():
    with pytest.raises(ValueError, match="`generate` must be an integer of at least 1. Got 0"):
        make().plan("cpu:1", distribution="data", generate=0)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1. Got .largest."):
        make().plan("cpu:1", batch_size="largest", distribution="data", generate=8)
    unbuilt = kerax.Sequential([layers.Embedding(5, 4), layers.Dense(5)])
    with pytest.raises(ValueError, match="is not built, so that its weights are not known"):
        unbuilt.plan("cpu:1", distribution="data", generate=8)
