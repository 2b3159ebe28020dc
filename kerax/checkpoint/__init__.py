"""Orbax checkpoints of a model's whole training state: weights, optimizer, random key and metrics.

A checkpoint is a folder with the items `state` (the tree of arrays) and `meta` (versions, every leaf's path, shape
and dtype, and what the user adds). Restoring is strict: paths, shapes and dtypes must agree.
"""

import os
import shutil
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import tree
from kerax.core.tracking import walk
from kerax.train.state import state_variables
from kerax.version import __version__

_STEP = 0


def save(directory, model, metadata: dict | None = None, overwrite: bool = True):
    """Writes a checkpoint of `model` to a folder. Returns when it is complete.

    Args:
        directory: Path of the folder.
        model: A built model; if it is compiled and trained, its optimizer's state is saved too.
        metadata: Anything JSON-able to keep beside the state, for `restore_metadata`.
        overwrite: Whether an existing checkpoint may be replaced.

    Raises:
        ValueError: if the folder exists and `overwrite` is false, or holds something else than a checkpoint.
    """
    import orbax.checkpoint as ocp

    path = os.path.abspath(os.fspath(directory))
    if os.path.exists(path) and (os.listdir(path) if os.path.isdir(path) else True):
        if not overwrite:
            raise ValueError(f"checkpoint.save: {path!r} exists. Pass `overwrite=True` to replace it.")
        if not _is_checkpoint(path):
            raise ValueError(f"checkpoint.save: {path!r} holds something else than a checkpoint; it was left alone.")
    state = _tree(model, lambda variable: variable.value)
    meta = {"leaves": _describe(state), "user": metadata or {}, "versions": _versions(), "passes": model.passes}
    partial = f"{path}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    with _manager(partial) as manager:
        manager.save(_STEP, args=ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta)))
    if os.path.isdir(path):
        shutil.rmtree(path)
    os.replace(partial, path)


def restore(directory, model, strict: bool = True):
    """Puts the state of a checkpoint into `model`, which must be built.

    Args:
        directory: Path of the folder.
        model: A model of the same structure. A compiled one gets the optimizer's state as well, if there is one.
        strict: Whether every leaf must agree. `False` restores those that do and leaves the others.

    Raises:
        ValueError: listing every leaf that is missing or has another shape or dtype. Nothing is changed then.
        FileNotFoundError: if there is no checkpoint in the folder.
    """
    import orbax.checkpoint as ocp

    meta = _meta(directory)
    own = _tree(model, lambda variable: jax.ShapeDtypeStruct(variable.shape, variable._dtype))
    wanted, stored = _describe(own), meta["leaves"]
    if not any(name.startswith("opt_state") for name in stored) or model.optimizer is None:
        wanted = {name: leaf for name, leaf in wanted.items() if not name.startswith("opt_state")}
        stored = {name: leaf for name, leaf in stored.items() if not name.startswith("opt_state")}
    wanted = {name: leaf for name, leaf in wanted.items() if not name.startswith("metrics")}
    stored = {name: leaf for name, leaf in stored.items() if not name.startswith("metrics")}
    differences = [
        f"{name}: expected {wanted.get(name, 'nothing')}, the checkpoint has {stored.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | stored.keys())
        if wanted.get(name) != stored.get(name)
    ]
    if differences and strict:
        raise ValueError(
            f"checkpoint.restore: {os.fspath(directory)!r} does not fit {model}; nothing was changed.\n  "
            + "\n  ".join(differences)
        )
    with _manager(directory) as manager:
        stored_tree = manager.item_metadata(_STEP)["state"].tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored_tree)
        args = ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=as_numpy))
        values = _by_path(manager.restore(_STEP, args=args)["state"])
    for name, variable in _by_path(_tree(model, lambda variable: variable)).items():
        if name in values and wanted.get(name) == stored.get(name, ""):
            variable.assign(jnp.asarray(values[name]))
    model.passes = meta["passes"]


def restore_metadata(directory) -> dict:
    """What was given to `save` as `metadata`."""
    return _meta(directory)["user"]


def _meta(directory) -> dict:
    import orbax.checkpoint as ocp

    if not _is_checkpoint(directory):
        raise FileNotFoundError(f"There is no complete checkpoint in {os.fspath(directory)!r}.")
    with _manager(directory) as manager:
        return manager.restore(_STEP, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]


def _is_checkpoint(directory) -> bool:
    return os.path.isdir(os.path.join(directory, str(_STEP), "state"))


def _manager(directory):
    import orbax.checkpoint as ocp

    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    arrays, text = ocp.PyTreeCheckpointHandler(use_compression=False), ocp.JsonCheckpointHandler()
    for name, handler, kinds in (
        ("state", arrays, (ocp.args.PyTreeSave, ocp.args.PyTreeRestore)),
        ("meta", text, (ocp.args.JsonSave, ocp.args.JsonRestore)),
    ):
        for kind in kinds:
            handlers.add(name, kind, handler)
    return ocp.CheckpointManager(os.path.abspath(os.fspath(directory)), handler_registry=handlers)


def _tree(model, read) -> dict:
    """The model's state as nested dicts of `read(variable)`, without empty parts.

    Weights are in `params` or `state` by how they were created, so that freezing a layer changes nothing here.
    """
    found = state_variables(model)
    weights: dict = {"params": [], "state": [(("random_key",), model.random_key)]}
    for path, variable in walk(model):
        weights["params" if variable.is_parameter else "state"].append((path, variable))
    nested = {name: tree.nest(leaves) for name, leaves in weights.items()}
    nested |= {"opt_state": found.opt_state, "metrics": found.metrics}
    leaves = jax.tree_util.tree_leaves_with_path(nested)
    return tree.nest((tuple(map(_part, path)), read(variable)) for path, variable in leaves)


def _part(part) -> str:
    return str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part))))


def _by_path(tree: Any) -> dict[str, Any]:
    return {"/".join(map(_part, path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _describe(tree: Any) -> dict[str, str]:
    return {name: f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}" for name, leaf in _by_path(tree).items()}


def _versions() -> dict[str, str]:
    return {"kerax": __version__, "jax": jax.__version__, "orbax-checkpoint": version("orbax-checkpoint")}
