"""Callbacks that save: `ModelCheckpoint`, `OrbaxCheckpoint`, `BackupAndRestore`."""

import contextlib
import errno
import os
import re
import signal
import tempfile
import warnings
from collections.abc import Iterator

import jax

from kerax import checkpoint
from kerax.callbacks.callback import Callback, When
from kerax.callbacks.monitors import Monitor
from kerax.core.terminal import say
from kerax.places import check_writable, is_elsewhere, path_of
from kerax.saving.models import check_name

_FILES = (".keras", ".h5", ".hdf5")  # endings of files; anything else names a folder


class _Saver(Monitor):
    """What `ModelCheckpoint` and `OrbaxCheckpoint` share: when to save, and whether it is worth it."""

    kept_attributes = ("best",)

    def __init__(self, monitor, verbose, save_best_only, save_weights_only, mode, save_freq, initial_value_threshold):
        super().__init__(monitor, mode)
        _check_save_freq(self, save_freq)
        self.verbose, self.save_best_only, self.save_weights_only = verbose, save_best_only, save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold

    def _is_worth_it(self, logs) -> bool:
        if not self.save_best_only:
            return True
        value = self.get_monitor_value(logs)
        if value is None:  # which was warned of: better one file too many than none
            return True
        if not self.is_better(value, self.best):
            return False
        self.best = value
        return True


class ModelCheckpoint(_Saver):
    """Saves after epochs, or every so many batches.

    What is saved follows from `filepath`: `*.weights.h5` the weights, `*.keras` or `*.h5` the model, a path without an
    ending an orbax checkpoint of the whole training state and the run, from which `fit(..., resume=path)` goes on.

    Args:
        filepath: Path, with fields such as `{epoch:02d}` and `{val_loss:.2f}`.
        monitor: Name in the logs, for `save_best_only`.
        verbose: 1 prints each save.
        save_best_only: Whether to save only when the monitored number is the best so far.
        save_weights_only: Whether to save weights; `filepath` must then end in `.weights.h5`.
        mode: `"min"`, `"max"` or `"auto"`.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: Value that the first save must beat.

    Raises:
        ValueError: if the ending of `filepath` is not known, or disagrees with `save_weights_only`, or `save_freq` is
            neither.
        OSError: when training begins, if its folder cannot be written.
    """

    def __init__(
        self,
        filepath,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold=None,
    ):
        super().__init__(monitor, verbose, save_best_only, save_weights_only, mode, save_freq, initial_value_threshold)
        # With fields filled in: a number in a name is no ending.
        check_name(re.sub(r"\{[^{}]*\}", "0", path_of(filepath, "ModelCheckpoint")), "ModelCheckpoint")
        self.filepath = path_of(filepath, "ModelCheckpoint")
        is_weights = self.filepath.endswith(".weights.h5")
        if save_weights_only and not is_weights:
            raise ValueError(
                "ModelCheckpoint: with `save_weights_only`, `filepath` must end in '.weights.h5'. "
                f"Got {self.filepath!r}."
            )
        # Folders hold the run, which is whole at checkpoints only; files hold weights, which are so at any batch.
        self._is_folder = not self.filepath.endswith(_FILES)
        when = _when(save_freq)
        self.sees_batches, self.saves_run = (When(), when) if self._is_folder else (when, When())
        self._epoch = 0

    def on_train_begin(self, logs=None):
        # Before hours of training, not after: as far as the path is known, which may have fields.
        known = self.filepath.split("{")[0]
        if is_elsewhere(known):
            is_known = known == self.filepath and self._is_folder
            check_writable(known if is_known else known.rpartition("/")[0], "ModelCheckpoint")
            return
        folder = os.path.dirname(os.path.abspath(known + "x")) if known != self.filepath else os.path.abspath(known)
        if known == self.filepath and not self._is_folder:
            if os.path.isdir(folder):
                raise IsADirectoryError(errno.EISDIR, "ModelCheckpoint: a folder is in the place of the file", known)
            folder = os.path.dirname(folder)
        check_writable(folder, "ModelCheckpoint")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._save(self._epoch, batch + 1, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch" and not self._is_folder:
            self._save(epoch, None, logs)

    def on_checkpoint(self, epoch, batch, logs=None):
        # Asked after batches and after epochs: one of them is meant.
        if self._is_folder and (self.save_freq == "epoch") == (batch is None):
            self._save(epoch, batch, logs)

    def _save(self, epoch: int, batch: int | None, logs):
        if not self._is_worth_it(logs):
            return
        fields = {"epoch": epoch + 1} | dict(logs or {}) | ({} if batch is None else {"batch": batch})
        try:
            path = self.filepath.format(**fields)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: `filepath` {self.filepath!r} names {error}, which is not among {list(fields)}."
            ) from None
        # A metric in the name may be in a folder's name.
        if not is_elsewhere(path):
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if path.endswith(_FILES):
            save = self.model.save_weights if path.endswith(".weights.h5") else self.model.save
            with _only_first(path) as path:
                save(path, overwrite=True)
        else:
            with checkpoint.Checkpointer(path) as checkpointer:
                checkpointer.save(self.model, with_run=True)
        if self.verbose:
            say(f"Epoch {epoch + 1}: saved to {path}")


