"""Operations and functions made of them."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import layers, ops


class Twice(kerax.Operation):
    def __init__(self, factor=2.0, name=None):
        super().__init__(name)
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_an_operation_computes_and_stands_in_a_graph():
    operation = Twice(3.0)
    np.testing.assert_array_equal(operation(jnp.ones(2)), [3, 3])
    np.testing.assert_array_equal(operation(kerax.Variable(np.ones(2, "f"))), [3, 3])
    inputs = kerax.Input((2,))
    outputs = operation(inputs)
    assert outputs.shape == (None, 2) and operation.input is inputs and operation.output is outputs
    model = kerax.Model(inputs, operation(outputs))
    np.testing.assert_array_equal(model(np.ones((1, 2), "f")), [[9, 9]])
    assert operation.get_config() == {"factor": 3.0, "name": "twice"}
    with pytest.raises(AttributeError, match="never called"):
        _ = Twice().output
    with pytest.raises(ValueError, match="without '/'"):
        Twice(name="a/b")
    with pytest.raises(NotImplementedError, match="`call`"):
        kerax.Operation()(1)


def test_an_operation_of_its_own_spec_is_believed():
    class Unknown(kerax.Operation):
        def call(self, x):
            return jnp.asarray(np.asarray(x))  # needs values

        def compute_output_spec(self, x):
            return kerax.KerasTensor(x.shape, x.dtype)

    assert Unknown()(kerax.Input((3,))).shape == (None, 3)


def test_an_operation_made_in_a_remat_scope_computes_again_for_the_gradient():
    class Sine(kerax.Operation):
        def call(self, x):
            return jnp.sin(x)

    def is_computed_again(operation, size):
        with kerax.StatelessScope():
            primitives = {eqn.primitive.name for eqn in jax.make_jaxpr(operation)(jnp.ones(size)).eqns}
        return bool(primitives & {"checkpoint", "remat2", "remat"})

    with kerax.RematScope("full"):
        inside = Sine()
    with kerax.RematScope("larger_than", output_size_threshold=10):
        sized = Sine()
    assert is_computed_again(inside, 2) and not is_computed_again(Sine(), 2)
    assert is_computed_again(sized, 11) and not is_computed_again(sized, 9)
    with kerax.RematScope("list_of_layers", layer_names=["chosen"]):
        assert is_computed_again(Sine(name="chosen"), 2) and not is_computed_again(Sine(), 2)


def test_functions_agree_with_keras(key):
    def make(module):
        a, b = module.Input((3,), name="a"), module.Input((3,), name="b")
        hidden = module.ops.tanh(a + b)
        return module.Function({"a": a, "b": b}, [hidden, module.ops.sum(hidden * 2.0, axis=1)])

    ours, theirs = make(kerax), make(keras)
    values = {name: np.asarray(jax.random.normal(key, (4, 3))) + i for i, name in enumerate("ab")}
    for mine, other in zip(ours(values), theirs(values), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)
    shapes = {"a": (5, 3), "b": (5, 3)}
    assert ours.compute_output_shape(shapes) == theirs.compute_output_shape(shapes) == [(5, 3), (5,)]
    assert len(ours.inputs) == len(theirs.inputs) and len(ours.outputs) == len(theirs.outputs)
    assert len(ours.operations) == len(theirs.operations)
    nested = ours({"a": kerax.Input((3,)), "b": kerax.Input((3,))})
    assert [tensor.shape for tensor in nested] == [(None, 3), (None,)]


def test_functions_may_start_in_the_middle_and_hold_layers():
    inputs = kerax.Input((3,))
    hidden = layers.Dense(2)(inputs)
    function = kerax.Function(hidden, ops.relu(hidden))
    np.testing.assert_array_equal(function(np.array([[-1.0, 2.0]], "f")), [[0, 2]])
    whole = kerax.Function(inputs, hidden)
    assert whole(np.ones((4, 3), "f")).shape == (4, 2)


def test_wrong_inputs_of_a_function_are_named():
    inputs = kerax.Input((3,))
    function = kerax.Function([inputs], inputs * 2)
    with pytest.raises(ValueError, match="must have the form"):
        function(np.ones((1, 3), "f"))
    with pytest.raises(ValueError, match="must have shape"):
        function([np.ones(3, "f")])
    with pytest.raises(ValueError, match="`inputs` must hold"):
        kerax.Function([], inputs)
    with pytest.raises(ValueError, match="disconnected"):
        kerax.Function(kerax.Input((3,)), inputs * 2)


def test_symbolic_tensors_reshape_and_squeeze():
    tensor = kerax.Input((2, 1, 3))
    model = kerax.Model(tensor, [tensor.squeeze(2), tensor.reshape((-1, 6))])
    first, second = model(np.arange(12.0, dtype="f").reshape(2, 2, 1, 3))
    assert first.shape == (2, 2, 3) and second.shape == (2, 6)


def test_layer_methods_under_keras_other_names():
    layer = layers.Dense(2)
    assert layer.add_variable((2,), "ones", name="extra").shape == (2,)
    assert layer.symbolic_call(kerax.Input((3,))).shape == (None, 2) and layer.inbound_nodes == []
    with pytest.raises(NotImplementedError, match="`compile`"):
        layer.add_metric(lambda: 0)


def test_own_variables_are_saved_and_loaded():
    layer, other, store = layers.Dense(2), layers.Dense(2), {}
    layer.build((None, 3))
    other.build((None, 3))
    layer.save_own_variables(store)
    assert list(store) == ["0", "1"] and store["0"].shape == (3, 2)
    other.load_own_variables(store)
    np.testing.assert_array_equal(other.get_weights()[0], layer.get_weights()[0])
    with pytest.raises(ValueError, match="expected 2 stored weights, got 1"):
        other.load_own_variables({"0": np.ones((3, 3))})


def test_overridden_saving_is_used_in_files(tmp_path):
    class Halved(layers.Dense):
        def save_own_variables(self, store):
            store["half"] = self.kernel.numpy() / 2

        def load_own_variables(self, store):
            self.kernel.assign(store["half"] * 2)

    def make():
        return kerax.Sequential([kerax.Input((3,)), Halved(2), layers.Dense(1)])

    model, other = make(), make()
    model.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    np.testing.assert_array_equal(other.get_weights()[2], model.get_weights()[2])
