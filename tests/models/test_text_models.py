"""Models that take text: its part on the host is computed before the compiled one, wherever the model is called."""

import copy
import pickle

import numpy as np
import pytest

import kerax
from kerax import layers

TEXT = np.array([["a"], ["b a"], ["c"], ["a b b"]])
NUMBERS = np.arange(8.0, dtype="float32").reshape(4, 2)
Y = np.array([[0.0], [1.0], [2.0], [3.0]], "float32")


def looked_up():
    inputs = kerax.Input((1,), dtype="string")
    x = layers.StringLookup(vocabulary=["a", "c"])(inputs)
    return kerax.Model(inputs, layers.Dense(1)(layers.Flatten()(layers.Embedding(4, 2)(x))))


def mixed():
    text, numbers = kerax.Input((1,), dtype="string", name="text"), kerax.Input((2,), name="numbers")
    words = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3)(text)
    hashed = layers.Hashing(5, output_mode="one_hot")(text)
    parts = [layers.GlobalAveragePooling1D()(layers.Embedding(4, 2)(words)), numbers, hashed]
    return kerax.Model({"text": text, "numbers": numbers}, layers.Dense(1)(layers.Concatenate()(parts)))


def nested():
    inputs = kerax.Input((1,), dtype="string")
    return kerax.Model(inputs, layers.Dense(1)(looked_up()(inputs)))


def with_input():
    vectors = layers.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot")
    return kerax.Sequential([kerax.Input((1,), dtype="string"), vectors, layers.Dense(1)])


def without_input():
    vectors = layers.TextVectorization(vocabulary=["a", "b"], output_mode="count")
    return kerax.Sequential([vectors, layers.Dense(1)])


def sequential_of_a_model():
    return kerax.Sequential([looked_up(), layers.Dense(1)])


def crossed():
    inputs = [kerax.Input((1,), dtype="string"), kerax.Input((1,), dtype="string")]
    bins = layers.HashedCrossing(7, output_mode="one_hot")(inputs)
    return kerax.Model(inputs, layers.Dense(1)(bins))


def own_layer():
    class Length(layers.Layer):
        def call(self, inputs):
            return np.vectorize(len)(inputs).astype("float32")

        def compute_output_shape(self, input_shape):
            return input_shape

    inputs = kerax.Input((1,), dtype="string")
    return kerax.Model(inputs, layers.Dense(1)(Length()(inputs)))


MODELS = {
    "looked_up": (looked_up, TEXT),
    "mixed": (mixed, {"text": TEXT, "numbers": NUMBERS}),
    "nested": (nested, TEXT),
    "with_input": (with_input, TEXT),
    "without_input": (without_input, TEXT),
    "sequential_of_a_model": (sequential_of_a_model, TEXT),
    "crossed": (crossed, [TEXT, TEXT]),
    "own_layer": (own_layer, TEXT),
}


def rows(x, part):
    return {name: value[part] for name, value in x.items()} if isinstance(x, dict) else x[part]


@pytest.mark.medium
@pytest.mark.parametrize("name", MODELS)
def test_all_ways_to_call_agree(name):
    make, x = MODELS[name]
    model = make()
    expected = np.asarray(model(x))
    np.testing.assert_allclose(model.predict(x, batch_size=3, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict_on_batch(x), expected, atol=1e-6)
    model.compile("sgd", "mse")
    before = model.get_weights()
    history = model.fit(x, Y, epochs=2, verbose=0, validation_data=(x, Y)).history
    assert history["val_loss"][0] == pytest.approx(history["loss"][1], rel=1e-4)
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    assert model.evaluate(x, Y, verbose=0) == pytest.approx(history["val_loss"][1], rel=1e-4)
    assert model.test_on_batch(x, Y) == pytest.approx(history["val_loss"][1], rel=1e-4)
    assert model.train_on_batch(x, Y) == pytest.approx(history["val_loss"][1], rel=1e-4)
    model.fit(((x, Y) for _ in range(2)), steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "own_layer"])
@pytest.mark.parametrize("way", ["file", "deepcopy", "pickle", "clone"])
def test_copies_take_text_too(name, way, tmp_path):
    make, x = MODELS[name]
    model = make()
    expected = model.predict(x, verbose=0)
    if way == "file":
        model.save(tmp_path / "m.keras")
        copied = kerax.saving.load_model(tmp_path / "m.keras")
    elif way == "clone":
        copied = kerax.models.clone_model(model)
        copied.set_weights(model.get_weights())
    else:
        copied = copy.deepcopy(model) if way == "deepcopy" else pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(copied.predict(x, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("make", [looked_up, nested, with_input, without_input, sequential_of_a_model])
def test_text_comes_in_any_form(make):
    model = make()
    expected = model.predict(TEXT, verbose=0)
    for given in (TEXT[:, 0], TEXT[:, 0].tolist(), TEXT.astype(bytes), TEXT.astype(object), TEXT.tolist()):
        np.testing.assert_allclose(model.predict(given, verbose=0), expected, atol=1e-6)
        np.testing.assert_allclose(model(given), expected, atol=1e-6)


def test_shapes_of_text_layers_are_known():
    text = kerax.Input((1,), dtype="string")
    assert text.dtype == "string" and text.operation.get_config()["dtype"] == "string"
    lookup, vectors = layers.StringLookup, layers.TextVectorization
    words = ["a", "b"]
    assert lookup(vocabulary=words)(text).shape == (None, 1)
    assert lookup(vocabulary=words, output_mode="one_hot")(text).shape == (None, 3)
    assert lookup(vocabulary=words, output_mode="multi_hot", max_tokens=9, pad_to_max_tokens=True)(text).shape[1] == 9
    assert vectors(vocabulary=words)(text).shape == (None, None)
    assert vectors(vocabulary=words, output_sequence_length=5)(text).dtype == "int32"
    assert vectors(vocabulary=words, output_mode="tf_idf", idf_weights=[1.0, 2.0])(text).shape == (None, 3)
    assert layers.Hashing(4)(text).shape == (None, 1)


def test_what_cannot_take_text_says_so():
    text = kerax.Input((1,), dtype="string")
    with pytest.raises(ValueError, match="take text"):
        layers.Dense(2)(text)
