"""Whole models in `.h5` files, both ways with Keras 3, and as TensorFlow's Keras 2 wrote them."""

import json

import h5py
import keras
import numpy as np
import pytest

import kerax
from kerax import layers


def functional(k):
    inputs = k.Input((4,), name="a")
    hidden = k.layers.Dense(3, activation="relu")(inputs)
    normal = k.layers.BatchNormalization()(hidden)
    inner = k.Sequential([k.Input((3,)), k.layers.Dense(2)])
    model = k.Model(inputs, inner(k.layers.Add()([hidden, normal])))
    model.compile("adam", k.losses.MeanSquaredError(), metrics=[k.metrics.MeanAbsoluteError()])
    return model


def sequential(k):
    model = k.Sequential([k.Input((4,)), k.layers.Dense(2), k.layers.Dropout(0.5)])
    model.compile("sgd", k.losses.Huber())
    return model


def frozen(k):
    model = sequential(k)
    model.layers[0].trainable = False
    model.compile(k.optimizers.SGD(0.1, momentum=0.9), k.losses.MeanSquaredError())
    return model


def normalized(k):
    """With arguments that only Keras 3 has."""
    parts = [k.layers.BatchNormalization(renorm=True), k.layers.LayerNormalization(rms_scaling=True), k.layers.Dense(2)]
    model = k.Sequential([k.Input((4,)), *parts])
    model.compile("sgd", k.losses.MeanSquaredError())
    return model


X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")


@pytest.mark.medium
@pytest.mark.parametrize("make", [functional, sequential, frozen, normalized])
@pytest.mark.parametrize(("writer", "reader"), [(keras, kerax), (kerax, keras), (kerax, kerax)])
def test_models_go_both_ways(make, writer, reader, tmp_path):
    model, path = make(writer), str(tmp_path / "model.h5")
    model.fit(X, Y, verbose=0)
    model.save(path)
    loaded = reader.saving.load_model(path)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)
    np.testing.assert_allclose(loaded.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)
    if reader is kerax:
        state = [np.asarray(variable) for variable in loaded.optimizer.variables]
        expected = [np.asarray(variable) for variable in model.optimizer.variables]
        assert all(np.array_equal(a, b) for a, b in zip(state, expected, strict=True))
        loaded.fit(X, Y, verbose=0)


def test_without_the_optimizer(tmp_path):
    path = str(tmp_path / "model.h5")
    functional(kerax).save(path, include_optimizer=False)
    with pytest.warns(UserWarning, match="no compile arguments"):
        assert not kerax.saving.load_model(path).compiled
    assert not kerax.saving.load_model(path, compile=False).compiled


