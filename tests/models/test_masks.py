"""Masks in users' layers and models: while the graph is built, when it runs, loaded, by hand; all as in Keras."""

import keras
import numpy as np
import pytest

import kerax

TOKENS = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])


def embedding(k):
    return k.layers.Embedding(5, 2, mask_zero=True, embeddings_initializer="ones")


def tokens(k):
    return k.Input((4,), dtype="int32")


def times_mask(k, needed=True):
    class TimesMask(k.layers.Layer):
        def call(self, x, mask=None):
            assert mask is not None or not needed, "no mask came"
            return x if mask is None else x * k.ops.cast(mask, "float32")[..., None]

    return TimesMask()


def functional(k):
    x = tokens(k)
    return k.Model(x, times_mask(k)(embedding(k)(x)))


def sequential(k):
    return k.Sequential([tokens(k), embedding(k), k.layers.Dropout(0.5), times_mask(k)])


def sequential_without_input(k):
    return k.Sequential([embedding(k), times_mask(k)])


def subclass(k):
    class Masked(k.Model):
        def __init__(self):
            super().__init__()
            self.embed, self.times = embedding(k), times_mask(k)

        def call(self, x):
            return self.times(self.embed(x))

    return Masked()


def mask_by_hand(k):
    x = tokens(k)
    return k.Model(x, times_mask(k)(k.layers.Embedding(5, 2)(x) * 0 + 1, mask=k.ops.not_equal(x, 2)))


def two_masks(k):
    class Both(k.layers.Layer):
        def call(self, x, mask=None):
            first, second = mask
            return k.ops.cast(first, "float32") + 2 * k.ops.cast(second, "float32")

    x, embed = tokens(k), embedding(k)
    return k.Model(x, Both()([embed(x), embed(k.ops.flip(x, axis=1))]))


def masks_by_name(k):
    class Named(k.layers.Layer):
        def call(self, a, b, a_mask=None, b_mask=None):
            return k.ops.cast(a_mask, "float32") + 2 * k.ops.cast(b_mask, "float32")

    x, embed = tokens(k), embedding(k)
    return k.Model(x, Named()(b=embed(x), a=embed(k.ops.flip(x, axis=1))))


def half_as_many_steps(k):
    class Halved(k.layers.Layer):
        def call(self, x):
            return x[:, ::2]

        def compute_mask(self, x, mask=None):
            return None if mask is None else mask[:, ::2]

    x = tokens(k)
    return k.Model(x, times_mask(k)(Halved()(embedding(k)(x))))


def own_mask(k):
    class MasksOnes(k.layers.Layer):
        def call(self, x):
            return x + 1

        def compute_mask(self, x, mask=None):
            return k.ops.any(k.ops.not_equal(x, 1), axis=-1)

    x = tokens(k)
    floats = k.ops.expand_dims(k.ops.cast(x, "float32"), -1)
    return k.Model(x, times_mask(k)(MasksOnes()(floats)))


def computed_in_the_graph(k):
    x, embed = tokens(k), embedding(k)
    weight = k.ops.cast(embed.compute_mask(x), "float32")
    total = k.ops.sum(embed(x) * k.ops.expand_dims(weight, -1), axis=1)
    return k.Model(x, total / k.ops.sum(weight, axis=1, keepdims=True))


def attribute_in_the_graph(k):
    x = tokens(k)
    h = k.layers.Concatenate(axis=1)([embedding(k)(x), k.layers.Embedding(5, 2, embeddings_initializer="ones")(x)])
    return k.Model(x, h * k.ops.expand_dims(k.ops.cast(h._keras_mask, "float32"), -1))


def masked_and_unmasked(k):
    x = tokens(k)
    masked, unmasked = embedding(k)(x), k.layers.Embedding(5, 2, embeddings_initializer="ones")(x)
    merged = [
        getattr(k.layers, name)()(pair)
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
        for pair in ([masked, unmasked], [unmasked, masked], [masked, masked])
    ]
    assert [getattr(h, "_keras_mask", None) is not None for h in merged] == [False, False, True] * 6 + [True] * 3
    return k.Model(x, merged + [times_mask(k, needed=False)(h) for h in merged])


def nested(k):
    x, inner = tokens(k), k.Sequential([k.layers.Dense(2, kernel_initializer="ones")])
    return k.Model(x, times_mask(k, needed=False)(inner(embedding(k)(x))))


MODELS = [
    functional,
    sequential,
    sequential_without_input,
    subclass,
    mask_by_hand,
    two_masks,
    masks_by_name,
    half_as_many_steps,
    own_mask,
    computed_in_the_graph,
    attribute_in_the_graph,
    masked_and_unmasked,
    nested,
]


