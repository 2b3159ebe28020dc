"""`IntegerTable`: the numbers that belong to integers, found on the host."""

import numpy as np

_ABSENT = -1
_BLOCK = 2**15  # integers at once: temporary arrays that stay in the cache, and in memory that is mapped already


class IntegerTable:
    """Finds integers among `keys`, in NumPy: a million in 2 to 8 ms, where a binary search takes 80.

    Keys that lie close together are the positions of their values. Others are hashed by multiplication, and those whose
    place is taken go to a further, smaller table.

    Args:
        keys: int64, each once.
        values: int32, not -1.
    """

    def __init__(self, keys: np.ndarray, values: np.ndarray):
        low, high = (int(keys.min()), int(keys.max())) if len(keys) else (0, 0)
        limits = np.iinfo(np.int64)
        self._low, self._high = low - 1, high + 1  # where there are no keys
        self._direct: np.ndarray | None = None
        self._levels: list[tuple] = []
        if high - low < max(2**16, 8 * len(keys)) and limits.min < low and high < limits.max:
            self._direct = np.full(high - low + 3, _ABSENT, np.int32)
            self._direct[keys - self._low] = values
        random = np.random.default_rng(0)
        while self._direct is None and len(keys):
            bits = max(8, int(4 * len(keys)).bit_length())
            factor = random.integers(2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
            shift = np.uint64(64 - bits)
            places = (keys.astype(np.uint64) * factor >> shift).astype(np.int64)
            first = np.unique(places, return_index=True)[1]
            held, found = np.zeros(2**bits, np.int64), np.full(2**bits, _ABSENT, np.int32)
            held[places[first]], found[places[first]] = keys[first], values[first]
            self._levels.append((factor, shift, held, found))
            keys, values = np.delete(keys, first), np.delete(values, first)

    def find(self, integers: np.ndarray) -> np.ndarray:
        """The value of each integer, int32 of the same shape; -1 where it is no key."""
        flat, out = integers.reshape(-1), np.full(integers.size, _ABSENT, np.int32)
        for start in range(0, len(flat), _BLOCK):
            block = flat[start : start + _BLOCK].astype(np.int64)
            target = out[start : start + len(block)]
            if self._direct is not None:
                np.clip(block, self._low, self._high, out=block)
                block -= self._low
                np.take(self._direct, block, out=target, mode="clip")
            elif self._levels:
                self._find(block, target, 0)
        return out.reshape(integers.shape)

    def _find(self, integers: np.ndarray, out: np.ndarray, level: int):
        factor, shift, held, found = self._levels[level]
        places = integers.view(np.uint64) * factor
        places >>= shift
        places = places.view(np.int64)
        np.take(found, places, out=out, mode="clip")
        # A place that is empty has no more keys; in one that is taken by another, it may be on the next level.
        (others,) = np.nonzero((held[places] != integers) & (out != _ABSENT))
        rest = np.full(len(others), _ABSENT, np.int32)
        if level + 1 < len(self._levels) and len(others):
            self._find(integers[others], rest, level + 1)
        out[others] = rest
