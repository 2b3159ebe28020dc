"""Orbax checkpoints of a model's whole training state: weights, optimizer, random key, and the run they belong to.

A folder holds one subfolder per step. Restoring is strict: paths, shapes and dtypes must agree, and the bytes must be
those that were written. A checkpoint made inside `fit` by a callback of kerax also holds the run: the position in the
data, the metrics of the epoch so far and the callbacks' states, so that `fit(..., resume=folder)` goes on to the bit.
"""

import atexit
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import jax

from kerax.checkpoint import snapshot as snapshots
from kerax.checkpoint.folder import Folder

__all__ = [
    "Checkpointer",
    "all_steps",
    "delete",
    "inspect",
    "latest_step",
    "load_model",
    "restore",
    "restore_arrays",
    "restore_metadata",
    "save",
]


class Checkpointer:
    """Saves a model again and again into one folder, in the background.

    The arrays are copied on the device, which is all that `save` takes of the caller's time; a thread reads them from
    there and writes. To be closed, or used by `with`; a process that ends waits for the last save.

    Args:
        directory: Path of the folder, made if it is not there.
        keep: Number of latest steps to keep; `None` for all.
        keep_best: Number of steps to keep besides, those with the best `monitor` in the metrics given to `save`.
        monitor: Name of a metric.
        mode: `"min"` or `"max"`: which values of it are better.
        every_steps: Least number of steps between two saves by `save_if_due`.
        every_seconds: Least number of seconds between two.

    Raises:
        ValueError: if the folder holds something else, or somebody else writes to it.
    """

    def __init__(
        self,
        directory,
        keep: int | None = 1,
        keep_best: int = 0,
        monitor: str = "val_loss",
        mode: str = "min",
        every_steps: int | None = None,
        every_seconds: float | None = None,
    ):
        for name, value, least in (("keep", keep, 1), ("keep_best", keep_best, 0), ("every_steps", every_steps, 1)):
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"Checkpointer: `{name}` must be an integer of at least {least}. Got {value!r}.")
        if mode not in ("min", "max"):
            raise ValueError(f"Checkpointer: `mode` must be 'min' or 'max'. Got {mode!r}.")
        self.folder = Folder(directory, keep, keep_best, monitor, mode)
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self._saved_at: tuple[int, float] | None = None  # training steps and seconds at the last save
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future | None = None
        self._described: tuple | None = None  # (model, its description)
        self._next = 0
        _open.add(self)

    @property
    def is_busy(self) -> bool:
        """Whether a save is being written."""
        return self._pending is not None and not self._pending.done()

    def save(
        self, model, step=None, metrics=None, metadata=None, with_run=False, weights_only=False, wait=False
    ) -> int:
        """Saves the state that the model has now. Waits for the save before, and with `wait` for this one.

        Args:
            model: A built model.
            step: Number of the checkpoint. Default: the number of training steps so far, or the next that is free.
            metrics: `{name: number}`, for `keep_best` and to be found again by `inspect`.
            metadata: Anything JSON-able, for `restore_metadata`.
            with_run: Whether to keep the position of the running `fit` too: for callbacks, in `on_checkpoint`.
            weights_only: Whether to leave the optimizer's state and the metrics out.
            wait: Whether to return when it is written.

        Returns: the step.

        Raises:
            OSError: if this save, or the one before, could not be written. What was saved before is intact.
        """
        self.wait()
        self.folder.open()
        # Numbers only grow, whoever wrote into the folder before.
        latest = self.folder.latest()
        self._next = max(self._next, 0 if latest is None else latest + 1)
        step = max(_num_steps(model), self._next) if step is None else step
        self._next = step + 1
        # A description takes milliseconds, and changes with `compile` only.
        key = model, model.optimizer
        if self._described is None or self._described[0] != key:
            self._described = key, snapshots.describe(model)
        snapshot = snapshots.take(model, metadata, self._described[1], with_run, weights_only)
        self._saved_at = _num_steps(model), time.monotonic()
        metrics = dict(metrics) if metrics is not None else None
        if jax.process_count() > 1:  # they wait for each other while they write: no program may come between
            self._write(step, snapshot, metrics)
            return step
        # One thread: saves come one after the other.
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "kerax checkpoint")
        self._pending = self._thread.submit(self._write, step, snapshot, metrics)
        if wait:
            self.wait()
        return step

    def save_if_due(self, model, **arguments) -> int | None:
        """`save`, if `every_steps` training steps or `every_seconds` have gone by since the last one: the step."""
        is_due = self._saved_at is None
        if self._saved_at is not None:
            steps, seconds = _num_steps(model) - self._saved_at[0], time.monotonic() - self._saved_at[1]
            is_due = self.every_steps is not None and steps >= self.every_steps
            is_due = is_due or (self.every_seconds is not None and seconds >= self.every_seconds)
        return self.save(model, **arguments) if is_due else None

    def restore_run(self, model, form: dict, step: int | None = None) -> dict:
        """Puts a checkpoint's state into a model whose `fit` has begun, and returns where `Training` goes on.

        Args:
            form: What the data of the run must be like.

        Raises:
            ValueError: if it does not fit, is damaged, or was not made inside `fit` by a callback of kerax. Nothing is
                changed then.
        """
        step = self.folder.step_or_latest(step)
        run = self.folder.read_meta(step)["run"]
        if run is None:
            raise ValueError(
                f"fit: the checkpoint {self.folder.place!r}, step {step}, holds no run to go on with; it was not made "
                "by a callback inside `fit`. Restore it with `kerax.checkpoint.restore` and pass `initial_epoch`."
            )
        changed = [name for name in form if run["form"].get(name) != form[name]]
        if changed:
            listed = "; ".join(f"{name} was {run['form'].get(name)}, is {form[name]}" for name in changed)
            raise ValueError(
                f"fit: the run in {self.folder.place!r} had other data, so that it cannot go on where it was: {listed}."
                " Give the same data and arguments, or restore weights by `kerax.checkpoint.restore` and start anew."
            )
        meta = snapshots.put_back(self.folder, step, model, with_run=True)
        return meta["run"] | {"data": meta["data"]}

    def _write(self, step: int, snapshot: snapshots.Snapshot, metrics: dict | None):
        # In the thread: reading numbers waits for the device.
        metrics = None if metrics is None else {name: float(value) for name, value in metrics.items()}
        meta = snapshots.finish(snapshot) | {"metrics": metrics}
        self.folder.write(step, snapshot.state, snapshot.data, meta, metrics)

    def wait(self):
        """Returns when nothing is being written. Raises `OSError` if the last save failed."""
        # Taken first: an error is raised once.
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def latest_step(self) -> int | None:
        """The latest complete step."""
        return self.folder.latest()

    def all_steps(self) -> list[int]:
        """The complete steps, in order."""
        return self.folder.steps()

    def close(self):
        """Waits for the last save and gives the folder free."""
        _open.discard(self)
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None
            self.folder.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_):
        self.close()


