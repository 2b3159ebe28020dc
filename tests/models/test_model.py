import copy
import pickle
import subprocess
import sys

import jax
import keras
import numpy as np
import pytest

import kerax

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


@kerax.saving.register_keras_serializable(package="tests")
class Residual(kerax.Model):
    """Lists and dicts of layers, a private attribute and a weight of its own."""

    def __init__(self, units=4, depth=2, **kwargs):
        super().__init__(**kwargs)
        self.units, self.depth = units, depth
        self.blocks = [kerax.layers.Dense(units, activation="relu") for _ in range(depth)]
        self.heads = {"a": kerax.layers.Dense(1), "b": kerax.layers.Dense(2)}
        self._hidden = kerax.layers.Dense(units)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, inputs, training=False):
        outputs = self._hidden(inputs)
        for block in self.blocks:
            outputs = outputs + block(outputs) * self.scale
        return {name: head(outputs) for name, head in self.heads.items()}


def test_layers_in_lists_dicts_and_private_attributes_are_found():
    model = Residual()
    model(X)
    assert len(model.weights) == 11
    assert len(model.layers) == 5
    assert sorted(jax.tree.leaves(jax.tree.map(lambda value: value.size, model.variables_tree())))[0] == 1
    params = model.variables_tree()["params"]
    assert set(params) == {"scale", "blocks", "heads", "hidden"}
    assert set(params["blocks"]) == {"0", "1"} and set(params["heads"]) == {"a", "b"}


def test_config_is_derived_from_the_constructor():
    model = Residual(units=3, depth=1, name="mine")
    copy = Residual.from_config(model.get_config())
    assert (copy.units, copy.depth, copy.name) == (3, 1, "mine")
    read = kerax.models.model_from_json(model.to_json())
    assert isinstance(read, Residual) and read.depth == 1


def test_build_takes_a_shape_and_makes_every_weight():
    model = Residual()
    model.build((None, 4))
    assert len(model.weights) == 11 and model.count_params() == 1 + 3 * 20 + 5 + 10


def test_several_inputs_by_shape():
    class Two(kerax.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = kerax.layers.Dense(2), kerax.layers.Dense(2)

        def call(self, inputs):
            return self.one(inputs[0]) + self.two(inputs[1])

    model = Two()
    model.build([(None, 4), (None, 3)])
    assert [weight.shape for weight in model.weights] == [(4, 2), (2,), (3, 2), (2,)]
    model.compile("sgd", "mse")
    model.fit([X, X[:, :3]], X[:, :2], verbose=0)


def test_weights_are_set_all_or_none():
    model = Residual()
    model(X)
    before = model.get_weights()
    with pytest.raises(ValueError, match="expected 11 weights, got 1"):
        model.set_weights(before[:1])
    with pytest.raises(ValueError, match="has shape"):
        model.set_weights([np.zeros_like(before[0]), *[np.zeros((9, 9))] * 10])
    for one, two in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, two)


@pytest.mark.medium
def test_a_new_process_makes_the_same_tree_of_names():
    code = (
        "import numpy as np, kerax, sys; sys.path.insert(0, '.');"
        "from tests.models.test_model import Residual;"
        "m = Residual(); m(np.zeros((1, 4), 'float32'));"
        "print(sorted(w.path for w in m.weights))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    model = Residual()
    model(X)
    assert printed.strip().splitlines()[-1] == str(sorted(weight.path for weight in model.weights))


def test_subclassed_weights_are_saved_and_loaded(tmp_path):
    model = Residual()
    model(X)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    other = Residual()
    other.build((None, 4))
    other.load_weights(path)
    for one, two in zip(jax.tree.leaves(model(X)), jax.tree.leaves(other(X))):
        np.testing.assert_array_equal(one, two)


@pytest.mark.medium
def test_models_are_pure_pairs_too():
    model = Residual()
    variables = model.init(0, X)
    outputs, state = jax.jit(lambda v, x: model.apply(v, x))(variables, X)
    assert state == {}
    grads = jax.grad(lambda p: model.apply({"params": p, "state": {}}, X)[0]["a"].sum())(variables["params"])
    assert jax.tree.structure(grads) == jax.tree.structure(variables["params"])
    per_row = jax.vmap(lambda row: model.apply(variables, row[None])[0]["b"][0])(X)
    np.testing.assert_allclose(per_row, outputs["b"], atol=1e-5)
    model.set_variables_tree(variables)
    np.testing.assert_allclose(model(X)["b"], outputs["b"], atol=1e-6)


def test_stateless_call():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.BatchNormalization(), kerax.layers.Dense(2)])
    trainable = [v.value for v in model.trainable_variables]
    other = [v.value for v in model.non_trainable_variables]
    outputs, new = model.stateless_call(trainable, other, X, training=True)
    assert outputs.shape == (6, 2)
    assert not np.array_equal(new[0], other[0])
    np.testing.assert_array_equal(model.non_trainable_variables[0].value, other[0])


