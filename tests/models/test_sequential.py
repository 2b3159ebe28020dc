import json

import keras
import numpy as np
import pytest

import kerax
from tests.pairs import assert_same_fit, make_pair

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def test_with_an_input_it_is_built_at_once():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3), kerax.layers.Dense(2)])
    assert model.built
    assert model.input_shape == (None, 4) and model.output_shape == (None, 2)
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]
    assert [weight.shape for weight in model.weights] == [(4, 3), (3,), (3, 2), (2,)]
    assert model.count_params() == 23
    assert model.inputs[0] is model.input and model.outputs[0] is model.output


def test_deferred_it_is_built_by_its_first_data():
    model = kerax.Sequential([kerax.layers.Dense(3), kerax.layers.Dense(2)])
    assert not model.built and model.weights == []
    with pytest.raises(ValueError, match="not built"):
        model.count_params()
    with pytest.raises(AttributeError, match="not built"):
        model.output  # noqa: B018
    assert model(X).shape == (6, 2)
    assert model.built and model.count_params() == 23


def test_build_takes_a_shape():
    model = kerax.Sequential([kerax.layers.Dense(3)])
    model.build((None, 4))
    assert model.count_params() == 15
    assert model.output_shape == (None, 3)


def test_fit_builds_a_deferred_model():
    model = kerax.Sequential([kerax.layers.Dense(3), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0)
    assert model.count_params() == 19


@pytest.mark.parametrize("first", [{"input_shape": (4,)}, {"input_dim": 4}, {"batch_input_shape": (None, 4)}])
def test_the_first_layer_may_carry_the_input_shape(first):
    model = kerax.Sequential()
    model.add(kerax.layers.Dense(3, **first))
    assert model.built and model.input_shape == (None, 4)


def test_add_and_pop():
    model = kerax.Sequential()
    model.add(kerax.Input((4,)))
    model.add(kerax.layers.Dense(3))
    model.add(kerax.layers.Dense(2))
    last = model.pop()
    assert last.units == 2 and model.output_shape == (None, 3)
    assert model(X).shape == (6, 3)
    model.add(kerax.layers.Dense(5))
    assert model.output_shape == (None, 5) and model(X).shape == (6, 5)
    model.pop()
    model.pop()
    assert model.layers == []
    with pytest.raises(ValueError, match="no layer to pop"):
        model.pop()


def test_layers_added_after_training_are_trained():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :3], verbose=0)
    model.add(kerax.layers.Dense(2))
    model.compile("sgd", "mse")
    before = model.get_weights()[2]
    model.fit(X, X[:, :2], verbose=0)
    assert not np.array_equal(before, model.get_weights()[2])


def test_names_are_unique_and_chosen_names_stay():
    model = kerax.Sequential(
        [kerax.layers.Dense(1), kerax.layers.Dense(1, name="dense_1"), kerax.layers.Dense(1), kerax.layers.Dense(1)]
    )
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == 4 and names[1] == "dense_1"
    with pytest.raises(ValueError, match="'dense_1'.*unique"):
        model.add(kerax.layers.Dense(1, name="dense_1"))
    assert len(model.layers) == 4


def test_get_layer():
    model = kerax.Sequential([kerax.layers.Dense(1, name="one"), kerax.layers.Dense(1, name="two")])
    assert model.get_layer("two") is model.layers[1]
    assert model.get_layer(index=0) is model.layers[0]
    assert model.get_layer(index=-1) is model.layers[1]
    with pytest.raises(ValueError, match="Did you mean 'two'"):
        model.get_layer("tow")
    with pytest.raises(ValueError, match="no layer 2"):
        model.get_layer(index=2)
    with pytest.raises(ValueError, match="either"):
        model.get_layer()


def test_an_input_must_come_first():
    model = kerax.Sequential([kerax.layers.Dense(1)])
    with pytest.raises(ValueError, match="first"):
        model.add(kerax.Input((4,)))


def test_functions_and_models_are_layers():
    inner = kerax.Sequential([kerax.layers.Dense(3), kerax.layers.ReLU()])
    model = kerax.Sequential([kerax.Input((4,)), inner, kerax.layers.Lambda(lambda x: x * 2), kerax.layers.Dense(1)])
    np.testing.assert_allclose(model.layers[1](inner(X)), 2 * inner(X))
    assert model(X).shape == (6, 1)
    assert [weight.shape for weight in model.weights] == [(4, 3), (3,), (3, 1), (1,)]


