"""One thread drives the device; what waits while it computes leaves together as its next batch."""

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerax.serve.tensors import RequestError


class Batch(NamedTuple):
    """What was computed at once, of rows of these shapes: for metrics."""

    owner: Any
    shapes: tuple[tuple[int, ...], ...]
    rows: int
    padding: int
    seconds: float
    waited: list[float]


class Item:
    """Rows that wait for the device."""

    __slots__ = ("arrays", "future", "group", "loop", "owner", "rows", "since")

    def __init__(self, owner: Any, arrays: list[np.ndarray], loop: asyncio.AbstractEventLoop):
        self.owner, self.arrays, self.rows, self.loop = owner, arrays, len(arrays[0]), loop
        # Only rows of one shape go together, and of some models only those of one request.
        self.group = id(self if owner.mixes_rows else owner), tuple(array.shape[1:] for array in arrays)
        self.future = loop.create_future()
        self.since = time.perf_counter()


class Batcher:
    """A queue of rows for several models, and the thread that computes them.

    A batch is what waits for one model when the device is free, so gathering costs nothing under load, and an idle
    device starts at once. Batches are filled up to one of the model's sizes by copies of their last row, which is cut
    off again: zeros might be NaN to a model.

    Args:
        max_queue: Rows that may wait.
        max_delay: Seconds that an idle device waits for company.
        note: Called with each `Batch`, in the thread.

    Owners have `sizes`, in ascending order, and `run`, from arrays of one of these sizes to a list of arrays. With
    `mixes_rows` they get each request as it is.
    """

    def __init__(self, max_queue: int, max_delay: float, note: Callable[[Batch], None]):
        self._max_queue, self._max_delay, self._note = max_queue, max_delay, note
        self._queue: deque[Item] = deque()
        self._changed, self._is_closing = threading.Condition(), False
        self.rows = 0
        self._wakes: set[asyncio.AbstractEventLoop] = set()
        self._thread = threading.Thread(target=self._work, name="kerax serve", daemon=True)
        self._thread.start()

    async def compute(self, owner: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs for rows of any number.

        Raises:
            RequestError: if the queue is full (503), or more than fits into it is asked for (413).
        """
        rows, most, loop = len(arrays[0]), owner.sizes[-1], asyncio.get_running_loop()
        if rows > self._max_queue:
            raise RequestError(413, f"at most {self._max_queue} rows are computed for one request. Got {rows}.")
        parts = [arrays] if rows <= most else [[a[at : at + most] for a in arrays] for at in range(0, rows, most)]
        items = [Item(owner, part, loop) for part in parts]
        with self._changed:
            if self._is_closing or self.rows + rows > self._max_queue:
                raise RequestError(503, f"{self.rows} rows are waiting already.", {"Retry-After": "1"})
            self._queue.extend(items)
            self.rows += rows
        self._wake_soon(loop)
        try:
            done = [await item.future for item in items]
        finally:
            for item in items:
                # What still waits is not computed; a mistake is told once, whoever else had it.
                if not item.future.cancel() and not item.future.cancelled():
                    item.future.exception()
        return done[0] if len(done) == 1 else [np.concatenate(several) for several in zip(*done)]

    def _wake_soon(self, loop):
        # After the loop's present round: requests that came together are woken for once, and leave together.
        if loop not in self._wakes:
            self._wakes.add(loop)
            loop.call_soon(self._wake, loop)

    def _wake(self, loop):
        self._wakes.discard(loop)
        with self._changed:
            self._changed.notify()

    def close(self):
        """Computes what waits, and ends the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    # In the thread.

    def _work(self):
        while True:
            with self._changed:
                while not self._queue and not self._is_closing:
                    self._changed.wait()
                if not self._queue:
                    return
                until = self._queue[0].since + self._max_delay
                # A full batch does not wait.
                while self.rows < self._queue[0].owner.sizes[-1] and not self._is_closing:
                    if (left := until - time.perf_counter()) <= 0:
                        break
                    self._changed.wait(left)
                items = self._take()
            if items:
                self._compute(items)
            del items  # an idle thread keeps no request's arrays

    def _take(self) -> list[Item]:
        """The first that waits and all that fit into a batch with it."""
        taken: list[Item] = []
        left: deque[Item] = deque()
        rows, first = 0, None
        for item in self._queue:
            if item.future.cancelled():
                self.rows -= item.rows
                continue
            first = first or item
            if item.group == first.group and rows + item.rows <= first.owner.sizes[-1]:
                taken.append(item)
                rows += item.rows
            else:
                left.append(item)
        self._queue = left
        self.rows -= rows
        return taken

    def _compute(self, items: list[Item]):
        began, owner = time.perf_counter(), items[0].owner
        rows = sum(item.rows for item in items)
        size = rows if owner.mixes_rows else next(size for size in owner.sizes if size >= rows)
        try:
            outputs = owner.run([_joined(parts, size - rows) for parts in zip(*(item.arrays for item in items))])
        except Exception as error:  # whatever a model raises is the answer, and the next batch is computed
            results: Sequence[Any] = [error] * len(items)
        else:
            ends = np.cumsum([item.rows for item in items])
            results = [[out[end - item.rows : end] for out in outputs] for item, end in zip(items, ends.tolist())]
        ended = time.perf_counter()
        by_loop = defaultdict(list)
        for item, result in zip(items, results):
            by_loop[item.loop].append((item.future, result))
        for loop, answers in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_give, answers)
        shapes = items[0].group[1]
        self._note(Batch(owner, shapes, rows, size - rows, ended - began, [began - item.since for item in items]))


def _joined(parts: Sequence[np.ndarray], padding: int) -> np.ndarray:
    filling = [parts[-1][-1:]] * padding
    return np.concatenate([*parts, *filling]) if len(parts) + padding > 1 else parts[0]


def _give(answers: list[tuple[asyncio.Future, Any]]):
    for future, result in answers:
        if future.done():  # its client did not wait
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
