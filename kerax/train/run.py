"""`Run`: where a running `fit` is, which with the model's state is all that is needed to go on from there."""

from typing import Any

import numpy as np

from kerax.train.logs import Logs
from kerax.train.state import Store


class Run:
    """A running `fit` as its checkpoints see it.

    Between the last batch of an epoch and the end of its callbacks' hooks it is as it was after that batch, however far
    validation and the hooks have come: a run that goes on from there repeats them from their start.

    Args:
        model: The model.
        store: The arrays that training replaces.
        callbacks: The `CallbackList`.
        epoch: The epoch to start with.
        form: What the data must be like when the run goes on: `{"batch_size": 32, ...}`.
    """

    def __init__(self, model, store: Store, callbacks, epoch: int, form: dict):
        self.model, self.store, self.callbacks, self.form = model, store, callbacks, form
        self.epoch, self.step = epoch, 0  # of the next batch
        self.steps_before = 0  # batches of the epochs before
        self.logs: dict | Logs | None = None  # of the last batch of this epoch
        self.data: Any = None  # position in the data
        self.is_resumed = False
        self._base = int(np.asarray(model.random_key.peek())[2])  # training steps before batch 0 of epoch 0
        self._held: tuple | None = None  # values, callbacks' states and inferences after the last batch of an epoch

    def go_on(self, found: dict):
        """Takes the position that `describe` gave."""
        self.epoch, self.step, self.steps_before = found["epoch"], found["step"], found["steps_before"]
        self.logs = None if found["logs"] is None else Logs(found["logs"])
        self.data = found["data"]
        self.is_resumed = True
        self._base -= self.steps_before + self.step
        self.model.stop_training = found["stop_training"]

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
            "form": self.form,
            "stop_training": bool(self.model.stop_training),
        }

    def did(self, count: int, logs: dict, data: Any):
        """Notes batches that have been dispatched."""
        self.step += count
        self.logs, self.data = logs, data

    def hold(self):
        """Keeps this moment, the end of an epoch's batches, until `next_epoch`."""
        values = {id(variable): leaf for variable, leaf in zip(self.store.variables, self.store.leaves, strict=True)}
        self._held = values, self.callbacks.get_state(), self.model.inferences

    def next_epoch(self):
        """Goes to the start of the next epoch."""
        self.epoch, self.step, self.steps_before = self.epoch + 1, 0, self.steps_before + self.step
        self.logs = self._held = None

    def kept_values(self) -> dict:
        """`{id(variable): array}` where they are not the present ones."""
        return {} if self._held is None else self._held[0]

    def callback_states(self) -> dict:
        """The callbacks' states by name."""
        return self.callbacks.get_state() if self._held is None else self._held[1]

    def inferences(self) -> int:
        """Evaluations so far."""
        return self.model.inferences if self._held is None else self._held[2]
