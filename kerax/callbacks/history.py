"""Callbacks that record: `History`, `CSVLogger`, `LambdaCallback`."""

import csv
import os
import shutil
import tempfile
from typing import Any

import numpy as np

from kerax.callbacks import html_tables
from kerax.callbacks.callback import Callback
from kerax.core.tracking import PLAIN
from kerax.places import exists, is_elsewhere, path_of, put, to_read


class History(Callback):
    """The logs of every epoch. `fit` returns one.

    Attributes:
        history: `{name: [value of each epoch]}`.
        epoch: The numbers of the epochs.
    """

    kept_attributes = ("history", "epoch")

    def __init__(self):
        super().__init__()
        self.history: dict[str, list] = {}
        self.epoch: list[int] = []
        self.shown_in: int | None = None  # the number of the notebook's cell that has the numbers already

    def on_train_begin(self, logs=None):
        self.epoch, self.shown_in = [], None
        # A `CallbackList` of one's own may have no model.
        if self.model is not None:
            self.model.history = self

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self):
        last = {name: values[-1] for name, values in self.history.items()}
        return f"<History epochs={len(self.epoch)}, last={last}>"

    def plot(self):
        """Draws each metric over the epochs, with its `val_` twin, side by side. Keras has no such method.

        Returns: the matplotlib figure.

        Raises:
            ImportError: without matplotlib.
            ValueError: if there is no epoch yet.
        """
        names, numbers = html_tables.names_and_numbers(self.history)
        if not names:
            raise ValueError("History.plot: there is nothing to draw before the first epoch has ended.")
        columns = min(len(names), 3)
        rows = -(-len(names) // columns)
        figure, axes = new_figure("History.plot", rows, columns, squeeze=False, figsize=(4.5 * columns, 3.2 * rows))
        for name, axis in zip(names, axes.flat):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                if key in numbers:
                    epochs = self.epoch[-len(numbers[key]) :]  # a metric may come later, as after a new compile
                    axis.plot([epoch + 1 for epoch in epochs], numbers[key][-len(epochs) :], label=label, marker=".")
            axis.set(title=name, xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            if len(axis.lines) > 1:
                axis.legend()
        for axis in axes.flat[len(names) :]:
            axis.remove()
        return figure

    def _repr_html_(self) -> str:
        """A table of the epochs, of many the first and the last ones, and small curves of the metrics.

        Where `fit` ends a cell, below its own table, one line.
        """
        if self.shown_in is not None and self.shown_in == html_tables.cell_number():
            return f"History of {len(self.epoch)} epochs; <code>history.plot()</code> draws it."
        rows = []
        for row, epoch in enumerate(self.epoch):
            cells = [str(epoch + 1)]
            for column in self.history.values():
                position = row - len(self.epoch) + len(column)  # a metric may come later, as after a new compile
                cells.append(_short(column[position]) if position >= 0 else "")
            rows.append(cells)
        pictures = html_tables.curves(self.history, [epoch + 1 for epoch in self.epoch])
        return html_tables.table(["epoch", *self.history], rows) + pictures


def _short(value) -> str:
    """A number with four digits, an array as its text."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def new_figure(who: str, rows: int = 1, columns: int = 1, **options) -> tuple[Any, Any]:
    """A matplotlib figure and its axes. A notebook shows it once, as what the cell returns.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError(f"{who} needs matplotlib: pip install 'kerax[notebook]'") from None
    figure, axes = pyplot.subplots(rows, columns, layout="constrained", **options)
    if "inline" in pyplot.get_backend():  # which would show it a second time at the end of the cell
        pyplot.close(figure)
    return figure, axes


PLAIN.add(History)  # each `fit` gives its model another one


class FileLogger(Callback):
    """Base of callbacks that write to a file while `fit` runs. A resumed run cuts it to what was there when it was
    saved.

    Args:
        filename: Path of the file, here or elsewhere, where the whole of it is put after each epoch.
        append: Whether to go on in an existing file instead of replacing it.
    """

    first_process_only = True

    def __init__(self, filename, append: bool):
        super().__init__()
        self.filename, self.append = path_of(filename, type(self).__name__), append
        self._file: Any = None  # open during `fit`
        self._copies: Any = None  # the folder of the copy here of a file elsewhere
        self._path = self.filename  # of the file here

    def _begin(self) -> bool:
        """Gets the file's place ready. Returns whether to go on in a file that may be there."""
        goes_on = self.append or self.is_resuming
        if is_elsewhere(self.filename):
            self._copies = tempfile.TemporaryDirectory()
            self._path = os.path.join(self._copies.name, os.path.basename(self.filename))
            if goes_on and exists(self.filename):
                with to_read(self.filename) as copy:
                    shutil.copyfile(copy, self._path)
        return goes_on

    def _publish(self):
        """Makes what was written so far readable by others."""
        self._file.flush()
        if self._path != self.filename:
            put(self._path, self.filename)

    def get_state(self):
        return {"size": self._file.tell()} if self._file is not None else {}

    def set_state(self, state):
        # A killed run may have written on after its last checkpoint.
        if self._file.seek(0, os.SEEK_END) > state["size"]:
            self._file.truncate(state["size"])
            self._file.seek(state["size"])

    def close(self):
        if self._file is not None:
            self._file.close()
            self._file = self._copies = None


class CSVLogger(FileLogger):
    """One line per epoch in a CSV file. Columns that come later, as those of a validation now and then, are added.

    Args:
        filename: Path of the file.
        separator: Between fields.
        append: Whether to go on in an existing file instead of replacing it.
    """

    def __init__(self, filename, separator: str = ",", append: bool = False):
        super().__init__(filename, append)
        self.separator = separator
        self._writer: csv.DictWriter | None = None

    def on_train_begin(self, logs=None):
        mode = "a" if self._begin() else "w"
        self._file = open(self._path, mode, newline="")
        self._writer = None

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch} | dict(logs or {})
        writer = self._writer
        # A validation now and then brings columns that the first epoch did not have.
        if writer is None or not row.keys() <= set(writer.fieldnames):
            writer = self._writer = self._start(list(row))
        # Plain numbers: NumPy's own would be written as `np.float32(...)`.
        writer.writerow({name: np.asarray(value).tolist() for name, value in row.items()})
        self._publish()

    def _start(self, names: list[str]) -> csv.DictWriter:
        """Goes on below the rows that are there; they are written anew if there are new columns."""
        self._file.close()
        with open(self._path, newline="") as file:
            reader = csv.DictReader(file, delimiter=self.separator)
            rows, known = list(reader), list(reader.fieldnames or [])
        # Old columns keep their places.
        columns = known + [name for name in names if name not in known]
        self._file = open(self._path, "a" if columns == known else "w", newline="")
        writer = csv.DictWriter(self._file, columns, delimiter=self.separator, restval="NA")
        if columns != known:
            writer.writeheader()
            writer.writerows(rows)
        return writer


class LambdaCallback(Callback):
    """Hooks given as functions with the arguments of the methods of those names.

    Args:
        on_epoch_begin, on_epoch_end, on_train_begin, on_train_end, on_train_batch_begin, on_train_batch_end:
            Functions, or `None`. Other hooks' names are taken too. Names without `on_` become attributes.

    Raises:
        TypeError: if a name begins with `on_` and is not a hook.
    """

    def __init__(
        self,
        on_epoch_begin=None,
        on_epoch_end=None,
        on_train_begin=None,
        on_train_end=None,
        on_train_batch_begin=None,
        on_train_batch_end=None,
        **kwargs,
    ):
        super().__init__()
        hooks = dict(
            on_epoch_begin=on_epoch_begin,
            on_epoch_end=on_epoch_end,
            on_train_begin=on_train_begin,
            on_train_end=on_train_end,
            on_train_batch_begin=on_train_batch_begin,
            on_train_batch_end=on_train_batch_end,
            **kwargs,
        )
        for name in hooks:
            if name.startswith("on_") and not hasattr(Callback, name):
                raise TypeError(f"LambdaCallback: {name!r} is not a hook.")
        # On the object: `CallbackList` then knows which hooks there are, as for a subclass.
        vars(self).update({name: function for name, function in hooks.items() if function is not None})
