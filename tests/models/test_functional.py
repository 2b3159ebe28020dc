import json
from copy import deepcopy

import jax
import keras
import numpy as np
import pytest

import kerax
from tests.pairs import make_pair

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(5, 4)).astype("float32")
Z = DRAW.normal(size=(5, 3)).astype("float32")


def branchy(module):
    """Two inputs, a shared layer, a skip, an op, and layers made in another order than they are used."""
    late = module.layers.Dense(3, name="late")
    left, right = module.Input((4,), name="left"), module.Input((3,), name="right")
    tower = module.layers.Dense(3, name="tower", activation="tanh")
    shared = module.layers.Dense(3, name="shared")
    one = shared(tower(left))
    two = shared(right)
    skip = module.layers.Add(name="skip")([one, right])
    joined = module.layers.Concatenate(name="joined")([late(two), skip, one])
    normal = module.layers.BatchNormalization(name="normal")(joined)
    return module.Model([left, right], [module.layers.Dense(2, name="head")(normal), module.ops.tanh(two) * 2.0])


def wide(module):
    """Branches of unequal depth from one input."""
    inputs = module.Input((4,), name="inputs")
    deep = inputs
    for index in range(3):
        deep = module.layers.Dense(4, name=f"deep_{index}")(deep)
    short = module.layers.Dense(4, name="short")(inputs)
    middle = module.layers.Dense(4, name="middle_2")(module.layers.Dense(4, name="middle_1")(inputs))
    joined = module.layers.Add(name="joined")([short, deep, middle])
    side = module.layers.Dense(1, name="side")(short)
    return module.Model(inputs, [module.layers.Dense(2, name="main")(joined), side])


def nested(module):
    """A model used twice inside another, beside a sequential one."""
    inner_in = module.Input((3,), name="inner_in")
    inner = module.Model(inner_in, module.layers.Dense(3, name="inner_dense")(inner_in), name="inner")
    stack = module.Sequential([module.layers.Dense(3, name="stacked"), module.layers.ReLU(name="relu")], name="stack")
    left, right = module.Input((4,), name="left"), module.Input((3,), name="right")
    first = inner(stack(left))
    second = inner(right)
    return module.Model(
        [left, right], module.layers.Dense(1, name="out")(module.layers.Multiply(name="m")([first, second]))
    )


def outputs_of(model, data):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model(data))]


BUILDERS = [(branchy, [X, Z]), (wide, X), (nested, [X, Z])]


@pytest.mark.parametrize("build, data", BUILDERS)
class TestAgainstKeras:
    def test_order_of_layers_and_weights(self, build, data):
        ours, theirs = build(kerax), build(keras)
        assert [weight.shape for weight in ours.weights] == [weight.shape for weight in theirs.weights]
        assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]
        mine = [layer.name for layer in ours.layers]
        other = [layer.name for layer in theirs.layers if layer.name not in ("tanh", "multiply")]
        assert mine == other

    def test_outputs(self, build, data):
        ours, theirs = make_pair(build)
        for one, two in zip(outputs_of(ours, data), outputs_of(theirs, data), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)

    def test_json_both_ways(self, build, data):
        ours, theirs = make_pair(build)
        expected = outputs_of(theirs, data)
        here = kerax.models.model_from_json(theirs.to_json())
        there = keras.models.model_from_json(ours.to_json())
        again = kerax.models.model_from_json(ours.to_json())
        for model in (here, there, again):
            assert [w.shape for w in model.weights] == [w.shape for w in theirs.weights]
            model.set_weights(theirs.get_weights())
            for one, two in zip(outputs_of(model, data), expected, strict=True):
                np.testing.assert_allclose(one, two, atol=1e-5)

    def test_clone(self, build, data):
        ours, _ = make_pair(build)
        clone = kerax.models.clone_model(ours)
        assert [layer.name for layer in clone.layers] == [layer.name for layer in ours.layers]
        assert not {id(w) for w in clone.weights} & {id(w) for w in ours.weights}
        clone.set_weights(ours.get_weights())
        for one, two in zip(outputs_of(clone, data), outputs_of(ours, data), strict=True):
            np.testing.assert_array_equal(one, two)


