import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers


@pytest.mark.medium
def test_spectral_normalization_divides_by_the_largest_singular_value(key):
    layer = layers.SpectralNormalization(layers.Dense(4, use_bias=False), power_iterations=50)
    x = jax.random.normal(key, (3, 5))
    variables = layer.init(key, x)
    outputs, state = layer.apply(variables, x, training=True, key=key)
    kernel = np.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(outputs, x @ kernel / np.linalg.norm(kernel, 2), rtol=1e-3, atol=1e-4)
    assert not np.array_equal(state["vector_u"], variables["state"]["vector_u"])
    np.testing.assert_allclose(layer.apply(variables, x)[0], x @ kernel, rtol=1e-5, atol=1e-5)


def test_an_eager_training_call_keeps_the_divided_kernel(key):
    layer = layers.SpectralNormalization(layers.Dense(4), power_iterations=50)
    layer(jax.random.normal(key, (3, 5)), training=True)
    assert abs(np.linalg.norm(layer.layer.kernel.numpy(), 2) - 1) < 1e-3


def test_a_kernel_of_zeros_stays():
    layer = layers.SpectralNormalization(layers.Dense(4, kernel_initializer="zeros"))
    np.testing.assert_array_equal(layer(jnp.ones((1, 2)), training=True), 0)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="must have `kernel` or `embeddings`"):
        layers.SpectralNormalization(layers.Flatten())(jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="`power_iterations` must be an integer of at least 1"):
        layers.SpectralNormalization(layers.Dense(2), power_iterations=0)
