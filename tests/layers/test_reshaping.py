import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers
from kerax.core.symbolic import KerasTensor


def test_reshape_fills_in_the_missing_size():
    x = jnp.arange(12.0).reshape(1, 12)
    np.testing.assert_array_equal(layers.Reshape((3, -1))(x), x.reshape(1, 3, 4))
    assert layers.Reshape((-1, 2))(KerasTensor((None, None, 4))).shape == (None, None, 2)


@pytest.mark.parametrize("shape", [(5, 2), (5, -1)])
def test_reshape_refuses_another_number_of_values(shape):
    with pytest.raises(ValueError, match="cannot give 12 values per sample"):
        layers.Reshape(shape)(jnp.zeros((1, 12)))


def test_reshape_refuses_two_missing_sizes():
    with pytest.raises(ValueError, match="at most one -1"):
        layers.Reshape((-1, -1))


def test_flatten_gives_one_feature_for_a_vector():
    assert layers.Flatten()(jnp.zeros(3)).shape == (3, 1)
    assert layers.Flatten()(KerasTensor((None, 2, None))).shape == (None, None)


def test_permute_refuses_what_is_no_order():
    with pytest.raises(ValueError, match="`dims` must be an order"):
        layers.Permute((1, 3))


def test_repeat_vector_refuses_less_than_one():
    with pytest.raises(ValueError, match="`n` must be an integer of at least 1"):
        layers.RepeatVector(0)
