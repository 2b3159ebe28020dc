"""Since a layer is built, it takes no new state, as in Keras."""

import copy

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax

X = np.ones((2, 3), "float32")


def custom_classes(package):
    class Plain(package.layers.Layer):
        def call(self, x):
            return x

    class Weighted(package.layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(3, 2), name="kernel")

        def call(self, x):
            return package.ops.matmul(x, self.kernel)

    class Inherits(Weighted):
        def build(self, input_shape):
            super().build(input_shape)
            self.bias = self.add_weight(shape=(2,), name="bias")
            self.inner = package.layers.Dense(2)

    class Net(package.Model):
        def __init__(self):
            super().__init__()
            self.head, self.spare = package.layers.Dense(2), None

        def call(self, x):
            return self.head(x)

    return Plain, Weighted, Inherits, Net


def graph(package):
    inputs = package.Input((3,))
    return package.Model(inputs, package.layers.Dense(2)(inputs))


BUILT = {
    **{
        name: lambda package, place=place: custom_classes(package)[place]()
        for place, name in enumerate(("no build", "build", "an inherited build", "model"))
    },
    "of the library": lambda package: package.layers.Dense(2),
    "graph": graph,
    "list": lambda package: package.Sequential([package.layers.Dense(2)]),
}
STATE = {
    "layer": lambda package: package.layers.Dense(1),
    "variable": lambda package: package.Variable(np.ones(2)),
    "metric": lambda package: package.metrics.Mean(),
    "seed generator": lambda package: package.random.SeedGenerator(1),
    "model": graph,
    "in a list": lambda package: [3, package.layers.Dense(1)],
    "deep in containers": lambda package: {"a": ([package.layers.Dense(1)],)},
    "no state": lambda package: np.ones(3),
    "an empty list": lambda package: [],
    "an optimizer": lambda package: package.optimizers.SGD(),
    "a loss": lambda package: package.losses.MeanSquaredError(),
    "a function": lambda package: abs,
}


def outcome(function):
    """The class of the error that a function raises, or what it returns."""
    try:
        return function()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("state", STATE)
@pytest.mark.parametrize("built", BUILT)
def test_new_state_is_refused_where_keras_refuses_it(built, state):
    def assign(package):
        layer = BUILT[built](package)
        layer.new = STATE[state](package)  # before it is built, anything goes
        layer(X)
        layer.later = STATE[state](package)

    assert outcome(lambda: assign(kerax)) is outcome(lambda: assign(keras))


@pytest.mark.parametrize("built", BUILT)
def test_new_weights_are_refused_where_keras_refuses_them(built):
    def add(package):
        layer = BUILT[built](package)
        layer(X)
        layer.add_weight(shape=(2,), name="late")
        return None

    assert outcome(lambda: add(kerax)) is outcome(lambda: add(keras))


def hold_again(model, _):
    head, model.head = model.head, None
    model.head = head


def delete_and_hold_again(model, _):
    head = model.head
    del model.head
    model.head = head


def hold_elsewhere(model, _):
    model.spare = [model.head]


def replace(model, package):
    model.head = package.layers.Dense(3)


def take_away(model, _):
    model.spare = 3


def train(model, package):
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X, np.ones((2, 2)), verbose=0)
    model.compile("adam", package.losses.MeanSquaredError())


def quantize(model, _):
    model.head.quantize("int8")


def adapt(model, _):
    model.head.enable_lora(1)


def adapt_and_add(model, package):
    model.head.enable_lora(1)
    model.head.more = package.layers.Dense(1)


def build_again(model, _):
    model.head.build((None, 3))


CHANGES = (
    hold_again,
    delete_and_hold_again,
    hold_elsewhere,
    replace,
    take_away,
    train,
    quantize,
    adapt,
    adapt_and_add,
    build_again,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_of_a_built_model_that_keras_allows_or_not(change):
    def run(package):
        model = custom_classes(package)[3]()
        model(X)
        return change(model, package)

    assert outcome(lambda: run(kerax)) is outcome(lambda: run(keras))


def test_copies_are_locked_too_and_hold_their_own_parts(tmp_path):
    model = custom_classes(kerax)[3]()
    model(X)
    copied = copy.deepcopy(model)
    copied.spare = [copied.head]
    with pytest.raises(ValueError, match="`later` is assigned <Dense name=dense_?.*Make them in `__init__` or `build`"):
        copied.later = kerax.layers.Dense(1)
    layer = kerax.layers.Dense(2)
    layer.build((None, 3))
    layer.save_own_variables(store := {})
    layer.load_own_variables(store)
    with pytest.raises(ValueError, match="`add_weight` is called with name='late'"):
        layer.add_weight((2,), name="late")


def test_a_container_in_itself_is_looked_through_once():
    model = custom_classes(kerax)[3]()
    model(jnp.ones((2, 3)))
    circle: list = [3]
    circle.append(circle)
    model.circle = circle
