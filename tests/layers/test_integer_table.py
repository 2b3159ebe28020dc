"""`IntegerTable` against a dict."""

import numpy as np
import pytest

from kerax.layers.integer_table import IntegerTable

LIMITS = np.iinfo(np.int64)
KEYS = {
    "close together": np.arange(-50, 1000, 3),
    "far apart": np.random.default_rng(0).integers(LIMITS.min, LIMITS.max, 3000),
    "multiples": np.arange(5000) * 2**40,
    "at the ends": np.array([LIMITS.min, LIMITS.max, 0, -1]),
    "one": np.array([7]),
    "none": np.array([], np.int64),
}


@pytest.mark.parametrize("name", KEYS)
def test_every_key_is_found_and_nothing_else(name):
    keys = np.unique(KEYS[name])
    values = np.random.default_rng(1).permutation(len(keys)).astype(np.int32)
    table, known = IntegerTable(keys, values), dict(zip(keys.tolist(), values.tolist(), strict=True))
    with np.errstate(over="ignore"):
        asked = np.concatenate([keys, keys + 1, keys - 1, [0, 5, LIMITS.max, LIMITS.min]])
    asked = np.random.default_rng(2).permutation(asked)[: 2 * (len(asked) // 2)].reshape(2, -1)
    found = table.find(asked)
    assert found.dtype == np.int32
    assert found.ravel().tolist() == [known.get(key, -1) for key in asked.ravel().tolist()]


def test_any_dtype_and_more_than_a_block():
    table = IntegerTable(np.arange(100), np.arange(100, dtype=np.int32))
    asked = np.tile(np.arange(200), 1000).astype(np.uint8)
    np.testing.assert_array_equal(table.find(asked), np.where(asked < 100, asked.astype(int), -1))