class OrbaxCheckpoint(_Saver):
    """Saves the training state and the run into a folder of steps, in the background.

    A save that fails is a warning, and training goes on; if the last one failed it is tried again at the end.

    Args:
        directory: Path of the folder.
        monitor: Name in the logs, for `save_best_only`.
        verbose: 1 prints each save.
        save_best_only: Whether to save only when the monitored number is the best so far.
        mode: `"min"`, `"max"` or `"auto"`.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: Value that the first save must beat.
        max_to_keep: Number of latest steps to keep; `None` for all.
        save_on_background: Whether training goes on while a checkpoint is written.
        save_weights_only: Whether to leave the optimizer's state, the metrics and the run out.

    Raises:
        ValueError: if `save_freq` is neither.
        OSError: at the end of training, if the last save failed twice.
    """

    def __init__(
        self,
        directory,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold=None,
        max_to_keep: int | None = 1,
        save_on_background: bool = True,
        save_weights_only: bool = False,
    ):
        super().__init__(monitor, verbose, save_best_only, save_weights_only, mode, save_freq, initial_value_threshold)
        self.directory, self.max_to_keep = path_of(directory, "OrbaxCheckpoint"), max_to_keep
        self.save_on_background = save_on_background
        self.saves_run = _when(save_freq)
        self._writer = _Writer(self, self.directory, max_to_keep)

    def on_train_begin(self, logs=None):
        self._writer.open()

    def on_checkpoint(self, epoch, batch, logs=None):
        if (self.save_freq == "epoch") != (batch is None) or not self._is_worth_it(logs):
            return
        # What orbax can keep: numbers, no arrays.
        metrics = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        step = self._writer.save(
            metrics=metrics,
            with_run=not self.save_weights_only,
            weights_only=self.save_weights_only,
            wait=not self.save_on_background,
        )
        if self.verbose and step is not None:
            say(f"Epoch {epoch + 1}: saving step {step} to {self.directory}")

    def on_train_end(self, logs=None):
        self._writer.finish()

    def wait_until_finished(self):
        """Returns when nothing is being written."""
        self._writer.wait()

    def close(self):
        self._writer.close()


class BackupAndRestore(Callback):
    """Saves the run again and again, and if there is one in the folder when training begins, goes on from there.

    A run that is killed anywhere and started again by the same script ends with the same weights, optimizer state and
    history, to the bit, as one that was not. Ctrl-C and SIGTERM (under Slurm SIGUSR1 as well) save before leaving; with
    several processes, the notices of preemption that JAX's runtime and orbax pass on.

    Args:
        backup_dir: Path of a folder for this run alone.
        save_freq: `"epoch"`, or a number of batches, or `False`: only when the run is interrupted.
        double_checkpoint: Whether to save at the ends of epochs besides a number of batches.
        delete_checkpoint: Whether to remove the folder's checkpoints when training is done. If not, they hold its end,
            from which a `fit` of more epochs goes on.
        every_seconds: Seconds after which to save as well. kerax's own.

    Raises:
        ValueError: if `save_freq` is none of these; when training begins, if the saved run does not fit the model, the
            data or the arguments of `fit`.
        OSError: at the end of training, if the last save failed twice. Before, a save that fails is a warning.

    Keras saves at the start of the next epoch and repeats batches after a crash; this does not.
    """

    def __init__(
        self,
        backup_dir,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
        every_seconds=None,
    ):
        super().__init__()
        if save_freq is not False:
            _check_save_freq(self, save_freq)
        if not backup_dir:
            raise ValueError(f"BackupAndRestore: `backup_dir` must be the path of a folder. Got {backup_dir!r}.")
        self.backup_dir, self.save_freq = path_of(backup_dir, "BackupAndRestore"), save_freq
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint
        self._batches = save_freq if isinstance(save_freq, int) and save_freq else None  # `False` is an int too
        self._seconds = every_seconds
        # Two: one is whole while the other is being written or turns out damaged.
        self._writer = _Writer(self, self.backup_dir, keep=2)
        self._polls = 0

    @property
    def saves_run(self) -> When:
        """Under JAX's multi-process runtime at most 16 batches go by before notices of preemption are looked for."""
        every = self._batches
        if jax.distributed.is_initialized():
            every = 16 if every is None else min(16, every)
        return When(every, seconds=self._seconds)

    def resume(self, form):
        self._writer.open()
        found = self._writer.restore_run(form)
        if found is not None and self.params.get("verbose"):
            say(f"Going on from {self.backup_dir}: epoch {found['epoch'] + 1}, after {found['step']} batches.")
        return found

    def on_checkpoint(self, epoch, batch, logs=None):
        if self._is_preempted():
            raise SystemExit(128 + signal.SIGTERM)  # `on_interrupt` saves
        if batch is None:
            # What is not deleted at the end holds the end: then the run can be made longer.
            is_last = epoch + 1 == self.params.get("epochs") or self.model.stop_training
            is_kept = is_last and not self.delete_checkpoint
            is_wanted = self.save_freq == "epoch" or self.double_checkpoint or is_kept
        else:
            # Counted through all epochs, as `When` counts.
            total = self.model.kerax_compilation.training.steps_before + batch
            is_due = self._batches is not None and total % self._batches == 0
            # A save that is not done yet is no reason to wait in the midst of an epoch.
            is_wanted = (is_due or self._seconds is not None) and not self._writer.is_busy
        if is_wanted:
            self._writer.save(with_run=True)

    def _is_preempted(self) -> bool:
        """Whether the cluster has told one of the processes to end. All are told so at the same call of this."""
        if not jax.distributed.is_initialized():
            return False
        from orbax.checkpoint import utils

        # All processes must ask with the same number: orbax lets them agree on a step.
        self._polls += 1
        return utils.reached_preemption(self._polls)

    def on_interrupt(self):
        if not self._writer.is_open:  # training was done, and what was saved is removed
            return
        self._writer.save(with_run=True, wait=True)
        run = self.model.kerax_compilation.training
        say(f"Interrupted in epoch {run.epoch + 1} after {run.step} batches; saved to {self.backup_dir}.")

    def on_train_end(self, logs=None):
        if self.delete_checkpoint:
            self._writer.delete_all()
        else:
            self._writer.finish()

    def close(self):
        self._writer.close()


