"""Code that `%autoreload` replaces is what the next call computes with."""

import importlib
import sys
import types

import numpy as np
import pytest

import kerax

CODE = """
import kerax

def factor(x):
    return x * FACTOR

class Times(kerax.layers.Layer):
    def call(self, x):
        return factor(x) + OFFSET

class Doubled(kerax.Model):
    def call(self, x):
        return x + factor(x)

def loss(y, y_pred):
    return kerax.ops.mean((y_pred - y) ** 2) * FACTOR
"""


@pytest.fixture
def module(monkeypatch):
    found = types.ModuleType("my_layers")
    found.FACTOR, found.OFFSET = 2.0, 0.0
    monkeypatch.setitem(sys.modules, "my_layers", found)
    monkeypatch.setitem(sys.modules, "IPython.extensions.autoreload", types.ModuleType("autoreload"))
    exec(compile(CODE, "my_layers.py", "exec"), vars(found))
    return found


def reload(module, old, new):
    """As IPython's autoreload: functions of the old module get the code of the new one."""
    other: dict = {"__name__": "my_layers"}
    exec(compile(CODE.replace(old, new), "my_layers.py", "exec"), other)
    for name in ("factor", "loss"):
        getattr(module, name).__code__ = other[name].__code__
    for name in ("Times", "Doubled"):
        getattr(module, name).call.__code__ = other[name].call.__code__


X = np.ones((4, 1), "float32")


@pytest.mark.parametrize(
    "old, new, expected", [("+ OFFSET", "+ 1.0", 3.0), ("x * FACTOR", "x * 5.0", 5.0)], ids=["call", "helper"]
)
def test_predict_computes_with_new_code(module, old, new, expected):
    model = kerax.Sequential([kerax.Input((1,)), module.Times()])
    assert model.predict(X, verbose=0)[0, 0] == 2.0
    assert model.predict_on_batch(X)[0, 0] == 2.0
    reload(module, old, new)
    assert model.predict_on_batch(X)[0, 0] == expected
    assert model.predict(X, verbose=0)[0, 0] == expected


@pytest.mark.medium
def test_a_subclass_a_loss_and_an_evaluation_too(module):
    model = module.Doubled()
    model.compile("sgd", module.loss)
    assert model.predict(X, verbose=0)[0, 0] == 3.0
    assert model.evaluate(X, X, verbose=0) == 8.0
    reload(module, "y_pred - y", "y_pred - 2 * y")
    assert model.evaluate(X, X, verbose=0) == 2.0
    reload(module, "x + factor(x)", "x")
    assert model.predict(X, verbose=0)[0, 0] == 1.0


def test_training_goes_on_with_new_code(module):
    model = kerax.Sequential([kerax.Input((1,)), module.Times(), kerax.layers.Dense(1, kernel_initializer="ones")])
    model.compile(kerax.optimizers.Adam(0.0), "mse")
    assert model.fit(X, X, verbose=0).history["loss"] == [1.0]
    slots = [variable.numpy() for variable in model.optimizer.variables]
    reload(module, "+ OFFSET", "+ 1.0")
    assert model.fit(X, X, verbose=0).history["loss"] == [4.0]
    assert int(model.optimizer.iterations) == 2 and len(slots) == len(model.optimizer.variables)


def test_nothing_is_compiled_anew_while_the_code_stays(module, compilations):
    model = kerax.Sequential([kerax.Input((1,)), module.Times()])
    model.predict(X, verbose=0)
    with compilations() as found:
        model.predict(X, verbose=0)
        importlib.invalidate_caches()
        model.predict_on_batch(X)
        model.predict_on_batch(X)
    assert len(found) <= 1  # the single batch's own program


def test_classes_of_no_module_are_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.extensions.autoreload", types.ModuleType("autoreload"))
    names = {"__name__": "nowhere", "FACTOR": 2.0, "OFFSET": 0.0}
    exec(CODE, names)
    model = kerax.Sequential([kerax.Input((1,)), names["Times"]()])
    assert model.predict(X, verbose=0)[0, 0] == 2.0
