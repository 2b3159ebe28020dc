"""Layers that number categories by hashing them: `Hashing` and `HashedCrossing`, with the hashes of TensorFlow.

Both hash functions take equally long byte strings: as the rows of an array `(..., length)` of uint64, one byte each, or
as `PackedStrings`. They are written once for NumPy, and for JAX inside `jax.enable_x64`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core.symbolic import KerasTensor
from kerax.core.text import TextStep, reads_text
from kerax.layers.category import _Categorical, as_array, encode, is_abstract, is_text, is_wide
from kerax.layers.options import check, check_positive
from kerax.layers.text_table import BLOCK, pack

_MASK = (1 << 64) - 1
_K0, _K1, _K2 = np.array([0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F], np.uint64)


def _u64(number: int) -> np.uint64:
    return np.uint64(number & _MASK)


def _rotate(x, count: int):
    """Bits moved to the right by `count`, those that fall out coming in again on the left."""
    rotated = x >> _u64(count)
    rotated |= x << _u64(64 - count)  # in NumPy in place
    return rotated


def _mix(x):
    return x ^ (x >> _u64(47))


class PackedStrings:
    """Equally long byte strings inside one: a load is a single gather, where bytes apart take one for each.

    Args:
        words: The little-endian 64-bit number at each byte.
        starts: Where the strings begin.
        length: Bytes of each.
    """

    def __init__(self, words: np.ndarray, starts: np.ndarray, length: int):
        self.words, self.starts, self.shape = words, starts, (len(starts), length)

    def load(self, start: int, size: int) -> np.ndarray:
        """The little-endian numbers in `size` bytes from `start`."""
        numbers = self.words[self.starts + start]
        return numbers if size == 8 else numbers & _u64((1 << 8 * size) - 1)


def _load(rows, start: int, size: int = 8):
    """The little-endian number in `size` bytes from `start`, which may count from the end."""
    start %= rows.shape[-1]
    if isinstance(rows, PackedStrings):
        return rows.load(start, size)
    return sum((rows[..., start + i] << _u64(8 * i) for i in range(1, size)), rows[..., start])


def _zeros(rows):
    """A zero for each row, in NumPy or in JAX."""
    return np.zeros(rows.shape[0], np.uint64) if isinstance(rows, PackedStrings) else rows.sum(-1) * _u64(0)


def _combine(u, v, mul):
    a = _mix((u ^ v) * mul)
    return _mix((v ^ a) * mul) * mul


def fingerprint64(rows: Any) -> Any:
    """FarmHash's Fingerprint64 of the rows of `(..., length)`.

    Source: Pike 2014, https://github.com/google/farmhash
    """
    length = rows.shape[-1]
    mul = _u64(int(_K2) + 2 * length)
    load = functools.partial(_load, rows)
    if length == 0:
        return np.full(rows.shape[:-1], _K2)
    if length < 4:
        y = load(0, 1) + (load(length // 2, 1) << _u64(8))
        z = (load(-1, 1) << _u64(2)) + _u64(length)
        return _mix((y * _K2) ^ (z * _K0)) * _K2
    if length < 8:
        return _combine((load(0, 4) << _u64(3)) + _u64(length), load(-4, 4), mul)
    if length <= 16:
        a, b = load(0) + _K2, load(-8)
        return _combine(_rotate(b, 37) * mul + a, (_rotate(a, 25) + b) * mul, mul)
    if length <= 64:
        a, b, c, d = load(0) * (_K1 if length <= 32 else _K2), load(8), load(-8) * mul, load(-16) * _K2
        y = _rotate(a + b, 43) + _rotate(c, 30) + d
        z = _combine(y, a + _rotate(b + _K2, 18) + c, mul)
        if length <= 32:
            return z
        e, f, g, h = load(16) * mul, load(24), (y + load(-32)) * mul, (z + load(-24)) * mul
        return _combine(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, mul)
    return _fingerprint_of_long(rows)


def _fingerprint_of_long(rows):
    """Fingerprint64 of more than 64 bytes: blocks of 64 change a state of seven numbers; the last may overlap."""
    length = rows.shape[-1]
    zero = _zeros(rows)
    x, y, z = zero + _u64(81 * int(_K2)), zero + _u64(81 * int(_K1) + 113), zero
    z, x = _mix(y * _K2 + _u64(113)) * _K2, x + _load(rows, 0)
    v = w = (zero, zero)

    def pair(start, a, b):
        first, second, third, fourth = (_load(rows, start + 8 * i) for i in range(4))
        a = a + first
        b = _rotate(b + a + fourth, 21)
        whole = a + second + third
        return whole + fourth, b + _rotate(whole, 44) + a

    def block(start, state, mul, nine):
        x, y, z, v, w = state
        x = _rotate(x + y + v[0] + _load(rows, start + 8), 37) * mul
        y = _rotate(y + v[1] + _load(rows, start + 48), 42) * mul
        x = x ^ (w[1] * nine)
        y = y + v[0] * nine + _load(rows, start + 40)
        z = _rotate(z + w[0], 33) * mul
        v = pair(start, v[1] * mul, x + w[0])
        w = pair(start + 32, z + w[1], y + _load(rows, start + 16))
        return z, y, x, v, w

    state = x, y, z, v, w
    for start in range(0, (length - 1) // 64 * 64, 64):
        state = block(start, state, _K1, _u64(1))
    x, y, z, v, w = state
    # The last block has another multiplier, and counts how many of its bytes are new.
    mul = ((z & _u64(0xFF)) << _u64(1)) + _K1
    w = (w[0] + _u64((length - 1) % 64), w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x, y, z, v, w = block(length - 64, (x, y, z, v, w), mul, _u64(9))
    return _combine(_combine(v[0], w[0], mul) + _mix(y) * _K0 + z, _combine(v[1], w[1], mul) + x, mul)


def siphash24(rows: Any, key: tuple[int, int]) -> Any:
    """SipHash-2-4 with a key of two 64-bit numbers, of the rows of `(..., length)`.

    Source: Aumasson & Bernstein 2012, https://www.131002.net/siphash/siphash.pdf
    """
    length = rows.shape[-1]
    zero = _zeros(rows)
    initial = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    a, b, c, d = (zero + _u64(number ^ key[i % 2]) for i, number in enumerate(initial))

    def turned(x, count, other):
        x = _rotate(x, 64 - count)
        x ^= other
        return x

    # Every sum and product wraps around at 64 bits, as the hash wants it. In NumPy in place.
    def rounds(a, b, c, d, count):
        for _ in range(count):
            a += b
            c += d
            b, d = turned(b, 13, a), turned(d, 16, c)
            a = _rotate(a, 32)
            a += d
            c += b
            d, b = turned(d, 21, a), turned(b, 17, c)
            c = _rotate(c, 32)
        return a, b, c, d

    words: list[Any] = [_load(rows, start) for start in range(0, length - 7, 8)]
    rest = length % 8
    words.append((_load(rows, length - rest, rest) if rest else zero) + _u64(length << 56))
    for word in words:
        a, b, c, d = rounds(a, b, c, d ^ word, 2)
        a = a ^ word
    a, b, c, d = rounds(a, b, c ^ _u64(0xFF), d, 4)
    return a ^ b ^ c ^ d


def hash_rows(rows: Any, salt: tuple[int, int] | None) -> Any:
    """Fingerprint64, or with a salt SipHash-2-4."""
    return fingerprint64(rows) if salt is None else siphash24(rows, salt)


def hash_text(texts: np.ndarray, salt: tuple[int, int] | None, encoding: str = "utf-8") -> np.ndarray:
    """The hash of each string or integer (as its decimal digits) of an array: uint64 of the same shape."""
    flat = texts.ravel()
    hashes = np.zeros(len(flat), np.uint64)
    for start in range(0, len(flat), BLOCK):
        block, out = flat[start : start + BLOCK], hashes[start : start + BLOCK]
        words, starts, lengths = pack(block.astype(str) if block.dtype.kind in "iu" else block, encoding)
        # Texts of one length are hashed together: the steps of the hash depend on it.
        for length in np.flatnonzero(np.bincount(lengths)):
            (where,) = np.nonzero(lengths == length)
            out[where] = hash_rows(PackedStrings(words, starts[where], int(length)), salt)
    return hashes.reshape(texts.shape)


@functools.partial(jax.jit, static_argnums=(1, 2))
def hash_integers(integers: Any, num_bins: int, salt: tuple[int, int] | None) -> Any:
    """The hash of each integer's decimal digits modulo `num_bins`: int32 of the same shape."""
    longest = len(str(jnp.iinfo(integers.dtype).min if integers.dtype.kind == "i" else jnp.iinfo(integers.dtype).max))
    with jax.enable_x64(True):
        is_negative = integers < 0
        # In 64 bits before the sign goes: the smallest of 32 has no positive counterpart there.
        size = jnp.abs(integers.astype("int64")).astype("uint64")
        powers = np.array([10**i for i in reversed(range(longest))], np.uint64)
        digits = size[..., None] // powers % _u64(10) + _u64(ord("0"))
        num_digits = jnp.maximum(1, jnp.sum(size[..., None] >= powers, -1))
        length = num_digits + is_negative.astype("int64")
        hashes = jnp.zeros(integers.shape, "uint64")
        for n in range(1, longest + 1):  # the hash takes other steps for every length, so each is computed
            rows = digits[..., longest - n :]
            # The sign stands in front of the digits, where a longer number's next digit would.
            signed = jnp.where(is_negative, _u64(ord("-")), rows[..., 0])
            rows = jnp.concatenate([signed[..., None], rows[..., 1:]], -1)
            hashes = jnp.where(length == n, hash_rows(rows, salt), hashes)
        return (hashes % _u64(num_bins)).astype("int32")


