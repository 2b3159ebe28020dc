"""Many texts at once in NumPy: side by side in one piece of bytes, and found in a table by the numbers in it."""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from kerax.layers.integer_table import IntegerTable

_LEAST = 256  # texts: fewer are found one by one
_LONGEST = 128  # bytes of a text that is found so
BLOCK = 2**14  # texts at once: temporary arrays stay in the cache, and in memory that is mapped already
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # of the first bytes of a number


class PackedText(NamedTuple):
    """Texts inside one piece of bytes.

    Attributes:
        words: The little-endian 64-bit number at each byte.
        starts: Where the texts begin.
        lengths: Bytes of each.
    """

    words: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def take(self, places) -> "PackedText":
        """The texts at some places."""
        return PackedText(self.words, self.starts[places], self.lengths[places])

    def word(self, start: int) -> np.ndarray:
        """The number in up to 8 bytes from `start` of each text, 0 after its end."""
        if not start:
            return self.words[self.starts] & _MASKS[np.minimum(self.lengths, 8)]
        sizes = np.clip(self.lengths - start, 0, 8)
        # Behind the end of a text others may lie, but not behind that of all.
        return self.words[np.minimum(self.starts + start, len(self.words) - 1)] & _MASKS[sizes]

    def keys(self) -> np.ndarray:
        """A number for each text, int64: of up to 8 bytes these, of more a hash."""
        keys = self.word(0)
        for start in range(8, int(self.lengths.max(initial=0)), 8):
            (longer,) = np.nonzero(self.lengths > start)
            word = self.take(longer).word(start)
            keys[longer] = (keys[longer] * _FACTORS[0] ^ word) * _FACTORS[1]
        return keys.view(np.int64)

    def is_same(self, other: "PackedText") -> np.ndarray:
        """Which texts are those of another piece, of two with the same keys."""
        same, longest = self.lengths == other.lengths, int(self.lengths.max(initial=0))
        # The key of a text of up to 8 bytes says them all.
        for start in range(0, longest if longest > 8 else 0, 8):
            same &= self.word(start) == other.word(start)
        return same


def _packed(data: bytes, starts: np.ndarray, lengths: np.ndarray) -> PackedText:
    # The numbers at the last bytes reach beyond the end.
    return PackedText(np.ndarray((len(data) + 1,), "<u8", data + bytes(8), strides=(1,)), starts, lengths)


def pack(texts: np.ndarray, encoding: str = "utf-8") -> PackedText:
    """The texts of an array of one axis, of fixed width or objects, in an encoding."""
    packed = _pack_fixed(texts) if texts.dtype.kind == "U" and encoding in ("utf-8", "ascii") else None
    return _pack_list(texts.tolist(), encoding) if packed is None else packed


def _pack_fixed(texts: np.ndarray) -> PackedText | None:
    """Texts of fixed width that are ASCII, without a character 0 inside; else `None`."""
    if not texts.size or not texts.dtype.itemsize:
        return None
    codes = np.ascontiguousarray(texts.astype(texts.dtype.newbyteorder("="), copy=False))
    codes = codes.view(np.uint32).reshape(len(texts), -1)
    if codes.shape[1] > _LONGEST or codes.max() > 127:
        return None
    is_there = codes != 0
    if (is_there[:, 1:] > is_there[:, :-1]).any():
        return None
    starts = np.arange(len(texts)) * codes.shape[1]
    # By columns, of which there are few: NumPy adds short rows up ten times as slowly.
    lengths = np.zeros(len(texts), np.int64)
    for column in is_there.T:
        lengths += column
    return _packed(codes.astype(np.uint8).tobytes(), starts, lengths)


def _pack_list(texts: list[str], encoding: str) -> PackedText:
    data = "\0".join(texts).encode(encoding)
    (ends,) = np.nonzero(np.frombuffer(data + b"\0", np.uint8) == 0)
    # In a quarter of the time that asking each for its length takes, where the mark between them is in none.
    if len(ends) == len(texts) and encoding in ("utf-8", "ascii"):
        starts = np.concatenate([[0], ends[:-1] + 1])
        return _packed(data, starts, ends - starts)
    encoded = [text.encode(encoding) for text in texts]
    lengths = np.fromiter(map(len, encoded), int, len(encoded))
    return _packed(b"".join(encoded), np.cumsum(lengths) - lengths, lengths)


class TextTable:
    """Finds texts among tokens: 300,000 in a fifth of the time that a dict takes.

    Args:
        indices: The index of each token.
    """

    def __init__(self, indices: dict[str, int]):
        self.indices = indices

    def find(self, texts: np.ndarray, default: int) -> np.ndarray:
        """The index of each text of an array of one axis, int32; `default` where it is no token."""
        out = np.empty(len(texts), np.int32)
        for start in range(0, len(texts), BLOCK):
            out[start : start + BLOCK] = self._find(texts[start : start + BLOCK], default)
        return out

    def _find(self, texts: np.ndarray, default: int) -> np.ndarray:
        packed = _pack_short(texts) if len(texts) >= _LEAST and self._numbers is not None else None
        if packed is None or self._numbers is None:
            found = map(self.indices.get, texts.tolist(), itertools.repeat(default))
            return np.fromiter(found, "int32", len(texts))
        tokens, table, indices = self._numbers
        places = table.find(packed.keys())
        # Another text may have the same number.
        is_known = (places >= 0) & packed.is_same(tokens.take(places))
        return np.where(is_known, indices[places], np.int32(default))

    @functools.cached_property
    def _numbers(self) -> tuple[PackedText, IntegerTable, np.ndarray] | None:
        """The tokens, the place of each by its number, and their indices; `None` where two have one number."""
        tokens = _pack_short(np.array([*self.indices], object)) if self.indices else None
        if tokens is None:
            return None
        keys = tokens.keys()
        if len(np.unique(keys)) < len(keys):
            return None
        indices = np.fromiter(self.indices.values(), "int32", len(keys))
        return tokens, IntegerTable(keys, np.arange(len(keys), dtype="int32")), indices


def _pack_short(texts: np.ndarray) -> PackedText | None:
    """The texts, unless one is long, or no text that can be encoded."""
    try:
        packed = pack(texts)
    except UnicodeEncodeError:  # half of a character alone, which a dict compares as it is
        return None
    return None if packed.lengths.max(initial=0) > _LONGEST else packed
