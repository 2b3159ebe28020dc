"""Caches: pure calls that go on from what was kept equal one call of all."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers

X = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")
POSITIONS = {
    "one for all": lambda start: start,
    "one for each row": lambda start: np.array([start, start]),
    "one for each input": lambda start: np.full((2, 1), start),
}


def block(**options):
    layer = layers.DecoderBlock(4, 2, 4, 16, rotary=layers.RotaryEmbedding(), **options)
    return layer, layer(X), layer.variables_tree()


@pytest.mark.medium
@pytest.mark.parametrize("form", POSITIONS)
def test_cached_is_uncached(form):
    layer, expected, variables = block(sliding_window=3, query_key_normalization="rms", logit_soft_cap=2.0)
    first, _, cache = layer.apply(variables, X[:, :3], cache=layer.init_cache(2, 7))
    parts = [first]
    for place in range(3, 6):
        step = X[:, place : place + 1]
        part, _, cache = layer.apply(variables, step, cache=cache, positions=POSITIONS[form](place))
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, 1), expected, atol=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.03), ("int8", 0.05)])
def test_small_caches_are_near(dtype, tolerance):
    layer, expected, variables = block()
    cache = layer.init_cache(2, 6, dtype)
    assert cache["attention"]["key"].dtype == dtype
    _, _, cache = layer.apply(variables, X[:, :2], cache=cache)
    found, _, _ = layer.apply(variables, X[:, 2:], cache=cache, positions=2)
    np.testing.assert_allclose(found, expected[:, 2:], atol=tolerance)


@pytest.mark.medium
def test_rows_of_unequal_length():
    """The second row is one shorter: its padding is written over before anything looks at it."""
    layer, expected, variables = block()
    given = X[:, :3].copy()
    given[1, 2] = 100.0
    _, _, cache = layer.apply(variables, given, cache=layer.init_cache(2, 8))
    step = np.stack([X[0, 3], X[1, 2]])[:, None]
    found, _, _ = layer.apply(variables, step, cache=cache, positions=np.array([3, 2]))
    np.testing.assert_allclose(found[:, 0], np.stack([expected[0, 3], expected[1, 2]]), atol=1e-5)


@pytest.mark.medium
def test_padding_in_front_is_not_written():
    layer, _, variables = block()
    empty = layer.init_cache(2, 8)
    positions = np.array([[-1, -1, 0], [0, 1, 2]])
    _, _, cache = layer.apply(variables, X[:, :3], cache=empty, positions=positions)
    key = np.asarray(cache["attention"]["key"])
    assert (key[0, :, 1:] == 0).all() and (key[0, :, 0] != 0).any()
    alone, _, _ = layer.apply(variables, X[:1, 2:3], cache=layer.init_cache(1, 8))
    found, _, _ = layer.apply(variables, X[:, :3], cache=empty, positions=positions)
    np.testing.assert_allclose(found[0, 2], alone[0, 0], atol=1e-5)


@pytest.mark.medium
def test_under_jit_scan_and_vmap():
    layer, expected, variables = block()

    @jax.jit
    def scanned(variables, x):
        def step(cache, given):
            place, inputs = given
            outputs, _, cache = layer.apply(variables, inputs[:, None], cache=cache, positions=place)
            return cache, outputs[:, 0]

        given = jnp.arange(x.shape[1]), jnp.moveaxis(x, 1, 0)
        return jnp.moveaxis(jax.lax.scan(step, layer.init_cache(2, 6), given)[1], 0, 1)

    np.testing.assert_allclose(scanned(variables, X), expected, atol=1e-5)
    one = jax.vmap(lambda x, cache: layer.apply(variables, x[None], cache=cache)[0][0])
    caches = jax.tree.map(lambda leaf: leaf[:, None], layer.init_cache(2, 6))
    np.testing.assert_allclose(one(X, caches), expected, atol=1e-5)


def test_layers_without_a_cache_hand_it_through():
    dense = layers.Dense(3)
    dense(X)
    outputs, _, cache = dense.apply(dense.variables_tree(), X, cache=dense.init_cache(2, 4), positions=1)
    np.testing.assert_allclose(outputs, dense(X), atol=1e-6)
    assert cache == {}


@pytest.mark.medium
def test_positions_alone_reach_the_layers():
    layer = layers.PositionEmbedding(9)
    layer(X)
    found, _ = layer.apply(layer.variables_tree(), X, positions=np.array([2, 3]))
    table = np.asarray(layer.position_embeddings.value)
    np.testing.assert_allclose(found[1, :, :], table[3:9])
    sines = layers.SinePositionEncoding()
    found, _ = sines.apply({"params": {}, "state": {}}, X, positions=np.array([0, 4]))
    np.testing.assert_allclose(found[1], sines(X, start_index=4)[1], atol=1e-6)


def test_a_call_after_one_with_a_cache_has_none():
    layer, expected, variables = block()
    with pytest.raises(ValueError):
        layer.apply(variables, X, cache=layer.init_cache(2, 3))
    np.testing.assert_array_equal(layer(X), expected)


BAD = {
    "has room for 3 positions. Got 6 inputs": lambda layer, v: layer.apply(v, X, cache=layer.init_cache(2, 3)),
    "position 8 lies behind the cache": lambda layer, v: layer.apply(
        v, X[:, :1], cache=layer.init_cache(2, 8), positions=8
    ),
    "`positions` must be integers": lambda layer, v: layer.apply(
        v, X[:, :1], cache=layer.init_cache(2, 8), positions=1.5
    ),
    "nothing at 'attention'": lambda layer, v: layer.apply(v, X, cache={"other": {}}),
    "`length` of a cache must be an integer of at least 1": lambda layer, v: layer.init_cache(2, 0),
    "must be a float dtype or 'int8'": lambda layer, v: layer.init_cache(2, 4, "int32"),
}


@pytest.mark.medium
@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    layer, _, variables = block()
    with pytest.raises(ValueError, match=message):
        BAD[message](layer, variables)


def test_attention_to_later_positions_has_no_cache():
    attention = layers.MultiHeadAttention(2, 3)
    attention(X, X)
    with pytest.raises(ValueError, match="only causal attention"):
        attention.apply(attention.variables_tree(), X, X, cache=attention.init_cache(2, 6))


@pytest.mark.medium
def test_a_layer_called_twice_has_no_cache():
    tokens = kerax.Input((None, 8))
    layer = layers.DecoderBlock(2, 1, 4, 8)
    model = kerax.Model(tokens, layer(layer(tokens)))
    with pytest.raises(ValueError, match="called twice"):
        model.apply(model.variables_tree(), X, cache=model.init_cache(2, 6))


@pytest.mark.parametrize("rows", [1, 3])
def test_decoding_copies_no_cache(rows):
    layer, _, variables = block()

    def steps(variables, x, cache):
        def step(place, carry):
            x, cache = carry
            x, _, cache = layer.apply(variables, x, cache=cache, positions=jnp.full((rows,), place))
            return x, cache

        return jax.lax.fori_loop(0, 5, step, (x, cache))

    given = variables, jnp.zeros((rows, 1, 8)), layer.init_cache(rows, 4096)
    text = jax.jit(steps, donate_argnums=2).lower(*given).compile().as_text()
    shape = rf"f32\[{rows},2,4096,4\]\S*"
    assert re.search(rf"= {shape} (fusion|scatter)\(", text)  # where it is renewed
    assert not re.search(rf"= {shape} (copy|convert|transpose)\(", text)