def as_salt(layer: Any, salt: Any) -> tuple[int, int] | None:
    """A salt as two numbers: one number stands for both.

    Raises:
        ValueError: if it is neither `None` nor one or two integers of at least 0.
    """
    if salt is None:
        return None
    pair = (salt, salt) if isinstance(salt, int) else tuple(salt)
    are_keys = len(pair) == 2 and all(isinstance(number, int) and 0 <= number <= _MASK for number in pair)
    check(layer, are_keys, "`salt` must be one or two integers of at least 0", salt=salt)
    return pair


class Hashing(_Categorical):
    """Text or integers as integers below `num_bins`: their hash modulo that number.

    Integers are hashed as their decimal digits: 12 like "12". On text the layer works on the host and returns NumPy
    arrays; on integers it also works inside a compiled model.

    Args:
        num_bins: Number of bins, that of `mask_value` included.
        mask_value: The value that gets bin 0, which then no other gets. Default: there is none.
        salt: One or two integers that key the hash. `None`: FarmHash's Fingerprint64; else SipHash-2-4.
        output_mode: `"int"`, `"one_hot"` (a vector for each input), `"multi_hot"` or `"count"` (one for the last axis).
        sparse: Whether vectors come as JAX's sparse `BCOO`; not with "int".

    Input shape: any. Output shape: the same with `"int"` (int32), else `(..., num_bins)`.
    Source: Weinberger et al. 2009, https://arxiv.org/abs/0902.2206

    Raises:
        ValueError: if `num_bins` is below 1, or 1 with a `mask_value`.
    """

    def __init__(self, num_bins, mask_value=None, salt=None, output_mode="int", sparse=False, **kwargs):
        super().__init__(output_mode, sparse, **kwargs)
        check_positive(self, num_bins=num_bins)
        is_enough = mask_value is None or num_bins > 1
        check(self, is_enough, "with a `mask_value`, `num_bins` must be at least 2", num_bins=num_bins)
        self.num_bins, self.mask_value, self.salt = num_bins, mask_value, salt
        self._salt = as_salt(self, salt)
        self._num_free = num_bins if mask_value is None else num_bins - 1

    def call(self, inputs: Any) -> Any:
        inputs = inputs if jnp.issubdtype(inputs.dtype, jnp.integer) else inputs.astype(jnp.int32)
        if isinstance(self.mask_value, str):
            raise ValueError(f"{self}: `mask_value` must be an integer for integer inputs. Got {self.mask_value!r}.")
        bins = hash_integers(inputs, self._num_free, self._salt)
        # Bin 0 is the mask's alone: the others move up by one.
        if self.mask_value is not None:
            bins = jnp.where(inputs == self.mask_value, 0, bins + 1)
        return encode(self, bins, self.num_bins)

    def kerax_text_steps(self, shape: tuple) -> list[TextStep]:
        params = {"bins": self._num_free, "salt": self._salt, "mask": self.mask_value}
        return [TextStep("hash", params), self.kerax_encode_step(self.num_bins)]

    def call_on_host(self, inputs: Any) -> Any:
        bins = hash_text(inputs, self._salt) % np.uint64(self._num_free)
        if self.mask_value is not None:
            bins = np.where(inputs == self.mask_value, 0, bins + np.uint64(1))
        return encode(self, bins.astype("int32"), self.num_bins)


