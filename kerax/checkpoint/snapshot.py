"""What a checkpoint holds of a model and of the run that trains it, and how it is put back."""

import warnings
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kerax import tree
from kerax.checkpoint import codec
from kerax.checkpoint.folder import Folder, by_path, part
from kerax.core import placement
from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.core.tracking import walk
from kerax.train.state import state_variables
from kerax.version import __version__

Tree = Any


class Snapshot(NamedTuple):
    """The arrays, the position in the data as JSON, and everything else. Later steps do not change it."""

    state: dict
    data: Any
    meta: dict


def describe(model) -> dict:
    """The model's config and compile arguments, for `load_model`; `{"error": why}` if they are not JSON-able."""
    try:
        return {"config": serialize_keras_object(model), "compile": model.get_compile_config()}
    except (TypeError, ValueError) as error:
        return {"error": str(error)}


def take(model, metadata: dict | None, description: dict, with_run: bool, weights_only: bool = False) -> Snapshot:
    """The state of a model at this moment: arrays are copied on the device, nothing waits for it.

    Args:
        metadata: What the user adds.
        description: What `describe` returned.
        with_run: Whether the model is in a `fit` that shall be able to go on from here.
        weights_only: Whether to leave the optimizer's state and the metrics out.
    """
    run = model.kerax_compilation.training if with_run else None
    kept = {} if run is None else run.kept_values()
    state = state_tree(model, lambda variable: jnp.copy(kept[id(variable)]) if id(variable) in kept else variable.raw)
    if weights_only:
        state = {name: part for name, part in state.items() if name in ("params", "state")}
    structure, arrays = _encoded_states(run)
    # Copied on the device: a callback may go on changing its own.
    if arrays:
        state["callbacks"] = {name: jnp.array(array) for name, array in arrays.items()}
    meta = {
        "format": 1,
        "leaves": leaf_specs(state),
        "user": metadata or {},
        "versions": {"kerax": __version__, "jax": jax.__version__, "orbax-checkpoint": version("orbax-checkpoint")},
        "passes": model.kerax_passes,
        "inferences": model.kerax_inferences if run is None else run.inferences(),
        "model": description,
        "run": None if run is None else run.describe() | {"callbacks": structure},
    }
    return Snapshot(state, None if run is None else _encoded_position(run.data), meta)


def finish(snapshot: Snapshot) -> dict:
    """The `meta` of a snapshot as JSON. Reads numbers from the device: to be called where waiting does no harm."""
    meta, run = snapshot.meta, snapshot.meta["run"]
    # Lazy until here: `dict` fetches the numbers, in the thread that writes.
    if run is not None and run["logs"] is not None:
        meta = meta | {"run": run | {"logs": dict(run["logs"])}}
    return codec.encode(meta)


def _encoded_position(data: Any) -> Any:
    """A position in the data as JSON; where a source's own is not plain data, the number of its batches."""
    try:
        return codec.encode(data)
    except TypeError as error:
        # Going on then skips so many batches instead of asking the source.
        count = {"count": data["source"]["count"]}
        warnings.warn(f"The position of the data cannot be saved, only its number of batches: {error}", stacklevel=4)
        return codec.encode(data | {"source": count})


def _encoded_states(run) -> tuple[dict, dict]:
    """The callbacks' states as JSON, and the arrays in them."""
    structure, arrays = codec.split_arrays({} if run is None else run.callback_states())
    for name, state in structure.items():
        try:
            # Tried in the caller's thread: there the error names the callback, and stops `fit`.
            codec.encode(state)
        except TypeError as error:
            raise TypeError(f"{name}: `get_state` must return plain data and arrays. {error}") from None
    return structure, arrays


