"""Names and descriptions of serializable things: found by registered name only."""

import threading

import numpy as np
import pytest

import kerax
from kerax import layers, saving
from kerax.core import registry


def test_a_registered_class_round_trips():
    @saving.register_keras_serializable("tests")
    class Scaled(kerax.Layer):
        def __init__(self, factor=2.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, inputs):
            return inputs * self.factor

    described = saving.serialize_keras_object(Scaled(3.0))
    assert described["registered_name"] == "tests>Scaled"
    assert saving.deserialize_keras_object(described).factor == 3.0


def test_an_unregistered_class_is_never_imported():
    described = {"module": "os", "class_name": "system", "config": {"command": "false"}, "registered_name": None}
    with pytest.raises(ValueError, match="Unknown class 'system'"):
        saving.deserialize_keras_object(described)
    with pytest.raises(ValueError, match="lambda"):
        saving.deserialize_keras_object({"class_name": "__lambda__", "config": {"value": "x"}})


def test_unknown_names_get_suggestions():
    for get, name, hint in [
        (kerax.activations.get, "rellu", "relu"),
        (kerax.losses.get, "mean_squared_eror", "mean_squared_error"),
        (kerax.metrics.get, "acuracy", "accuracy"),
        (kerax.optimizers.get, "adamm", "adam"),
        (kerax.initializers.get, "glorot_unifrom", "glorot_uniform"),
    ]:
        with pytest.raises(ValueError, match=f"Did you mean .*{hint}|Did you mean '{hint}'"):
            get(name)
    with pytest.raises(AttributeError, match="Did you mean 'layers'"):
        getattr(kerax, "layer")  # noqa: B009


def test_what_two_layers_share_is_one_after_loading(tmp_path):
    class Doubling:
        def __call__(self, x):
            return 2 * x

        def get_config(self):
            return {}

        @classmethod
        def from_config(cls, config):
            return cls()

    seed, activation = kerax.random.SeedGenerator(3), Doubling()
    parts = [layers.Dropout(0.5, seed=seed), layers.Dense(2, activation), layers.Dropout(0.2, seed=seed)]
    model = kerax.Sequential([layers.Input((2,)), *parts, layers.Dense(2, activation), layers.Dense(2, Doubling())])
    model.save(tmp_path / "model.keras")
    loaded = saving.load_model(tmp_path / "model.keras", custom_objects={"Doubling": Doubling})
    first, second, third, fourth, fifth = loaded.layers
    assert first.seed_generator is third.seed_generator
    assert second.activation is fourth.activation is not fifth.activation
    assert len(loaded.non_trainable_variables) == 1
    np.testing.assert_array_equal(first(np.ones((9, 9)), training=True), parts[0](np.ones((9, 9)), training=True))


def test_custom_objects_are_scoped():
    class Mine(kerax.Layer):
        def call(self, inputs):
            return inputs

    described = saving.serialize_keras_object(Mine())
    with pytest.raises(ValueError, match="Unknown class 'Mine'"):
        saving.deserialize_keras_object(described)
    assert isinstance(saving.deserialize_keras_object(described, {"Mine": Mine}), Mine)


def test_descriptions_are_kerass():
    described = saving.serialize_keras_object(layers.Dense(3, activation="relu", kernel_regularizer="l2"))
    assert described["module"] == "keras.layers" and described["class_name"] == "Dense"
    assert described["config"]["kernel_regularizer"]["class_name"] == "L2"
    assert saving.serialize_keras_object(np.float32(2)) == 2.0


def test_custom_objects_of_a_scope_belong_to_its_thread():
    entered, seen = threading.Barrier(2), {}

    def look(name):
        with registry.custom_object_scope({f"mine_{name}": name, "ours": name}):
            entered.wait()  # both are inside
            seen[name] = [registry.find_custom(wanted) for wanted in ("ours", "mine_a", "mine_b")]
            entered.wait()
        seen[name].append(registry.find_custom("ours"))

    threads = [threading.Thread(target=look, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"a": ["a", "a", None, None], "b": ["b", None, "b", None]}


def test_scopes_of_custom_objects_nest():
    with registry.custom_object_scope({"x": 1, "y": 1}), registry.custom_object_scope({"x": 2}):
        assert registry.find_custom("x") == 2 and registry.find_custom("y") == 1
        assert registry.get_registered_object("x") == 2
    assert registry.find_custom("x") is None


def test_a_class_of_ones_own_in_a_package_does_not_stand_for_kerass_of_the_same_name():
    """As in Keras: by descriptions, names and functions, cloned and loaded; a name of its own still does."""
    known = dict(kerax.saving.get_custom_objects())
    try:

        @kerax.saving.register_keras_serializable("mine")
        class OrthogonalRegularizer(kerax.regularizers.Regularizer):
            def __init__(self, num_features):
                self.num_features = num_features

            def __call__(self, x):
                return 0 * kerax.ops.sum(x)

            def get_config(self):
                return {"num_features": self.num_features}

        @kerax.saving.register_keras_serializable("mine")
        def softplus(x):
            return -x

        builtin = kerax.regularizers.OrthogonalRegularizer
        for regularizer, activation in [(builtin(0.1), "softplus"), (OrthogonalRegularizer(4), softplus)]:
            dense = kerax.layers.Dense(3, kernel_regularizer=regularizer, activation=activation)
            again = kerax.models.clone_model(kerax.Sequential([kerax.Input((2,)), dense])).layers[0]
            assert type(again.kernel_regularizer) is type(regularizer)
            assert again.activation is (softplus if activation is softplus else kerax.activations.softplus)
        assert kerax.activations.get("softplus") is kerax.activations.softplus
        assert isinstance(kerax.regularizers.get("orthogonal_regularizer"), builtin)
        with kerax.saving.custom_object_scope({"softplus": softplus}):
            assert kerax.activations.get("softplus") is softplus
    finally:
        kerax.saving.get_custom_objects().clear()
        kerax.saving.get_custom_objects().update(known)
