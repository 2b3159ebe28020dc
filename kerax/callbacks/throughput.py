"""`Throughput`: how fast training is, and what share of the device's peak that makes."""

import time

import jax

from kerax.callbacks import durations
from kerax.callbacks.callback import Callback
from kerax.plan import chips


class Throughput(Callback):
    """Adds the speed of each epoch to its logs: `examples_per_second`, `step_time` (seconds), and more where known.

    The first epoch of a `fit` has `compile_time` too: the seconds that JAX spent on tracing and compiling up to its
    end, validation left out. They do not count into the other numbers, nor does validation. `mfu` is the share of
    the devices' peak that the operations of the model's step make, from 0 to 1; it is there if both are known.
    `data_wait` is the part of `step_time` in which the next batch was not ready, where a thread draws batches ahead:
    if it is large, the data hold training up.

    The device is waited for once an epoch, when its batches are done. Give this callback before those that take their
    time at the end of an epoch. Keras has no such callback.

    Args:
        peak_flops: Operations per second of one device at best. Default: that of bfloat16, from the table of
            `kerax.plan.chips`.
        flops_per_step: Operations of one training step on all devices. Default: those of the program, with what is in
            loops as often as they turn.

    Source of `mfu`: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B; there operations are those of
    the model's formulas, while here those of rematerialisation count too.
    """

    def __init__(self, peak_flops=None, flops_per_step=None):
        super().__init__()
        for name, value in (("peak_flops", peak_flops), ("flops_per_step", flops_per_step)):
            if value is not None and not value > 0:
                raise ValueError(f"Throughput: `{name}` must be above 0. Got {value!r}.")
        self.peak_flops, self.flops_per_step = peak_flops, flops_per_step
        self._called = self._began = 0.0
        self._iterations = 0
        self._found: dict | None = None  # the numbers of an epoch whose batches are done
        self._is_first = self._in_epoch = False
        self._peak: float | None = None  # looked up at the end of the first epoch
        self._flops: float | None = None

    def set_model(self, model):
        super().set_model(model)
        durations.listen()
        durations.forget_waits()
        # From here on: what is compiled before the first epoch counts too.
        self._called = time.time()

    def on_train_begin(self, logs=None):
        self._is_first = True
        self._iterations = int(self.model.optimizer._iterations.peek())

    def on_epoch_begin(self, epoch, logs=None):
        self._found, self._in_epoch, self._began = None, True, time.time()

    def on_test_begin(self, logs=None):
        # A validation inside the epoch: what follows is not training.
        if self._in_epoch:
            self._measure()

    def on_epoch_end(self, epoch, logs=None):
        self._measure()
        self._in_epoch = False
        logs.update(self._found or {})

    def close(self):
        self._in_epoch = False

    def _measure(self):
        """The numbers of this epoch's batches. Waits until they are done."""
        if self._found is not None:
            return
        model, self._found = self.model, {}
        tracker = model.kerax_compilation.loss_tracker
        # A model whose `metrics` leave it out may never update it.
        tracker = tracker if any(metric is tracker for metric in model.metrics) else None
        counts = [] if tracker is None else [tracker.count, tracker.count.rest]  # which add up to the rows
        wanted = [model.optimizer._iterations, *counts]
        # One wait for all numbers.
        iterations, *rows = jax.device_get([variable.peek() for variable in wanted])
        now = time.time()
        steps, self._iterations = int(iterations) - self._iterations, int(iterations)
        steps = steps or self.params.get("steps") or 0  # a train step of the user's may do without the optimizer
        seconds = now - self._began - durations.seconds(durations.COMPILING, self._began, now)
        if steps and seconds > 0:
            if sum(rows) > 0:
                self._found["examples_per_second"] = float(sum(rows)) / seconds
            self._found["step_time"] = seconds / steps
            if durations.has_waited():
                self._found["data_wait"] = durations.seconds(durations.WAITING, self._began, now) / steps
        if self._is_first:
            self._is_first = False
            self._found["compile_time"] = durations.seconds(durations.COMPILING, self._called, now)
            # Now the step's program is there to be asked.
            self._peak = self.peak_flops or chips.chip_of().flops
            self._flops = (self.flops_per_step or _step_flops(model)) if self._peak else None
        if self._flops and self._peak and "step_time" in self._found:
            # The step's operations are those of all devices together.
            devices = len(model.optimizer._iterations.peek().sharding.device_set)
            self._found["mfu"] = self._flops / (self._found["step_time"] * self._peak * devices)


def _step_flops(model) -> float | None:
    """Operations of the training step, of the largest batch if there were several; `None` if nobody knows."""
    ask = getattr(model, "train_flops", None)
    if ask is not None:
        return ask()
    found = [program.flops() for key, program in model.kerax_compilation.programs.items() if key[0] == "train"]
    return max((flops for flops in found if flops), default=None)
