"""`Training`: a running `fit`: what it works with, and where it is."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerax.core.tracking import remembering
from kerax.data import Source
from kerax.data.source import BatchSpec, Order
from kerax.tracebacks import warn_each_time
from kerax.train.feed import Feed, Piece
from kerax.train.interrupts import Interrupts
from kerax.train.logs import Logs
from kerax.train.lookahead import LookAhead
from kerax.train.non_finite import Guard
from kerax.train.program import Pace, Program, Stepper, room_of
from kerax.train.run_state import run_state
from kerax.train.state import changing_hands, store_of
from kerax.train.steps import overrides


class Training:
    """A running `fit`, which owns the arrays of the training state for the length of a `with` block.

    With the model's state its position is all that is needed to go on from there. Between the last batch of an epoch
    and the end of its callbacks' hooks it is as it was after that batch, however far validation and the hooks have
    come: a run that goes on from there repeats them from their start.

    Args:
        model: The model.
        source: Of its batches.
        callbacks: The `CallbackList`.
        epochs: Number of the last epoch.
        initial_epoch: The epoch to start with.
        steps_per_epoch: Number of batches that make an epoch, or `None` for all there are.
        shuffle: Whether to draw a new order for each pass.

    Attributes:
        epoch: Of the next batch.
        step: Of the next batch in its epoch.
        steps_before: Batches of the epochs before.
        logs: Of the last batch of this epoch.
        is_resumed: Whether it goes on from a checkpoint.
        is_counting: Whether the metrics hold what a running epoch has counted so far.
        thread: The number of the thread that trains.
    """

    def __init__(self, model, source: Source, callbacks, epochs, initial_epoch, steps_per_epoch, shuffle):
        self.model, self.source, self.callbacks = model, source, callbacks
        self.epochs, self.epoch, self.steps_per_epoch, self.shuffle = epochs, initial_epoch, steps_per_epoch, shuffle
        self.description = source.description(steps_per_epoch)
        self.step = self.steps_before = 0
        self.is_counting = False
        self.logs: Any = None
        self.data: Any = None  # position in the data
        self._found: dict | None = callbacks.resume(self.description)
        self.is_resumed = self._found is not None
        self._base = int(np.asarray(model.kerax_random_key.peek())[2])  # training steps before batch 0 of epoch 0
        self._held: tuple | None = None  # values, callbacks' states and inferences after the last batch of an epoch
        position = None if self._found is None else self._go_on(self._found)
        with remembering():
            self.state = run_state(model, "train")
            self.fresh_metrics = self.state.fresh_metrics(model)
            program = model.kerax_compilation.train_program(model, self.state, source.spec(False))
        self.programs = {source.spec(False): program}
        room = room_of(program, source)
        self.feed = Feed(source, room, begin_pass=self._begin_pass, limit=self._limit())
        self.feed.resume_at(position)
        self._rest = source.rest_spec()  # until its program is on its way
        # Behind what is done until the first step: initial weights, callbacks.
        program.compile_behind(self.state.carried.owners, room)
        self.pace, self.interrupts = Pace(), Interrupts(callbacks.saves_on_interrupt)

    def _go_on(self, found: dict) -> dict | None:
        """Takes the position that `describe` gave. Returns where to go on in a pass, if it was not done."""
        self.epoch, self.step, self.steps_before = found["epoch"], found["step"], found["steps_before"]
        self.logs = None if found["logs"] is None else Logs(found["logs"])
        self.data = found["data"]
        # The key's position counts all steps of the model; those of this run are counted apart.
        self._base -= self.steps_before + self.step
        self.model.stop_training = found["stop_training"]
        if self.data is None:
            return None
        is_inside = self.step > 0 or self.data.get("goes_on", True)
        self.model.kerax_passes = self.data["pass"] if is_inside else self.data["pass"] + 1
        return self.data if is_inside else None

    def _limit(self) -> int | None:
        """Batches that the whole run can use."""
        if self.steps_per_epoch is None:
            return None
        return self.steps_per_epoch * max(self.epochs - self.epoch, 0) - self.step

    def _begin_pass(self) -> tuple[int, Order]:
        number = self.model.kerax_passes
        self.model.kerax_passes += 1
        seed = int(np.asarray(self.model.kerax_random_key.peek())[1])
        return number, (seed, number) if self.shuffle else None

    def __enter__(self) -> "Training":
        compilation = self.model.kerax_compilation
        self._outer, self.thread = compilation.training, threading.get_ident()
        with changing_hands:
            self.store = store_of(self.model, self.state.carried.owners)
            compilation.training = self
        self._start = self.store.leaves
        looks_ahead = self.callbacks.watches("train") and not self.callbacks.in_lockstep
        plain = Stepper(self.store, self.pace)
        self.advance_by = LookAhead(self.store, self.pace, self.callbacks) if looks_ahead else plain
        return self

    def __exit__(self, *_):
        self.interrupts.busy, self.model.kerax_compilation.training = True, self._outer
        try:
            self.feed.close(self.store.leaves)
        finally:
            self.store.release()
            del self.feed, self.advance_by  # they hold each other, and so the data until Python looks for cycles

    # What `fit` does, in its order.

    def interrupted(self, error: BaseException):
        """Lets callbacks save what there is, and has a Ctrl-C say what it stopped."""
        self.interrupts.busy = False  # another signal ends the saving too
        self.callbacks.on_interrupt()
        if isinstance(error, KeyboardInterrupt) and not error.args:
            epochs = len(getattr(self.model.history, "epoch", ()))
            error.args = (f"stopped in epoch {self.epoch + 1}; the history has {epochs} epochs",)

    def undo_hooks(self):
        """After `on_train_begin`, whose hooks a run that goes on repeats: puts its state back."""
        if self._found is not None:
            self.store.leaves = self._start
            self.callbacks.set_state(self._found["callbacks"], self.steps_before)

    def begin_epoch(self):
        """After `on_epoch_begin`: metrics to zero, or the state of the run that goes on inside this epoch."""
        if self.step:
            self.store.leaves = self._start
            states = {} if self._found is None else self._found["callbacks"]
            self.callbacks.set_state(states, self.steps_before, self.step)
        else:
            if overrides(self.model, "reset_metrics"):
                self.fresh_metrics = self.state.fresh_metrics(self.model)
            self.store.start_metrics(self.fresh_metrics)
        self.is_counting = True
        self.pace.begin_epoch()
        self.guard = Guard(self.model, self.callbacks)

    def pieces(self) -> Iterator[Piece]:
        """The rest of this epoch's work, cut where callbacks want to look and where the pace says."""
        program = next(iter(self.programs.values()))

        def most(step: int) -> int:
            return min(self.pace.steps(program), self.callbacks.until_look("train", step))

        return self.feed.pieces(self.steps_per_epoch, self.step, most)

    def advance(self, piece: Piece):
        """Does a piece of work, during which interrupts are held back. Returns the logs of its last batch."""
        self.interrupts.busy = True
        program = self.programs.get(piece.spec) or self._program(piece.spec)
        self.logs = self.advance_by(program, piece, self.step)
        self.guard.note(piece, self.num_steps)
        self.step += piece.num_batches
        self.data = piece.position | {"goes_on": self.steps_per_epoch is not None or self.source.is_single_pass}
        self.guard.look(self.pace.finished)
        if self._rest is not None:  # the last, smaller batch's program is compiled while the first steps are computed
            self._program(self._rest).compile_behind(list(self.store.leaves), 1)
            self._rest = None
        return self.logs

    def _program(self, spec: BatchSpec) -> Program:
        program = self.model.kerax_compilation.train_program(self.model, self.state, spec)
        self.programs[spec] = program
        return program

    def end_batches(self) -> Logs:
        """After an epoch's last batch: its logs. The moment is kept for checkpoints until `next_epoch`."""
        if self.steps_per_epoch is not None and self.step < self.steps_per_epoch and not self.model.stop_training:
            warn_each_time(f"fit: the data ran out after {self.step} of {self.steps_per_epoch} batches.")
            # What can be read again begins anew in the next epoch.
            self.model.stop_training = self.source.is_single_pass
        if self.callbacks.savers:
            # Validation and hooks change metrics and callbacks' states; a checkpoint is of the moment before.
            values = dict(zip(map(id, self.store.variables), self.store.leaves, strict=True))
            self._held = values, self.callbacks.get_state(), self.model.kerax_inferences
        # The last dispatch of an epoch has been waited for by nobody.
        self.guard.look((1, self.logs))
        self.is_counting = False
        self.callbacks.after_last_batch(self.logs)
        return Logs(self.logs)

    def next_epoch(self, logs: Logs):
        """Goes to the start of the next epoch."""
        loss = logs.peek("loss")
        if loss is not None and not np.isfinite(loss) and not self.guard.is_on:
            warn_each_time(
                f"fit: after epoch {self.epoch + 1} the loss is {loss}. `kerax.callbacks.TerminateOnNaN()` stops at "
                "the first such step, keeps the weights before it and names the layer it comes from."
            )
        self.epoch, self.step, self.steps_before = self.epoch + 1, 0, self.steps_before + self.step
        self.logs = self._held = None

    @property
    def is_busy(self) -> bool:
        """Whether the state is this run's own at the moment: others must not write to it."""
        return self.is_counting or self.thread != threading.get_ident()

    # For checkpoints.

    @property
    def num_steps(self) -> int:
        """Training steps of the model so far, known without waiting for the device."""
        return self._base + self.steps_before + self.step

    def describe(self) -> dict:
        """The position, JSON-able but for the logs, which are still on the device."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "steps_before": self.steps_before,
            "logs": None if self.logs is None else Logs(self.logs),
            "form": self.description,
            "stop_training": bool(self.model.stop_training),
        }

    def kept_values(self) -> dict:
        """`{id(variable): array}` where they are not the present ones."""
        return {} if self._held is None else self._held[0]

    def callback_states(self) -> dict:
        """The callbacks' states by name."""
        return self.callbacks.get_state() if self._held is None else self._held[1]

    def inferences(self) -> int:
        """Evaluations so far."""
        return self.model.kerax_inferences if self._held is None else self._held[2]