def test_what_it_cannot_hold(tmp_path):
    class Own(kerax.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(NotImplementedError, match=r"\.keras"):
        Own().save(str(tmp_path / "model.h5"))
    functional(kerax).save(str(tmp_path / "model.h5"))
    with pytest.raises(ValueError, match="exists"):
        functional(kerax).save(str(tmp_path / "model.h5"), overwrite=False)
    with pytest.raises(ValueError, match="unknown argument"):
        functional(kerax).save(str(tmp_path / "model.h5"), options=1)


def layer(class_name, name, nodes=(), **config):
    """A layer as Keras 2 described it."""
    return {"class_name": class_name, "config": {"name": name, **config}, "name": name, "inbound_nodes": list(nodes)}


def call(name, index=0, kwargs=None):
    return [name, index, 0, kwargs or {}]


DENSE = {"dtype": "float32", "units": 3, "kernel_initializer": {"class_name": "Zeros", "config": {"dtype": "float32"}}}
INNER = {
    "name": "inner",
    "layers": [{"class_name": "Dense", "config": {"name": "deep", "batch_input_shape": [None, 3], "units": 3}}],
    "build_input_shape": [None, 3],
}
OLD = {
    "name": "old",
    "layers": [
        layer("InputLayer", "a", batch_input_shape=[None, 2], sparse=False, ragged=False),
        layer("InputLayer", "b", batch_input_shape=[None, 2], sparse=False, ragged=False),
        layer("Dense", "shared", [[call("a")], [call("b")]], **DENSE),
        layer("Add", "sum", [[call("shared"), call("shared", 1)]]),
        layer("BatchNormalization", "norm", [[call("sum")]], axis=[1], fused=True),
        {"class_name": "Sequential", "config": INNER, "name": "inner", "inbound_nodes": [[call("norm")]]},
        # The calls of operators are not lists of lists, and those of models begin at 1.
        layer("TFOpLambda", "plus", [call("inner", 1, {"y": ["norm", 0, 0], "name": None})], function="math.multiply"),
        layer("TFOpLambda", "half", [call("plus", 0, {"y": 0.5, "name": None})], function="math.multiply"),
    ],
    "input_layers": [["a", 0, 0], ["b", 0, 0]],
    "output_layers": [["half", 0, 0]],
}
TRAINING = {
    "loss": {"class_name": "MeanSquaredError", "config": {"reduction": "auto", "name": "mse", "fn": "mse"}},
    "metrics": [[{"class_name": "MeanMetricWrapper", "config": {"name": "mae", "fn": "mean_absolute_error"}}]],
    "optimizer_config": {
        "class_name": "Custom>Adam",
        "config": {"lr": 0.25, "decay": 0.0, "is_legacy_optimizer": True},
    },
}


def old_file(path, rng, slots):
    """Writes a file of Keras 2, whose optimizer kept its slots one after the other (`m`, then `v`) or together."""
    weights = {
        "shared": {"shared/kernel:0": (2, 3), "shared/bias:0": (3,)},
        "norm": dict.fromkeys([f"norm/{name}:0" for name in ("gamma", "beta", "moving_mean", "moving_variance")], (3,)),
        "inner": {"deep/kernel:0": (3, 3), "deep/bias:0": (3,)},
    }
    values = {
        name: rng.uniform(0.1, 1, shape).astype("f4") for group in weights.values() for name, shape in group.items()
    }
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.9.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": OLD})
        file.attrs["training_config"] = json.dumps(TRAINING).encode()
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in ("a", "b", *weights)]
        for name in ("a", "b"):
            root.create_group(name).attrs["weight_names"] = []
        for group, named in weights.items():
            root.create_group(group).attrs["weight_names"] = [name.encode() for name in named]
            for name in named:
                root[group][name] = values[name]
        trained = [name[:-2] for name in values if "moving" not in name]
        state = {"iter:0": np.int64(7)}
        if slots == "one after the other":
            state |= {f"Adam/{name}/{slot}:0": values[f"{name}:0"] * scale for slot, scale in SLOTS for name in trained}
        else:
            state |= {f"Adam/{slot}/{name}:0": values[f"{name}:0"] * scale for name in trained for slot, scale in SLOTS}
        optimizer = file.create_group("optimizer_weights")
        optimizer.attrs["weight_names"] = [name.encode() for name in state]
        for name, value in state.items():
            optimizer[name] = value
    return values


SLOTS = (("m", 2), ("v", 3))


@pytest.mark.parametrize("slots", ["one after the other", "together"])
def test_models_of_keras_2_are_read(slots, tmp_path):
    rng = np.random.default_rng(0)
    values = old_file(tmp_path / "old.h5", rng, slots)
    model = kerax.saving.load_model(tmp_path / "old.h5")
    a, b = (rng.normal(size=(5, 2)).astype("f4") for _ in range(2))
    kernel, bias = values["shared/kernel:0"], values["shared/bias:0"]
    total = a @ kernel + b @ kernel + 2 * bias
    scale = values["norm/gamma:0"] / np.sqrt(values["norm/moving_variance:0"] + 1e-3)
    normal = (total - values["norm/moving_mean:0"]) * scale + values["norm/beta:0"]
    expected = (normal @ values["deep/kernel:0"] + values["deep/bias:0"]) * normal / 2
    outputs = model.predict([a, b], verbose=0)
    assert isinstance(outputs, np.ndarray)  # the only output is no list
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    assert float(model.optimizer.learning_rate) == 0.25 and int(model.optimizer.iterations) == 7
    state = {variable.path.split("/")[-1]: np.asarray(variable) for variable in model.optimizer.variables}
    found = [value for name, value in state.items() if "kernel" in name]
    wanted = [values[f"{name}/kernel:0"] * scale for name in ("shared", "deep") for _, scale in SLOTS]
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    logs = model.evaluate([a, b], expected, verbose=0, return_dict=True)
    assert list(logs) == ["loss", "mean_absolute_error"] and logs["loss"] < 1e-8


def test_what_has_no_counterpart_is_named(tmp_path):
    old_file(tmp_path / "old.h5", np.random.default_rng(0), "together")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace("math.multiply", "signal.stft")
    with pytest.raises(ValueError, match=r"tf\.signal\.stft.*load_weights"):
        kerax.saving.load_model(tmp_path / "old.h5")


