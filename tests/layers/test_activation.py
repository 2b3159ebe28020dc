import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers


def test_relu_follows_its_three_pieces():
    layer = layers.ReLU(max_value=2.0, negative_slope=0.5, threshold=1.0)
    np.testing.assert_allclose(layer(jnp.array([-1.0, 0.5, 1.5, 3.0])), [-1.0, -0.25, 1.5, 2.0])


@pytest.mark.parametrize("kwargs", [{"max_value": -1}, {"negative_slope": None}, {"threshold": -0.1}])
def test_relu_refuses_negative_arguments(kwargs):
    with pytest.raises(ValueError, match=f"`{next(iter(kwargs))}` must be a number of at least 0"):
        layers.ReLU(**kwargs)


def test_leaky_relu_takes_the_old_name_of_its_slope():
    np.testing.assert_allclose(layers.LeakyReLU(alpha=0.1)(jnp.array([-1.0, 2.0])), [-0.1, 2.0])


def test_prelu_shares_its_slopes():
    layer = layers.PReLU(shared_axes=[1, 2])
    layer(jnp.zeros((2, 3, 4, 5)))
    assert layer.alpha.shape == (1, 1, 5)
    assert layer(jnp.zeros((2, 6, 7, 5))).shape == (2, 6, 7, 5)


def test_softmax_ignores_masked_positions():
    outputs = layers.Softmax()(jnp.array([[1.0, 2.0, 1.0]]), mask=jnp.array([[True, False, True]]))
    np.testing.assert_allclose(outputs, [[0.5, 0.0, 0.5]])
    nothing = layers.Softmax()(jnp.ones((1, 2)), mask=jnp.zeros((1, 2), bool))
    np.testing.assert_allclose(nothing, [[0.0, 0.0]])  # as in Keras


def test_softmax_refuses_a_mask_that_does_not_broadcast():
    with pytest.raises(ValueError, match=r"`mask` of shape \(3,\) does not broadcast to inputs of shape \(1, 2\)"):
        layers.Softmax()(jnp.ones((1, 2)), mask=jnp.ones(3, bool))


def test_activation_names_are_checked():
    with pytest.raises(ValueError, match="Did you mean 'relu'"):
        layers.Activation("rellu")