def test_masks_travel_through():
    def make(module):
        return module.Sequential(
            [module.Input((5,)), module.layers.Embedding(7, 3, mask_zero=True), module.layers.LSTM(2)]
        )

    ours, theirs = make_pair(make)
    tokens = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]])
    np.testing.assert_allclose(ours(tokens), np.asarray(theirs(tokens)), atol=1e-6)


def test_an_integer_input_keeps_its_dtype():
    model = kerax.Sequential([kerax.Input((5,), dtype="int32"), kerax.layers.Embedding(7, 3)])
    assert model.input.dtype == "int32"
    assert model.predict(np.array([[1, 2, 3, 4, 5]]), verbose=0).shape == (1, 5, 3)


def test_a_fixed_batch_size_is_kept():
    model = kerax.Sequential([kerax.Input(batch_shape=(6, 4)), kerax.layers.Dense(2)])
    assert model.input_shape == (6, 4) and model.output_shape == (6, 2)
    assert model(X).shape == (6, 2)


@pytest.mark.parametrize("deferred", [False, True])
def test_config_round_trip(deferred):
    layers = [kerax.layers.Dense(3, activation="relu"), kerax.layers.Dropout(0.5), kerax.layers.Dense(2)]
    model = kerax.Sequential(layers if deferred else [kerax.Input((4,)), *layers], name="mine")
    config = json.loads(json.dumps(model.get_config()))
    copy = kerax.Sequential.from_config(config)
    assert json.loads(json.dumps(copy.get_config())) == config  # tuples stay tuples, as in Keras
    assert copy.name == "mine" and copy.built is not deferred
    copy(X)
    model(X)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(X), model(X))


@pytest.mark.medium
def test_json_goes_both_ways_with_keras():
    def make(module):
        return module.Sequential(
            [
                module.Input((8, 8, 1)),
                module.layers.Conv2D(2, 3, activation="relu", padding="same"),
                module.layers.BatchNormalization(),
                module.layers.MaxPooling2D(),
                module.layers.Flatten(),
                module.layers.Dense(3, kernel_regularizer="l2", kernel_initializer="he_normal"),
            ]
        )

    ours, theirs = make_pair(make)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    expected = np.asarray(theirs(images))
    read_here, read_there = kerax.models.model_from_json(theirs.to_json()), keras.models.model_from_json(ours.to_json())
    for model in (read_here, read_there):
        model.set_weights(theirs.get_weights())
        np.testing.assert_allclose(np.asarray(model(images)), expected, atol=1e-5)


def test_clone_has_the_structure_and_new_weights():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3), kerax.layers.Dense(2)], name="mine")
    clone = kerax.models.clone_model(model)
    assert clone.name == "mine" and clone is not model
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0])
    assert clone.layers[0] is not model.layers[0]
    frozen = kerax.models.clone_model(
        model, clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"trainable": False})
    )
    assert frozen.trainable_weights == []


def test_freezing_the_whole_model():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3), kerax.layers.BatchNormalization()])
    model.trainable = False
    assert model.trainable_weights == [] and len(model.non_trainable_weights) == 6
    model.trainable = True
    assert len(model.trainable_weights) == 4


def test_an_empty_model_has_nothing_to_call_and_one_with_an_input_returns_it():
    with pytest.raises(ValueError, match="no layers"):
        kerax.Sequential()(X)
    np.testing.assert_array_equal(kerax.Sequential([kerax.Input(X.shape[1:])])(X), X)


def test_it_trains_as_in_keras_when_deferred():
    def make(module):
        model = module.Sequential([module.layers.Dense(3, activation="tanh"), module.layers.Dense(1)])
        model.build((None, 4))
        model.compile(module.optimizers.SGD(0.1), "mse")
        return model

    assert_same_fit(make, X, X[:, :1], epochs=2)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("layers", "first", "second"),
    [
        (lambda: [kerax.layers.Conv1D(2, 3), kerax.layers.GlobalAveragePooling1D()], (2, 8, 3), (3, 12, 3)),
        (lambda: [kerax.layers.Conv2D(2, 3), kerax.layers.GlobalMaxPooling2D()], (2, 8, 8, 3), (1, 5, 9, 3)),
        (lambda: [kerax.layers.LSTM(4), kerax.layers.Dense(2)], (2, 5, 3), (4, 7, 3)),
        (lambda: [kerax.layers.Dense(4)], (2, 8, 3), (2, 5, 8, 3)),
    ],
)
def test_without_an_input_it_takes_other_lengths(layers, first, second):
    model = kerax.Sequential(layers())
    model(np.ones(first, "float32"))
    weights = len(model.weights)
    assert model(np.ones(second, "float32")).shape[0] == second[0]
    assert model.predict(np.ones(second, "float32"), verbose=0).shape[0] == second[0]
    assert len(model.weights) == weights


