"""Steps done ahead of the callbacks that look at each of them, and taken back if one reads or sets the model's state.

A callback that wants every batch makes every step a dispatch, and one that reads the loss waits for it: on a small
model ten times the step itself. But most look at nothing besides the logs. So some milliseconds' worth of steps is
dispatched at once, with the logs of each; the hooks of these steps then follow one by one. The state from before is
kept until then. Whatever reads or sets a variable meanwhile, in a hook or after an exception or Ctrl-C, goes through
the `Store`, which first does the steps that the hooks have seen once more, from that state: the same bits, for
`Program.run` has one result however it is cut. A run whose hooks do that again and again is soon left to single steps.
"""

import functools
from collections.abc import Callable

import jax

from kerax.train.logs import Rows, StepLogs
from kerax.train.state import Store
from kerax.train.work import Piece


class Ahead:
    """Does pieces of work, of several steps at once where pieces are single steps.

    Args:
        store: The arrays of the training state.
        callbacks: The `CallbackList`.
    """

    seconds = 0.01  # of the device's time that one dispatch may take
    most_bytes = 2**22  # of state: a copy of more takes longer than it saves
    pause = 32  # single steps after steps were taken back, at least

    def __init__(self, store: Store, callbacks):
        self.store, self.callbacks = store, callbacks
        self._length, self._wait, self._pause = 2, 2, self.pause
        self._useful = 0  # steps done ahead and not taken back since the last that were
        self._begun: Piece | None = None  # the piece that a dispatch began with, while others of it are to come
        self._rows: Rows | None = None  # the logs of the last dispatch
        self._before: tuple | None = None  # a copy of the state before it
        self._count = self._seen = 0  # its steps, and those whose turn came

    def calls(self, piece: Piece, step: int) -> tuple[Callable | None, list[tuple]]:
        """What does a piece that begins with batch `step`, as `Program.calls`; no calls if it is done already."""
        if self._begun is not None:
            with self.store.lock:
                if self._begun is not None and self._holds(piece):
                    self._seen += 1
                    return None, []
            self.store.leaves  # noqa: B018  takes back what nobody will see
        count, program = piece.count, piece.program
        if count == 1 and self._wait <= 0 and program.can_look_ahead and program.seconds_per_step and self._is_allowed:
            most = min(self._length, piece.left, program.packing.num_rows, int(self.seconds / program.seconds_per_step))
            count = max(1, min(most, self.callbacks.steps_until_boundary(step)))
        if count > piece.count:
            self._begun, self._before = piece, program.copy(self.store.leaves)
        else:
            self._wait -= piece.count
        self._count, self._seen = count, piece.count
        return program.calls(piece.data, piece.table, piece.start, count)

    def did(self, piece: Piece, rows: tuple) -> tuple[StepLogs, int]:
        """Takes what the calls returned besides the state. Returns the logs of their last step, and their number."""
        self._rows = Rows(piece.program.packing, rows)
        if self._begun is not None:
            self.store.settle = self._settle
        return StepLogs(self._rows, piece.start + self._count - 1), self._count

    def logs(self, piece: Piece) -> StepLogs:
        """The logs of a piece's last step."""
        return StepLogs(self._rows, piece.start + piece.count - 1)

    @functools.cached_property
    def _is_allowed(self) -> bool:
        is_small = sum(leaf.nbytes for leaf in self.store.leaves) <= self.most_bytes
        return is_small and jax.process_count() == 1 and not self.callbacks.in_lockstep

    def _holds(self, piece: Piece) -> bool:
        """Whether the piece is the next of those that are done."""
        begun, place = self._begun, piece.position["batch"] - self._seen
        is_next = piece.position["pass"] == begun.position["pass"] and place == begun.position["batch"]
        return is_next and piece.count == 1 and piece.program is begun.program and self._seen < self._count

    def _settle(self, leaves: tuple) -> tuple:
        """The state after the steps whose turn came; `leaves` is that after all."""
        piece, self._begun = self._begun, None
        if self._seen == self._count:
            self._length = max(self._length, 2 * self._count)
            self._useful += self._count
            self._before = None
            return leaves
        enough = self._useful > 8 * self._pause
        self._length, self._useful = 2, 0
        self._wait = self._pause = self.pause if enough else min(2 * self._pause, 4096)
        leaves, _ = piece.program.run(self._before, piece.data, piece.table, piece.start, self._seen)
        return leaves
