"""Outputs of layers and weights of attention, and their pictures."""

import jax
import numpy as np
import pytest

import kerax
from kerax import layers, visualization

plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
X = np.random.default_rng(0).standard_normal((2, 6, 6, 1)).astype("f")
TOKENS = np.array([[1, 2, 3, 0], [3, 1, 2, 2]])


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def images():
    parts = [
        layers.Conv2D(3, 3),
        layers.Activation("relu"),
        layers.Dropout(0.9),
        layers.MaxPooling2D(),
        layers.Flatten(),
    ]
    return kerax.Sequential([kerax.Input((6, 6, 1)), *parts, layers.Dense(2)])


def attending(mask_zero=False):
    class Reader(kerax.Model):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(5, 8, mask_zero=mask_zero)
            self.attend = layers.MultiHeadAttention(2, 4, dropout=0.5)
            self.plain = layers.Attention()

        def call(self, tokens):
            x = self.embed(tokens)
            return self.plain([self.attend(x, x, use_causal_mask=True), x])

    return Reader()


@pytest.mark.medium
def test_outputs_of_layers_are_those_of_the_layers_by_hand():
    model = images()
    found = visualization.layer_outputs(model, X)
    assert list(found) == [layer.name for layer in model.layers]
    convolved = model.layers[0](X)
    np.testing.assert_allclose(found["conv2d"], convolved, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["dropout"], found["activation"])  # at inference
    np.testing.assert_allclose(found["dense"], model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
    chosen = visualization.layer_outputs(model, X, ["conv2d", model.layers[-1]])
    assert list(chosen) == ["conv2d", "dense"]
    inner = kerax.Sequential([model, layers.Dense(1, name="outer")])
    assert {"conv2d", "outer", model.name} <= visualization.layer_outputs(inner, X).keys()
    with pytest.raises(ValueError, match="has no layer 'conv'. It has conv2d, .* Did you mean 'conv2d'?"):
        visualization.layer_outputs(model, X, "conv")


@pytest.mark.medium
def test_attention_scores_are_those_that_the_layers_return():
    model = attending()
    before = np.asarray(model(TOKENS))
    found = visualization.attention_scores(model, TOKENS)
    assert list(found) == ["multi_head_attention", "attention"]
    x = model.embed(TOKENS)
    attended, scores = model.attend(x, x, use_causal_mask=True, return_attention_scores=True)
    np.testing.assert_allclose(found["multi_head_attention"], scores, rtol=1e-5)
    np.testing.assert_allclose(
        found["attention"], model.plain([attended, x], return_attention_scores=True)[1], rtol=1e-5
    )
    np.testing.assert_allclose(found["attention"].sum(-1), 1, rtol=1e-5)
    assert "call" not in vars(model.attend)  # as before
    np.testing.assert_array_equal(model(TOKENS), before)
    masked = visualization.attention_scores(attending(mask_zero=True), TOKENS, "multi_head_attention")
    np.testing.assert_allclose(masked["multi_head_attention"][0, :, -1], 0.25)  # a masked query: of no key more
    assert not np.allclose(found["multi_head_attention"][0, :, -1], 0.25)
    with pytest.raises(ValueError, match="expected attention layers. Got none; .* has none."):
        visualization.attention_scores(images(), X)
    with pytest.raises(ValueError, match=r"Got \['embedding'\]; .* has multi_head_attention, attention."):
        visualization.attention_scores(model, TOKENS, "embedding")


def test_feature_maps_are_tiles_of_the_layers_that_tell_something():
    model = images()
    figure = visualization.plot_feature_maps(model, X, example=1)
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "conv2d: 3 of 3 maps of 4 x 4",
        "max_pooling2d: 3 of 3 maps of 2 x 2",
    ]
    tile = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    first = visualization.layer_outputs(model, X, "conv2d")["conv2d"][1, ..., 0]
    np.testing.assert_allclose(tile[:4, :4], (first - first.min()) / np.ptp(first), rtol=1e-5, atol=1e-6)
    assert tile.shape == (4, 14) and np.isnan(tile[:, 4]).all()
    chosen = visualization.plot_feature_maps(model, X, ["activation", "dropout"], max_maps=2)
    assert [axis.get_title(loc="left") for axis in chosen.axes][1] == "dropout: 2 of 3 maps of 4 x 4"
    first = visualization.plot_feature_maps({"a": np.zeros((1, 3, 5, 5))}, None, data_format="channels_first")
    assert first.axes[0].get_title(loc="left") == "a: 3 of 3 maps of 5 x 5"
    series = kerax.Sequential([kerax.Input((7, 2)), layers.Conv1D(4, 3)])
    drawn = visualization.plot_feature_maps(series, np.ones((1, 7, 2)))
    assert drawn.axes[0].get_title(loc="left") == "conv1d: 4 of 4 features over 5 steps"
    assert drawn.axes[0].images[0].get_array().shape == (4, 5)
    with pytest.raises(ValueError, match="no layer puts out images"):
        visualization.plot_feature_maps(kerax.Sequential([kerax.Input((3,)), layers.Dense(1)]), np.ones((1, 3)))


def test_attention_is_drawn_for_each_head():
    model = attending()
    figure = visualization.plot_attention_maps(model, TOKENS, "multi_head_attention", example=1, tokens="abcd")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["head 0", "head 1"]
    scores = visualization.attention_scores(model, TOKENS)["multi_head_attention"]
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), scores[1, 1])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list("abcd")
    plain = visualization.plot_attention_maps(jax.numpy.ones((1, 3, 5)) / 5, key_tokens="vwxyz")
    assert plain.axes[0].images[0].get_array().shape == (3, 5)
    with pytest.raises(ValueError, match="choose a `layer` of multi_head_attention, attention."):
        visualization.plot_attention_maps(model, TOKENS)
    with pytest.raises(ValueError, match=r"expected \(batch, heads, queries, keys\). Got shape \(3,\)."):
        visualization.plot_attention_maps(np.ones(3))
