"""The folder of a run: which one it is, and what is kept there beside the checkpoint."""

import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import yaml

from kerax import callbacks, places
from kerax.cli.config import ConfigError, Field, one_line
from kerax.config import enable_compilation_cache
from kerax.version import __version__

CONFIG, ENVIRONMENT, RESULTS = "config.yaml", "environment.json", "results.json"
METRICS = "metrics.jsonl"
SECONDS_TO_BACKUP = 30
CHECKPOINT, BACKUP = "checkpoint", "backup"
LOGS = ("csv", "jsonl", "tensorboard", "backup")
_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "h5py")
_SETTINGS = ("JAX_", "XLA_", "KERAX_", "CUDA_VISIBLE_DEVICES", "TPU_")


def keep_programs():
    """Has compiled programs kept on disk, so that a second process of the same run starts at once.

    `JAX_COMPILATION_CACHE_DIR` says where, `JAX_ENABLE_COMPILATION_CACHE=false` prevents it.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    try:
        print(f"compiled programs: {enable_compilation_cache()}")
    except OSError as error:  # a home that cannot be written to: a run is as good without
        print(f"compiled programs are not kept: {error}", file=sys.stderr)


def to_yaml(tree: Any) -> str:
    """Plain data as YAML in the order it has, what is short in one line."""
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def numbered_folders(folder: Path) -> dict[int, Path]:
    """Those of the folders `runs/digits`, `runs/digits-2`, `runs/digits-3`, ... that hold something, by number."""
    found = {}
    for path in folder.parent.iterdir() if folder.parent.is_dir() else ():
        match = re.fullmatch(re.escape(folder.name) + r"(?:-([1-9]\d*))?", path.name)
        if match and path.is_dir() and any(path.iterdir()):
            found[int(match[1] or 1)] = path
    return dict(sorted(found.items()))


def choose_folder(run_dir: str, resume: bool, config_path: str = "") -> Path:
    """The folder that a run writes to, made if it is not there and claimed for this process.

    A folder that holds something is left alone: the next number is appended to its name. With `resume` it is the newest
    of the folders of that name instead, or the one that the config itself lies in.

    Raises:
        ConfigError: if there is nothing to resume, or the folder cannot be made.
    """
    try:
        folder = places.folder(run_dir, "run_dir")
    except (ValueError, ImportError) as error:
        raise ConfigError(one_line(error)) from None
    if folder.name in ("", ".."):
        raise ConfigError(f"run_dir: expected the path of a folder for this run alone. Got {run_dir!r}.")
    taken = numbered_folders(folder)
    # A config beside an `environment.json` is that of a run: going on with it means this run, not the newest.
    if resume:
        own = Path(config_path).parent
        if config_path and (own / ENVIRONMENT).is_file():
            return own
        if not taken:
            raise ConfigError(f"{folder}: there is no run to go on with. Leave out --resume to start one.")
        return taken[max(taken)]
    # The plain name is free again once its folder is emptied, even if numbered ones are there.
    number = max(taken) + 1 if folder in taken.values() else 1
    while True:
        chosen = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            chosen.mkdir(parents=True, exist_ok=True)
            (chosen / CONFIG).touch(exist_ok=False)  # one of several processes that start at once gets it
            return chosen
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"run_dir: {chosen} cannot be made: {error.strerror}.") from None


def give_back(folder: Path):
    """Empties a folder that was chosen for a run which did not begin."""
    # Emptied, not removed: the folder itself may have been the user's.
    for path in folder.iterdir():
        if not path.is_dir():
            path.unlink()
        elif isinstance(path, Path):
            shutil.rmtree(path)
        else:
            path.rmdir(recursive=True)


def write_config(folder: Path, tree: dict):
    """Keeps the whole config of a run, with which it can be run again."""
    (folder / CONFIG).write_text(to_yaml(tree), encoding="utf-8")


def describe_environment() -> dict[str, Any]:
    """What a run's numbers depend on beside its config: versions, devices, settings, commit, command line."""
    # Of packages that are installed without metadata nothing is known.
    versions = {"python": platform.python_version(), "kerax": __version__}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions,
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_SETTINGS)},
        "git": _describe_commit(),
    }


def _describe_commit() -> dict[str, Any] | None:
    """The commit of the working directory, and whether tracked files differ from it; `None` where there is none."""

    def git(*arguments):
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_environment(folder: Path):
    """Keeps `describe_environment()`; of a run that is gone on with, one for each start."""
    path = folder / ENVIRONMENT
    before = []
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        before = [*known.pop("earlier", []), known]  # flat, oldest first
    found = describe_environment() | ({"earlier": before} if before else {})
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def check_logs(field: Field) -> dict[str, bool]:
    """Which logs are kept. Raises `ConfigError` for one that is unknown or neither true nor false."""
    field.expect_names(LOGS)
    for _, value in field.items():
        value.expect(bool, "true or false")
    # On by default where it can be written; asked for and missing it is an error, told before the run begins.
    has_tensorboard = importlib.util.find_spec("tensorboardX") is not None
    if field.value.get("tensorboard") and not has_tensorboard:
        raise field["tensorboard"].error("TensorBoard's files need tensorboardX: pip install 'kerax[tensorboard]'.")
    return {"csv": True, "jsonl": True, "tensorboard": has_tensorboard, "backup": True} | field.value


def make_loggers(folder: Path, kept: dict[str, bool]) -> list[callbacks.Callback]:
    """The callbacks that write a run's logs. All of them go on where a run that is resumed was."""
    makers = {
        "csv": lambda: callbacks.CSVLogger(str(folder / "metrics.csv")),
        "jsonl": lambda: callbacks.JSONLogger(str(folder / METRICS)),
        "tensorboard": lambda: callbacks.TensorBoard(str(folder / "tensorboard")),
        # By the clock, so that short epochs are not slowed down; Ctrl-C and SIGTERM save as well.
        "backup": lambda: callbacks.BackupAndRestore(
            str(folder / BACKUP), save_freq=False, delete_checkpoint=False, every_seconds=SECONDS_TO_BACKUP
        ),
    }
    return [make() for name, make in makers.items() if kept[name]]
