import jax
import numpy as np
import pytest

import kerax
from kerax.core import host_random
from kerax.core.variable import Variable, path_hash

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (128, 33)])
@pytest.mark.parametrize("low, high", [(-0.05, 0.05), (0.0, 1.0), (-1.7, 0.3)])
def test_the_bits_are_those_of_jax(shape, low, high):
    for seed, fold in ((0, 0), (1234567, 4294967295), (2**32 - 1, 77)):
        key = jax.random.fold_in(jax.random.key(seed), np.uint32(fold))
        expected = jax.random.uniform(key, shape, "float32", low, high)
        np.testing.assert_array_equal(host_random.uniform(seed, fold, shape, low, high), expected)


@pytest.mark.parametrize("name", ["glorot_uniform", "he_uniform", "random_uniform", "lecun_uniform"])
def test_a_variable_starts_as_the_pure_init_does(name):
    variable = Variable(kerax.initializers.get(name), (5, 3), name="kernel")
    variable.seed_and_path = (42, "a/kernel")
    key = jax.random.fold_in(jax.random.key(42), path_hash("a/kernel"))
    expected = jax.jit(lambda key: kerax.initializers.get(name)((5, 3), "float32", key=key))(key)
    np.testing.assert_array_equal(variable.value, expected)
