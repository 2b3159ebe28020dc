"""Values in configs, lambdas, and what reviving refuses: both ways with Keras where it knows them."""

import copy
import enum
import functools
import json
import pickle
import warnings

import keras
import numpy as np
import pytest

import kerax
from kerax import layers, ops, saving
from kerax.errors import ConfigError

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@saving.register_keras_serializable("tests")
class Color(enum.Enum):
    RED = 1


@saving.register_keras_serializable("tests")
def scaled(x, by=2.0):
    return x * by


def there_and_back(value, **kwargs):
    return saving.deserialize_keras_object(json.loads(json.dumps(saving.serialize_keras_object(value))), **kwargs)


@pytest.mark.parametrize(
    "value",
    [b"hello", b"\xff\x00", slice(1, 2, 3), slice(None), ..., Color.RED, {"a": {"b": [1, None, "x"]}}, [], {}, 2.5]
    + [{"a": b"x", "b": [slice(2), {"c": Color.RED}]}, True, "text", None],
)
def test_values_come_back(value):
    assert there_and_back(value) == value


@pytest.mark.parametrize("value", [b"hello", slice(1, 2), ..., (1, 2), {"a": (1, [2])}, np.float32(2), [True, None]])
def test_values_are_described_as_keras_does(value):
    assert saving.serialize_keras_object(value) == keras.saving.serialize_keras_object(value)
    theirs = json.loads(json.dumps(keras.saving.serialize_keras_object(value)))
    assert saving.deserialize_keras_object(theirs) == keras.saving.deserialize_keras_object(theirs)


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool", "bfloat16"])
def test_scalar_types(dtype):
    described = {"module": "builtins", "class_name": "type", "config": dtype, "registered_name": "type"}
    assert np.dtype(saving.deserialize_keras_object(described)).name == dtype
    with pytest.raises(TypeError, match="NoneType"):
        saving.deserialize_keras_object(described | {"config": "NoneType"})


@pytest.mark.parametrize(
    "given", [functools.partial(scaled, by=3.0), functools.partial(kerax.activations.relu, max_value=1)]
)
def test_partials_of_functions_with_a_name(given, tmp_path):
    assert there_and_back(given).keywords == given.keywords
    model = kerax.Sequential([kerax.Input((3,)), layers.Dense(2, activation=given), layers.Lambda(given)])
    model.save(tmp_path / "m.keras")
    again = saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}, "registered_name": None}


@pytest.mark.parametrize(
    "described",
    [
        DENSE | {"config": [1]},
        DENSE | {"config": "x"},
        DENSE | {"registered_name": "mine>Dense"},
        DENSE | {"class_name": "Dens"},
        DENSE | {"class_name": 1},
        {"class_name": "function", "config": "relu", "module": None, "registered_name": "mine>relu"},
        {"class_name": "function", "config": "no_such", "module": None, "registered_name": None},
        {"class_name": "__typespec__", "config": {"spec_name": "X"}},
        {"class_name": "__enum__", "config": {"enum": "Nobody", "member": "X"}},
    ],
)
def test_what_cannot_be_made_is_both_errors(described):
    for kind in (ValueError, TypeError, ConfigError):
        with pytest.raises(kind):
            saving.deserialize_keras_object(described)


def test_names_of_kerax_and_others():
    for name in (None, "", "Dense"):
        assert type(saving.deserialize_keras_object(DENSE | {"registered_name": name})) is layers.Dense
    found = saving.deserialize_keras_object(
        {"class_name": "D", "config": {"units": 3}}, module_objects={"D": layers.Dense}
    )
    assert found.units == 3
    assert saving.deserialize_keras_object("f", module_objects={"f": scaled}) is scaled
    assert saving.deserialize_keras_object("g", module_objects={"f": scaled}) == "g"
    with pytest.raises(ValueError, match="'name'"):
        kerax.Sequential.from_config({"layers": []})


def with_layer(k):
    return k.Sequential([k.Input((3,)), k.layers.Lambda(lambda x: x * 2 + 1, name="mine")])


def with_activation(k):
    return k.Sequential([k.Input((3,)), k.layers.Dense(2, activation=lambda x: x * x, name="mine")])


def with_closure(k):
    factor = 3.0
    return k.Sequential([k.Input((3,)), k.layers.Lambda(lambda x, more=1.0: x * factor + more, name="mine")])


def in_a_graph(k):
    inputs = k.Input((3,))
    return k.Model(inputs, k.layers.Lambda(lambda x: ops.relu(x) if k is kerax else k.ops.relu(x), name="mine")(inputs))


FUNCTIONS = {
    with_layer: lambda x: x * 2 + 1,
    with_activation: lambda x: x * x,
    with_closure: lambda x: x * 3 + 1,
    in_a_graph: lambda x: ops.relu(x),
}