class TestStructures:
    def test_a_dict_of_inputs_and_outputs(self):
        inputs = {"b": kerax.Input((4,), name="b"), "a": kerax.Input((3,), name="a")}
        outputs = {"z": kerax.layers.Dense(1, name="p")(inputs["b"]), "y": kerax.layers.Dense(2, name="q")(inputs["a"])}
        model = kerax.Model(inputs, outputs)
        found = model({"a": Z, "b": X})
        assert {name: value.shape for name, value in found.items()} == {"z": (5, 1), "y": (5, 2)}
        assert model.input_shape == {"b": (None, 4), "a": (None, 3)}
        assert model.output_shape == {"z": (None, 1), "y": (None, 2)}
        predicted = model.predict({"a": Z, "b": X}, verbose=0)
        np.testing.assert_allclose(predicted["z"], found["z"], atol=1e-6)

    def test_tuples_and_lists(self):
        one, two = kerax.Input((4,)), kerax.Input((3,))
        dense = kerax.layers.Dense(2)
        model = kerax.Model((one, two), (dense(one), kerax.layers.Dense(1)(two)))
        found = model((X, Z))
        assert isinstance(found, tuple) and [value.shape for value in found] == [(5, 2), (5, 1)]
        assert isinstance(model.predict([X, Z], verbose=0), tuple)
        as_list = kerax.Model([one], [dense(one)])
        assert as_list(X).shape == (5, 2)  # as Keras: a list of one output is that output

    def test_nested_structures(self):
        inputs = {
            "pair": [kerax.Input((4,), name="p0"), kerax.Input((4,), name="p1")],
            "single": kerax.Input((3,), name="s"),
        }
        total = kerax.layers.Add()(inputs["pair"])
        model = kerax.Model(inputs, {"sum": total, "rest": [inputs["single"] * 2]})
        found = model({"pair": [X, X], "single": Z})
        np.testing.assert_allclose(found["sum"], 2 * X)
        np.testing.assert_allclose(found["rest"][0], 2 * Z)

    def test_inputs_by_name_in_any_order_and_extra_names_are_ignored(self):
        one, two = kerax.Input((4,), name="one"), kerax.Input((3,), name="two")
        model = kerax.Model([one, two], kerax.layers.Concatenate()([one, two]))
        np.testing.assert_array_equal(model({"two": Z, "one": X}), np.concatenate([X, Z], 1))
        with pytest.raises(ValueError, match="'two'.*missing"):
            model({"one": X})

    def test_output_names(self):
        inputs = kerax.Input((4,))
        dense = kerax.layers.Dense(1, name="d")
        model = kerax.Model(inputs, [dense(inputs), kerax.layers.Dense(1, name="e")(inputs)])
        assert model.output_names == ["d", "e"]

    def test_rank_may_differ_by_a_last_axis_of_one(self):
        inputs = kerax.Input((1,))
        model = kerax.Model(inputs, inputs * 2)
        assert model(np.ones(3, "float32")).shape == (3, 1)


