"""`Trial`, one try of a search as it is kept, and the study that keeps them."""

import contextlib
import os
import sys
import uuid
from typing import IO, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from kerax.places import is_elsewhere
from kerax.tuner.hyperparameters import HyperParameters
from kerax.tuner.spaces import Floats, Integers

SKIPPED = "skipped"  # attribute of trials that do not count: "repeat", "surplus" or "abandoned"
_STATES = {
    TrialState.COMPLETE: "COMPLETED",
    TrialState.PRUNED: "PRUNED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
    TrialState.WAITING: "IDLE",
}


class Trial:
    """One try of a search.

    Attributes:
        trial_id: Its number as text, `"0003"`.
        hyperparameters: The `HyperParameters` with their values.
        status: `"COMPLETED"`, `"PRUNED"`, `"FAILED"`, `"RUNNING"` or `"IDLE"`.
        score: The objective at its best epoch, averaged over executions; `None` before the end and for a failure.
        metrics: `{name: number}` at that epoch.
        message: The error of a failed one, else `None`.
    """

    def __init__(self, frozen: FrozenTrial, hyperparameters: HyperParameters | None = None):
        attributes = frozen.user_attrs
        self.number, self.trial_id = frozen.number, f"{frozen.number:04d}"
        if hyperparameters is None:
            hyperparameters = HyperParameters()
            hyperparameters.values = dict(attributes.get("values", {}))
        self.hyperparameters = hyperparameters
        self.status = _STATES[frozen.state]
        self.score: float | None = attributes.get("score")
        self.metrics: dict[str, float] = attributes.get("metrics", {})
        self.message: str | None = attributes.get("error")
        self.build_config: dict | None = attributes.get("build_config")

    def summary(self):
        """Prints the trial."""
        print(f"Trial {self.trial_id}: {self.status.lower()}")
        for name, value in self.hyperparameters.values.items():
            print(f"  {name}: {value}")
        for line in (self.message or "").strip().splitlines()[-1:]:
            print(f"  error: {line}")
        if self.score is not None:
            print(f"  score: {self.score:.6g}")

    def __repr__(self):
        return f"<Trial {self.trial_id} {self.status} score={self.score} {self.hyperparameters.values}>"


def draw(trial: optuna.Trial, declaration, grid: bool):
    """The value of a hyperparameter in a trial of Optuna's."""
    distribution = declaration.distribution(grid)
    if distribution is None:
        return declaration.default
    # The same name under other conditions may have another range, which Optuna wants another name for.
    where = ", ".join(f"{parent}={'|'.join(map(str, allowed))}" for parent, allowed in declaration.conditions)
    name = f"{declaration.name} [{where}]" if where else declaration.name
    if isinstance(distribution, Integers):
        low, high, step, log = distribution
        drawn: Any = trial.suggest_int(name, low, high, step=step, log=log)
    elif isinstance(distribution, Floats):
        drawn = trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    else:
        drawn = trial.suggest_categorical(name, distribution.values)
    return declaration.value(drawn, grid)


def open_study(who: str, storage, folder: str, name: str, objective, sampler, pruner, overwrite: bool):
    """The study called `name` in a storage, by default a journal file in `folder`, or at an address a folder of
    them; made if it is not there.

    Raises:
        ValueError: if it is there with another objective.
    """
    if storage is None and is_elsewhere(folder):
        from optuna.storages import journal

        from kerax.tuner.journal import AddressJournal

        storage = journal.JournalStorage(AddressJournal(f"{folder}/journal"))
    elif storage is None:
        path = os.path.join(folder, "journal.log")
        if overwrite and os.path.exists(path):
            os.remove(path)
        os.makedirs(folder, exist_ok=True)
        from optuna.storages import journal

        # Optuna's own lock is a symbolic link, which Windows allows to administrators only.
        lock = journal.JournalFileOpenLock(path) if sys.platform == "win32" else None
        storage = journal.JournalStorage(journal.JournalFileBackend(path, lock))
    elif overwrite and name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    direction = "minimize" if objective.direction == "min" else "maximize"
    study = optuna.create_study(
        study_name=name, storage=storage, direction=direction, sampler=sampler, pruner=pruner, load_if_exists=True
    )
    # Optuna would go on with any study of that name, and compare scores of two different numbers.
    known = study.user_attrs.setdefault("objective", list(objective))
    if list(known) != list(objective):
        raise ValueError(
            f"{who}: the project {name!r} improves {tuple(known)}, not {tuple(objective)}. Pass another "
            "`project_name`, or `overwrite=True` to begin anew."
        )
    study.set_user_attr("objective", list(objective))
    return study


class Worker:
    """This process's mark in the project's folder, by which others know whether it still runs."""

    def __init__(self, folder: str):
        self._folder = os.path.join(folder, "workers")
        self.name = uuid.uuid4().hex
        self._file: IO | None = None

    def __enter__(self):
        if is_elsewhere(self._folder):  # nothing can be locked there: as on another machine
            return self
        os.makedirs(self._folder, exist_ok=True)
        self._file = open(self._path(self.name), "w")  # open as long as the worker runs: closing unlocks
        _lock(self._file)
        return self

    def __exit__(self, *_):
        if self._file is not None:
            self._file.close()
            os.remove(self._path(self.name))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def is_dead(self, name: str) -> bool:
        """Whether a worker is known to have ended: without its mark it is on another machine, or ended in order."""
        if is_elsewhere(self._folder):
            return False
        try:
            # A file that can be locked is held by nobody: its process ended without `__exit__`.
            with open(self._path(name), "r+") as file:
                return _lock(file)
        except FileNotFoundError:
            return False

    def forget(self, name: str):
        """Removes the mark of a worker that is dead."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path(name))


def _lock(file) -> bool:
    """Locks a file; the system unlocks it when this process ends, however it ends. `False` if that is not possible."""
    try:
        import fcntl  # not on Windows, where no worker is ever known to be dead

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