@pytest.mark.filterwarnings("ignore:.*mask:UserWarning")
@pytest.mark.parametrize("make", MODELS)
def test_masks_are_kerass_called_and_predicting(make):
    ours, theirs = make(kerax), make(keras)
    expected = keras.tree.flatten(theirs.predict(TOKENS, verbose=0))
    for found in (ours(TOKENS), ours.predict(TOKENS, verbose=0)):
        for one, other in zip(kerax.tree.flatten(found), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("make", [mask_by_hand, computed_in_the_graph, attribute_in_the_graph, half_as_many_steps])
def test_masks_of_loaded_and_cloned_models(make, tmp_path):
    model = make(kerax)
    classes = {type(layer).__name__: type(layer) for layer in model.layers}
    model.save(tmp_path / "m.keras")
    expected = model.predict(TOKENS, verbose=0)
    loaded = kerax.models.load_model(tmp_path / "m.keras", custom_objects=classes)
    np.testing.assert_array_equal(loaded.predict(TOKENS, verbose=0), expected)
    clone = kerax.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(TOKENS), expected)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_mean_over_masked_steps_alone_is_0(data_format):
    x = np.ones((2, 3, 3), "float32")
    mask = np.array([[False] * 3, [True, False, True]])
    pooled = kerax.layers.GlobalAveragePooling1D(data_format, keepdims=True)(x, mask=mask)
    np.testing.assert_array_equal(np.squeeze(pooled), [[0] * 3, [1] * 3])


def test_a_softmax_over_masked_places_alone_is_0():
    mask = np.array([[False] * 3, [True, False, True]])
    found = [k.layers.Softmax()(np.ones((2, 3), "float32"), mask=mask) for k in (kerax, keras)]
    np.testing.assert_allclose(*found, rtol=1e-6)


def one_for_each_sequence(y_true, y_pred):
    return kerax.ops.mean(kerax.ops.square(y_true - y_pred), axis=(1, 2))


def one_for_the_batch(y_true, y_pred):
    return kerax.ops.mean(kerax.ops.square(y_true - y_pred))


@pytest.mark.parametrize("weights", [None, np.array([1.0, 3, 2]), np.array([[1.0], [3], [2]])])
@pytest.mark.parametrize("loss", [one_for_each_sequence, one_for_the_batch, "mse"])
def test_a_mask_counts_where_the_loss_has_places_for_it(loss, weights):
    x, y = np.array([*TOKENS, [1, 1, 1, 1]]), np.arange(24.0).reshape(3, 4, 2)
    model = kerax.Sequential([tokens(kerax), embedding(kerax)])
    model.compile("sgd", loss, metrics=[loss])
    if loss is one_for_the_batch:
        weights = None
    squares = np.square(y - 1).mean(-1)
    counted = x != 0 if loss == "mse" else np.ones_like(x)
    factors = np.ones(3) if weights is None else weights.ravel()
    expected = (squares * counted * factors[:, None]).sum() / counted.sum()
    found = model.evaluate(x, y, sample_weight=weights, batch_size=3, verbose=0)
    assert found[0] == pytest.approx(expected)
    # A last batch that is filled up: rows that fill count nowhere.
    if loss is one_for_each_sequence:
        assert model.evaluate(x, y, sample_weight=weights, batch_size=2, verbose=0)[0] == pytest.approx(expected)
    assert model.fit(x, y, sample_weight=weights, verbose=0).history["loss"][0] == pytest.approx(expected)


@pytest.mark.medium
def test_ctc_of_a_masked_model_is_that_of_all_its_steps():
    x, y = np.array([[1, 2, 3, 0], [1, 2, 3, 1]]), np.array([[1, 2], [2, 1]])
    losses = []
    for mask_zero in (True, False):
        layer = kerax.layers.Embedding(5, 2, mask_zero=mask_zero, embeddings_initializer="ones")
        model = kerax.Sequential([layer, kerax.layers.Dense(4, kernel_initializer="ones")])
        model.compile("sgd", kerax.losses.CTC())
        losses.append(model.fit(x, y, verbose=0).history["loss"][0])
    assert losses[0] == pytest.approx(losses[1])


WORDS = [
    lambda L: L.LSTM(2),
    lambda L: L.Bidirectional(L.GRU(2)),
    lambda L: L.GlobalAveragePooling1D(),
    lambda L: kerax.Sequential([L.Dense(3), L.SimpleRNN(2, return_sequences=True), L.LSTM(2)]),
]


@pytest.mark.medium
@pytest.mark.parametrize("words", WORDS)
def test_padding_of_words_and_of_sentences_does_not_count(words, tmp_path):
    layers = kerax.layers
    documents = np.array([[[1, 2, 0], [3, 0, 0], [0, 0, 0]], [[4, 1, 1], [0, 0, 0], [0, 0, 0]]])
    embed, read, join = layers.Embedding(5, 3, mask_zero=True), words(layers), layers.LSTM(2)
    x = kerax.Input((None, None), dtype="int32")
    model = kerax.Model(x, join(layers.TimeDistributed(read)(layers.TimeDistributed(embed)(x))))
    # Each sentence by itself without its padding, each document of its own sentences.
    sentences = [[[1, 2], [3]], [[4, 1, 1]]]
    read_alone = [np.stack([read(embed(np.array([one])))[0] for one in document]) for document in sentences]
    expected = np.concatenate([join(document[None]) for document in read_alone])
    np.testing.assert_allclose(model.predict(documents, verbose=0), expected, atol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = kerax.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(documents), expected, atol=1e-6)


def test_a_layer_for_one_step_that_knows_no_masks_keeps_those_of_the_steps():
    layers = kerax.layers
    words = layers.TimeDistributed(layers.Embedding(5, 3, mask_zero=True))(np.array([[[1, 2], [0, 0]]]))
    with pytest.warns(UserWarning, match="does not pass on"):
        read = layers.TimeDistributed(layers.Conv1D(2, 2))(words)
    np.testing.assert_array_equal(read._keras_mask, [[True, False]])
