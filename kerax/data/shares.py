"""Batches of which each process reads a share: what the processes agree on before they place one.

A program runs in all processes at once and on batches of one shape. So before each piece of work they tell each other
how many rows they have: full batches are placed as they lie, and of any other the rows of all processes are put
together, which makes the batch that one process would have had.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax.core import placement
from kerax.data.prefetch import Prefetch
from kerax.data.source import BatchSpec, Chunk

Tree = Any
_FAILED = -1  # in the place of a number of rows


class Agreement(NamedTuple):
    """What each process has next, in the order of the processes.

    Attributes:
        rows: Rows of the next batch; 0 of a process that has none left.
        counts: Batches of the full form that there are from there on.
    """

    rows: list[int]
    counts: list[int]

    @property
    def is_even(self) -> bool:
        """Whether the shares are equal and the devices divide them all together."""
        return len(set(self.rows)) == 1 and placement.divides(self.rows[0] * placement.num_shares())


def agree(form: BatchSpec | None, num_rows: int, count: int, who: str, error: Exception | None = None) -> Agreement:
    """What all processes have next. All of them must call this together.

    Args:
        form: Of this process's next batch, or if it has none, of those before.
        num_rows: Rows of that batch; 0 if there is none.
        count: Batches of the full form that are at hand.
        who: The method that was called, for messages.
        error: What this process ends with, which ends the others too.

    Raises:
        RuntimeError: if another process failed.
        ValueError: if batches differ in more than the number of rows.
    """
    from jax.experimental import multihost_utils

    rows = num_rows if error is None else _FAILED
    message = np.array([jax.process_index(), rows, _fingerprint(form), count], np.int32)
    told = np.asarray(multihost_utils.process_allgather(message))
    told = told[np.argsort(told[:, 0])]
    if error is not None:
        raise error
    failed = told[told[:, 1] == _FAILED, 0]
    if len(failed):
        raise RuntimeError(f"{who}: process {failed[0]} failed while it read its batches; its own message says why.")
    if len(set(told[:, 2].tolist())) > 1:
        raise ValueError(
            f"{who}: the batches of all processes must agree in structure, dtypes and shapes but for the number of "
            f"rows. Process {jax.process_index()} has {None if form is None else form.arrays}, another has something "
            "else. Let all processes read batches of the same form."
        )
    return Agreement(told[:, 1].tolist(), told[:, 3].tolist())


def agreed_form(read_first: Callable[[], Tree], who: str) -> BatchSpec:
    """The form of this process's full batches: as many rows as the largest first batch of all processes.

    Args:
        read_first: Function that returns the first batch of this process, or raises `ValueError` if there is none.
        who: The method that was called, for messages.
    """
    try:
        own = BatchSpec(read_first())
    except Exception as error:
        agree(None, 0, 0, who, error)
        raise
    return BatchSpec(own.arrays, max(agree(own, own.num_rows, 1, who).rows))


def of_all(spec: BatchSpec) -> BatchSpec:
    """The form of the whole batch, of which each process has a share of this form."""
    return spec if placement.num_shares() == 1 else BatchSpec(placement.global_spec(spec.arrays))


def joined(batch: Tree, rows: list[int]) -> Tree:
    """The rows of all shares, one after the other, in every process.

    Args:
        batch: This process's share.
        rows: Rows that each process has.
    """
    from jax.experimental import multihost_utils

    def padded(leaf):
        out = np.zeros((max(rows), *leaf.shape[1:]), leaf.dtype)
        out[: len(leaf)] = leaf
        return out

    # Processes that hold parts of one model have the same rows: the first of them gives them.
    readers = placement.first_readers()
    place = np.argsort(np.asarray(multihost_utils.process_allgather(np.int32(jax.process_index()))))
    everyone = multihost_utils.process_allgather(jax.tree.map(padded, batch))
    join = lambda leaf: np.concatenate([np.asarray(leaf[place[reader]])[: rows[reader]] for reader in readers])
    return jax.tree.map(join, everyone)


def place(batch: Tree, spec: BatchSpec, who: str) -> tuple[Tree, BatchSpec]:
    """A batch of its own on the devices, and the form of the whole of it. All processes must call this together."""
    if placement.num_shares() == 1:
        return placement.place_batch(batch), spec
    agreed = agree(spec, spec.num_rows, 1, who)
    if agreed.is_even:
        return placement.place_batch(batch), of_all(spec)
    whole = joined(batch, agreed.rows)
    return placement.place_batch(whole, is_whole=True), BatchSpec(whole)


class SharedPass:
    """A pass over batches of which each process draws its own share; it ends when all shares have ended.

    Args:
        drawn: This process's batches, each with its form and the position after it.
        share: The form of its full batches.
        fills_up: Whether a batch with fewer rows is filled up with copies of its last one.
        who: The method that was called, for messages.
    """

    def __init__(self, drawn: Prefetch, share: BatchSpec, fills_up: bool, who: str):
        self.drawn, self.share, self.fills_up, self.who = drawn, share, fills_up, who
        self._full, self._position = of_all(share), None

    def take(self, most: int, room: int) -> Chunk | None:
        """Up to `most` batches: as many full ones as all processes have, or one to which each adds what it has."""
        agreed = self._agree(min(most, room))
        if not any(agreed.rows):
            return None
        is_full = agreed.rows[0] == self.share.num_rows
        if agreed.is_even and (is_full or not self.fills_up):
            return self._even(min(agreed.counts))
        return self._whole(agreed.rows)

    def _agree(self, most: int) -> Agreement:
        try:
            ready = self.drawn.look(most, self._are_alike)
        except Exception as error:
            agree(None, 0, 0, self.who, error)
            raise
        form = ready[0][1] if ready else self.share
        return agree(form, form.num_rows if ready else 0, len(ready), self.who)

    def _are_alike(self, first: tuple, second: tuple) -> bool:
        return first[1] == second[1] == self.share

    def _taken(self, count: int) -> list:
        taken = self.drawn.take(count)
        if taken:
            self._position = taken[-1][2]
        return taken

    def _even(self, count: int) -> Chunk:
        taken = self._taken(count)
        batches, spec = [batch for batch, _, _ in taken], of_all(taken[0][1])
        return Chunk(spec, count, count * spec.num_rows, lambda to: to.join(batches), self._after())

    def _whole(self, rows: list[int]) -> Chunk:
        taken = self._taken(1)
        # Whose share has ended adds nothing, in the form of the others.
        own = taken[0][0] if taken else jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), self._none())
        batch = joined(own, rows)
        spec = BatchSpec(batch)
        is_filled_up = self.fills_up and spec.num_rows < self._full.num_rows and spec.fits_into(self._full)
        form = self._full if is_filled_up else spec
        return Chunk(form, 1, spec.num_rows, lambda to: to.join_whole(batch), self._after())

    def _none(self) -> Tree:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((0, *leaf.shape[1:]), leaf.dtype), self.share.arrays)

    def _after(self) -> Callable[[int], dict]:
        position = self._position
        return lambda _: {"source": position}

    def close(self):
        """Stops drawing."""
        self.drawn.close()


def _fingerprint(spec: BatchSpec | None) -> int:
    """A number for all of a form but the number of rows."""
    if spec is None:
        return 0
    treedef, leaves = spec.key
    described = str(treedef), [(shape[1:], str(dtype)) for shape, dtype in leaves]
    return zlib.crc32(repr(described).encode()) & 0x7FFFFFFF
