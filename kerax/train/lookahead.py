"""Steps done ahead of the callbacks that look at each of them, and taken back if one reads or sets the model's state.

A callback that wants every batch makes every step a dispatch, and one that reads the loss waits for it: on a small
model ten times the step itself. But most look at nothing besides the logs. So some milliseconds' worth of steps is
dispatched at once, with the logs of each; the hooks of these steps then follow one by one. The state from before is
kept until then. Whatever reads or sets a variable meanwhile, in a hook or after an exception or Ctrl-C, goes through
the `Store`, which first does the steps that the hooks have seen once more, from that state: the same bits, for
`Program` has one result however its work is cut. A run whose hooks do that again and again is soon left to single
steps.
"""

import functools

import jax
import jax.numpy as jnp

from kerax.train.feed import Piece
from kerax.train.logs import StepLogs
from kerax.train.program import Pace, Program, Stepper
from kerax.train.state import Store


class LookAhead(Stepper):
    """Does several steps at once where pieces are single steps.

    Args:
        store, pace: As for `Stepper`.
        callbacks: The `CallbackList`.
    """

    seconds = 0.01  # of the device's time that one dispatch may take
    most_bytes = 2**22  # of state: a copy of more takes longer than it saves
    pause = 32  # single steps after steps were taken back, at least

    def __init__(self, store: Store, pace: Pace, callbacks):
        super().__init__(store, pace)
        self.callbacks = callbacks
        self._length, self._wait, self._pause = 2, 2, self.pause
        self._useful = 0  # steps done ahead and not taken back since the last that were
        self._ahead: tuple[Program, Piece] | None = None  # what was dispatched, while hooks of it are to come
        self._before: tuple | None = None  # a copy of the state before it
        self._seen = self._first = 0  # its steps whose turn came, and the number of the first

    def __call__(self, program: Program, piece: Piece, step: int) -> StepLogs:
        """As `Stepper`; nothing is dispatched for a step that was done before."""
        if self._ahead is not None:
            with self.store.lock:
                if self._holds(program, piece):
                    self._seen += 1
                    self.pace.finished = None
                    return StepLogs(self.rows, piece.start)
            # The piece is another than expected: a callback ended the epoch, or set a number of steps.
            self.store.leaves  # noqa: B018  takes back what nobody will see
        count = self._count(program, piece, step)
        if count == piece.num_batches:
            self._wait -= count
            return super().__call__(program, piece, step)
        # The state from before is needed only until the hooks have seen these steps.
        whole = piece._replace(num_batches=count)
        self._ahead, self._before, self._seen, self._first = (program, whole), _copy(self.store.leaves), 1, step
        super().__call__(program, whole, step)
        self.store.take_back = self._take_back
        return StepLogs(self.rows, piece.start)

    def _count(self, program: Program, piece: Piece, step: int) -> int:
        """Steps to do for a piece."""
        is_alone = piece.num_batches == 1 and self._wait <= 0 and piece.room > 1
        if not (is_alone and program.can_be_undone and program.seconds_per_step and self._is_allowed):
            return piece.num_batches
        most = min(self._length, piece.left, program.kept.num_rows, int(self.seconds / program.seconds_per_step))
        return max(1, min(most, self.callbacks.until_boundary(step)))

    @functools.cached_property
    def _is_allowed(self) -> bool:
        is_small = sum(leaf.nbytes for leaf in self.store.leaves) <= self.most_bytes
        return is_small and jax.process_count() == 1

    def _holds(self, program: Program, piece: Piece) -> bool:
        """Whether the piece is the next of those that are done."""
        if self._ahead is None:
            return False
        done_by, done = self._ahead
        is_next = piece.block is done.block and piece.start == done.start + self._seen
        return is_next and piece.num_batches == 1 and program is done_by and self._seen < done.num_batches

    def _take_back(self, leaves: tuple) -> tuple:
        """The state after the steps whose turn came; `leaves` is that after all."""
        if self._ahead is None or self._before is None:
            return leaves
        (program, piece), self._ahead = self._ahead, None
        if self._seen == piece.num_batches:
            self._length = max(self._length, 2 * piece.num_batches)
            self._useful += piece.num_batches
            self._before = None
            return leaves
        # Callbacks that set something now and then keep the gain; those that do so always soon cost nothing.
        enough = self._useful > 8 * self._pause
        self._length, self._useful = 2, 0
        self._wait = self._pause = self.pause if enough else min(2 * self._pause, 4096)
        leaves, _ = program((), self._before, piece._replace(num_batches=self._seen), self._first)
        return leaves


@jax.jit
def _copy(leaves: tuple) -> tuple:
    return jax.tree.map(jnp.copy, leaves)
