"""What the progress display costs of a training step: CPU time inside its own hooks, over that of the whole `fit`."""

import io
import sys
import time
import types

import numpy as np

import kerax
from kerax.callbacks import ProgbarLogger, progress

HOOKS = ("on_train_begin", "on_epoch_begin", "on_progress", "on_epoch_end", "on_train_end", "close")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def share(where: str, num_steps: int = 1000) -> float:
    """The display's part of the CPU time, for an MLP 784-256-128-10 at batch 32.

    Args:
        where: `"bar"` as in a terminal, `"notebook"`, or `"lines"` as in a pipe.
    """
    draw = np.random.default_rng(0)
    x = draw.standard_normal((32 * num_steps, 784), dtype=np.float32)
    y = draw.integers(0, 10, 32 * num_steps)
    hidden = [kerax.layers.Dense(width, activation="relu") for width in (256, 128)]
    model = kerax.Sequential([kerax.Input((784,)), *hidden, kerax.layers.Dense(10)])
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    spent = [0.0]

    def timed(method):
        def call(*args, **kwargs):
            began = time.thread_time()
            try:
                return method(*args, **kwargs)
            finally:
                spent[0] += time.thread_time() - began

        return call

    hooks = {name: getattr(ProgbarLogger, name) for name in HOOKS}
    before = progress._surroundings, sys.stdout
    try:
        for name, method in hooks.items():
            setattr(ProgbarLogger, name, timed(method))
        progress._surroundings, sys.stdout = (lambda: where), Terminal()
        if where == "notebook":
            from IPython import display

            display.display = lambda view, display_id: types.SimpleNamespace(
                update=lambda view: (view._repr_html_(), repr(view))
            )
        model.fit(x, y, batch_size=32)  # compiles
        spent[0], began = 0.0, time.process_time()
        model.fit(x, y, batch_size=32)
        return spent[0] / (time.process_time() - began)
    finally:
        progress._surroundings, sys.stdout = before
        for name, method in hooks.items():
            setattr(ProgbarLogger, name, method)


def table() -> str:
    """A line for each place that the display is drawn in."""
    return "\n".join(f"{where:9s} {share(where):.2%} of the CPU time" for where in ("bar", "lines", "notebook"))