class _Writer:
    """A callback's `Checkpointer`, whose failures are warnings until the end of training."""

    def __init__(self, callback: Callback, directory: str, keep: int | None):
        self.callback, self.directory, self.keep = callback, directory, keep
        self._claimed: checkpoint.Checkpointer | None = None
        self._last: dict = {}  # arguments of the last save
        self._has_failed = False  # whether the last save did

    def open(self):
        """Claims the folder."""
        if self._claimed is None:
            # At the start of `fit`: a folder in use is refused before training, not after the first epoch.
            self._claimed = checkpoint.Checkpointer(self.directory, self.keep)
            self._claimed.folder.open()

    @property
    def is_open(self) -> bool:
        """Whether the folder is claimed."""
        return self._claimed is not None

    @property
    def _checkpointer(self) -> checkpoint.Checkpointer:
        if self._claimed is None:
            raise RuntimeError(f"{type(self.callback).__name__}: it saves in `fit` only, which opens {self.directory}.")
        return self._claimed

    def restore_run(self, form: dict) -> dict | None:
        """Puts the latest run in the folder into the model."""
        checkpointer = self._checkpointer
        return None if checkpointer.latest_step() is None else checkpointer.restore_run(self.callback.model, form)

    @property
    def is_busy(self) -> bool:
        """Whether a save is being written."""
        return self._checkpointer.is_busy

    def save(self, **arguments) -> int | None:
        """Saves; returns the step, or `None` after a warning."""
        self.wait()
        self._last = arguments
        try:
            step = self._checkpointer.save(self.callback.model, **arguments)
        except OSError as error:
            self._failed(error)
            return None
        self._has_failed = False
        return step

    def wait(self):
        """Returns when nothing is being written, as after `fit`."""
        if self._claimed is None:
            return
        try:
            self._claimed.wait()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError):
        self._has_failed = True
        warnings.warn(f"{type(self.callback).__name__}: {error} Training goes on.", stacklevel=2)

    def finish(self):
        """Waits for the last save, and tries it again if it failed."""
        self.wait()
        # The disk may have room again, and the end is the last chance.
        if self._has_failed:
            self._checkpointer.save(self.callback.model, **(self._last | {"wait": True}))

    def delete_all(self):
        """Removes what was saved."""
        self.wait()
        self._checkpointer.folder.delete_all()
        self.close()

    def close(self):
        """Gives the folder free."""
        # Given up first: a second `close` after an error has nothing to do.
        checkpointer, self._claimed = self._claimed, None
        if checkpointer is not None:
            try:
                checkpointer.close()
            except OSError as error:
                warnings.warn(f"{type(self.callback).__name__}: {error}", stacklevel=2)


def _when(save_freq: str | int) -> When:
    """Every so many batches, or never for "epoch"."""
    return When(save_freq if isinstance(save_freq, int) else None)


def _check_save_freq(callback: Callback, save_freq):
    if save_freq != "epoch" and (not isinstance(save_freq, int) or isinstance(save_freq, bool) or save_freq < 1):
        name = type(callback).__name__
        raise ValueError(f"{name}: `save_freq` must be 'epoch' or a number of batches. Got {save_freq!r}.")


@contextlib.contextmanager
def _only_first(path: str) -> Iterator[str]:
    """The path in the first process. In others, which only take part in gathering the weights, one that is removed."""
    if jax.process_index() == 0:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, os.path.basename(path))
