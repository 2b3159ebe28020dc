"""`Dataset`: batches that are made as they are asked for, with the methods that scripts know from `tf.data`."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

INFINITE, UNKNOWN = -1, -2  # what `cardinality` says besides numbers, as in `tf.data`


class HostArray(np.ndarray):
    """A NumPy array that also has the method `numpy()` of tensors."""

    def numpy(self) -> Any:
        """Itself as a plain array; a single number as NumPy's number."""
        plain = np.asarray(self)
        return plain if plain.ndim else plain[()]

    def __getitem__(self, index) -> Any:
        item = super().__getitem__(index)
        # `labels[0].numpy()` too; a text is one of Python's.
        return np.asarray(item).view(HostArray) if isinstance(item, (np.number, np.bool_)) else item


def as_element(structure: Any) -> Any:
    """A structure of arrays as elements are handed out in a loop; a single text stays as it is."""

    def convert(leaf):
        array = np.asarray(leaf)
        return array.view(HostArray) if array.ndim or array.dtype.kind not in "OSU" else leaf

    return jax.tree.map(convert, structure)


class ElementSpec(NamedTuple):
    """What is known of an array of an element: its shape, `None` for the size of a batch, and its dtype."""

    shape: tuple
    dtype: np.dtype


class Dataset:
    """Elements, one after the other, as often as it is gone through. Elements are batches for `fit`.

    Args:
        begin: Function of the number of the pass, from 0 on, that returns an iterator over the elements.
        cardinality: Number of elements, or `INFINITE` or `UNKNOWN`.

    >>> numbers = Dataset(lambda _: iter(range(5)), 5)
    >>> list(map(int, numbers.filter(lambda number: number % 2 == 0).repeat(2).as_numpy_iterator()))
    [0, 2, 4, 0, 2, 4]
    """

    def __init__(self, begin: Callable[[int], Iterator], cardinality: int = UNKNOWN):
        self._begin, self._cardinality, self._passes = begin, cardinality, 0

    def elements(self) -> Iterator:
        """The elements of one more pass, as they were made."""
        number, self._passes = self._passes, self._passes + 1
        return self._begin(number)

    def __iter__(self) -> Iterator:
        return (as_element(element) for element in self.elements())

    def as_numpy_iterator(self) -> Iterator:
        """The elements of one pass as plain NumPy arrays."""
        return (jax.tree.map(_plain, element) for element in self.elements())

    def known_length(self) -> int:
        """Number of elements, or `INFINITE` or `UNKNOWN`."""
        return self._cardinality

    def __len__(self) -> int:
        count = self.known_length()
        if count < 0:
            raise TypeError(f"The data set is {'infinite' if count == INFINITE else 'of unknown length'}.")
        return count

    def __bool__(self) -> bool:
        return True  # whatever its length is

    def cardinality(self) -> Any:
        """Number of elements, or `INFINITE` or `UNKNOWN`, as an array."""
        return np.asarray(self.known_length(), np.int64).view(HostArray)

    @property
    def element_spec(self) -> Any:
        """Shapes and dtypes of the first element, its first axis taken for that of the batch."""
        return element_spec(next(iter(self.elements())), has_rows=True)

    def _then(self, change: Callable[[Iterator], Iterator], cardinality: int = UNKNOWN) -> "Dataset":
        """The elements that `change` makes of those of a pass."""
        return Dataset(lambda _: change(self.elements()), cardinality)

    def _count(self, change: Callable[[int], int]) -> int:
        count = self.known_length()
        return count if count < 0 else change(count)

    def map(self, function: Callable, num_parallel_calls=None, deterministic=None, name=None) -> "Dataset":
        """What `function` makes of each element; of a tuple it gets the parts. Order is kept."""
        return self._then(lambda elements: (call(function, element) for element in elements), self.known_length())

    def filter(self, predicate: Callable, name=None) -> "Dataset":
        """The elements of which `predicate` is true."""
        return self._then(lambda elements: (element for element in elements if bool(call(predicate, element))))

    def take(self, count: int, name=None) -> "Dataset":
        """The first `count` elements; all for -1."""
        if count < 0:
            return self
        known = count if self.known_length() == INFINITE else self._count(lambda n: min(n, count))
        return self._then(lambda elements: itertools.islice(elements, count), known)

    def skip(self, count: int, name=None) -> "Dataset":
        """All elements but the first `count`; none for -1."""
        if count < 0:
            return self.take(0)
        return self._then(
            lambda elements: itertools.islice(elements, count, None), self._count(lambda n: max(n - count, 0))
        )

    def repeat(self, count: int | None = None, name=None) -> "Dataset":
        """All elements `count` times, without end by default."""
        times = -1 if count is None else count

        def begin(_):
            for _ in itertools.count() if times < 0 else range(times):
                yield from self.elements()

        known = INFINITE if times < 0 else self._count(lambda n: n * times)
        return Dataset(begin, known)

    def concatenate(self, dataset: Any, name=None) -> "Dataset":
        """These elements, then those of another data set."""
        other = as_stream(dataset)
        counts = self.known_length(), other.known_length()
        known = INFINITE if INFINITE in counts else UNKNOWN if UNKNOWN in counts else sum(counts)
        return Dataset(lambda _: itertools.chain(self.elements(), other.elements()), known)

    def enumerate(self, start: int = 0, name=None) -> "Dataset":
        """Pairs of a number, from `start` on, and an element."""
        return self._then(
            lambda elements: ((np.int64(n), e) for n, e in enumerate(elements, start)), self.known_length()
        )

    def shuffle(self, buffer_size: int, seed=None, reshuffle_each_iteration=None, name=None) -> "Dataset":
        """The elements in another order: each is drawn from the next `buffer_size` ones.

        Args:
            seed: Integer; by default drawn as `set_random_seed` says.
            reshuffle_each_iteration: Whether each pass has an order of its own; by default it has.
        """
        seed = np.random.randint(2**31) if seed is None else int(seed)  # noqa: NPY002 (follows `set_random_seed`)
        again = reshuffle_each_iteration is None or reshuffle_each_iteration

        def begin(number):
            random = np.random.default_rng((seed, number if again else 0))
            buffer: list = []
            for element in self.elements():
                if len(buffer) < buffer_size:
                    buffer.append(element)
                    continue
                place = int(random.integers(buffer_size))
                element, buffer[place] = buffer[place], element
                yield element
            for place in random.permutation(len(buffer)):
                yield buffer[place]

        return Dataset(begin, self.known_length())

    def batch(
        self, batch_size: int, drop_remainder: bool = False, num_parallel_calls=None, deterministic=None, name=None
    ) -> "Dataset":
        """Batches of `batch_size` elements, the last may have fewer."""

        def batches(elements):
            while taken := list(itertools.islice(elements, batch_size)):
                if len(taken) == batch_size or not drop_remainder:
                    yield stack(taken)

        return self._then(batches, self._count(lambda n: n // batch_size if drop_remainder else -(-n // batch_size)))

    def unbatch(self, name=None) -> "Dataset":
        """The rows of the elements, one by one."""

        def rows(elements):
            for element in elements:
                for place in range(len(jax.tree.leaves(element)[0])):
                    yield jax.tree.map(lambda leaf, place=place: leaf[place], element)

        return self._then(rows, INFINITE if self.known_length() == INFINITE else UNKNOWN)

    def cache(self, filename="", name=None) -> "Dataset":
        """The same elements, kept in memory by the first whole pass."""
        kept: list = []

        def begin(_):
            if kept:
                yield from kept[0]
                return
            elements = []
            for element in self.elements():
                elements.append(element)
                yield element
            kept.append(elements)

        return Dataset(begin, self.known_length())

    def prefetch(self, buffer_size=None, name=None) -> "Dataset":
        """Itself: `fit` reads ahead anyway."""
        return self

    def shard(self, num_shards: int, index: int, name=None) -> "Dataset":
        """Every `num_shards`-th element, from `index` on."""
        known = self._count(lambda n: len(range(index, n, num_shards)))
        return self._then(lambda elements: itertools.islice(elements, index, None, num_shards), known)

    def reduce(self, initial_state: Any, reduce_func: Callable, name=None) -> Any:
        """`reduce_func(state, element)` of all elements in turn."""
        state = initial_state
        for element in self:
            state = reduce_func(state, element)
        return state

    def apply(self, transformation_func: Callable, name=None) -> Any:
        """What `transformation_func` makes of the data set."""
        return transformation_func(self)

    def with_options(self, options: Any, name=None) -> "Dataset":
        """Itself: there are no such options here."""
        return self

    @staticmethod
    def zip(*datasets: Any, name=None) -> "Dataset":
        """Structures of elements of several data sets side by side, up to the end of the shortest.

        Args:
            *datasets: Data sets, or one structure (tuple, dict) of them.
        """
        structure = datasets[0] if len(datasets) == 1 else datasets
        leaves, treedef = jax.tree.flatten(structure, is_leaf=lambda part: hasattr(part, "cardinality"))
        streams = [as_stream(leaf) for leaf in leaves]
        counts = [stream.known_length() for stream in streams]
        finite = [count for count in counts if count != INFINITE]
        known = INFINITE if not finite else UNKNOWN if UNKNOWN in finite else min(finite)
        sides = lambda: zip(*[stream.elements() for stream in streams], strict=False)
        return Dataset(lambda _: (jax.tree.unflatten(treedef, side) for side in sides()), known)


def call(function: Callable, element: Any) -> Any:
    """`function` of an element, or of the parts of a tuple."""
    return function(*element) if isinstance(element, tuple) else function(element)


def stack(elements: list) -> Any:
    """Elements as the rows of one."""

    def join(*leaves):
        if not isinstance(leaves[0], str):
            return np.stack([np.asarray(leaf) for leaf in leaves])
        texts = np.empty(len(leaves), object)
        texts[:] = leaves
        return texts

    return jax.tree.map(join, *elements)


def element_spec(element: Any, has_rows: bool) -> Any:
    """The `ElementSpec` of each array; with `has_rows` the size of the first axis is left open."""

    def spec(leaf):
        array = np.asarray(leaf)
        is_batch = has_rows and array.ndim > 0
        return ElementSpec((None, *array.shape[1:]) if is_batch else array.shape, array.dtype)

    return jax.tree.map(spec, element)


def as_stream(dataset: Any) -> Dataset:
    """Anything that can be gone through again as a `Dataset`."""
    if isinstance(dataset, Dataset):
        return dataset
    known = len(dataset) if hasattr(dataset, "__len__") else UNKNOWN
    return Dataset(lambda _: iter(dataset), known)


def _plain(leaf: Any) -> Any:
    array = np.asarray(leaf)
    return leaf if isinstance(leaf, str) else array if array.ndim else array[()]