def test_state_tree_goes_out_and_in():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, X[:, :1], verbose=0)
    state = model.get_state_tree()
    weights = model.get_weights()
    model.fit(X, X[:, :1], verbose=0)
    model.set_state_tree(state)
    np.testing.assert_array_equal(model.get_weights()[0], weights[0])
    assert int(model.optimizer.iterations) == 1
    with pytest.raises(ValueError, match="another form"):
        model.set_state_tree(state._replace(params={}))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_trained_model_can_be_copied_and_pickled(clone):
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, X[:, :1], verbose=0)
    other = clone(model)
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    for each in (model, other):
        each.fit(X, X[:, :1], verbose=0)
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    other.fit(X, X[:, :1], verbose=0)
    assert int(model.optimizer.iterations) == 2


def test_metrics_are_listed_and_reset():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(1)])
    assert model.metrics == []
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X, X[:, :1], verbose=0)
    assert model.metrics_names == ["loss", "mae"]
    assert float(model.get_metrics_result()["mae"]) > 0
    model.reset_metrics()
    assert float(model.get_metrics_result()["mae"]) == 0


class TestSummary:
    def make(self):
        inner = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(2, name="inside")], name="inner")
        model = kerax.Sequential(
            [
                kerax.Input((4,)),
                kerax.layers.Dense(3, name="first"),
                kerax.layers.BatchNormalization(name="norm"),
                inner,
            ],
            name="mine",
        )
        model.layers[0].trainable = False
        return model

    def text(self, model, **arguments):
        lines = []
        model.summary(print_fn=lines.append, **arguments)
        return "\n".join(lines)

    def test_names_types_shapes_parameters_and_bytes(self, capsys):
        model = self.make()
        text = self.text(model)
        for part in (
            "mine",
            "first (Dense)",
            "(None, 3)",
            "15",
            "140.00 B",
            "Total params: 35",
            "Trainable params: 14",
        ):
            assert part in text, text
        assert "Non-trainable params: 21" in text
        assert "inside" not in text
        model.summary()
        assert "first (Dense)" in capsys.readouterr().out

    def test_expand_nested_and_show_trainable(self):
        text = self.text(self.make(), expand_nested=True, show_trainable=True)
        assert "inside (Dense)" in text
        assert [line.split("│")[-2].strip() for line in text.splitlines() if "(" in line and "│" in line] == list(
            "NYYY"
        )

    def test_the_table_is_that_of_keras(self):
        def make(k):
            k.utils.clear_session()  # names of ops count up in Keras
            inputs = k.Input((3,), name="in")
            first = k.layers.Dense(3, name="first")(inputs)
            added = k.layers.Add(name="added")([first, k.ops.clip(inputs, 0, 1) + 1])
            return k.Model(inputs, [added, k.layers.Dense(2, name="last")(added)], name="mine")

        def text(model, **arguments):
            pieces = []
            model.summary(print_fn=pieces.append, **arguments)
            assert len(pieces) == 1
            return pieces[0]

        for arguments in ({}, {"show_trainable": True}, {"expand_nested": True}):
            ours, theirs = text(make(kerax), **arguments), text(make(keras), **arguments)
            for words in ("Layer (type)", "Output Shape", "Param #", "Connected to", "in[0][0]", "added[0][0]"):
                assert (words in ours) == (words in theirs) == True  # noqa: E712
            cells = [[cell.strip() for cell in line.split("│")[1:4]] for line in ours.splitlines() if "│" in line]
            expected = [[cell.strip() for cell in line.split("│")[1:4]] for line in theirs.splitlines() if "│" in line]
            assert cells == expected
            assert ours.split(" Total")[1].split() == theirs.split(" Total")[1].split()

    def test_the_summary_tells_the_calls_of_its_own_model(self):
        inputs = kerax.Input((4,))
        hidden = kerax.layers.Dense(3, name="hidden")(inputs)
        outputs = kerax.layers.Dense(2, name="last")(hidden)
        whole, pieces = kerax.Model(inputs, outputs), []
        kerax.Model(hidden, outputs)  # calls the last layer again
        whole.summary(print_fn=pieces.append)
        assert "Connected to" not in pieces[0]
        double = kerax.Model(inputs, [outputs, hidden + 1])
        kerax.Model(hidden, outputs)
        double.summary(print_fn=pieces.append)
        assert pieces[1].count("hidden[0][0]") == 2 and "add (Add)" in pieces[1]

    def test_line_length_and_layer_range(self):
        model = self.make()
        assert max(map(len, self.text(model, line_length=60).splitlines())) <= 60
        text = self.text(model, layer_range=("norm", "norm"))
        assert "norm" in text and "first" not in text
        with pytest.raises(ValueError, match="layer_range"):
            self.text(model, layer_range=("nrom", "norm"))

    def test_unbuilt_models_say_so(self):
        assert "unbuilt" in self.text(kerax.Sequential([kerax.layers.Dense(2)]))

    def test_optimizer_parameters_are_counted(self):
        model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(1)])
        model.compile("adam", "mse")
        model.fit(X, X[:, :1], verbose=0)
        assert "Optimizer params: 12" in self.text(model)

    def test_html(self):
        html = self.make()._repr_html_()
        assert html.startswith("<b>mine</b>") and "<td>first</td>" in html and "Total params" in html
        hostile = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(1, name="<script>")])
        assert "<script>" not in hostile._repr_html_()

    def test_a_subclassed_model_has_a_summary(self):
        model = Residual()
        model(X)
        text = self.text(model)
        assert "Total params: 76" in text
        assert text.count("(Dense)") == 5