@pytest.mark.parametrize("make", [with_layer, with_activation, with_closure, in_a_graph])
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder"])
def test_lambdas_are_saved_and_refused_with_two_ways_out(make, name, tmp_path):
    model, path = make(kerax), tmp_path / name
    if make is in_a_graph:
        with pytest.warns(UserWarning, match="without the values it refers to"):
            model.save(path, zipped=None if "." in name else False)
    else:
        model.save(path, zipped=None if "." in name else False)
    with pytest.raises(ValueError, match="custom_objects={'mine': function}.*safe_mode=False"):
        saving.load_model(path)
    expected = model.predict(X, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # which running code would say
        again = saving.load_model(path, custom_objects={"mine": FUNCTIONS[make]}, compile=False)
    np.testing.assert_allclose(again.predict(X, verbose=0), expected, rtol=1e-6)
    if make is not in_a_graph:
        with pytest.warns(UserWarning, match="lets it run"):
            again = saving.load_model(path, safe_mode=False)
        np.testing.assert_allclose(again.predict(X, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize("make", [with_layer, with_closure])
def test_lambdas_go_both_ways(make, tmp_path):
    if make is with_layer:  # Keras cannot load a default value, not even its own
        model = make(kerax)
        model.save(tmp_path / "ours.keras")
        again = keras.saving.load_model(tmp_path / "ours.keras", safe_mode=False)
        np.testing.assert_allclose(again.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-6)
    model = make(keras)
    model.save(tmp_path / "theirs.keras")
    again = saving.load_model(tmp_path / "theirs.keras", custom_objects={"mine": FUNCTIONS[make]})
    np.testing.assert_allclose(again.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-6)


@pytest.mark.medium
def test_lambdas_of_compile(tmp_path):
    model = kerax.Sequential([kerax.Input((3,)), layers.Dense(1)])
    loss = lambda y_true, y_pred: ops.mean(ops.square(y_true - y_pred))
    model.compile("sgd", loss=loss, metrics=[lambda y_true, y_pred: ops.mean(y_pred)])
    checkpoint = kerax.callbacks.ModelCheckpoint(tmp_path / "m.keras")
    model.fit(X, X[:, :1], verbose=0, callbacks=[checkpoint])
    with pytest.raises(ValueError, match="'loss'.*|.*compile=False"):
        saving.load_model(tmp_path / "m.keras")
    saving.load_model(tmp_path / "m.keras", compile=False)
    again = saving.load_model(tmp_path / "m.keras", custom_objects={"loss": loss, "metrics": loss})
    again.fit(X, X[:, :1], verbose=0)
    with pytest.warns(UserWarning, match="lets it run"):
        saving.load_model(tmp_path / "m.keras", safe_mode=False).fit(X, X[:, :1], verbose=0)


def test_copies_of_lambdas_are_themselves():
    function = lambda x: scaled(x)
    model = kerax.Sequential([kerax.Input((3,)), layers.Lambda(function, mask=lambda x, mask: None)])
    for again in (kerax.models.clone_model(model), copy.deepcopy(model), type(model).from_config(model.get_config())):
        assert again.layers[0].function is function
        np.testing.assert_array_equal(again.predict(X, verbose=0), X * 2)


class Plain(kerax.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(1)

    def call(self, x):
        return self.inner(x)


def graph():
    inputs = kerax.Input((3,))
    hidden = ops.relu(layers.Dense(4, activation="gelu")(inputs)) + 1
    return kerax.Model(inputs, layers.Dense(1)(hidden[:, :2] * ops.ones((1, 2))))


def recurrent():
    cells = layers.Bidirectional(layers.LSTM(2)), layers.GRU(2)
    inputs = kerax.Input((3, 1))
    return kerax.Model(inputs, layers.Dense(1)(layers.Concatenate()([cell(inputs) for cell in cells])))


def adapted():
    model = kerax.Sequential([kerax.Input((3,)), layers.Dense(2), layers.BatchNormalization(), layers.Dense(1)])
    model.layers[0].enable_lora(1)
    return model


def quantized():
    model = kerax.Sequential([kerax.Input((3,)), layers.Dense(2), layers.Dense(1)])
    model.quantize("int8")
    return model


@pytest.mark.medium
@pytest.mark.parametrize("make", [Plain, graph, recurrent, adapted, quantized])
@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_models_are_copied_and_pickled(make, copied):
    model, x = make(), X[..., None] if make is recurrent else X
    if make is not quantized:
        model.compile("adam", "mse", metrics=["mae"])
        model.fit(x, X[:, :1], verbose=0)
    again = copied(model)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    if make is not quantized and copied is not copy.copy:
        before = model.get_weights()
        again.fit(x, X[:, :1], verbose=0)
        assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["tanh", "relu", "add", "matmul", "softmax", "concatenate"])
def test_ops_are_pickled_by_name(name):
    function = getattr(ops, name)
    assert pickle.loads(pickle.dumps(function)) is function


@kerax.saving.register_keras_serializable("test_configs")
class Growth:
    """A function with a config, which nothing makes anew."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {"factor": self.factor}


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_class_without_from_config_is_named(ending, tmp_path):
    model = kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(1, activation=Growth(2.0))])
    model.save(tmp_path / f"m.{ending}")
    for kind in (TypeError, ValueError):  # the first is Keras's
        with pytest.raises(kind, match="Growth: .*`from_config"):
            kerax.saving.load_model(tmp_path / f"m.{ending}")
