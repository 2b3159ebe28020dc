import re

import jax
import jax.numpy as jnp
import pytest

from kerax.plan import hlo
from kerax.plan.flops import count

X, W = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((5, 16, 16), jnp.float32)


def loop(x, w):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]


def convolve(images, kernel):
    return jax.lax.conv_general_dilated(images, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.optimized
def test_products_in_loops_count_as_often_as_the_loops_turn():
    expected = 5 * 2 * 8 * 16 * 16
    assert hlo.count(jax.jit(loop).lower(X, W).compile().as_text()).flops == expected
    assert count(jax.make_jaxpr(loop)(X, W).jaxpr).products == expected
    gradient = jax.grad(lambda w, x: jnp.sum(loop(x, w)))
    assert hlo.count(jax.jit(gradient).lower(W, X).compile().as_text()).flops == pytest.approx(3 * expected, rel=0.1)


@pytest.mark.optimized
def test_bytes_are_those_that_each_turn_touches():
    stacked = jax.ShapeDtypeStruct((50, 16, 16), jnp.float32)
    counts = hlo.count(jax.jit(loop).lower(X, stacked).compile().as_text())
    weights = 50 * 16 * 16 * 4
    assert weights <= counts.num_bytes <= 10 * weights  # not fifty times all of the stacked weights
    big = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
    counts = hlo.count(jax.jit(lambda x: x + 1).lower(big).compile().as_text())
    assert counts.num_bytes == pytest.approx(8e6, rel=0.01)


def test_a_convolution_counts_like_its_products():
    images, kernel = jax.ShapeDtypeStruct((2, 9, 9, 3), jnp.float32), jax.ShapeDtypeStruct((3, 3, 3, 4), jnp.float32)
    expected = 2 * (2 * 4 * 4 * 4) * (3 * 3 * 3)
    assert count(jax.make_jaxpr(convolve)(images, kernel).jaxpr).products == expected
    assert hlo.count(jax.jit(convolve).lower(images, kernel).compile().as_text()).flops == expected


def program(line: str, attributes: str = "") -> str:
    return f"""HloModule test

ENTRY %main (p: bf16[2,2,128,64], q: bf16[2,2,64,128]) -> f32[1] {{
  %p = bf16[2,2,128,64]{{3,2,1,0:T(8,128)(2,1)S(1)}} parameter(0)
  %q = bf16[2,2,64,128]{{3,2,1,0:T(8,128)(2,1)}} parameter(1)
  ROOT {line}
}}
"""


def test_products_that_tpus_write_as_convolutions_with_holes():
    # Two batch axes as spatial ones, of which each output meets one input only.
    line = (
        "%r = bf16[2,2,128,128]{3,2,1,0} convolution(%p, %q), window={size=2x2 lhs_dilate=2x2 stride=1x1}, "
        "dim_labels=01bf_01io->01bf"
    )
    dilated = 2 * 128 * 128 * 64 * 2 * 2
    assert hlo.count(program(line)).flops == dilated


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("{{0,2},{1,3}}", (0, 2)),
        ("[2,2]<=[2,2]T(1,0)", (0, 2)),
        ("[2,2]<=[4]", (0, 1)),
        ("mesh['a'=2,'b'=2] {'b'}", (0, 1)),
        ("mesh['a'=2,'b'=2] {'a'}", (0, 2)),
        ("mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", (0, 1)),
    ],
)
def test_messages_between_devices_in_every_notation(groups, expected):
    line = f"%g = bf16[4,2,128,64]{{3,2,1,0}} all-gather(%p), channel_id=1, replica_groups={groups}, dimensions={{0}}"
    (message,) = hlo.count(program(line)).collectives
    assert message == hlo.Collective("all-gather", 4 * 2 * 128 * 64 * 2, expected, 1)


def test_only_main_memory_counts():
    line = "%c = bf16[2,2,128,64]{3,2,1,0:T(8,128)(2,1)S(1)} copy(%p)"
    assert hlo.count(program(line)).num_bytes == 0
    line = "%c = bf16[2,2,64,128]{3,2,1,0:T(8,128)(2,1)} copy(%q)"
    assert hlo.count(program(line)).num_bytes == 2 * (2 * 2 * 128 * 64 * 2)