X6 = np.random.default_rng(2).uniform(-1, 2, (4, 6)).astype("f4")
ALL = dict.fromkeys(("start", "stop", "step"))
OPERATORS = {
    "add": ("__operators__.add", {"y": 1.5}, lambda x: x + 1.5),
    "subtract": ("math.subtract", {"y": 1.5}, lambda x: x - 1.5),
    "subtract from a number": ("math.subtract", None, lambda x: 1.5 - x),
    "truediv": ("math.truediv", {"y": 2.0}, lambda x: x / 2),
    "divide": ("math.divide", {"y": 2.0}, lambda x: x / 2),
    "pow": ("math.pow", {"y": 3.0}, lambda x: x**3),
    "maximum": ("math.maximum", {"y": 0.9}, lambda x: np.maximum(x, np.float32(0.9))),
    "minimum": ("math.minimum", {"y": 0.9}, lambda x: np.minimum(x, np.float32(0.9))),
    "negative": ("math.negative", {}, np.negative),
    "abs": ("math.abs", {}, np.abs),
    "square": ("math.square", {}, np.square),
    "sqrt": ("math.sqrt", {}, np.sqrt),
    "exp": ("math.exp", {}, np.exp),
    "log": ("math.log", {}, np.log),
    "tanh": ("math.tanh", {}, np.tanh),
    "sin": ("math.sin", {}, np.sin),
    "cos": ("math.cos", {}, np.cos),
    "sigmoid": ("math.sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
    "softplus": ("math.softplus", {}, lambda x: np.log1p(np.exp(x))),
    "relu": ("nn.relu", {}, lambda x: np.maximum(x, 0)),
    "leaky_relu": ("nn.leaky_relu", {"alpha": 0.3}, lambda x: np.where(x > 0, x, np.float32(0.3) * x)),
    "softmax": ("nn.softmax", {"axis": -1}, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "silu": ("nn.silu", {}, lambda x: x / (1 + np.exp(-x))),
    "elu": ("nn.elu", {}, lambda x: np.where(x > 0, x, np.expm1(x))),
    "gelu": ("nn.gelu", {"approximate": False}, lambda x: np.asarray(keras.ops.gelu(x, approximate=False))),
    "mean": ("math.reduce_mean", {"axis": -1, "keepdims": True}, lambda x: x.mean(-1, keepdims=True)),
    "sum": ("math.reduce_sum", {"axis": [1]}, lambda x: x.sum(1)),
    "max": ("math.reduce_max", {"axis": 1}, lambda x: x.max(1)),
    "min": ("math.reduce_min", {"axis": 1}, lambda x: x.min(1)),
    "prod": ("math.reduce_prod", {"axis": 1}, lambda x: x.prod(1)),
    "reshape": ("reshape", {"shape": [-1, 2, 3]}, lambda x: x.reshape(-1, 2, 3)),
    "transpose": ("compat.v1.transpose", {"perm": [0, 1], "conjugate": False}, lambda x: x),
    "expand_dims": ("expand_dims", {"axis": -1}, lambda x: x[..., None]),
    "cast": ("cast", {"dtype": "float16"}, lambda x: x.astype("float16")),
    "tile": ("tile", {"multiples": [1, 2]}, lambda x: np.tile(x, (1, 2))),
    "concat": ("concat", {"axis": -1}, lambda x: np.concatenate([x, x], -1)),
    "stack": ("stack", {"axis": 1}, lambda x: np.stack([x, x], 1)),
    "slice": ("__operators__.getitem", {"slice_spec": [ALL, ALL | {"start": 1, "stop": 3}]}, lambda x: x[:, 1:3]),
    "one column": ("__operators__.getitem", {"slice_spec": [ALL, 2]}, lambda x: x[:, 2]),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_operators_of_tensorflow_are_ops(name, tmp_path):
    function, kwargs, expected = OPERATORS[name]
    node = ["_CONSTANT_VALUE", -1, 1.5, {"y": ["a", 0, 0]}] if kwargs is None else call("a", kwargs=kwargs)
    if name in ("concat", "stack"):
        node = [call("a", kwargs=kwargs), call("a")]
    kind = "SlicingOpLambda" if "getitem" in function else "TFOpLambda"
    inputs = layer("InputLayer", "a", batch_input_shape=[None, 6])
    config = {"name": "m", "layers": [inputs, layer(kind, "op", [node], function=function)]}
    config |= {"input_layers": [["a", 0, 0]], "output_layers": [["op", 0, 0]]}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"a", b"op"]
        for part in ("a", "op"):
            root.create_group(part).attrs["weight_names"] = []
    model = kerax.saving.load_model(tmp_path / "old.h5", compile=False)
    found = model.predict(X6, verbose=0)
    assert found.dtype == expected(X6).dtype
    np.testing.assert_allclose(found, expected(X6), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_list", [True, False])
def test_a_sequential_whose_first_layer_says_the_shape(is_list, tmp_path):
    parts = [
        {"class_name": "Dense", "config": {"name": "one", "batch_input_shape": [None, 3], "units": 2}},
        {"class_name": "Dense", "config": {"name": "two", "units": 1, "activation": "tanh"}},
    ]
    weights = [np.ones((3, 2), "f4"), np.zeros(2, "f4"), np.ones((2, 1), "f4"), np.zeros(1, "f4")]
    with h5py.File(tmp_path / "old.h5", "w") as file:
        config = parts if is_list else {"name": "s", "layers": parts}
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"one", b"two"]
        for index, name in enumerate(("one", "two")):
            group = root.create_group(name)
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
            group["kernel:0"], group["bias:0"] = weights[2 * index : 2 * index + 2]
    model = kerax.saving.load_model(tmp_path / "old.h5", compile=False)
    x = np.full((2, 3), 0.1, "f4")
    np.testing.assert_allclose(model.predict(x, verbose=0), np.tanh(np.full((2, 1), 0.6)), rtol=1e-5)


@pytest.mark.parametrize(
    ("index", "name", "value"), [(4, "virtual_batch_size", 8), (2, "kernel_extra", 3), (4, "adjustment", "function")]
)
def test_arguments_that_would_change_numbers_are_refused(index, name, value, tmp_path):
    old_file(tmp_path / "old.h5", np.random.default_rng(0), "together")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][index]["config"][name] = value
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ValueError, match=name):
        kerax.saving.load_model(tmp_path / "old.h5")


