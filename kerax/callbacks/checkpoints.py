"""`ModelCheckpoint`: saves the model, its weights or the whole training state while training."""

import os

from kerax.callbacks.monitors import Monitor


class ModelCheckpoint(Monitor):
    """Saves after epochs, or every so many batches.

    What is saved follows from `filepath`: `*.weights.h5` the weights, a path without an ending an orbax checkpoint of
    the whole training state (optimizer, random key and metrics too).

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
        ValueError: if the ending of `filepath` and `save_weights_only` disagree, or `save_freq` is neither.
    """

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
    ):
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise ValueError(f"ModelCheckpoint: `save_freq` must be 'epoch' or a number of batches. Got {save_freq!r}.")
        if self.filepath.endswith((".keras", ".h5")) and not self.filepath.endswith(".weights.h5"):
            raise ValueError(
                f"ModelCheckpoint: kerax does not write {self.filepath!r} yet. Give a folder, or a '.weights.h5' file."
            )
        if save_weights_only and not self.filepath.endswith(".weights.h5"):
            raise ValueError(
                "ModelCheckpoint: with `save_weights_only`, `filepath` must end in '.weights.h5'. "
                f"Got {self.filepath!r}."
            )
        self.verbose, self.save_best_only, self.save_weights_only = verbose, save_best_only, save_weights_only
        self.save_freq = save_freq
        self.watches_batches = save_freq != "epoch"
        self.every = save_freq if self.watches_batches else 1
        self.best = self.worst if initial_value_threshold is None else initial_value_threshold
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._save(self._epoch, batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _save(self, epoch: int, batch: int | None, logs):
        if self.save_best_only:
            value = self.read(logs)
            if value is None or not self.is_better(value, self.best):
                return
            self.best = value
        fields = {"epoch": epoch + 1} | dict(logs or {}) | ({} if batch is None else {"batch": batch + 1})
        try:
            path = self.filepath.format(**fields)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: `filepath` {self.filepath!r} names {error}, which is not among {list(fields)}."
            ) from None
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if path.endswith(".weights.h5"):
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved to {path}")
