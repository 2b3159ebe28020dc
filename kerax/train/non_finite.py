"""NaN and infinity: noticed without waiting, traced back to the layer they came from."""

from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import calling
from kerax.data import unpack_x_y_sample_weight
from kerax.train import steps
from kerax.train.feed import Piece
from kerax.train.logs import StepLogs
from kerax.train.programs import BAD_STEP
from kerax.train.state import state_variables

Tree = Any


class Guard:
    """Looks at finished steps for the first that made a number NaN or infinite, if a callback asks for it.

    The steps themselves keep the last good state from then on, so nothing has to be waited for.

    Args:
        model: The model.
        callbacks: The `CallbackList`; its `on_non_finite` gets the message.
    """

    def __init__(self, model, callbacks):
        self.model, self.callbacks = model, callbacks
        self.is_on = model.kerax_compilation.bad_step is not None
        self._recent: deque = deque(maxlen=3)  # (block, room, model's step of its first batch), while blocks exist

    def note(self, piece: Piece, first: int):
        """Notes that a piece is done whose first batch is the model's step `first`."""
        if self.is_on and not (self._recent and self._recent[-1][0] is piece.block):
            self._recent.append((piece.block, piece.room, first - piece.start))

    def look(self, finished: tuple | None):
        """Looks at (number of steps, logs of the last of them)."""
        logs = None if finished is None else finished[1]
        if not self.is_on or self.model.stop_training or not isinstance(logs, StepLogs):
            return  # logs that are no step's: of a run that goes on after an epoch's last batch
        bad = logs.numbers()[BAD_STEP]
        for block, room, first in self._recent:
            # Blocks of the last three dispatches: older ones were looked at when they were waited for.
            if first <= bad < first + room:
                batch = jax.device_put(block)
                if room > 1:
                    batch = jax.tree.map(lambda leaf, place=bad - first: leaf[place], batch)
                found = explain(self.model, jax.tree.map(jnp.array, batch))
                self.model.stop_training = True
                self.callbacks.on_non_finite(
                    f"step {bad}: {found}. Training stops; the model has the weights of the step before."
                )


def explain(model, batch: tuple) -> str:
    """Where the first NaN or infinity of a training step on `batch` with the model's current state comes from."""
    for name, part in zip(("x", "y", "sample_weight"), batch, strict=False):
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            if (rows := _bad_rows(leaf)) is not None:
                where = f"`{name}`{jax.tree_util.keystr(path)}"
                return f"{where} of the batch holds NaN or infinity, first in row {rows[0]} ({len(rows)} rows)"
    state = jax.tree.map(lambda variable: variable.raw, state_variables(model))
    x, y, sample_weight = unpack_x_y_sample_weight(batch)
    key, found = steps.step_key(state), []

    def tap(layer, outputs):
        if not found and any(_bad_rows(leaf) is not None for leaf in jax.tree.leaves(outputs)):
            found.append(layer)

    token = calling.call_context.set(calling.CallContext(True, tap))
    try:
        with steps.bind(model, state, key):
            y_pred = model(x, training=True)
            loss: Any = None if found else steps.loss_of(model, x, y, y_pred, sample_weight, training=True)
    finally:
        calling.call_context.reset(token)
    if found:
        kind = type(found[0]).__name__
        return f"the output of layer {found[0].name!r} ({kind}) is the first with NaN or infinity"
    if not np.all(np.isfinite(loss)):
        return f"the loss is {float(loss)} although every layer's output is finite"
    grads, *_ = steps.gradients(model, state, batch, key)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        if _bad_rows(leaf) is not None:
            name = "/".join(str(part.key) for part in path)
            return f"the gradient of {name!r} is the first with NaN or infinity; the loss is {float(loss):.4g}"
    return f"the optimizer's update is not finite; the loss is {float(loss):.4g}"


def _bad_rows(leaf):
    """Indices of the first axis where an array is NaN or infinite; `None` if there are none."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return None
    bad = ~np.isfinite(np.asarray(leaf, np.float32))
    rows = np.nonzero(bad.reshape(bad.shape[0], -1).any(1) if bad.ndim else bad[None])[0]
    return rows if len(rows) else None