def test_a_model_that_knows_its_input_starts_it():
    inputs = kerax.Input((4,))
    for first in (
        kerax.Model(inputs, kerax.layers.Dense(2)(inputs)),
        kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(2)]),
    ):
        model = kerax.Sequential([first, kerax.layers.Dense(3)])
        assert model.built and model.output_shape == (None, 3) and len(model.weights) == 4


def test_several_inputs_go_to_the_first_layer():
    class Total(kerax.layers.Layer):
        def call(self, inputs):
            return sum(inputs.values()) if isinstance(inputs, dict) else sum(inputs)

    x = np.ones((5, 3), "float32")
    for inputs in ([x, x], {"a": x, "b": x}):
        model = kerax.Sequential([Total(), kerax.layers.Dense(2)])
        assert model(inputs).shape == (5, 2) and model.predict(inputs, verbose=0).shape == (5, 2)


def test_a_call_that_wants_values_or_true_sizes_just_runs():
    class OnHost(kerax.layers.Layer):
        def call(self, inputs):
            return np.asarray(inputs) * 2

    class Table(kerax.layers.Layer):
        def call(self, inputs):
            return inputs + np.ones((5, 3), "float32")

    x = np.ones((5, 3), "float32")
    for layer in (OnHost(), Table()):
        model = kerax.Sequential([layer, kerax.layers.Dense(2)])
        assert model(x).shape == (5, 2) and len(model.weights) == 2


def test_what_it_does_not_know_it_does_not_have():
    model = kerax.Sequential([kerax.layers.Dense(2)])
    assert not any(hasattr(model, name) for name in ("input", "output", "inputs", "outputs", "input_shape"))
    started = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(2)])
    started.build((None, 4))
    with pytest.raises(ValueError, match="must have shape"):
        started.build((None, 5))


def test_a_clone_of_a_compiled_model_is_compiled():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(2)])
    model.compile("sgd", "mse")
    clone = kerax.models.clone_model(model)
    assert clone.compiled and clone.optimizer is not model.optimizer
    assert kerax.models.clone_model(model, input_tensors=kerax.Input((7, 4))).output_shape == (None, 7, 2)
    with pytest.raises(ValueError, match="call_function"):
        kerax.models.clone_model(model, call_function=lambda layer, *args: layer(*args))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1)])
def test_a_column_may_lack_its_axis_or_have_another(shape):
    """As a functional model takes it, and Keras's Sequential too."""
    x = np.arange(4, dtype="float32").reshape(shape)
    made = []
    for module in (keras, kerax):
        model = module.Sequential([module.Input((1,)), module.layers.Dense(2, kernel_initializer="ones")])
        made.append((np.asarray(model(x)), model.predict(x, verbose=0)))
    for theirs, ours in zip(*made, strict=True):
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.medium
@pytest.mark.parametrize("has_input", [True, False])
def test_a_list_of_one_array_is_that_array(has_input):
    """As in Keras; its functional models and files are called that way."""
    model = kerax.Sequential([*([kerax.Input((4,))] if has_input else []), kerax.layers.Dense(2)])
    x = np.ones((3, 4), "float32")
    expected = model(x)
    for given in ([x], (x,)):
        np.testing.assert_array_equal(model(given), expected)
        np.testing.assert_allclose(model.predict(given, verbose=0), expected, rtol=1e-6)
        np.testing.assert_allclose(model.predict_on_batch(given), expected, rtol=1e-6)
    model.compile("sgd", "mse")
    model.fit([x], np.ones((3, 2)), validation_data=([x], np.ones((3, 2))), verbose=0)
    outer = kerax.Input((4,))
    np.testing.assert_allclose(kerax.Model(outer, model([outer])).predict(x, verbose=0), model(x), rtol=1e-6)
    with pytest.raises(ValueError, match="expected one array. Got a dict of .'a'."):
        model.predict({"a": x}, verbose=0)
