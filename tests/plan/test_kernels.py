"""Where bytes go: layers by the names that JAX notes, kernels that only move, and what is computed again."""

import jax
import jax.numpy as jnp
import pytest

from kerax.plan import hlo, kernels
from kerax.plan.kernels import OUTSIDE, Kernel, layer_of


@pytest.mark.parametrize(
    ("operation", "layer", "is_backward"),
    [
        ("jit(one)/jvp(gpt)/block_1/dense/dot_general", "gpt/block_1/dense", False),
        ("jit(one)/transpose(jvp(gpt))/block/dense/jvp(gpt)/block/dense/reduce_sum", "gpt/block/dense", True),
        ("jit(one)/transpose(jvp(gpt))/norm/jvp(gpt)/norm/checkpoint/mul", "gpt/norm", True),
        ("jit(one)/jvp(gpt)/blocks/while/body/block/tanh", "gpt/blocks/block", False),
        ("jit(one)/jvp(gpt)/blocks/while/body/block/norm/block/norm/mul", "gpt/blocks/block/norm", False),
        ("jit(one)/jvp(gpt)/tokens/jit(_take)/gather", "gpt/tokens", False),
        ("jit(one)/jvp()/reduce_max", OUTSIDE, False),
        ("jit(one)/add", OUTSIDE, False),
        ("", OUTSIDE, False),
    ],
)
def test_the_layer_of_an_operation(operation, layer, is_backward):
    assert layer_of(operation) == (layer, is_backward)


def kernel(operation, read, written, kind="", costly=()):
    return Kernel("fusion", operation, read, written, 1, kind, costly)


def test_layers_of_one_kind_count_as_one():
    blocks = [kernel(f"jit(f)/jvp(m)/block{end}/dense/dot_general", 10, 5) for end in ("", "_1", "_2", "_3", "_4")]
    used = kernels.usage([*blocks, kernel("jit(f)/jvp(m)/head/dot_general", 60, 0), kernel("jit(f)/mul", 1, 1)])
    assert used[0] == ("m/block*/dense", False, 50, 25, 5)
    assert [one.layer for one in used[1:]] == ["m/head", OUTSIDE]
    assert [one.layer for one in kernels.usage(blocks[:2])] == ["m/block/dense", "m/block_1/dense"]


def test_shares_of_bytes_that_are_only_moved():
    found = kernels.shares([kernel("a", 10, 10, "copies"), kernel("b", 60, 20), kernel("c", 0, 0)])
    assert found == {"copies": 0.2}
    assert kernels.shares([]) == {}


@pytest.mark.optimized
def test_kinds_of_kernels_of_a_program():
    x = jax.ShapeDtypeStruct((512, 512), jnp.bfloat16)
    exact = hlo.count(jax.jit(lambda x: x.astype(jnp.float32) * 2).lower(x).compile().as_text()).kernels
    assert "float32 copies" in {one.kind for one in exact}
    moved = hlo.count(jax.jit(lambda x: x.T + 0).lower(x).compile().as_text()).kernels
    assert {one.kind for one in moved} <= {"transposes", "copies", ""} and moved
    assert sum(one.num_bytes for one in moved) == pytest.approx(2 * 2 * 512**2, rel=0.5)


@pytest.mark.optimized
def test_what_a_rematerialized_program_computes_again():
    x = jax.ShapeDtypeStruct((512, 512), jnp.float32)

    def loss(x, w):
        return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))

    def again(function):
        text = jax.jit(jax.grad(function, argnums=1)).lower(x, x).compile().as_text()
        return [one.operation for one in kernels.repeated(hlo.count(text).kernels)]

    assert "dot" not in again(loss)
    found = kernels.repeated([kernel("a", 1, 1, "", (("dot", "jit(f)/m/dot_general", "f32[8, 8]", "1"),))] * 2)
    assert found == [("m", "dot", "f32[8, 8]", 1)]
