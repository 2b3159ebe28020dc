"""Blocks of language models, against their formulas in NumPy, and with a cache against without."""

import jax
import numpy as np
import pytest

from kerax import layers
from kerax.core.tracking import are_built, descendants

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 8)).astype("float32")


def weights(layer):
    return jax.tree.map(np.asarray, layer.variables_tree()["params"])


def rms(x, scale, epsilon=1e-6):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def rotate(x, wavelength=10000.0):
    """`x (batch, positions, heads, size)` with pairs as complex numbers."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] * wavelength ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[:, None]
    return np.concatenate([turned.real, turned.imag], -1)


def attention(w, x, window=None, cap=None, norm=False):
    q, k, v = (np.einsum("bpf,fhd->bphd", x, w[f"{name}_dense"]["kernel"]) for name in ("query", "key", "value"))
    if norm:
        q, k = rms(q, w["query_norm"]["scale"]), rms(k, w["key_norm"]["scale"])
    q, k = rotate(q), rotate(k)
    k, v = (np.repeat(part, q.shape[2] // part.shape[2], axis=2) for part in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    scores = scores if cap is None else cap * np.tanh(scores / cap)
    distance = np.arange(x.shape[1])[:, None] - np.arange(x.shape[1])
    seen = (distance >= 0) & (distance < (window or 99))
    out = np.einsum("bhqk,bkhd->bqhd", softmax(np.where(seen, scores, -1e30)), v)
    return np.einsum("bqhd,hdf->bqf", out, w["output_dense"]["kernel"])


def test_gated_feed_forward_is_its_formula():
    layer = layers.GatedFeedForward(5)
    found, w = layer(X), weights(layer)
    expected = (silu(X @ w["gate_dense"]["kernel"]) * (X @ w["up_dense"]["kernel"])) @ w["down_dense"]["kernel"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_feed_forward_drops_while_training():
    layer = layers.FeedForward(16, dropout=0.5)
    plain = layer(X)
    variables = layer.variables_tree()
    trained, _ = layer.apply(variables, X, training=True, key=jax.random.key(0))
    assert np.abs(trained - plain).max() > 0.01


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sliding_window": 3, "logit_soft_cap": 0.5},
        {"query_key_normalization": "rms", "post_norms": True},
        {"pre_norms": False, "post_norms": True},
    ],
)
def test_decoder_block_is_its_formula(options):
    layer = layers.DecoderBlock(4, 2, 4, 10, rotary=layers.RotaryEmbedding(), **options)
    layer(X)
    layer.set_weights([RNG.normal(size=v.shape).astype("float32") for v in layer.weights])
    w = weights(layer)

    def normed(name, x):
        return rms(x, w[name]["scale"]) if name in w else x

    attended = attention(
        w["attention"],
        normed("attention_norm", X),
        options.get("sliding_window"),
        options.get("logit_soft_cap"),
        "query_key_normalization" in options,
    )
    hidden = X + normed("attention_post_norm", attended)
    inner, network = normed("feedforward_norm", hidden), w["feedforward"]
    inner = silu(inner @ network["gate_dense"]["kernel"]) * (inner @ network["up_dense"]["kernel"])
    expected = hidden + normed("feedforward_post_norm", inner @ network["down_dense"]["kernel"])
    np.testing.assert_allclose(layer(X), expected, rtol=2e-4, atol=2e-4)


def test_encoder_block_does_not_look_at_padding():
    layer = layers.EncoderBlock(2, 16)
    padding = np.arange(6) < 4
    found = layer(X, padding_mask=np.stack([padding, padding]))
    changed = X.copy()
    changed[:, 4:] = 7
    np.testing.assert_allclose(
        found[:, :4], layer(changed, padding_mask=np.stack([padding, padding]))[:, :4], atol=1e-6
    )
    assert np.abs(np.mean(found, -1)).max() < 1e-5  # the sums are normalized


def test_a_block_comes_back_from_its_config():
    layer = layers.DecoderBlock(
        4,
        2,
        4,
        10,
        rotary=layers.RotaryEmbedding(50.0, scaling={"rope_type": "linear", "factor": 2.0}),
        query_key_normalization=layers.RMSNormalization((-2, -1), epsilon=1e-5),
        use_output_bias=True,
    )
    layer(X)
    again = layers.deserialize(layers.serialize(layer))
    again(X)
    assert [v.shape for v in again.weights] == [v.shape for v in layer.weights]
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(X), layer(X))


def test_attention_of_keras_has_the_config_it_had():
    config = layers.MultiHeadAttention(2, 3).get_config()
    assert not {"rotary", "scale", "logit_soft_cap", "query_key_normalization", "use_output_bias"} & config.keys()


BAD = {
    "`normalization` must be": {"normalization": "batch"},
    "`scale` must be above 0": {"scale": -1.0},
    "`query_key_normalization` must be": {"query_key_normalization": "l2"},
    "`num_query_heads` must be a multiple": {"num_key_value_heads": 3},
    "`dropout` must be between": {"dropout": 2},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_of_a_block(message):
    with pytest.raises(ValueError, match=message):
        layers.DecoderBlock(4, **BAD[message])(X)


@pytest.mark.medium
def test_a_normalization_that_is_a_layer_is_a_pattern():
    pattern = layers.RMSNormalization(epsilon=1e-3, offset=1.0)
    block = layers.DecoderBlock(2, normalization=pattern, query_key_normalization=layers.RMSNormalization((-2, -1)))
    variables = block.init(0, np.ones((2, 3, 8), "float32"))
    assert set(variables["params"]) == {"attention_norm", "attention", "feedforward_norm", "feedforward"}
    assert are_built(descendants(block)) and not pattern.built
    assert (block.attention_norm.epsilon, block.feedforward_norm.offset) == (1e-3, 1.0)
    np.testing.assert_array_equal(variables["params"]["attention_norm"]["scale"], np.zeros(8))
    again = layers.DecoderBlock.from_config(block.get_config())
    assert again.normalization.offset == 1.0 and again.query_key_normalization.axis == (-2, -1)