class TestGraphs:
    def test_a_shared_layer_has_one_set_of_weights(self):
        one, two = kerax.Input((4,)), kerax.Input((4,))
        shared = kerax.layers.Dense(2)
        model = kerax.Model([one, two], shared(one) - shared(two))
        assert len(model.weights) == 2
        np.testing.assert_allclose(model([X, X]), np.zeros((5, 2)), atol=1e-6)

    def test_a_model_between_intermediate_tensors(self):
        inputs = kerax.Input((4,))
        hidden = kerax.layers.Dense(3, activation="relu", name="hidden")(inputs)
        outputs = kerax.layers.Dense(2, name="top")(hidden)
        whole = kerax.Model(inputs, outputs)
        features, head = kerax.Model(inputs, hidden), kerax.Model(hidden, outputs)
        np.testing.assert_allclose(head(features(X)), whole(X), atol=1e-6)
        assert hidden is whole.get_layer("hidden").output
        assert [layer.name for layer in features.layers][-1] == "hidden"
        assert [weight.shape for weight in head.weights] == [(3, 2), (2,)]
        whole.layers[1].kernel.assign(np.zeros((4, 3)))
        np.testing.assert_array_equal(features(X), np.zeros((5, 3)))
        copy = kerax.models.model_from_json(head.to_json())
        copy.set_weights(head.get_weights())
        np.testing.assert_allclose(copy(features(X)), head(features(X)), atol=1e-6)

    def test_a_feature_extractor_of_every_layer(self):
        model = wide(kerax)
        extractor = kerax.Model(model.inputs, [layer.output for layer in model.layers])
        found = extractor(X)
        assert len(found) == len(model.layers)
        np.testing.assert_array_equal(found[0], X)

    def test_layers_of_a_model_can_be_reused_in_another(self):
        model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3), kerax.layers.Dense(2)])
        inputs = kerax.Input((4,))
        other = kerax.Model(inputs, model.layers[1](model.layers[0](inputs)))
        np.testing.assert_allclose(other(X), model(X), atol=1e-6)
        assert {id(w) for w in other.weights} == {id(w) for w in model.weights}

    def test_ops_operators_and_indexing_are_nodes(self):
        inputs = kerax.Input((4,))
        value = kerax.ops.concatenate([inputs[:, :2], -inputs[:, 2:]], axis=-1)
        model = kerax.Model(inputs, kerax.ops.sum(value**2, axis=-1, keepdims=True) / 2 + 1 - inputs[:, :1])
        np.testing.assert_allclose(model(X), (X**2).sum(1, keepdims=True) / 2 + 1 - X[:, :1], rtol=1e-5)
        for copy in (
            kerax.models.model_from_json(model.to_json()),
            keras.models.model_from_json(model.to_json()),
            kerax.models.model_from_json(keras.models.model_from_json(model.to_json()).to_json()),
            kerax.models.clone_model(model),
        ):
            np.testing.assert_allclose(np.asarray(copy(X)), model(X), rtol=1e-6)

    def test_call_arguments_are_kept(self):
        inputs = kerax.Input((4,))
        model = kerax.Model(inputs, kerax.layers.Dropout(0.9)(inputs, training=True))
        kerax.utils.set_random_seed(0)
        assert (np.asarray(model(X)) == 0).any()
        copy = kerax.models.model_from_json(model.to_json())
        assert (np.asarray(copy(X)) == 0).any()

    def test_training_given_to_a_layer_holds_however_the_model_is_called(self):
        inputs = kerax.Input((4,))
        base = kerax.Sequential([kerax.layers.Dropout(0.9)])
        frozen = kerax.Model(inputs, base(inputs, training=False))
        dropping = kerax.Model(inputs, base(inputs, training=True))
        np.testing.assert_array_equal(frozen(X, training=True), X)
        assert (np.asarray(dropping(X, training=False)) == 0).any()

    def test_a_batch_size_may_stay_open_through_a_reshape(self):
        inputs = kerax.Input((4,))
        reshaped = kerax.layers.Reshape((2, 2))(inputs)
        model = kerax.Model(inputs, kerax.layers.Flatten()(reshaped))
        assert model.output_shape == (None, 4)

    def test_chosen_names_must_differ(self):
        inputs = kerax.Input((4,))
        hidden = kerax.layers.Dense(3, name="same")(inputs)
        with pytest.raises(ValueError, match="'same'.*unique"):
            kerax.Model(inputs, kerax.layers.Dense(3, name="same")(hidden))

    def test_automatic_names_are_unique_inside_the_model_and_the_same_in_any_process(self):
        def build():
            inputs = kerax.Input((4,))
            hidden = inputs
            for _ in range(3):
                hidden = kerax.layers.Dense(4)(hidden)
            return kerax.Model(inputs, hidden)

        names = [[layer.name for layer in build().layers] for _ in range(2)]
        assert names[0] == names[1] == ["input_layer", "dense", "dense_1", "dense_2"]

    def test_disconnected(self):
        one, two = kerax.Input((4,), name="one"), kerax.Input((4,), name="two")
        with pytest.raises(ValueError, match="disconnected.*two"):
            kerax.Model(one, one + two)

    def test_a_functional_subclass_runs_its_own_code(self):
        class Doubled(kerax.Model):
            def call(self, inputs, training=None):
                return 2 * super().call(inputs, training=training)

        inputs = kerax.Input((4,))
        plain = kerax.Model(inputs, inputs + 1)
        assert plain(X).shape == (5, 4)
        model = Doubled(inputs, inputs + 1)
        np.testing.assert_allclose(model(X), 2 * (X + 1))

    @pytest.mark.medium
    def test_a_mask_travels_through_a_graph(self):
        def make(module):
            tokens = module.Input((5,), dtype="int32", name="tokens")
            vectors = module.layers.Embedding(7, 3, mask_zero=True, name="vectors")(tokens)
            vectors = module.layers.Dense(3, name="dense")(vectors)
            return module.Model(tokens, module.layers.LSTM(2, name="lstm")(vectors))

        ours, theirs = make_pair(make)
        tokens = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]])
        np.testing.assert_allclose(ours(tokens), np.asarray(theirs(tokens)), atol=1e-6)

    def test_config_is_json_and_makes_an_equal_config(self):
        model = branchy(kerax)
        config = json.loads(json.dumps(model.get_config()))
        again = kerax.Model.from_config(config).get_config()
        assert json.loads(json.dumps(again)) == config  # tuples stay tuples, as in Keras

    def test_a_frozen_model_stays_frozen_in_its_copy(self):
        model = wide(kerax)
        model.get_layer("short").trainable = False
        copy = kerax.models.model_from_json(model.to_json())
        assert not copy.get_layer("short").trainable
        assert len(copy.trainable_weights) == len(model.weights) - 2


