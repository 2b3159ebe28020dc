"""Slow sources are drawn from in a thread, ahead of whoever computes."""

import contextvars
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax

from kerax.core import waiting

Tree = Any


class Prefetch:
    """Draws from an iterator in a thread of its own, a few items ahead of whoever takes them.

    An exception of the iterator is raised where its item would have been taken. To be closed by `with`.

    Args:
        items: The iterator.
        limit: Number of items to draw at most, so that nothing is lost of an iterator that others go on with.
        ahead: Number of items to hold at most.
        ahead_bytes: Bytes of arrays to hold at most, beside one item.
    """

    def __init__(self, items: Iterator, limit: int | None = None, ahead: int = 64, ahead_bytes: int = 64 * 2**20):
        self._items, self._limit, self._ahead, self._ahead_bytes = items, limit, ahead, ahead_bytes
        self._ready: deque = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._is_done = self._is_closed = False
        self._changed = threading.Condition()
        # The caller's context, in which the active scope and settings of this thread are known.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._draw,), name="kerax prefetch", daemon=True)
        self._thread.start()

    def _draw(self):
        drawn = 0
        try:
            while self._limit is None or drawn < self._limit:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed or self._has_room())
                    if self._is_closed:
                        return
                item = next(self._items)  # outside of the lock: it may take long, and others want what is ready
                drawn += 1
                with self._changed:
                    self._ready.append(item)
                    self._bytes += _num_bytes(item)
                    self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as error:  # handed to whoever takes the next item
            self._error = error
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()

    def _has_room(self) -> bool:
        # One item always has room, however large: nothing would move otherwise.
        return not self._ready or (len(self._ready) < self._ahead and self._bytes < self._ahead_bytes)

    def take(self, count: int, like=None, as_many=False) -> list:
        """Up to `count` items in order: those that are ready, at least one; none at the end.

        Args:
            like: Function of two items; only items that are like the first are taken with it.
            as_many: Whether to wait until `count` are ready: then it does not depend on time what is taken.
        """
        with self._changed:
            taken = self._wait(count if as_many else 1, count, like)
            for item in taken:
                self._ready.popleft()
                self._bytes -= _num_bytes(item)
            self._changed.notify_all()
        return taken

    def look(self, count: int, like) -> list:
        """What `take` would, of `count` that are waited for. They stay."""
        with self._changed:
            return self._wait(count, count, like)

    def _wait(self, least: int, most: int, like) -> list:
        began = time.time()
        with waiting.waits_for(waiting.DATA):
            self._changed.wait_for(lambda: self._is_done or len(self._ready) >= least)
        jax.monitoring.record_event_time_span("/kerax/data/wait", began, time.time())  # for whoever wants to know
        # After what was drawn before it: the error belongs to the next item.
        if not self._ready and self._error is not None:
            error, self._error = self._error, None
            raise error
        ready = list(itertools.islice(self._ready, most))
        return list(itertools.takewhile(lambda item: item is ready[0] or like is None or like(ready[0], item), ready))

    def close(self):
        """Stops drawing; an item that is being made is waited for, so that the iterator can be used again."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_):
        self.close()


def _num_bytes(item: Tree) -> int:
    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(item))
