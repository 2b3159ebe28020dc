"""Caches of keys and values: the formulations of each platform write the same."""

import jax.numpy as jnp
import numpy as np
import pytest

from kerax import config
from kerax.ops import caches


@pytest.mark.medium
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_one_input_of_each_row_is_written_at_its_position_on_every_platform(dtype):
    generator = np.random.default_rng(0)
    cache = caches.empty(3, 2, 5, (4, 6), jnp.dtype(dtype))
    cache = {name: (leaf + 1).astype(leaf.dtype) for name, leaf in cache.items()}
    key, value = (jnp.asarray(generator.normal(size=(3, 1, 2, size)), "float32") for size in (4, 6))
    positions = jnp.array([4, 0, 7])  # the last lies outside, and is not written
    found = {}
    for platform in ("cpu", "gpu", "tpu"):
        with config.compiling_for(platform):
            found[platform] = caches.updated(cache, key, value, positions)
    for name, leaf in found["cpu"].items():
        assert (leaf[2] == cache[name][2]).all() and not (leaf[0, :, 4] == cache[name][0, :, 4]).all()
        assert (leaf[0, :, :4] == cache[name][0, :, :4]).all() and (leaf[1, :, 1:] == cache[name][1, :, 1:]).all()
        for platform in ("gpu", "tpu"):
            np.testing.assert_array_equal(np.float32(found[platform][name]), np.float32(leaf))