def _inner(outputs=3):
    inputs = kerax.Input((3,))
    return kerax.Model(inputs, kerax.layers.Dense(outputs)(kerax.layers.Dense(5)(inputs)))


def _twice_and_alone():
    model, one, two = _inner(), kerax.Input((3,)), kerax.Input((3,))
    assert model.predict(Z, verbose=0).shape == (5, 3)
    return kerax.Model([one, two], kerax.layers.Add()([model(one), model(two)])), [Z, Z + 1]


def _three_levels():
    innermost, middle = _inner(), kerax.Input((3,))
    second = kerax.Model(middle, kerax.layers.Dense(3)(innermost(innermost(middle))))
    outer = kerax.Input((3,))
    return kerax.Model(outer, kerax.layers.Add()([second(outer), innermost(outer)])), Z


def _ends_in_the_inner_output():
    model = _inner()
    return kerax.Model(model.input, [model.output, kerax.layers.Dense(2)(model.output)]), Z


def _two_towers_by_their_tensors():
    left, right = _inner(), _inner()
    return kerax.Model([left.input, right.input], kerax.layers.Add()([left.output, right.output])), [Z, Z + 1]


def _a_layer_of_the_inner_outside():
    model, inputs = _inner(), kerax.Input((3,))
    return kerax.Model(inputs, [model(inputs), model.layers[1](inputs), kerax.layers.Dense(5)(inputs)]), Z


def _models_on_one_base():
    base = _inner()
    head = kerax.layers.Dense(2)(base.layers[1].output)
    first, second = kerax.Model(base.input, head), kerax.Model(base.input, [base.output, head])
    inputs = kerax.Input((3,))
    return kerax.Model(inputs, [first(inputs), second(inputs)[0]]), Z


def _one_layer_twice_in_a_sequential():
    dense = kerax.layers.Dense(3)
    return kerax.Sequential([kerax.Input((3,)), dense, kerax.layers.Dense(3), dense]), Z


def _a_sequential_and_its_inner_model():
    model = _inner()
    return kerax.Sequential([kerax.Sequential([model, kerax.layers.Dense(3)]), model]), Z


