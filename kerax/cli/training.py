"""`kerax train`: a run from its config to its folder."""

import json
import sys
from collections.abc import Sequence

import kerax
from kerax import callbacks, checkpoint, distribution, places
from kerax.cli import run_folder
from kerax.cli.build import build_fit_arguments, build_model, load_encoded, set_seed
from kerax.cli.config import ConfigError, Field, one_line, parse_arguments, program_name, read_config
from kerax.cli.fields import complete, show_fields
from kerax.cli.preprocessing import PREPROCESSING, build_preprocessing
from kerax.errors import check_choice

DESCRIPTION = """Trains the model that a YAML file describes, tests it, and keeps the run in its folder `run_dir`:
config.yaml, environment.json, metrics as CSV, JSON lines and for TensorBoard, results.json and checkpoint. A folder
that holds a run is left alone: the next one is called `run_dir`-2. `kerax train RUN/config.yaml` repeats a run."""
FLAGS = {
    "resume": "go on with the newest run of that name, or the one that the config lies in, where it stopped",
    "print_config": "print the whole config with all defaults, as YAML that can be run, and do nothing else",
}


def train(arguments: Sequence[str]):
    """Trains what a config describes.

    Args:
        arguments: The words of the command line: a path, flags and overrides.

    Raises:
        ConfigError: for anything wrong in them, in the config or in the folder of the run.
    """
    path, overrides = parse_arguments(arguments, "CONFIG", DESCRIPTION, FLAGS, show_fields=show_fields)
    flags = {name: overrides.pop(name, False) for name in FLAGS}
    config = read_config(path, overrides)
    if flags["print_config"]:
        print(run_folder.to_yaml(complete(config)), end="")
        return
    run(config, flags["resume"], path)


def run(config: Field, resume: bool = False, path: str = "") -> dict[str, float]:
    """Trains, tests and saves, on all devices if `distribution` says so.

    Args:
        config: The checked config.
        resume: Whether to go on with a run that was stopped.
        path: Where the config was read.

    Returns: the numbers of the test.

    Raises:
        ConfigError: for what is wrong in the config or in the folder of the run.
    """
    field, before = config["distribution"], distribution.distribution()
    makers = {"none": lambda: before, "data": distribution.DataParallel, "fsdp": distribution.FSDP}
    field.call(lambda: check_choice("distribution", "distribution", field.value, makers))
    distribution.set_distribution(makers[field.value]())
    try:
        return _run(config, resume, path)
    finally:
        distribution.set_distribution(before)


def _run(config: Field, resume: bool, path: str) -> dict[str, float]:
    # As much as can be wrong in a config is found before the folder is made, so that mistakes leave nothing behind.
    kept = run_folder.check_logs(config["logs"])
    run_folder.keep_programs()
    set_seed(config)  # before the model, whose weights are drawn from it
    (x_train, y_train), (x_test, y_test), encoder, class_names = load_encoded(config)
    model = build_model(config)
    fit_arguments = build_fit_arguments(config)
    folder = run_folder.choose_folder(config["run_dir"].value, resume, path)
    # What is kept says where the run is, and runs again as it is: an open search is none of its business.
    tree = {name: value for name, value in config.value.items() if name != "search"} | {"run_dir": str(folder)}
    if resume and (folder / run_folder.CHECKPOINT).exists():
        _check_longer(folder, fit_arguments.get("epochs", 1))
    if resume and not kept["backup"]:
        raise config["logs"].error("a run without backup cannot be resumed.")
    if str(folder) != str(places.folder(config["run_dir"].value, "run_dir")) and not resume:
        print(f"{config['run_dir'].value} holds a run already, and is left alone.")
    print(f"run folder: {folder}")
    run_folder.write_config(folder, tree)
    run_folder.write_environment(folder)
    if encoder is not None:
        build_preprocessing(config, encoder).save(str(folder / PREPROCESSING))

    model.summary()
    began = _Began()
    fit_arguments["callbacks"] += [*run_folder.make_loggers(folder, kept), began]
    try:
        model.fit(x_train, y_train, **fit_arguments)
    except (TypeError, ValueError) as error:
        if began.has_begun:  # a bug, or a callback's: the traceback is wanted
            raise
        if not resume:
            run_folder.give_back(folder)
        raise config["fit"].error(one_line(error).removeprefix("fit: ")) from None
    except KeyboardInterrupt:
        if kept["backup"]:
            print(f"Go on by `{program_name()} {folder / run_folder.CONFIG} --resume`.", file=sys.stderr)
        raise
    results = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    for name, value in results.items():
        print(f"test {name} {value:.4f}")
    (folder / run_folder.RESULTS).write_text(json.dumps({"test": results}) + "\n", encoding="utf-8")

    directory = folder / run_folder.CHECKPOINT
    named = {} if class_names is None else {"class_names": class_names}
    checkpoint.save(str(directory), model, metadata={"config": tree} | named)
    print(f"checkpoint: {directory}")
    return results


def _check_longer(folder, epochs: int):
    """Raises `ConfigError` unless a finished run can be gone on with for so many epochs in all."""
    backup = str(folder / run_folder.BACKUP)
    run = checkpoint.inspect(backup)["run"] if checkpoint.all_steps(backup) else None
    again = f"`{program_name()} {folder / run_folder.CONFIG}` repeats it."
    if run is None:
        raise ConfigError(f"{folder}: this run is finished, and was kept without a backup to go on from. {again}")
    if run["stop_training"]:
        raise ConfigError(f"{folder}: this run is finished. It ended by itself after epoch {run['epoch']}. {again}")
    if epochs <= run["epoch"]:
        raise ConfigError(
            f"{folder}: this run is finished. To train longer, give more epochs than its {run['epoch']}: --resume "
            f"--fit.epochs {2 * run['epoch']}. {again}"
        )


class _Began(callbacks.Callback):
    """Whether training has begun: what is raised before is about its arguments."""

    has_begun = False

    def on_train_begin(self, logs=None):
        self.has_begun = True


def load_model(path: str, config: Field | None, is_changed: bool) -> "kerax.Model":
    """The model of a checkpoint or a `.keras` file as it was saved, or with an override as the config says.

    Raises:
        ConfigError: if the file or folder cannot be read, or does not fit the config.
    """
    try:
        if not is_changed or config is None:
            model: kerax.Model = kerax.saving.load_model(path)
            # An uncompiled file cannot be evaluated: then the config says how.
            if model.compiled or config is None:
                return model
        model = build_model(config)
        if path.endswith(".keras"):
            model.set_weights(kerax.saving.load_model(path, compile=False).get_weights())
        else:
            checkpoint.restore(path, model)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from None
    return model
