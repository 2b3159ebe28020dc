import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers
from kerax.core.symbolic import KerasTensor


def test_dense_is_an_affine_map(key):
    layer = layers.Dense(2)
    layer.build((None, 3))
    kernel, bias = np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0])
    layer.set_weights([kernel, bias])
    x = jax.random.normal(key, (4, 5, 3))
    np.testing.assert_allclose(layer(x), np.asarray(x) @ kernel + bias, rtol=1e-5, atol=1e-5)


def test_dense_takes_an_empty_batch():
    assert layers.Dense(2)(jnp.zeros((0, 3))).shape == (0, 2)


@pytest.mark.parametrize("units", [0, -1, 2.5, True])
def test_dense_refuses_bad_units(units):
    with pytest.raises(ValueError, match="`units` must be an integer of at least 1"):
        layers.Dense(units)


def test_dense_refuses_other_inputs():
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="at least 2 axes"):
        layer(jnp.zeros(3))
    layer(jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"expected axis -1 of the input to have size 3.*\(1, 4\)"):
        layer(jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match="'kernel' needs a known shape"):
        layers.Dense(2)(KerasTensor((2, None)))


def test_dense_regularizers_give_losses():
    layer = layers.Dense(
        1, use_bias=False, kernel_initializer="ones", kernel_regularizer="l2", activity_regularizer="l1"
    )
    layer(jnp.ones((1, 3)))
    assert len(layer.losses) == 2
    np.testing.assert_allclose(sum(layer.losses), 0.03 + 0.03, rtol=1e-5)


@pytest.mark.parametrize(
    "equation, output_shape, bias_axes, message",
    [
        ("ab->ab", 3, None, "must have the form"),
        ("...b,bc->ac", 3, None, "must stand in the input and the output"),
        ("ab,bc->ac", (3, 4), None, "must have 1 entries"),
        ("ab,bc->ac", 3, "x", "bias axis 'x' is not in the output"),
        ("ab,bx->ac", 3, None, "axis 'x' has no size"),
        ("abcd,de->abce", (2, 2, 3), None, "asks for an input with 4 axes"),
    ],
)
def test_einsum_dense_refuses_bad_equations(equation, output_shape, bias_axes, message):
    with pytest.raises(ValueError, match=message):
        layers.EinsumDense(equation, output_shape, bias_axes=bias_axes)(jnp.zeros((2, 4)))


def test_einsum_dense_with_equal_sizes_contracts_the_axes_of_its_equation(key):
    x = jax.random.normal(key, (2, 5, 2, 2))
    layer = layers.EinsumDense("abcd,cde->abe", (None, 7))
    outputs = layer(x)
    np.testing.assert_allclose(outputs, jnp.einsum("abcd,cde->abe", x, layer.kernel.value), rtol=1e-5, atol=1e-5)


def test_einsum_dense_initial_values_have_the_variance_of_the_contracted_axes():
    layer = layers.EinsumDense("abc,cde->abde", (None, 20, 30))
    layer.build((None, 5, 40))
    limit = (6 / (40 + 20 * 30)) ** 0.5
    assert limit * 0.95 < abs(layer.kernel.numpy()).max() <= limit