class TestModelsInModels:
    @pytest.mark.parametrize(
        "make",
        [
            _twice_and_alone,
            _three_levels,
            _ends_in_the_inner_output,
            _two_towers_by_their_tensors,
            _a_layer_of_the_inner_outside,
            _models_on_one_base,
            _one_layer_twice_in_a_sequential,
            _a_sequential_and_its_inner_model,
        ],
    )
    def test_what_is_shared_stays_shared_in_files_and_clones(self, make, tmp_path):
        model, x = make()
        expected = jax.tree.leaves(model.predict(x, verbose=0))
        assert len({id(weight) for weight in model.weights}) == len(model.weights)
        assert len({layer.name for layer in model.layers}) == len({id(layer) for layer in model.layers})
        model.save(tmp_path / "m.keras")
        clone = kerax.models.clone_model(model)
        clone.set_weights(model.get_weights())
        for other in (kerax.models.load_model(tmp_path / "m.keras"), clone):
            assert [weight.shape for weight in other.weights] == [weight.shape for weight in model.weights]
            for found, value in zip(jax.tree.leaves(other.predict(x, verbose=0)), expected, strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-6)

    def test_two_layers_that_the_user_gave_one_name_are_refused(self):
        inputs = kerax.Input((3,))
        with pytest.raises(ValueError, match="used 2 times"):
            kerax.Model(inputs, kerax.layers.Dense(2, name="a")(kerax.layers.Dense(2, name="a")(inputs)))


class TestInputs:
    @staticmethod
    def difference(inputs):
        one, two = kerax.Input((3,), name="a"), kerax.Input((3,), name="b")
        return kerax.Model(inputs(one, two), kerax.layers.Subtract()([one, two]))

    def test_a_list_for_a_dict_goes_by_the_dicts_own_order(self):
        for make, sign in ((lambda a, b: {"a": a, "b": b}, 1), (lambda a, b: {"b": b, "a": a}, -1)):
            model = self.difference(make)
            with pytest.warns(UserWarning, match="structure of `inputs`"):
                np.testing.assert_allclose(model([Z, Z * 2]), -Z * sign)
            np.testing.assert_allclose(model.predict({"b": Z * 2, "a": Z}, verbose=0), -Z)

    def test_columns_that_the_model_does_not_use_are_ignored(self):
        for make in (lambda a, b: {"a": a, "b": b}, lambda a, b: [a, b]):
            model = self.difference(make)
            x = {"a": Z, "b": Z * 2, "text": np.array(["x"] * len(Z))}
            np.testing.assert_allclose(model.predict(x, verbose=0), -Z)
            model.compile("sgd", "mse")
            model.fit(x, Z, verbose=0)
            model.evaluate(x, Z, verbose=0)

    @pytest.mark.medium
    def test_none_for_an_optional_input(self, tmp_path):
        for make in (lambda a, b: {"a": a, "b": b}, lambda a, b: [a, b]):
            one, two = kerax.Input((3,), name="a"), kerax.Input((3,), name="b", optional=True)
            model = kerax.Model(make(one, two), Optional()(one, two))
            model.compile("sgd", "mse")
            for x, expected in ((make(Z, None), Z), (make(Z, Z), Z * 2)):
                np.testing.assert_allclose(model.predict(x, verbose=0), expected)
                model.fit(x, Z, verbose=0)
            model.save(tmp_path / "m.keras")
            loaded = kerax.models.load_model(tmp_path / "m.keras", {"Optional": Optional})
            np.testing.assert_allclose(loaded.predict(make(Z, None), verbose=0), Z)
            with pytest.raises(ValueError, match="not optional"):
                model(make(None, Z))


class Optional(kerax.layers.Layer):
    def call(self, x, y=None):
        return x if y is None else x + y


