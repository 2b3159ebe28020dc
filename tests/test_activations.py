"""Activations: against Keras with gradients, by name, on variables and symbolic tensors."""

from functools import partial

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import activations
from kerax.core.symbolic import KerasTensor
from kerax.core.variable import Variable

X = np.array([[-8.0, -3.3, -2.5, -1.0, -0.3, 0.2], [0.7, 1.1, 2.4, 3.6, 6.5, 9.0]], "float32")
CASES = [
    (name, {})
    for name in sorted(activations.ACTIVATIONS.entries)
    if name not in ("threshold", "exp", "sparsemax", "gelu_approximate")
] + [
    ("relu", {"negative_slope": 0.3}),
    ("relu", {"max_value": 6.0}),
    ("relu", {"threshold": 1.0}),
    ("relu", {"negative_slope": 0.1, "max_value": 3.0, "threshold": 0.5}),
    ("leaky_relu", {"negative_slope": 0.4}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}),
    ("gelu", {"approximate": True}),
    ("softmax", {"axis": 0}),
    ("log_softmax", {"axis": 0}),
    ("glu", {"axis": 0}),
    ("soft_shrink", {"threshold": 1.5}),
    ("hard_shrink", {"threshold": 1.5}),
    ("squareplus", {"b": 2}),
    ("threshold", {"threshold": 1.0, "default_value": -2.0}),
]


@pytest.mark.medium
def test_activations_and_their_gradients_are_those_of_keras():
    weights = np.linspace(-1, 1, X.size, dtype="float32").reshape(X.shape)

    def weighted(function, x):
        y = function(x)
        return jnp.sum(y * weights[: y.shape[0], : y.shape[1]]), y

    @partial(jax.jit, static_argnums=0)  # one compilation for all cases of a library
    def outputs_and_gradients(module):
        functions = [partial(getattr(module, name), **options) for name, options in CASES]
        return [jax.value_and_grad(partial(weighted, function), has_aux=True)(X) for function in functions]

    ours, theirs = outputs_and_gradients(activations), outputs_and_gradients(keras.activations)
    for case, ((_, value), gradient), ((_, expected), expected_gradient) in zip(CASES, ours, theirs, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6, err_msg=str(case))
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6, err_msg=str(case))


@pytest.mark.medium
def test_hand_computed_values():
    np.testing.assert_allclose(activations.relu(np.float32([-2, 1, 5]), 0.5, 4.0), [-1, 1, 4])
    np.testing.assert_allclose(activations.hard_sigmoid(np.float32([-4, 0, 4])), [0, 0.5, 1])
    np.testing.assert_allclose(activations.sparsemax(np.float32([[2, 1.5, -1]])), [[0.75, 0.25, 0]])
    np.testing.assert_allclose(activations.sparsemax(X, axis=0).sum(0), 1, rtol=1e-6)  # Keras's sums to less


def test_every_name_survives_serialization():
    for function in set(activations.ACTIVATIONS.entries.values()):
        name = activations.serialize(function)
        assert isinstance(name, str)
        assert activations.deserialize(name) is function
        assert keras.activations.deserialize(name) is not None


def test_get_takes_names_functions_and_none():
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    assert activations.get(jnp.sin) is jnp.sin
    with pytest.raises(ValueError, match="Did you mean 'relu'"):
        activations.get("rellu")
    with pytest.raises(TypeError, match="by name, config or object"):
        activations.get(3)


@pytest.mark.medium
def test_activations_work_on_variables_symbolic_tensors_and_half_precision():
    variable = Variable(np.float32([-1, 2]))
    np.testing.assert_allclose(activations.relu(variable), [0, 2])
    outputs = activations.softmax(KerasTensor((None, 3), "bfloat16"))
    assert isinstance(outputs, KerasTensor) and outputs.shape == (None, 3) and outputs.dtype == "bfloat16"
    for name in ("relu", "gelu", "softmax", "mish", "sparsemax", "soft_shrink"):
        assert activations.get(name)(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.bfloat16, name


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("most", [None, 6.0, 0.5])
@pytest.mark.parametrize("threshold", [0.0, 0.5, -0.7])
def test_relu_and_its_gradient_at_the_corners(slope, most, threshold):
    x = jnp.array([-3.0, -0.7, -0.5, 0.0, 0.2, 0.5, 1.0, 6.0, 7.0])

    def both(function):
        f = lambda x: function(x, negative_slope=slope, max_value=most, threshold=threshold)
        return f(x), jax.grad(lambda x: f(x).sum())(x)

    for found, expected in zip(both(activations.relu), both(keras.activations.relu), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
