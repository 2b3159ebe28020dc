"""Where randomness comes from outside a pure call: one stream of integer seeds, set by `set_random_seed`."""

import random
import zlib
from typing import Any, cast

import jax
import numpy as np


class _Stream:
    """Seeds drawn one after the other from a root seed; plain integers, so that drawing needs no device."""

    def __init__(self, root: int):
        self.root, self.count = root, 0

    def draw(self) -> int:
        self.count += 1
        # The n-th draw is a function of (root, n): neighbouring roots give unrelated streams.
        return int(np.random.SeedSequence([self.root, self.count]).generate_state(1)[0])


def _python_words() -> tuple:
    """The words of Python's generator, which 624 draws use up; its last number says how many were."""
    return random.getstate()[1][:-1]


def _comes_after(words: tuple, earlier: tuple) -> bool:
    """Whether draws alone, and not a seed, made these words of the earlier ones; too many draws count as a seed."""
    generator = random.Random()
    for _ in range(16):
        if words == earlier:
            return True
        generator.setstate((3, (*earlier, 624), None))
        generator.getrandbits(32)  # makes the next 624 words
        earlier = generator.getstate()[1][:-1]
    return False


def _numpy_state() -> int | None:
    """The state of NumPy's generator if `np.random.seed` was called: then it has no entropy of its own any more."""
    generator = cast(Any, np.random).get_bit_generator()
    if generator.seed_seq is not None:
        return None
    state = cast(Any, generator.state)["state"]
    return zlib.crc32(state["key"].tobytes(), int(state["pos"]))


class _Unseeded(_Stream):
    """Seeds while kerax was given none: they follow from `random.seed`, or from `np.random.seed` where it alone ran.

    Python's generator is drawn from, as in Keras, so that seeding it again as it was gives the same seeds again.
    NumPy's, which Keras does not ask, is looked at only: users draw their data from it, with and without kerax.
    """

    def __init__(self):
        self.words, self.is_python_seeded, self.numpy = _python_words(), False, _numpy_state()
        super().__init__(self.numpy or 0)

    def draw(self) -> int:
        words, numpy = _python_words(), _numpy_state()
        self.is_python_seeded = self.is_python_seeded or not _comes_after(words, self.words)
        if self.is_python_seeded or numpy is None:
            seed = random.randint(1, 10**9)
            self.words = _python_words()
            return seed
        if numpy != self.numpy:
            self.root, self.count = numpy, 0
        self.words, self.numpy = words, numpy
        return super().draw()


class _Python(_Stream):
    """Seeds drawn from Python's generator, as Keras's are: whoever seeds it again, as it was, gets the same ones."""

    def draw(self) -> int:
        return random.randint(1, 10**9)


_stream: _Stream = _Unseeded()


def draw_from_python() -> None:
    """Makes all seeds from now on ones of Python's generator, which libraries written for Keras seed and restore."""
    global _stream
    _stream = _Python(0)


def set_random_seed(seed: int) -> None:
    """Seeds Python's and NumPy's generators and everything random that kerax draws from now on.

    Args:
        seed: An integer from 0 to 2**32 - 1.
    """
    global _stream
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"set_random_seed: `seed` must be an integer in [0, 2**32). Got {seed!r}.")
    random.seed(int(seed))
    np.random.seed(int(seed))  # noqa: NPY002 what users draw from it shall be reproducible too
    if not isinstance(_stream, _Python):
        _stream = _Stream(int(seed))


def make_seed() -> int:
    """The next seed of the process-wide stream: a 32-bit unsigned integer."""
    return _stream.draw()


def key_from(seed) -> jax.Array:
    """A typed PRNG key for an integer, a raw `uint32[2]` key, or a typed key."""
    if isinstance(seed, (int, np.integer)):
        # Any integer, negative ones too.
        return jax.random.key(int(seed) % 2**32)
    if not hasattr(seed, "dtype") or isinstance(seed, np.floating):
        raise ValueError(f"`seed` must be an integer, a `SeedGenerator` or a key of JAX. Got {seed!r}.")
    if jax.numpy.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return seed
    return jax.random.wrap_key_data(seed)
