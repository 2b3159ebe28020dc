"""`kerax tune`: a search over the values that a config leaves open, by `kerax.tuner`."""

import copy
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerax import places, tuner
from kerax.cli import run_folder
from kerax.cli.build import build_fit_arguments, build_model, constructor_parameters, load_data, set_seed
from kerax.cli.config import ConfigError, Field, one_line, parse_arguments, read_config
from kerax.cli.fields import show_fields

_DESCRIPTION = """Searches the values that a YAML file leaves open. In the place of any value below `model`, `compile`,
`fit` and `callbacks` there may be {tune: [relu, gelu]}, a choice, or {tune: {low: 1e-4, high: 1e-1, log: true}}, a
range with `low`, `high`, `step`, `log` and `default` (of whole numbers if both ends are). The choices may be whole
objects with open values of their own. `search` names the tuner, such as {BayesianOptimization: {objective: val_loss,
max_trials: 30}}. The search is kept in `run_dir`: called again with the same config it goes on, and several processes
share it. The config of the best trial is written to `run_dir`/best.yaml; `kerax train` runs it."""
TUNERS = ("RandomSearch", "BayesianOptimization", "Hyperband", "GridSearch")
KEY = "tune"
_RANGE = ("low", "high", "step", "log", "default")
_SECTIONS = ("model", "compile", "fit", "callbacks")
_GIVEN_HERE = ("hypermodel", "hyperparameters", "directory", "project_name", "overwrite", "pruner", "storage")
_ENOUGH_FOR_IMPORTANCE = 10  # trials
BEST, TRIALS, PROJECT = "best.yaml", "trials.json", "search"


def tune(arguments: Sequence[str]):
    """Runs a search. Raises `ConfigError` for anything wrong in the words of the command line or in the config."""
    flags = {"overwrite": "begin anew, dropping the search that is kept in the folder"}
    path, overrides = parse_arguments(arguments, "CONFIG", _DESCRIPTION, flags, show_fields=show_fields)
    overwrite = overrides.pop("overwrite", False)
    config = read_config(path, overrides)
    search(config, overwrite)


def search(config: Field, overwrite: bool = False) -> Path:
    """Searches, prints the results, and writes the config of the best trial.

    Args:
        config: The checked config.
        overwrite: Whether to drop what is kept of an earlier search.

    Returns: the path of the best trial's config.

    Raises:
        ConfigError: for what is wrong in the config, or a folder that holds another search.
    """
    run_folder.keep_programs()
    hypermodel = _FromConfig(config)
    hypermodel.check()  # before anything is written
    try:
        folder = places.folder(config["run_dir"].value, "run_dir")
    except (ValueError, ImportError) as error:
        raise config["run_dir"].error(one_line(error)) from None
    _claim(folder, config, overwrite)
    found = _make_tuner(config["search"], hypermodel, folder, overwrite)
    try:
        found.search()
    except (RuntimeError, ValueError) as error:
        raise config["search"].error(one_line(error)) from None
    best = found.get_best_trials(1)
    if not best:
        raise ConfigError(f"{folder}: no trial came to an end. See {folder / PROJECT}.")
    found.results_summary(5)
    trials = [
        {"trial": trial.trial_id, "status": trial.status, "score": trial.score, "values": trial.hyperparameters.values}
        for trial in found.trials
    ]
    (folder / TRIALS).write_text(json.dumps(trials, indent=1) + "\n", encoding="utf-8")
    tree = hypermodel.resolve(found.get_best_hyperparameters(1)[0])
    # So that `kerax train` runs it beside the search, and not into the search's own folder.
    tree["run_dir"] = str(folder / "best")
    del tree["search"]
    target = folder / BEST
    head = f"# Trial {best[0].trial_id} of {len(trials)}: {found.objective.name} {best[0].score:.6g}\n"
    target.write_text(head + run_folder.to_yaml(tree), encoding="utf-8")
    _draw(found, folder)
    print(f"best config: {target}")
    return target