def put_back(folder: Folder, step: int, model, strict: bool = True, with_run: bool = False) -> dict:
    """Puts a step's state into a built model and returns its `meta`.

    Args:
        strict: Whether every leaf must agree.
        with_run: Whether a run goes on: then the metrics of its epoch so far and its callbacks' states are read too.

    Raises:
        ValueError: listing every leaf that is missing or has another shape or dtype, or is damaged. Nothing is changed.
    """
    meta = folder.read_meta(step)
    own = state_tree(model, lambda variable: variable)
    wanted, stored = leaf_specs(own), meta["leaves"]
    # Metrics and callbacks belong to a run; weights alone do without.
    skipped = [] if with_run else ["metrics", "callbacks"]
    # A model that is not compiled, or weights alone: the optimizer starts anew.
    if model.optimizer is None or not any(name.startswith("opt_state") for name in stored):
        skipped.append("opt_state")
    wanted, stored = (
        {name: leaf for name, leaf in leaves.items() if name.split("/")[0] not in skipped}
        for leaves in (wanted, stored)
    )
    arrays = {name: leaf for name, leaf in stored.items() if name.startswith("callbacks/")}
    stored = {name: leaf for name, leaf in stored.items() if name not in arrays}
    # Both ways: what the model lacks is as wrong as what the file lacks.
    differences = [
        f"{name}: expected {wanted.get(name, 'nothing')}, the checkpoint has {stored.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | stored.keys())
        if wanted.get(name) != stored.get(name)
    ]
    if differences and strict:
        listed = "\n  ".join(differences[:50]) + (f"\n  and {len(differences) - 50} more" if differences[50:] else "")
        raise ValueError(
            f"checkpoint: {folder.place!r}, step {step}, does not fit {model}; nothing was changed.\n  {listed}\n"
            "`strict=False` restores what fits and leaves the rest."
        )
    variables = {name: v for name, v in by_path(own).items() if name in stored and wanted[name] == stored[name]}
    # Each process reads the parts of its own devices only.
    shardings = {name: placement.sharding_of(variable) for name, variable in variables.items()}
    values = by_path(folder.read_state(step, meta["checksums"], {*variables, *arrays}, shardings))
    for name, variable in variables.items():
        # All is read and checked by now.
        variable.assign(_placed_like(variable, values[name]))
    model.kerax_passes, model.kerax_inferences = meta["passes"], meta["inferences"]
    if with_run:
        by_number = {name.removeprefix("callbacks/"): values[name] for name in arrays}
        meta["run"]["callbacks"] = codec.join_arrays(meta["run"]["callbacks"], by_number)
    return meta


def _placed_like(variable, value) -> jax.Array:
    """An array where the variable's own lies."""
    held = variable._value
    if isinstance(value, jax.Array):
        return value
    # Spread by hand, without a distribution: it stays where the user put it.
    if held is not None and len(held.sharding.device_set) > 1:
        return jax.device_put(value, held.sharding)
    return jnp.asarray(value)


def rebuild(meta: dict, where: str, custom_objects: dict | None, compile: bool, safe_mode: bool):
    """The model that a checkpoint describes, with fresh weights.

    Raises:
        ValueError: if it describes none, or names a class that is not known.
    """
    described = meta["model"]
    if "error" in described:
        raise ValueError(
            f"checkpoint: {where!r} does not describe its model: {described['error']} Make the model yourself and call "
            "`kerax.checkpoint.restore`."
        )
    try:
        model = deserialize_keras_object(described["config"], custom_objects, safe_mode)
        if compile and described["compile"] is not None:
            model.compile(**deserialize_keras_object(described["compile"], custom_objects, safe_mode))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"checkpoint: the model in {where!r} cannot be made: {error}") from error
    return model


def state_tree(model, read) -> dict:
    """The model's state as nested dicts of `read(variable)`, without empty parts.

    Weights are in `params` or `state` by how they were created, so that freezing a layer changes nothing here.
    """
    found = state_variables(model)
    weights: dict = {"params": [], "state": [(("random_key",), model.kerax_random_key)]}
    for path, variable in walk(model):
        weights["params" if variable.is_parameter else "state"].append((path, variable))
    nested = {name: tree.nest(leaves) for name, leaves in weights.items()}
    nested |= {"opt_state": found.opt_state, "metrics": found.metrics}
    leaves = jax.tree_util.tree_leaves_with_path(nested)
    return tree.nest((tuple(map(part, path)), read(variable)) for path, variable in leaves)


def leaf_specs(state: Tree) -> dict[str, str]:
    """`{"params/dense/kernel": "float32[4, 8]"}` of arrays or variables."""
    return {name: f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}" for name, leaf in by_path(state).items()}