def _cross(first, second):
    """TensorFlow's hash of two hashes."""
    mul = _u64(0xC6A4A7935BD1E995)
    result = ((first ^ mul) ^ (_mix(second * mul) * mul)) * mul
    return _mix(_mix(result) * mul)


def _cross_all(hashes, num_bins: int):
    return functools.reduce(_cross, hashes, hashes[0] * _u64(0) + _u64(0xDECAFCAFFE)) % _u64(num_bins)


class HashedCrossing(_Categorical):
    """Combinations of features as integers below `num_bins`: the hash of all features of an example together.

    On text the layer works on the host and returns NumPy arrays; on integers it also works inside a compiled model.

    Args:
        num_bins: Number of bins.
        output_mode: `"int"` or `"one_hot"`.
        sparse: Whether vectors come as JAX's sparse `BCOO`; not with "int".

    Input shape: a list of two or more features, each `()`, `(batch,)` or `(batch, 1)`, of text or integers.
    Output shape: that of a feature with `"int"` (int32), `(batch, num_bins)` with `"one_hot"`.

    Raises:
        ValueError: if there are fewer than two features, or their shapes differ.
    """

    def __init__(self, num_bins, output_mode="int", sparse=False, name=None, dtype=None, **kwargs):
        super().__init__(output_mode, sparse, ("int", "one_hot"), name=name, dtype=dtype, **kwargs)
        check_positive(self, num_bins=num_bins)
        self.num_bins = num_bins

    def __call__(self, inputs: Any, **kwargs) -> Any:
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise ValueError(f"{self}: inputs must be a list of at least two features. Got {inputs!r}.")
        features = [as_array(self, feature) for feature in inputs]
        shapes = [tuple(feature.shape) for feature in features]
        if len(set(shapes)) > 1 or not (len(shapes[0]) < 2 or shapes[0][1:] == (1,)):
            raise ValueError(f"{self}: features must have one shape of (), (batch,) or (batch, 1). Got {shapes}.")
        if reads_text(features) and isinstance(features[0], KerasTensor):
            return super(_Categorical, self).__call__(features, **kwargs)
        for feature in features:
            if not is_text(feature) and np.dtype(feature.dtype).kind not in "iu":
                raise ValueError(f"{self}: features must be text or integers. Got dtype {feature.dtype}.")
        if any(is_text(feature) or is_wide(feature) for feature in features):
            if any(map(is_abstract, features)):
                raise ValueError(
                    f"{self}: text cannot be combined with features of a compiled call. Cross them before."
                )
            return self.call_on_host(features)
        # Past the family's call, which takes one array.
        return super(_Categorical, self).__call__(features, **kwargs)

    def call(self, inputs: Any) -> Any:
        with jax.enable_x64(True):
            bins = _cross_all([feature.astype("int64").astype("uint64") for feature in inputs], self.num_bins)
            bins = bins.astype("int32")
        return encode(self, bins, self.num_bins)

    def kerax_text_steps(self, shape: tuple) -> list[TextStep]:
        return [TextStep("cross", {"bins": self.num_bins}), self.kerax_encode_step(self.num_bins)]

    def call_on_host(self, inputs: Any) -> Any:
        # Integers count as themselves: only text is hashed before it is crossed.
        as_hash = lambda values: np.asarray(values).astype("int64").astype("uint64")
        hashes = [hash_text(values, None) if is_text(values) else as_hash(values) for values in inputs]
        return encode(self, np.asarray(_cross_all(hashes, self.num_bins)).astype("int32"), self.num_bins)
