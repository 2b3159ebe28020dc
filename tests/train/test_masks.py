"""Masks from an embedding reach every layer, the loss and the metrics, as in Keras."""

import keras
import numpy as np
import pytest

import kerax

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 4, (12, 5))  # no axis is as long as another, so that nothing fits by accident
LABELS = RNG.integers(0, 3, (12, 5))


def recurrent(k, x):
    return k.layers.LSTM(4, return_sequences=True)(x)


def distributed(k, x):
    x = k.layers.GRU(4, return_sequences=True)(x)
    return k.layers.TimeDistributed(k.layers.Dense(7, activation="relu"))(x)


def nested(k, x):
    return k.Sequential([k.Input((5, 6)), k.layers.LSTM(4, return_sequences=True)])(x)


def attention(k, x):
    return k.layers.LayerNormalization()(k.layers.MultiHeadAttention(2, 3)(x, x) + x)


def causal_attention(k, x):
    return k.layers.MultiHeadAttention(3, 2)(x, x, use_causal_mask=True)


def attention_with_a_mask(k, x):
    return k.layers.MultiHeadAttention(2, 3)(x, x, attention_mask=np.tril(np.ones((5, 5), bool), 1)[None])


LONG = [
    pytest.param(body, marks=pytest.mark.slow)
    for body in (distributed, nested, causal_attention, attention_with_a_mask)
]


@pytest.mark.slow
@pytest.mark.parametrize("body", [recurrent, attention, *LONG])
def test_training_on_padded_sequences_is_kerass(body):
    histories = []
    weights = None
    for k in (keras, kerax):
        tokens = k.Input((5,), dtype="int32")
        x = body(k, k.layers.Embedding(4, 6, mask_zero=True)(tokens))
        model = k.Model(tokens, k.layers.Dense(3, activation="softmax")(x))
        weights = model.get_weights() if weights is None else weights
        model.set_weights(weights)
        model.compile(
            k.optimizers.SGD(0.1),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            weighted_metrics=["sparse_categorical_crossentropy"],
        )
        histories.append(model.fit(TOKENS, LABELS, epochs=2, batch_size=5, shuffle=False, verbose=0).history)
    # While training, Keras's JAX trainer loses the mask of the outputs: its metrics count padding, kerax's do not.
    np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=1e-4)


@pytest.mark.slow
def test_metrics_leave_padding_out_in_training_as_in_evaluation():
    tokens = kerax.Input((5,), dtype="int32")
    x = recurrent(kerax, kerax.layers.Embedding(4, 6, mask_zero=True)(tokens))
    model = kerax.Model(tokens, kerax.layers.Dense(3, activation="softmax")(x))
    model.compile(kerax.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    trained = model.fit(TOKENS, LABELS, batch_size=5, shuffle=False, verbose=0).history
    evaluated = model.evaluate(TOKENS, LABELS, batch_size=5, verbose=0, return_dict=True)
    assert {name: values[0] for name, values in trained.items()} == pytest.approx(evaluated)
    counted = np.argmax(model.predict(TOKENS, verbose=0), -1) == LABELS
    assert evaluated["accuracy"] == pytest.approx(counted[TOKENS > 0].mean())
    assert counted[TOKENS > 0].mean() != pytest.approx(counted.mean())
