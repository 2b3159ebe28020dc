"""What is shown while a model trains: a bar in a terminal, a live table in a notebook, else a line per epoch."""

import sys

from kerax import config
from kerax.callbacks import durations, html_tables, progress_views
from kerax.callbacks.callback import Callback


class ProgbarLogger(Callback):
    """The progress display of `fit`, `evaluate` and `predict`.

    It reads numbers that are ready, at most ten times a second in a terminal and twice in a notebook. The time of a
    step does not hold that of compiling. While an epoch, an evaluation or a prediction runs, its remaining time is
    shown, and for as long as something compiles or the data is long in coming, that.

    Args:
        verbose: 0 nothing, 1 a bar (in a terminal or notebook), 2 a line per epoch, `"auto"` what fits the output.
            Default: the `verbose` of the call.
        what: `"fit"`, `"evaluate"` or `"predict"`, for error messages.
        curves: Whether a notebook also gets small curves of the metrics below the table. Keras has no such argument.
    """

    first_process_only = True

    def __init__(self, verbose=None, what="ProgbarLogger", curves: bool = False):
        super().__init__()
        if verbose not in (None, "auto", 0, 1, 2):
            raise ValueError(f"{what}: `verbose` must be 'auto', 0, 1 or 2. Got {verbose!r}.")
        self.verbose, self.curves = verbose, curves
        self._view = progress_views.View("fit")
        self._epoch = self._seen = 0
        self._in_fit = False

    def _open(self, what: str):
        # Only now: `set_params` comes after the constructor.
        verbose = self.params.get("verbose", "auto") if self.verbose is None else self.verbose
        kind = "none" if verbose in (0, False) else "lines" if verbose == 2 else _surroundings()
        # Asked for explicitly: a bar even where the output is no terminal.
        if kind == "lines" and verbose == 1:
            kind = "bar"
        self._view = {
            "none": progress_views.View,
            "lines": progress_views.Lines,
            "bar": progress_views.Bar,
            "notebook": progress_views.Notebook,
        }[kind](what)
        self._view.with_curves = self.curves
        durations.listen()
        self._view.open(self.params.get("epochs", 1), self.params.get("steps"))

    def on_train_begin(self, logs=None):
        self._in_fit = True
        self._open("fit")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._seen = epoch, 0
        self._view.begin(epoch)

    def on_progress(self, step, logs):
        self._seen = step
        self._view.progress(step, logs)

    def on_epoch_end(self, epoch, logs=None):
        # A source of unknown length: as many as were seen.
        self._view.end(self.params.get("steps") or self._seen, logs)

    def on_train_end(self, logs=None):
        self.close()  # here too, for a loop of one's own may end with this
        history = getattr(self.model, "history", None)
        if isinstance(self._view, progress_views.Notebook) and history is not None:
            history.shown_in = html_tables.cell_number()

    def close(self):
        self._in_fit = False
        self._view.close()

    def on_test_begin(self, logs=None):
        if not self._in_fit:
            # The validation of an epoch shows in that epoch's line.
            self._open("evaluate")
            self._view.begin(0)

    def on_test_end(self, logs=None):
        if not self._in_fit:
            self._view.end(self.params.get("steps"), logs)
            self._view.close()

    def on_test_progress(self, step, total, logs):
        if self._in_fit:
            self._view.validating(step, total)
        else:
            self._seen = step
            self._view.progress(step, logs)

    def on_predict_begin(self, logs=None):
        self._open("predict")
        self._view.begin(0)

    def on_predict_progress(self, step, total):
        self._seen = step
        self._view.progress(step, {})

    def on_predict_end(self, logs=None):
        self._view.end(self.params.get("steps"), {})
        self._view.close()


def _surroundings() -> str:
    """Where output goes: `"notebook"`, `"bar"` for a terminal, `"lines"` for a file or pipe."""
    if not config.is_interactive_logging_enabled():
        return "lines"
    if html_tables.cell_number() is not None:
        return "notebook"
    return "bar" if hasattr(sys.stdout, "isatty") and sys.stdout.isatty() else "lines"
