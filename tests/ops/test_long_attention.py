"""Attention by blocks, by the TPU's kernel run as plain operations, and for cuDNN: the numbers of the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import config, ops
from kerax.distribution import DataParallel
from kerax.ops import attention, cpu, long_attention, tpu

DRAW = np.random.default_rng(0)
QUERY, KEY, VALUE = (DRAW.normal(size=(2, 40, heads, 8)).astype("float32") for heads in (4, 2, 2))
COUNTED = DRAW.random((2, 1, 1, 40)) < 0.7
BIAS = DRAW.normal(size=(2, 4, 40, 40)).astype("float32")
CASES = {
    "plain": {},
    "causal": {"is_causal": True},
    "window": {"sliding_window": 5},
    "causal window": {"is_causal": True, "sliding_window": 7},
    "padding": {"mask": COUNTED, "is_causal": True},
    "a mask of all": {"mask": DRAW.random((2, 1, 40, 40)) < 0.5},
    "nothing seen": {"mask": np.zeros((2, 1, 1, 40), bool)},
    "bias and cap": {"bias": BIAS, "cap": 2.0},
}


def formula(query, key, value, bias=None, mask=None, is_causal=False, sliding_window=None, cap=None):
    """By NumPy, with all scores."""
    key, value = (np.repeat(array, query.shape[2] // array.shape[2], axis=2) for array in (key, value))
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    scores = scores + (0 if bias is None else bias)
    scores = scores if cap is None else cap * np.tanh(scores / cap)
    distance = np.arange(query.shape[1])[:, None] - np.arange(key.shape[1])
    seen = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape)
    seen = seen & (distance >= 0) if is_causal else seen
    seen = seen if sliding_window is None else seen & (abs(distance) < sliding_window)
    scores = np.where(seen, scores, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("is_long", [False, True])
def test_all_at_once_and_by_blocks(name, is_long, monkeypatch):
    if is_long:  # blocks of 16 queries, of which the last has 8
        monkeypatch.setattr(long_attention, "_LONG", 0)
        monkeypatch.setattr(long_attention, "_BLOCK", 1)
    outputs, weights = attention.attend(QUERY, KEY, VALUE, **CASES[name])
    np.testing.assert_allclose(outputs, formula(QUERY, KEY, VALUE, **CASES[name]), rtol=1e-4, atol=1e-5)
    assert weights is None


# On CPU the first half of the queries is not multiplied with the second half of the keys.
@pytest.mark.medium
@pytest.mark.parametrize("length", [65, 71])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_halves_of_causal_attention(length, groups, monkeypatch):
    monkeypatch.setattr(cpu, "_HALVED", 64)
    query, key, value = (DRAW.normal(size=(2, length, heads, 8)).astype("float32") for heads in (4, groups, groups))
    outputs = {}
    for platform in ("cpu", "export"):

        def attend(*heads, platform=platform):
            with config.compiling_for(platform):
                return attention.attend(*heads, is_causal=True)[0]

        loss = jax.value_and_grad(lambda *heads, attend=attend: jnp.sum(jnp.sin(attend(*heads))), (0, 1, 2))
        outputs[platform] = attend(query, key, value), loss(query, key, value)
    sizes = {v.aval.shape[-2:] for e in jax.make_jaxpr(attend)(query, key, value).eqns for v in e.outvars}
    assert (length, length) in sizes  # of all at once
    with config.compiling_for("cpu"):
        halved = jax.make_jaxpr(lambda *heads: attention.attend(*heads, is_causal=True)[0])(query, key, value)
    assert (length, length) not in {v.aval.shape[-2:] for e in halved.eqns for v in e.outvars}
    for ours, expected in zip(*map(jax.tree.leaves, outputs.values()), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.medium
def test_gradients_by_blocks_are_those_of_all_at_once(monkeypatch):
    def gradients():
        loss = lambda *heads: jnp.sum(jnp.sin(attention.attend(*heads, **CASES["padding"])[0]))
        return jax.grad(loss, (0, 1, 2))(QUERY, KEY, VALUE)

    expected = gradients()
    monkeypatch.setattr(long_attention, "_LONG", 0)
    for one, other in zip(gradients(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.medium
def test_memory_grows_with_the_length_and_not_with_its_square():
    def temporary(length):
        spec = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
        loss = lambda *heads: jnp.sum(ops.dot_product_attention(*heads, is_causal=True) ** 2)
        compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(spec, spec, spec).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = temporary(16384), temporary(32768)
    assert long < 2.2 * short + 2**26 and long < 2**30


def test_weights_and_dropout_need_all_scores(monkeypatch):
    monkeypatch.setattr(long_attention, "_LONG", 0)
    assert attention.attend(QUERY, KEY, VALUE, with_weights=True)[1].shape == (2, 4, 40, 40)
    dropped = attention.attend(QUERY, KEY, VALUE, drop=lambda weights: 2 * weights)[0]
    np.testing.assert_allclose(dropped, 2 * formula(QUERY, KEY, VALUE), rtol=1e-4, atol=1e-5)


def test_a_file_has_no_loop_of_blocks(monkeypatch):
    monkeypatch.setattr(long_attention, "_LONG", 0)
    with config.compiling_for("export"):
        assert not long_attention.is_long(QUERY, KEY)


# On TPUs.

LONG = [DRAW.normal(size=(2, 512, heads, 64)).astype("float32") for heads in (2, 1, 1)]
PADDED = np.arange(512)[None, None, None] < np.array([300, 0])[:, None, None, None]
ON_TPU = {
    "causal": {"is_causal": True},
    "window": {"sliding_window": 100},
    "causal window": {"is_causal": True, "sliding_window": 200},
    "padding": {"mask": PADDED},
    "causal after padding": {"mask": PADDED[:, :, :, ::-1], "is_causal": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_TPU)
def test_the_kernel_of_tpus_computes_the_formula(name):
    options = dict(ON_TPU[name])
    key_mask = options["mask"][:, 0, 0] if "mask" in options else None
    given = 64**-0.5, options.get("is_causal", False), options.get("sliding_window"), key_mask
    outputs = tpu.attend(*map(jnp.asarray, LONG), *given, interpret=True)
    np.testing.assert_allclose(outputs, formula(*LONG, **options), rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_on_several_devices_each_takes_its_own_rows():
    with DataParallel().scope():
        outputs = tpu.attend(*map(jnp.asarray, LONG), 64**-0.5, True, None, interpret=True)
    np.testing.assert_allclose(outputs, formula(*LONG, is_causal=True), rtol=2e-3, atol=2e-3)


def test_which_arrays_the_kernel_of_tpus_takes():
    def takes(*shape, heads=2):
        query, key = (jax.ShapeDtypeStruct((2, *shape[:1], number, *shape[1:]), jnp.float32) for number in (4, heads))
        return tpu.has_attention(query, key, key)

    assert not takes(1024, 64)  # here
    with config.compiling_for("tpu"):
        assert takes(1024, 64) and takes(640, 64) and takes(1024, 64, heads=1)
        assert not takes(1000, 64) and not takes(256, 64) and not takes(1024, 64, heads=3)


# For cuDNN, by what it is given.


@pytest.fixture
def given(monkeypatch):
    """What `jax.nn.dot_product_attention` is called with, of which the formula's numbers come back."""
    calls = []

    def attend(query, key, value, bias=None, mask=None, scale=None, is_causal=False, **options):
        calls.append({"mask": mask, "is_causal": is_causal, **options})
        window = options.get("local_window_size")
        rest = {"is_causal": is_causal, "sliding_window": None if window is None else window[0] + 1}
        query = np.asarray(query) * scale * query.shape[-1] ** 0.5
        return jnp.asarray(formula(query, np.asarray(key), np.asarray(value), bias, mask, **rest))

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    monkeypatch.setattr(attention, "uses_fused_attention", lambda *_: True)
    return calls


@pytest.mark.parametrize("name", [name for name in CASES if "cap" not in name])
@pytest.mark.parametrize("is_long", [False, True])
def test_cudnn_is_given_no_mask_as_large_as_the_scores(name, is_long, monkeypatch, given):
    if is_long:
        monkeypatch.setattr(long_attention, "_LONG", 0)
    outputs = attention.attend(*map(jnp.asarray, (QUERY, KEY, VALUE)), **CASES[name])[0]
    np.testing.assert_allclose(outputs, formula(QUERY, KEY, VALUE, **CASES[name]), rtol=1e-3, atol=1e-4)
    if is_long and name != "a mask of all":
        assert all(call["mask"] is None for call in given)
    if name == "causal window":
        assert given[0]["local_window_size"] == (6, 0) and given[0]["is_causal"]