@pytest.mark.medium
def test_state_tree_answers_as_keras_s_dict():
    def trained(library):
        inputs = library.Input((4,))
        x = library.layers.BatchNormalization(name="norm")(library.layers.Dense(3, name="hidden")(inputs))
        model = library.Model(inputs, library.layers.Dense(1, name="out")(x))
        model.compile("adam", "mse", metrics=["mae"])
        model.fit(X, X[:, :1], verbose=0)
        return model

    ours, theirs = trained(kerax), trained(keras)
    found, expected = (model.get_state_tree("numpy_array") for model in (ours, theirs))
    theirs.set_state_tree(expected)
    for kind in ("trainable_variables", "non_trainable_variables", "metrics_variables"):
        assert jax.tree.structure(found[kind]) == jax.tree.structure(expected[kind])
    assert set(found.keys()) == set(expected) and found["optimizer_variables"]["adam"]["iteration"] == 1
    found["trainable_variables"]["out"]["bias"] = [5.0]
    ours.set_state_tree(found)
    assert ours.get_layer("out").bias.numpy() == 5
    ours.set_state_tree({"trainable_variables": {"out": {"bias": [7.0]}}})
    doubled = jax.tree.map(lambda leaf: leaf * 2, ours.get_state_tree())
    assert doubled["trainable_variables"]["out"]["bias"] == 14
    for wrong in ({"weights": {}}, {"trainable_variables": {"other": {"bias": [7.0]}}}):
        with pytest.raises(ValueError, match="not there"):
            ours.set_state_tree(wrong)
    with pytest.raises(ValueError, match="value_format"):
        ours.get_state_tree("list")


def takes_rows(with_weights):
    """Models whose `call` takes rows of a table by numbers, which floats cannot say."""

    class Takes(kerax.Model):
        def __init__(self):
            super().__init__()
            self.table, self.dense = np.eye(5, 4, dtype="float32"), kerax.layers.Dense(3)

        def call(self, inputs):
            ids = inputs["ids"] if with_weights else inputs
            rows = self.dense(kerax.ops.take(self.table, ids, axis=0))
            return rows * inputs["w"] if with_weights else rows

    return Takes()


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("first", ["call", "fit", "graph", "nested", "jit"])
def test_a_model_is_built_with_the_dtypes_of_its_first_call(first, with_weights):
    model, ids = takes_rows(with_weights), np.array([1, 2])
    inputs = {"ids": ids, "w": np.ones((2, 1), "float32")} if with_weights else ids
    if first == "call":
        assert model(inputs).shape == (2, 3)
    elif first == "fit":
        model.compile("sgd", "mse")
        model.fit(inputs, np.zeros((2, 3)), verbose=0)
    elif first == "graph":
        tensors = {"ids": kerax.Input((), dtype="int32"), "w": kerax.Input((1,))}
        assert model(tensors if with_weights else tensors["ids"]).shape == (None, 3)
    elif first == "jit":
        assert jax.jit(lambda inputs: model(inputs))(inputs).shape == (2, 3)
    else:

        class Outer(kerax.Model):
            def __init__(self):
                super().__init__()
                self.inner = model

            def call(self, inputs):
                return self.inner(inputs) * 2

        assert Outer()(inputs).shape == (2, 3)
    assert [weight.shape for weight in model.weights] == [(4, 3), (3,)]


def test_a_summary_is_one_output_of_a_notebook(monkeypatch, capsys):
    from rich import console, jupyter

    shown = []
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(jupyter, "display", lambda *args: shown.append(args))
    kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(1)]).summary()
    assert shown == [] and "Total params: 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (None, (None, False, True, 1)),
        ({}, ("mse", False, True, 1)),
        ({"run_eagerly": True, "steps_per_execution": 3}, ("mse", True, False, 3)),
    ],
)
def test_what_compile_was_given_can_be_read_before_it_too(arguments, expected):
    for library in (kerax, pytest.importorskip("keras")):
        model = library.Sequential([library.Input((2,)), library.layers.Dense(1)])
        if arguments is not None:
            model.compile("sgd", "mse", **arguments)
        found = model.loss, model.run_eagerly, model.jit_compile, model.steps_per_execution
        assert found == expected, library.__name__
