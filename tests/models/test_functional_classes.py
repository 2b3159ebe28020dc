"""Users' classes that are functional by `super().__init__(inputs, outputs)` stay what they are, wherever they go."""

import copy
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerax
from kerax.models.functional import Functional

X = np.ones((2, 2), "float32")


@kerax.saving.register_keras_serializable("tests")
class OfTensors(kerax.Model):
    def answer(self):
        return 42


class WithFlag(kerax.Model):
    def __init__(self, inputs, outputs, flag=True, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.flag = flag


class WithoutName(kerax.Model):
    def __init__(self, inputs, outputs):
        super().__init__(inputs=inputs, outputs=outputs)


class Sized(kerax.Model):
    def __init__(self, units=3):
        inputs = kerax.Input((2,))
        super().__init__(inputs, kerax.layers.Dense(units)(inputs))
        self.units = units


class SizedWithConfig(Sized):
    def __init__(self, units=3):
        super().__init__(units)
        self.doubled = kerax.ops.ones(())

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs) * 2

    def get_config(self):
        return {"units": self.units}


class Shared(kerax.Model):
    """One base, functional in one subclass and not in the other."""

    def greeting(self):
        return "hello"


class FunctionalShared(Shared):
    pass


class SubclassedShared(Shared):
    def __init__(self):
        super().__init__()
        self.dense = kerax.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def of_tensors(cls, **kwargs):
    inputs = kerax.Input((2,))
    return cls(inputs, kerax.layers.Dense(3)(inputs), **kwargs)


def shared():
    model, other = of_tensors(FunctionalShared), SubclassedShared()
    assert model.greeting() == other.greeting() and other(X).shape == (2, 3)
    return model


MAKERS = {
    "of tensors": lambda: of_tensors(OfTensors, name="mine"),
    "flag": lambda: of_tensors(WithFlag, flag=False),
    "no name": lambda: of_tensors(WithoutName),
    "sized": lambda: Sized(4),
    "sized with config": lambda: SizedWithConfig(units=4),
    "shared base": shared,
}


def saved_and_loaded(model, folder):
    model.save(folder / "m.keras")
    return kerax.models.load_model(folder / "m.keras", custom_objects={type(model).__name__: type(model)})


def checkpointed(model, folder):
    model.compile("sgd", "mse")
    checkpoint = kerax.callbacks.ModelCheckpoint(folder / "m.keras")
    model.fit(X, np.ones(model(X).shape), callbacks=[checkpoint], verbose=0)
    return kerax.models.load_model(folder / "m.keras", custom_objects={type(model).__name__: type(model)})


def with_weights(copied, model):
    copied.set_weights(model.get_weights())
    return copied


WAYS = {
    "saved": saved_and_loaded,
    "checkpointed": checkpointed,
    "cloned": lambda model, _: with_weights(kerax.models.clone_model(model), model),
    "by config": lambda model, _: with_weights(type(model).from_config(model.get_config()), model),
    "pickled": lambda model, _: pickle.loads(pickle.dumps(model)),
    "deep-copied": lambda model, _: copy.deepcopy(model),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", MAKERS)
def test_a_functional_class_comes_back_as_itself(make, way, tmp_path):
    model = MAKERS[make]()
    again = WAYS[way](model, tmp_path)
    assert type(again) is type(model) and isinstance(model, Functional)
    np.testing.assert_array_equal(again(X), model(X))
    assert getattr(again, "flag", None) == getattr(model, "flag", None)
    assert getattr(again, "units", None) == getattr(model, "units", None)
    if make == "of tensors":
        assert again.name == "mine" and again.answer() == 42


def test_its_config_is_the_graphs_as_in_keras():
    class Own(keras.Model):
        pass

    inputs = keras.Input((2,))
    theirs = Own(inputs, keras.layers.Dense(3)(inputs)).get_config()
    assert sorted(MAKERS["of tensors"]().get_config()) == sorted(theirs)
    assert MAKERS["flag"]().get_config()["flag"] is False


def test_a_frozen_one_comes_back_frozen(tmp_path):
    model = MAKERS["no name"]()
    model.trainable = False
    assert saved_and_loaded(model, tmp_path).trainable_variables == []


def test_a_clone_function_gives_a_plain_model_where_the_class_makes_its_own_graph():
    model = Sized(4)
    clone = kerax.models.clone_model(model, clone_function=lambda layer: kerax.layers.Dense(4, activation="relu"))
    assert clone(X).shape == (2, 4) and float(kerax.ops.min(clone(-X))) >= 0


CODE = """
import pickle, sys
import numpy as np
from tests.models import test_functional_classes as classes
with open(sys.argv[1], "rb") as file:
    print(pickle.load(file)(classes.X).shape)
"""


@pytest.mark.slow
def test_a_pickle_is_read_by_a_process_that_has_made_no_such_model(tmp_path):
    from tests.models import test_functional_classes as classes  # the name that the other process imports

    (tmp_path / "m.pickle").write_bytes(pickle.dumps(of_tensors(classes.OfTensors)))
    command = [sys.executable, "-c", CODE, tmp_path / "m.pickle"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "(2, 3)"