def test_what_is_fetched_into_the_memory_of_a_core_is_read_once():
    start = "copy-start(%q)"
    for layout, written in (("{3,2,1,0:S(1)}", 0), ("{3,2,1,0}", 1)):
        line = f"%c = (bf16[2,2,64,128]{layout}, bf16[2,2,64,128]{{3,2,1,0}}, u32[]{{:S(2)}}) {start}"
        found = hlo.count(program(line))
        assert found.num_bytes == (1 + written) * (2 * 2 * 128 * 64 * 2)
        assert found.kernels[0].kind == ("copies" if written else "")
    line = f"%c = (bf16[2,2,64,128]{{3,2,1,0:S(1)}}, bf16[2,2,64,128]{{3,2,1,0}}, u32[]) {start}, "
    assert hlo.count(program(line + "cross_program_prefetch_index=0")).num_bytes == 0


def test_what_numbers_are_put_into_is_not_read():
    cache, new = jax.ShapeDtypeStruct((8, 500, 64), jnp.float32), jax.ShapeDtypeStruct((8, 64), jnp.float32)
    index = jax.ShapeDtypeStruct((8,), jnp.int32)

    def put(cache, index, new):
        return cache.at[jnp.arange(8), index].set(new, unique_indices=True)

    counts = hlo.count(jax.jit(put, donate_argnums=0).lower(cache, index, new).compile().as_text())
    assert counts.num_bytes < 0.1 * cache.size * 4


def test_a_loop_that_notes_no_number_of_turns_is_counted_by_its_bound_and_step():
    text = """HloModule test

%condition (state: (u32[], f32[4,4])) -> pred[] {
  %state = (u32[], f32[4,4]{1,0}) parameter(0)
  %counter = u32[] get-tuple-element(%state), index=0
  %bound = u32[] constant(8)
  ROOT %less = pred[] compare(%counter, %bound), direction=LT
}

%body (state.1: (u32[], f32[4,4])) -> (u32[], f32[4,4]) {
  %state.1 = (u32[], f32[4,4]{1,0}) parameter(0)
  %counter.1 = u32[] get-tuple-element(%state.1), index=0
  %step = u32[] constant(STEP)
  %next = u32[] add(%counter.1, %step)
  %matrix = f32[4,4]{1,0} get-tuple-element(%state.1), index=1
  %product = f32[4,4]{1,0} dot(%matrix, %matrix), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %result = (u32[], f32[4,4]{1,0}) tuple(%next, %product)
}

ENTRY %main (begin: (u32[], f32[4,4])) -> (u32[], f32[4,4]) {
  %begin = (u32[], f32[4,4]{1,0}) parameter(0)
  ROOT %loop = (u32[], f32[4,4]{1,0}) while(%begin), condition=%condition, body=%body
}
"""
    for step, turns in ((1, 8), (2, 4)):
        assert hlo.count(text.replace("STEP", str(step))).flops == turns * 2 * 4**3


def test_calls_of_libraries_count_as_what_they_compute():
    def flops(target, operands, result, attributes):
        names = [f"%p{index} = bf16{list(shape)} parameter({index})" for index, shape in enumerate(operands)]
        line = f"  ROOT %r = (bf16{list(result)}{{0}}, u8[0]{{0}}) custom-call("
        line += ", ".join(f"%p{index}" for index in range(len(operands)))
        text = "\n".join(f"  {name}" for name in names).replace(" ", " ")
        text = f'ENTRY %main () -> f32[1] {{\n{text}\n{line}), custom_call_target="{target}", {attributes}\n}}\n'
        return hlo.count(re.sub(r"(\d), (?=\d)", r"\1,", text)).flops

    images, kernel, outputs = (2, 8, 8, 3), (4, 1, 1, 3), (2, 8, 8, 4)
    labels, expected = "window={size=1x1}, dim_labels=b01f_o01i->b01f", 2 * 2 * 64 * 3 * 4
    assert flops("__cudnn$convForward", (images, kernel), outputs, labels) == expected
    assert flops("__cudnn$convBackwardInput", (outputs, kernel), images, labels) == expected
    assert flops("__cudnn$convBackwardFilter", (images, outputs), kernel, labels) == expected
    config = 'backend_config={"intermediate_tensor_shape": {"dimensions": ["2","4","16","16"]}, "mask_type": "CAUSAL"}'
    heads = (2, 16, 4, 8)
    assert flops("__cudnn$fmhaSoftmax", (heads, heads, heads), (2, 4, 16, 8), config) == 2 * 2 * 4 * 16 * 16 * 8
    config = config.replace("CAUSAL", "NO_MASK")
    assert flops("__cudnn$fmhaSoftmaxBackward", (heads,) * 6, (2, 4, 16, 8), config) == 10 * 2 * 4 * 16 * 16 * 8
    config = 'backend_config={"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}'
    assert flops("__cublas$gemm", ((8, 16), (16, 4)), (8, 4), config) == 2 * 8 * 16 * 4