def _num_steps(model) -> int:
    """Training steps so far. Inside `fit` it is not waited for the device."""
    training = model.kerax_compilation.training
    return int(model.kerax_random_key.peek()[2]) if training is None else training.num_steps


_open: weakref.WeakSet = weakref.WeakSet()


@atexit.register
def _close_all():
    for checkpointer in list(_open):
        checkpointer.close()


def save(
    directory,
    model,
    step: int | None = None,
    metadata: dict | None = None,
    metrics: dict | None = None,
    keep: int | None = 1,
    overwrite: bool = True,
):
    """Writes a checkpoint of `model` to a folder. Returns when it is complete; the one before is intact until then.

    Args:
        directory: Path of the folder.
        model: A built model; if it is compiled and trained, its optimizer's state is saved too.
        step: Number of the checkpoint. Default: the number of training steps so far, or the next that is free.
        metadata: Anything JSON-able to keep beside the state, for `restore_metadata`.
        metrics: `{name: number}` to be found again by `inspect`.
        keep: Number of latest steps to keep in the folder; `None` for all.
        overwrite: Whether an existing checkpoint may be replaced.

    Raises:
        ValueError: if the folder holds a checkpoint and `overwrite` is false, or something else than checkpoints.
        OSError: if it cannot be written.
    """
    if not overwrite and all_steps(directory):
        raise ValueError(f"checkpoint.save: {str(directory)!r} exists. Pass `overwrite=True` to replace it.")
    with Checkpointer(directory, keep) as checkpointer:
        checkpointer.save(model, step, metrics, metadata, wait=True)