@pytest.mark.parametrize("text", ["[1]", "{", '{"class_name": "Dense", "config": {}}', '"x"'])
def test_damaged_configs_are_one_clear_error(text, tmp_path):
    functional(kerax).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        file.attrs["model_config"] = text
    with pytest.raises(ValueError, match=r"model\.h5"):
        kerax.saving.load_model(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        del file.attrs["model_config"]
    with pytest.raises(ValueError, match="load_weights"):
        kerax.saving.load_model(tmp_path / "model.h5")


@pytest.mark.parametrize(
    "function", [["4wEAAAA=", None, None], {"class_name": "__lambda__", "config": {"code": "4wE="}}]
)
def test_code_in_files_is_not_run(function, tmp_path):
    sequential(kerax).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1] = {
            "class_name": "Lambda",
            "config": {"name": "l", "function": function, "function_type": "lambda", "output_shape_type": "raw"},
        }
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ValueError, match="safe_mode=False"):
        kerax.saving.load_model(tmp_path / "model.h5")


@pytest.mark.slow
def test_models_of_tensorflows_keras(tmp_path):
    pytest.importorskip("tensorflow")
    tf_keras = pytest.importorskip("tf_keras")
    inputs = tf_keras.Input((6,), dtype="int32")
    hidden = tf_keras.layers.Embedding(10, 4, mask_zero=True)(inputs)
    hidden = tf_keras.layers.Bidirectional(tf_keras.layers.LSTM(3, return_sequences=True))(hidden)
    hidden = tf_keras.layers.GRU(4)(hidden)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1)(hidden) * 2.0)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).integers(0, 10, (8, 6)).astype("int32")
    model.fit(x, np.ones((8, 1)), verbose=0)
    model.save(tmp_path / "model.h5")
    loaded = kerax.saving.load_model(tmp_path / "model.h5")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    assert isinstance(loaded.layers[2], layers.Bidirectional)


def test_a_model_that_was_never_built_comes_back_unbuilt(tmp_path):
    kerax.Sequential([layers.Dense(2)]).save(tmp_path / "m.h5")
    loaded = kerax.saving.load_model(tmp_path / "m.h5")
    assert not loaded.built and loaded(np.ones((2, 3))).shape == (2, 2)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["model_weights"].create_group("dense/dense").create_dataset("kernel", data=np.ones((3, 2)))
    with pytest.raises(ValueError, match="cannot be built from its config"):
        kerax.saving.load_model(tmp_path / "m.h5")
