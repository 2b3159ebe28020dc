"""`kerax evaluate` and `kerax predict`: what was trained, without the script that trained it."""

from collections.abc import Sequence
from typing import Any, cast

from kerax import checkpoint, places
from kerax.cli import files, run_folder
from kerax.cli.build import fit_inputs, load_data, set_seed
from kerax.cli.config import ConfigError, Field, one_line, parse_arguments, read_config, resolve_config
from kerax.cli.preprocessing import find_preprocessing, preceded
from kerax.cli.training import load_model

_EVALUATE = """Restores the checkpoint or the folder of a run, or a `.keras` file, on whatever devices are there, and
tests it on the test data of the config it was trained with."""
_PREDICT = """Restores the checkpoint or the folder of a run, or a `.keras` file, and writes its predictions for the
rows of a file, or for the test data of the config it was trained with."""
_OPTIONS = {"config": "a YAML file to take the data and the model from, instead of the config in the checkpoint"}
_FOR_EVALUATE = _OPTIONS | {"predict": "an .npz file: write the predictions for the test data to it instead"}
_FOR_PREDICT = _OPTIONS | {
    "input": "a .npy, .npz or .csv file of inputs, which are scaled and shaped as the config's data; of a run with "
    "`features` or `text` the columns by their names, or texts",
    "output": "a .npy, .npz or .csv file to write, default predictions.npy",
    "batch_size": "rows that are computed at once, default 32",
}


def evaluate(arguments: Sequence[str]):
    """Tests a checkpoint. Raises `ConfigError` for anything wrong in the command line, or what it names."""
    path, overrides = parse_arguments(arguments, "CHECKPOINT", _EVALUATE, options=_FOR_EVALUATE)
    config_path, target = overrides.pop("config", None), overrides.pop("predict", None)
    path = find_checkpoint(path)
    config = config_of(path, config_path, overrides)
    # So that a model that is built again draws what it drew in training.
    set_seed(config)
    _, (x_test, y_test) = load_data(config)
    model = load_model(path, config, _changes_model(overrides))
    if target is not None:
        files.write_array(target, model.predict(x_test, verbose=0), _read_metadata(path).get("class_names"))
        print(f"predictions: {target}")
        return
    try:
        results = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {one_line(error)}") from None
    for name, value in results.items():
        print(f"test {name} {value:.4f}")


def predict(arguments: Sequence[str]):
    """Writes predictions. Raises `ConfigError` for anything wrong in the command line, or what it names."""
    path, overrides = parse_arguments(arguments, "CHECKPOINT", _PREDICT, options=_FOR_PREDICT)
    config_path, source = overrides.pop("config", None), overrides.pop("input", None)
    target, batch_size = overrides.pop("output", "predictions.npy"), overrides.pop("batch_size", "32")
    if not batch_size.isdecimal() or int(batch_size) < 1:
        raise ConfigError(f"--batch_size: expected a whole number of at least 1. Got {batch_size!r}.")
    files.check_target(target)  # first: nobody wants to hear after the computation that the file cannot be written
    path = find_checkpoint(path)
    # A `.keras` file and inputs of one's own are enough; a config only scales and shapes these where there is one.
    needs_config = source is None or config_path is not None or overrides
    config = config_of(path, config_path, overrides) if needs_config or "config" in _read_metadata(path) else None
    preprocessing = None if source is None else find_preprocessing(path)
    inputs, is_raw = _read_inputs(source, config, preprocessing)
    model = load_model(path, config, _changes_model(overrides))
    if is_raw:
        model = preceded(model, preprocessing)
    try:
        predictions = model.predict(inputs, batch_size=int(batch_size), verbose=0)
    except (TypeError, ValueError) as error:
        place = source or cast(Field, config)["data"].source
        raise ConfigError(f"{place}: {one_line(error)}") from None
    files.write_array(target, predictions, _read_metadata(path).get("class_names"))
    print(f"predictions: {target}")


def _read_inputs(source: str | None, config: Field | None, preprocessing: Any) -> tuple[Any, bool]:
    """Inputs, and whether they are columns or texts, not yet the numbers that a model takes."""
    if source is None:
        return load_data(cast(Field, config))[1][0], False  # which is there where no source was given
    tensors = {} if preprocessing is None else {tensor.name: tensor for tensor in preprocessing.inputs}
    dtypes = {name: str(tensor.dtype) for name, tensor in tensors.items()}
    inputs = files.read_inputs(source, dtypes, _targets(config))
    if isinstance(inputs, dict):
        if preprocessing is None or not tensors.keys() <= inputs.keys():
            return inputs, False
        columns = {name: inputs[name].reshape(-1, *tensor.shape[1:]) for name, tensor in tensors.items()}
        return (columns if isinstance(preprocessing.input, dict) else next(iter(columns.values()))), True
    if tensors and inputs.dtype.kind == "U":
        return inputs, True
    return (fit_inputs(config, inputs) if config is not None else inputs), False


def _targets(config: Field | None) -> list[str]:
    """The names of the columns to be predicted, which the rows of a table may hold or not."""
    found = {} if config is None else config["data"].value
    target = found.get("target", []) if isinstance(found, dict) else []
    return [target] if isinstance(target, str) else list(target)


def _changes_model(overrides: dict) -> bool:
    return any(name.split(".")[0] in ("model", "compile") for name in overrides)


def find_checkpoint(path: str) -> str:
    """The checkpoint in the folder of a run; any other path as it is."""
    # A checkpoint of the user's own may have a folder of that name too: the config beside it tells a run.
    folder = places.folder(path, "checkpoint")
    inside = folder / run_folder.CHECKPOINT
    return str(inside) if inside.is_dir() and (folder / run_folder.CONFIG).is_file() else path


def _read_metadata(path: str) -> dict:
    if path.endswith(".keras"):
        return {}
    try:
        return checkpoint.restore_metadata(path)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"{error} Expected the folder that `kerax train` printed.") from None


def config_of(path: str, config_path: str | None, overrides: dict) -> Field:
    """The config of a run: from a file of its own, or from the checkpoint.

    Raises:
        ConfigError: if there is none, or it is wrong.
    """
    if config_path is not None:
        return read_config(config_path, overrides)
    metadata = _read_metadata(path)
    if "config" not in metadata:
        raise ConfigError(f"{path}: there is no config in it. Give one by --config CONFIG.")
    return resolve_config(metadata["config"], overrides, source=f"config in {path}")