def restore(directory, model, strict: bool = True, step: int | None = None):
    """Puts the state of a checkpoint into `model`, which must be built.

    Args:
        directory: Path of the folder.
        model: A model of the same structure. A compiled one gets the optimizer's state as well, if there is one.
        strict: Whether every leaf must agree. `False` restores those that do and leaves the others.
        step: Default: the latest.

    Raises:
        ValueError: listing every leaf that is missing or has another shape or dtype, or is damaged. Nothing is changed
            then.
        FileNotFoundError: if there is no such checkpoint in the folder.
    """
    folder, step = Folder.at(directory, step)
    snapshots.put_back(folder, step, model, strict)


def load_model(directory, step: int | None = None, custom_objects=None, compile=True, safe_mode=True):
    """The model of a checkpoint, from the checkpoint alone: its config and compile arguments travel with it.

    Args:
        directory: Path of the folder.
        step: Default: the latest.
        custom_objects: `{name: class or function}` of those that are not registered.
        compile: Whether to compile it as it was, with the optimizer's state.
        safe_mode: Whether the checkpoint is not trusted: see `kerax.saving.load_model`.

    Raises:
        ValueError: if the checkpoint has no config, asks for what it may not, or names a class that is not known.
        FileNotFoundError: if there is no such checkpoint in the folder.
    """
    folder, step = Folder.at(directory, step)
    model = snapshots.rebuild(folder.read_meta(step), folder.place, custom_objects, compile, safe_mode)
    snapshots.put_back(folder, step, model)
    return model


def restore_arrays(directory, step: int | None = None, only: str | None = None) -> dict:
    """The arrays of a checkpoint as a nested dict of NumPy arrays, without the model or its code.

    Args:
        directory: Path of the folder.
        step: Default: the latest.
        only: Path of a part, such as `"params/encoder"`. Default: everything.

    Raises:
        KeyError: if there is no such part.
    """
    folder, step = Folder.at(directory, step)
    meta = folder.read_meta(step)
    names = [name for name in meta["leaves"] if only is None or f"{name}/".startswith(f"{only.strip('/')}/")]
    if not names:
        raise KeyError(f"checkpoint.restore_arrays: there is no {only!r}. Leaves: {sorted(meta['leaves'])[:20]}.")
    return folder.read_state(step, meta["checksums"], None if only is None else set(names))


def restore_metadata(directory, step: int | None = None) -> dict:
    """What was given to `save` as `metadata`."""
    return inspect(directory, step)["user"]


def inspect(directory, step: int | None = None) -> dict:
    """What is in a checkpoint, without its arrays.

    Returns: `leaves` by path with dtype and shape, `versions`, `model` (config and compile arguments), `run` (epoch,
        batch and callbacks' states, if it was made inside `fit`), `metrics`, `user` (the metadata), `step`, `steps`.
    """
    folder, step = Folder.at(directory, step)
    return folder.read_meta(step) | {"step": step, "steps": folder.steps()}


def latest_step(directory) -> int | None:
    """The latest complete step in a folder; `None` if there is none."""
    return Folder(directory).latest()


def all_steps(directory) -> list[int]:
    """The complete steps in a folder, in order."""
    return Folder(directory).steps()


def delete(directory):
    """Removes every checkpoint in a folder, and the folder itself if nothing else is in it."""
    Folder(directory).delete_all()
