"""A folder of checkpoints, one subfolder per step. The only module that knows orbax.

A step holds the items `state` (a tree of arrays), `data` and `meta` (JSON). It is written under another name and
renamed when it is complete, so that a process killed at any moment leaves complete steps only. Old steps are renamed
away before they are deleted, for the same reason.
"""

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from kerax import tree as trees
from kerax.checkpoint import codec
from kerax.checkpoint.mirror import Mirror
from kerax.core.host_arrays import checksum
from kerax.places import is_elsewhere, path_of

Tree = Any
_DELETED = ".deleted"
_LOCK = ".writer"
_MOST_JSON = 2**30  # bytes


class Folder:
    """The checkpoints in one folder.

    Args:
        directory: Path of the folder.
        keep: Number of latest steps to keep.
        keep_best: Number of steps to keep besides, those with the best metric.
        monitor: Name of that metric.
        mode: `"min"` or `"max"`: which values of it are better.
    """

    def __init__(self, directory, keep: int | None = 1, keep_best: int = 0, monitor: str | None = None, mode="min"):
        place = path_of(directory, "Checkpoints")
        self._mirror = Mirror(place) if is_elsewhere(place) else None
        self.path = os.path.abspath(place) if self._mirror is None else self._mirror.path
        self.place = self.path if self._mirror is None else place  # for messages
        self.keep, self.keep_best, self.monitor, self.mode = keep, keep_best, monitor, mode
        self._writer = None  # orbax's manager while this process writes
        self._lock: int | None = None

    def steps(self) -> list[int]:
        """The complete steps, in order."""
        # Whoever writes there knows them: to ask at each save would make training wait for the network.
        if self._mirror is None or self._lock is not None:
            return self._steps_here()
        return self._mirror.steps()

    def _steps_here(self) -> list[int]:
        if not os.path.isdir(self.path):
            return []
        names = [name for name in os.listdir(self.path) if name.isdigit()]
        # A folder of digits may be somebody else's: a step has its `state`.
        return sorted(int(name) for name in names if os.path.isdir(os.path.join(self.path, name, "state")))

    def latest(self) -> int | None:
        """The latest complete step."""
        return max(self.steps(), default=None)

    @classmethod
    def at(cls, directory, step: int | None) -> tuple["Folder", int]:
        """The folder, and a step that is there: see `step_or_latest`."""
        folder = cls(directory)
        return folder, folder.step_or_latest(step)

    def step_or_latest(self, step: int | None) -> int:
        """A step that is there. Raises `FileNotFoundError` if it, or any, is not."""
        steps = self.steps()
        if not steps:
            is_file = os.path.isfile(self.path)
            hint = " It is a file: `kerax.saving.load_model` and `load_weights` read those." if is_file else ""
            raise FileNotFoundError(f"There is no complete checkpoint in {self.place!r}.{hint}")
        if step is not None and step not in steps:
            raise FileNotFoundError(
                f"There is no complete checkpoint of step {step} in {self.place!r}. There: {steps}."
            )
        return steps[-1] if step is None else step

    # Reading.

    def read_meta(self, step: int) -> dict:
        """The items `meta` and `data` of a step as `{"data": ..., **meta}`."""
        with self._explaining(step):
            self._fetch(step, with_arrays=False)
            meta, data = (self._read_json(step, name) for name in ("meta", "data"))
            return meta | {"data": data}

    def _fetch(self, step: int, with_arrays: bool):
        if self._mirror is not None:
            self._mirror.fetch(step, with_arrays)

    def _read_json(self, step: int, name: str) -> Any:
        path = os.path.join(self._step_path(step), name, "metadata")
        # Before it is read into memory.
        if os.path.getsize(path) > _MOST_JSON:
            raise ValueError(f"{name!r} has {os.path.getsize(path)} bytes, more than {_MOST_JSON}")
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
        # A file that was changed since must not pass.
        if stored["checksum"] != _text_checksum(stored["content"]):
            raise ValueError(f"{name!r} has other bytes than were written")
        return codec.decode(stored["content"])

    def read_state(
        self,
        step: int,
        checksums: dict[str, int],
        only: set[str] | None = None,
        shardings: dict[str, Any] | None = None,
    ) -> Tree:
        """The tree of a step as NumPy arrays, or on devices.

        Args:
            checksums: By path, as `write` returned them. A difference raises `ValueError`.
            only: Paths of the leaves to read. Default: all.
            shardings: By path, of leaves to put on devices: each process reads the parts of its own devices.
        """
        import orbax.checkpoint as ocp
        from etils import epath  # comes with orbax

        path = epath.Path(self._step_path(step)) / "state"
        with self._explaining(step), contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
            self._fetch(step, with_arrays=True)
            # The form comes from the checkpoint itself: no model is needed.
            tree = reader.metadata(path).tree
            if only is not None:
                leaves = trees.unnest(tree).items()
                tree = trees.nest((names, leaf) for names, leaf in leaves if "/".join(names) in only)
            wanted = jax.tree_util.tree_map_with_path(lambda path, _: _restore_args(ocp, path, shardings or {}), tree)
            args = ocp.args.PyTreeRestore(tree, restore_args=wanted, partial_restore=only is not None)
            state = reader.restore(path, args=args)
        damaged = [
            name
            for name, leaf in by_path(state).items()
            # With several processes each checks what it holds.
            if name in checksums and _is_here(leaf) and checksum(leaf) != checksums[name]
        ]
        if damaged:
            raise ValueError(
                f"The checkpoint {self._named(step)!r} is damaged: {', '.join(damaged)} "
                f"{'has' if len(damaged) == 1 else 'have'} other bytes than were written. {self._others(step)}"
            )
        return state

    @contextlib.contextmanager
    def _explaining(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise ValueError(
                f"The checkpoint {self._named(step)!r} cannot be read; it is damaged or not kerax's: {reason} "
                f"{self._others(step)}"
            ) from error

    def _others(self, step: int) -> str:
        others = [other for other in self.steps() if other != step]
        return f"Complete steps beside it: {others}." if others else "There is no other step in the folder."

    def _step_path(self, step: int) -> str:
        return os.path.join(self.path, str(step))

    def _named(self, step: int) -> str:
        return f"{self.place}/{step}"

    # Writing.

    def open(self):
        """Claims the folder for this process, and removes what a killed one left unfinished.

        Raises:
            ValueError: if another process writes there, or the folder holds something else than checkpoints.
            OSError: if it cannot be written.
        """
        if self._lock is not None:
            return
        if self._mirror is not None and jax.process_count() > 1:
            raise ValueError(
                f"checkpoint: several processes write to one folder, which {self.place!r} is not. Mount the bucket as "
                "a folder on each of them and give its path."
            )
        others = [] if self._mirror is None else self._mirror.claim()
        if others or (os.path.exists(self.path) and not self._is_ours()):
            raise ValueError(
                f"checkpoint: {self.place!r} holds something else than checkpoints; it was left alone. Give a new or "
                "empty folder."
            )
        if jax.process_index():  # the first process speaks for all
            return
        os.makedirs(self.path, exist_ok=True)
        self._lock = _claim(os.path.join(self.path, _LOCK))
        for name in os.listdir(self.path):
            if name == _DELETED or name.endswith(".orbax-checkpoint-tmp"):
                shutil.rmtree(os.path.join(self.path, name), ignore_errors=True)

    def _is_ours(self) -> bool:
        if not os.path.isdir(self.path):
            return False
        names = os.listdir(self.path)
        return all(name.split(".")[0].isdigit() or name in (_DELETED, _LOCK) for name in names)

    def write(self, step: int, state: Tree, data: Any, meta: dict, metrics: dict | None = None):
        """Writes a step. Returns when it is complete and steps that need not be kept are gone.

        Args:
            state: Nested dict of arrays.
            data, meta: As `codec.encode` gives them.
            metrics: Numbers by name, for `keep_best`.

        Raises:
            OSError: if it cannot be written; the steps before are as they were.
        """
        import orbax.checkpoint as ocp

        self.open()
        # From the very copies that are written.
        sums = {name: checksum(leaf) for name, leaf in by_path(state).items() if _is_here(leaf)}
        items: dict[str, Any] = {"state": ocp.args.PyTreeSave(state)}
        for name, content in (("data", data), ("meta", meta | {"checksums": sums})):
            items[name] = ocp.args.JsonSave({"content": content, "checksum": _text_checksum(content)})
        try:
            if self._writer is None:
                self._writer = self._manager()
            self._writer.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)
            if self._mirror is not None:
                self._mirror.follow(self._steps_here())
        except Exception as error:
            self._drop_writer()
            for name in os.listdir(self.path):
                # A full disk: what is half written would keep it full.
                if name.startswith(f"{step}.orbax-checkpoint-tmp"):
                    shutil.rmtree(os.path.join(self.path, name), ignore_errors=True)
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise OSError(
                f"checkpoint: step {step} could not be written to {self.place!r}; the steps before it are as they were."
                f" {type(error).__name__}: {reason}"
            ) from error
        shutil.rmtree(os.path.join(self.path, _DELETED), ignore_errors=True)

    def delete_all(self):
        """Removes every step, and the folder if nothing else is in it."""
        self.open()
        for step in self.steps() if jax.process_index() == 0 else ():
            # Renamed first: killed in the midst of deleting, no half step is left under its number.
            aside = f"{self._step_path(step)}.orbax-checkpoint-tmp"
            os.replace(self._step_path(step), aside)
            shutil.rmtree(aside, ignore_errors=True)
        if self._mirror is not None:
            self._mirror.follow([])
        self.close()
        with contextlib.suppress(OSError):
            os.rmdir(self.path)

    def close(self):
        """Gives the folder free."""
        self._drop_writer()
        if self._lock is not None:
            # While it is held: scripts look for the latest step among the folder's names.
            with contextlib.suppress(OSError):
                os.remove(os.path.join(self.path, _LOCK))
            os.close(self._lock)
            self._lock = None

    def _drop_writer(self):
        # A manager that has failed cannot be used again.
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(Exception):
                writer.close()

    def _manager(self):
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy as preserve

        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        # Weights hardly shrink, and compressing takes longer than writing.
        arrays = ocp.PyTreeCheckpointHandler(use_compression=False)
        handlers.add("state", ocp.args.PyTreeSave, arrays)
        handlers.add("state", ocp.args.PyTreeRestore, arrays)
        for name in ("data", "meta"):
            text = ocp.JsonCheckpointHandler()
            handlers.add(name, ocp.args.JsonSave, text)
            handlers.add(name, ocp.args.JsonRestore, text)
        policies: list[Any] = [preserve.LatestN(self.keep)]
        options: dict[str, Any] = {}
        if self.keep_best:

            def value(metrics):
                return metrics[self.monitor]

            policies.append(preserve.BestN(get_metric_fn=value, reverse=self.mode == "min", n=self.keep_best))
            options = {"best_fn": value, "best_mode": self.mode}
        options |= {
            "enable_async_checkpointing": False,  # `Checkpointer` has a thread of its own
            "todelete_subdir": _DELETED,  # steps are renamed into it, and removed after the save
            "preservation_policy": preserve.AnyPreservationPolicy(policies),
        }
        return ocp.CheckpointManager(
            self.path, handler_registry=handlers, options=ocp.CheckpointManagerOptions(**options)
        )


def _claim(path: str) -> int:
    """An open file that no other process has locked. The system unlocks it when this process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        import fcntl
    except ImportError:  # not on this system
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(
            f"checkpoint: somebody else writes to {os.path.dirname(path)!r} now: another process, or another callback "
            "of this one. Give each run a folder of its own."
        ) from None
    except OSError:  # a file system without locks
        return descriptor
    if not _is_same(descriptor, path):  # who held it has removed it since
        os.close(descriptor)
        return _claim(path)
    return descriptor


def _is_same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def part(key) -> str:
    """One step of a JAX key path as text."""
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def by_path(tree: Tree) -> dict[str, Any]:
    """`{"a/b": leaf}` of a nested tree."""
    return {_joined(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _joined(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_here(array) -> bool:
    """Whether all of an array can be read by this process."""
    return not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated


def _restore_args(ocp, path: tuple, shardings: dict[str, Any]):
    sharding = shardings.get(_joined(path))
    if sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=sharding)


def _text_checksum(content: Any) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
