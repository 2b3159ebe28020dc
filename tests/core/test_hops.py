"""How many frames and calls of the library lie between a user's call and JAX: bounds on counts, not on times."""

import gc
import os
import sys
import weakref
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core import layer as layer_module
from kerax.core import sparse

FOLDER = os.path.dirname(kerax.__file__) + os.sep


@pytest.fixture(autouse=True)
def _no_pending_losses(monkeypatch):
    """Layers of other tests that hold losses make every call look through its own layers."""
    monkeypatch.setattr(layer_module, "_with_losses", weakref.WeakSet())
    monkeypatch.setattr(sparse, "MODULE", "nobody's")  # where another test has sparse arrays, they are looked for


def library_calls(function) -> Counter:
    """How often each function of kerax is entered while `function` runs."""
    calls = Counter()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(FOLDER):
            calls[frame.f_code] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def frames_to_operations(function) -> list[list[str]]:
    """The frames of kerax, outermost first, at each function of JAX that a dense layer's `call` traces."""
    stacks = []

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name == "reraise_with_filtered_traceback":  # around JAX's own functions
            stack, above = [], frame.f_back
            while above is not None:
                if above.f_code.co_filename.startswith(FOLDER):
                    stack.append(above.f_code.co_qualname)
                above = above.f_back
            if "Dense.call" in stack:
                stacks.append(stack[::-1])

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return stacks


@pytest.fixture(autouse=True)
def _no_layers_of_other_tests():
    """A layer of another test with losses of its last call, not yet collected, makes every call look for them."""
    gc.collect()


X = jnp.ones((4, 8))


def two_dense(activation=None) -> kerax.Model:
    inputs = kerax.Input((8,))
    return kerax.Model(inputs, layers.Dense(2)(layers.Dense(4, activation=activation)(inputs)))


@pytest.mark.medium
def test_library_calls_of_an_eager_layer():
    layer = layers.Dense(3)
    layer(X)
    assert library_calls(lambda: layer(X)).total() <= 45


@pytest.mark.medium
def test_library_calls_of_a_functional_model_and_of_its_apply():
    model = two_dense("relu")
    model(X)
    variables = model.variables_tree()
    model.apply(variables, X)
    assert library_calls(lambda: model(X)).total() <= 130
    assert library_calls(lambda: model.apply(variables, X)).total() <= 220


@pytest.mark.medium
def test_frames_from_a_layer_to_its_operation():
    layer = layers.Dense(3)
    layer(X)
    stacks = frames_to_operations(lambda: jax.make_jaxpr(lambda x: layer(x))(X))
    assert stacks and max(map(len, stacks)) <= 3, stacks


@pytest.mark.medium
def test_frames_from_a_model_to_a_layers_operation():
    model = two_dense()
    model(X)
    stacks = frames_to_operations(lambda: jax.make_jaxpr(lambda x: model(x))(X))
    assert stacks and max(map(len, stacks)) <= 5, stacks  # the model, its graph, the layer, its formula, its weight's


@pytest.mark.medium
def test_frames_from_the_loss_to_a_layers_operation_in_fit():
    model = two_dense()
    model.compile("adam", "mse")
    x, y = np.ones((64, 8), "float32"), np.ones((64, 2), "float32")
    stacks = frames_to_operations(lambda: model.fit(x, y, verbose=0))
    in_step = [stack[stack.index("train_step") :] for stack in stacks if "train_step" in stack]
    assert in_step
    assert max(map(len, in_step)) <= 7, in_step
    in_fit = [stack for stack in stacks if "Model.fit" in stack]
    assert max(map(len, in_fit)) <= 13, in_fit