class Strict(kerax.layers.Layer):
    """Follows no unknown size, and says by itself what comes out."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = kerax.layers.Dense(4)

    def call(self, x):
        assert x.shape[0] % 4 == 0
        return self.dense(x)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 4)


class StrictSpec(Strict):
    compute_output_shape = kerax.layers.Layer.compute_output_shape

    def compute_output_spec(self, x):
        return kerax.KerasTensor((*x.shape[:-1], 4))


@pytest.mark.medium
@pytest.mark.parametrize("layer", [Strict, StrictSpec])
def test_an_overridden_output_shape_decides(layer, tmp_path):
    x = np.ones((8, 3), "float32")
    inputs = kerax.Input((3,))
    inner = kerax.Model(inputs, layer()(inputs))
    outer = kerax.Input((3,))
    model = kerax.Model(outer, kerax.layers.Dense(2)(inner(outer)))
    assert inner.output_shape == (None, 4) and model.output_shape == (None, 2) and len(model.weights) == 4
    model.compile("sgd", "mse")
    model.fit(x, np.ones((8, 2)), batch_size=4, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = kerax.models.load_model(tmp_path / "m.keras", {layer.__name__: layer})
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
    assert kerax.Sequential([kerax.Input((3,)), layer()]).output_shape == (None, 4)
    assert kerax.Sequential([layer()])(x).shape == (8, 4)


def test_predict_leaves_rows_alone_that_are_set_against_each_other():
    inputs = kerax.Input((3,))
    model = kerax.Model(inputs, kerax.ops.matmul(inputs, kerax.ops.transpose(inputs)))
    data = np.arange(9.0, dtype="float32").reshape(3, 3)
    np.testing.assert_allclose(model.predict(data, verbose=0), data @ data.T, rtol=1e-6)  # not one row more

    class Similarities(kerax.Model):
        def call(self, inputs):
            return inputs @ inputs.T

    np.testing.assert_allclose(Similarities().predict(data, verbose=0), data @ data.T, rtol=1e-6)


def test_an_output_that_a_layer_names_may_be_none():
    class Streams(kerax.layers.Layer):
        def call(self, inputs):
            return inputs * 2, None

        def compute_output_shape(self, input_shape):
            return [input_shape, input_shape]

    inputs = kerax.Input((3,))
    first, _ = Streams()(inputs)
    data = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(kerax.Model(inputs, first)(data), data * 2)


def config_of_two_layers():
    inputs = kerax.Input((3,), name="start")
    return kerax.Model(inputs, kerax.layers.Dense(2, name="b")(kerax.layers.Dense(2, name="a")(inputs))).get_config()


def start_call(config, layer, *history):
    (call,) = next(entry["inbound_nodes"] for entry in config["layers"] if entry["name"] == layer)
    call["args"][0]["config"]["keras_history"] = list(history)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: start_call(config, "a", "b", 0, 0),
        lambda config: start_call(config, "a", "a", 0, 0),
        lambda config: start_call(config, "b", "a", 5, 0),
        lambda config: start_call(config, "b", "none", 0, 0),
        lambda config: config.update(output_layers=["none", 0, 0]),
    ],
)
def test_a_config_whose_calls_lead_nowhere_is_refused(spoil):
    config = config_of_two_layers()
    kerax.Model.from_config(config)
    spoil(config)
    with pytest.raises(ValueError, match="whose inputs are never made|has no tensor"):
        kerax.Model.from_config(config)


def test_calls_as_keras_2_wrote_them():
    def entry(class_name, name, *before, **config):
        nodes = [[[one, 0, 0, {}] for one in before]] if before else []
        return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}

    config = {
        "name": "old",
        "layers": [
            entry("InputLayer", "start", batch_shape=(None, 3)),
            entry("Dense", "a", "start", units=2),
            entry("Dense", "b", "start", units=2),
            entry("Concatenate", "both", "a", "b"),
        ],
        "input_layers": [["start", 0, 0]],
        "output_layers": [["both", 0, 0]],
    }
    ours, theirs = (package.Model.from_config(deepcopy(config)) for package in (kerax, keras))
    theirs.set_weights(ours.get_weights())
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-6)
    config["layers"][1] = entry("Dense", "a", "both", units=2)
    for package in (kerax, keras):
        with pytest.raises(ValueError):
            package.Model.from_config(deepcopy(config))