def _draw(found: "tuner.Tuner", folder: Path):
    """Draws the search and what mattered in it, if matplotlib is there."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    figures = {"history.png": found.plot_history}
    if sum(trial.status == "COMPLETED" for trial in found.trials) >= _ENOUGH_FOR_IMPORTANCE:
        figures["importance.png"] = found.plot_importance
    for name, plot in figures.items():
        with places.to_write(str(folder / name)) as path:
            plot().savefig(path, dpi=120)
    print(f"pictures: {', '.join(str(folder / name) for name in figures)}")


def _claim(folder: Path, config: Field, overwrite: bool):
    """Makes the folder of a search, or finds the same search in it."""
    path, own = folder / run_folder.CONFIG, {name: config.value[name] for name in config.value if name != "search"}
    if path.is_file() and not overwrite:
        # Of `search` only the tuner must be the same: more trials, or another objective, is for the tuner to judge.
        known = read_config(str(path), {}).value
        changed = [name for name, value in own.items() if known.get(name) != value]
        if changed or list(known["search"]) != list(config["search"].value):
            raise ConfigError(
                f"{folder}: holds a search with another {', '.join(changed) or 'search'}. Give another --run_dir, or "
                "--overwrite to begin anew."
            )
    elif folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ConfigError(f"{folder}: holds something else than a search. Give another --run_dir.")
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_config(folder, config.value)
    run_folder.write_environment(folder)


def _make_tuner(field: Field, hypermodel: "_FromConfig", folder: Path, overwrite: bool) -> "tuner.Tuner":
    field.expect_names(TUNERS)
    if len(field.value) != 1:
        raise field.error(f"expected exactly one of {', '.join(TUNERS)}. Got {list(field.value)}.")
    (name,) = field.value
    try:
        cls = getattr(tuner, name)
    except ImportError as error:
        raise field.error(str(error)) from None
    arguments = field[name] if field[name].value is not None else field[name].empty()
    known = [argument for argument in constructor_parameters(cls) if argument not in _GIVEN_HERE]
    arguments.expect_names([*known, "storage"])
    given = {"objective": "val_loss"} | arguments.value
    if isinstance(given.get("objective"), dict):
        given["objective"] = arguments["objective"].call(tuner.Objective, given["objective"])
    given |= {"seed": given.get("seed", hypermodel.seed), "directory": str(folder), "project_name": PROJECT}
    return arguments.call(cls, given | {"hypermodel": hypermodel, "overwrite": overwrite})


class _FromConfig(tuner.HyperModel):
    """The model, the data and the training that a config describes, for the values of a trial."""

    def __init__(self, config: Field):
        super().__init__("config")
        self.config = config
        self.seed = config["seed"].value
        self._data = None

    def check(self):
        """Raises `ConfigError` if nothing is open, or something is where it must not be."""
        for name, field in self.config.items():
            places = [place.key for place in _find_open(field)]
            if places and name not in _SECTIONS:
                raise self.config[name].error(f"`{KEY}` may stand below {', '.join(_SECTIONS)}. Got {places[0]}.")
        if not any(_find_open(self.config)):
            raise self.config.error(f"nothing is left open. Write {{{KEY}: [...]}} in the place of a value.")
        # Once with the defaults, so that mistakes end the command instead of every trial.
        load_data(self.config)
        self.build(tuner.HyperParameters())

    def resolve(self, hp) -> dict[str, Any]:
        """The config with the values of a trial."""
        return _close(self.config, hp)

    def build(self, hp):
        config = self._with(hp)
        set_seed(config)  # each trial starts from the same draws
        model = build_model(config)
        build_fit_arguments(config)  # only to declare what is open in them: trials ask for it in `fit`
        return model

    def fit(self, hp, model, *args, **kwargs):
        config = self._with(hp)
        # Once for all trials: nothing in `data` can be open.
        if self._data is None:
            self._data = load_data(config)
        arguments = build_fit_arguments(config)
        # The tuner's last: it keeps the weights of the epoch that the config's own have seen.
        arguments["callbacks"] += kwargs.pop("callbacks")
        (x, y), _ = self._data
        return model.fit(x, y, **({"verbose": 0} | arguments | kwargs))

    def _with(self, hp) -> Field:
        """The config with a trial's values. What they make wrong is told with them."""
        tree = _close(self.config, hp)
        values = ", ".join(f"{name}={value}" for name, value in hp.values.items())
        return Field(tree, f"{self.config.source} with {values}", "", self.config.lines)


def _is_open(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == [KEY]


def _find_open(field: Field):
    """The fields below one that are left open."""
    if _is_open(field.value):
        yield field
        return
    for below in field.fields():
        yield from _find_open(below)


def _close(field: Field, hp, prefix: str | None = None) -> Any:
    """The value of a field with everything open in it chosen by `hp`, under its key as its name.

    Raises:
        ConfigError: for what is no choice and no range.
    """
    key = field.key if prefix is None else prefix
    below = lambda name: f"{key}.{name}" if key else str(name)
    if _is_open(field.value):
        return _choose(field[KEY], hp, key)
    if isinstance(field.value, dict):
        return {name: _close(each, hp, below(name)) for name, each in field.items()}
    if isinstance(field.value, list):
        return [_close(field[position], hp, below(position)) for position in range(len(field.value))]
    return copy.deepcopy(field.value)


def _choose(field: Field, hp, name: str) -> Any:
    options = field.value
    if isinstance(options, dict):
        return _choose_number(field, hp, name)
    if not isinstance(options, list) or not options:
        raise field.error(f"expected a list of choices, or a mapping with {', '.join(_RANGE)}. Got {options!r}.")
    if all(isinstance(each, type(options[0])) and isinstance(each, (bool, int, float, str)) for each in options):
        return field.call(lambda: hp.Choice(name, options))
    labels = _labels(options)
    chosen = hp.Choice(name, labels)
    result = None
    for position, label in enumerate(labels):
        # All choices are gone through, not only the one taken, so that what is open in the others is declared.
        with hp.conditional_scope(name, [label]):
            is_named = isinstance(options[position], dict) and label in options[position]
            value = _close(field[position], hp, name if is_named else f"{name}.{label}")
        result = value if label == chosen else result
    return result


def _labels(options: list) -> list[str]:
    """Names for choices that are no plain values: their class's, or themselves as YAML; numbered where they repeat."""
    labels: list[str] = []
    for option in options:
        is_named = isinstance(option, dict) and len(option) == 1 and not _is_open(option)
        label = next(iter(option)) if is_named else run_folder.to_yaml(option).strip().removesuffix("\n...")
        labels.append(str(label) if label not in labels else f"{label} {len(labels) + 1}")
    return labels


def _choose_number(field: Field, hp, name: str) -> Any:
    field.expect_names(_RANGE, required=("low", "high"))
    given = field.value
    for key in ("low", "high"):
        field[key].expect((int, float), "a number")
    log = field["log"].expect(bool, "true or false").value if "log" in given else False
    # `{low: 1, high: 8}` is a range of whole numbers, `{low: 1.0, high: 8}` is not.
    whole = all(isinstance(given[key], int) and not isinstance(given[key], bool) for key in ("low", "high"))
    arguments = {"step": given.get("step"), "default": given.get("default"), "sampling": "log" if log else "linear"}
    declare = hp.Int if whole else hp.Float
    return field.call(lambda: declare(name, given["low"], given["high"], **arguments))
