"""`kerax tune`: open values in a config, the search over them, and the config of the best trial."""

import importlib.util
import json

import pytest
import yaml

from kerax import cli, tuner
from kerax.cli import tuning

CONFIG = """\
run_dir: RUN
data: {name: digits, scale: 0.0625}
model:
  class_name: Sequential
  input_shape: [64]
  layers:
    - Dense: {units: {tune: {low: 4, high: 16, step: 4}}, activation: {tune: [relu, gelu]}}
    - Dense: {units: 10, activation: softmax}
compile:
  optimizer:
    tune:
      - Adam: {learning_rate: {tune: {low: 1e-3, high: 1e-1, log: true}}}
      - SGD: {learning_rate: 0.1, momentum: {tune: [0.0, 0.9]}}
  loss: sparse_categorical_crossentropy
  metrics: [accuracy]
fit: {epochs: 1, batch_size: 256, validation_split: 0.1}
logs: {tensorboard: false, backup: false}
search:
  RandomSearch: {objective: val_accuracy, max_trials: 2}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "open.yaml"
    path.write_text(CONFIG.replace("RUN", str(tmp_path / "search")))
    return path


def hypermodel(path, **overrides):
    return tuning._FromConfig(cli.read_config(str(path), overrides))


def test_open_values_become_hyperparameters_named_by_their_keys(path):
    hp = tuner.HyperParameters()
    tree = hypermodel(path).resolve(hp)
    assert hp.values == {
        "model.layers.0.Dense.units": 4,
        "model.layers.0.Dense.activation": "relu",
        "compile.optimizer": "Adam",
        "compile.optimizer.Adam.learning_rate": 0.001,
    }
    assert tree["compile"]["optimizer"] == {"Adam": {"learning_rate": 0.001}}
    hp = tuner.HyperParameters()
    hp.values = {"compile.optimizer": "SGD", "model.layers.0.Dense.units": 12}
    tree = hypermodel(path).resolve(hp)
    assert tree["compile"]["optimizer"] == {"SGD": {"learning_rate": 0.1, "momentum": 0.0}}
    assert tree["model"]["layers"][0] == {"Dense": {"units": 12, "activation": "relu"}}
    kinds = {declaration.name: type(declaration).__name__ for declaration in hp.space}
    assert kinds["model.layers.0.Dense.units"] == "Number" and kinds["compile.optimizer"] == "Choice"
    assert "compile.optimizer.SGD.momentum" in kinds and "compile.optimizer.Adam.learning_rate" in kinds


def test_choices_of_any_kind_have_labels():
    assert tuning._labels([None, {"L2": {"l2": 1}}, {"L2": {"l2": 2}}, [1, 2]]) == ["null", "L2", "L2 3", "[1, 2]"]


@pytest.mark.slow
def test_a_search_goes_on_and_its_best_config_repeats_the_best_trial(path, tmp_path, capsys):
    pytest.importorskip("optuna")
    folder = tmp_path / "search"
    assert cli.main(["tune", str(path)]) == 0
    output = capsys.readouterr().out
    assert "Trial 1 of 2: " in output and f"best config: {folder / 'best.yaml'}" in output
    assert cli.main(["tune", str(path), "--search.RandomSearch.max_trials", "3"]) == 0
    output = capsys.readouterr().out
    assert "Trial 3 of 3: " in output and "Trial 1 of" not in output
    trials = json.loads((folder / "trials.json").read_text())
    assert len(trials) == 3
    if importlib.util.find_spec("matplotlib") is not None:
        assert (folder / "history.png").stat().st_size > 5000
    best = max(trials, key=lambda trial: trial["score"])
    text = (folder / "best.yaml").read_text()
    assert text.startswith(f"# Trial {best['trial']} of 3: val_accuracy {best['score']:.6g}\n")
    assert "tune" not in text and "search:" not in text
    assert cli.main(["train", str(folder / "best.yaml"), "--fit.verbose", "0"]) == 0
    (epoch,) = [json.loads(line) for line in (folder / "best" / "metrics.jsonl").read_text().splitlines()]
    assert epoch["val_accuracy"] == pytest.approx(best["score"], abs=1e-6)
    capsys.readouterr()

    assert cli.main(["tune", str(path), "--seed", "1"]) == 2
    assert f"{folder}: holds a search with another seed." in capsys.readouterr().err
    overwrite = ["--seed", "1", "--overwrite", "--search.RandomSearch.max_trials", "1"]
    assert cli.main(["tune", str(path), *overwrite]) == 0
    assert len(json.loads((folder / "trials.json").read_text())) == 1


BAD = {
    "nothing open": ({"model.layers.0.Dense": {"units": 4}, "compile.optimizer": "sgd"}, "nothing is left open"),
    "place": ({"data.scale": {"tune": [1.0, 2.0]}}, "data: `tune` may stand below model, compile, fit, callbacks."),
    "no choice": ({"fit.epochs": {"tune": 3}}, "fit.epochs.tune: expected a list of choices, or a mapping with low,"),
    "empty": ({"fit.epochs": {"tune": []}}, "fit.epochs.tune: expected a list of choices"),
    "no high": ({"fit.epochs": {"tune": {"low": 3}}}, "fit.epochs.tune: 'high' is missing."),
    "misspelt": (
        {"fit.epochs": {"tune": {"low": 3, "high": 4, "lgo": True}}},
        "fit.epochs.tune.lgo: unknown name. .* Did you mean 'log'?",
    ),
    "order": ({"fit.epochs": {"tune": {"low": 3, "high": 1}}}, "fit.epochs.tune: .*`min_value` must not be above"),
    "log": ({"fit.epochs": {"tune": {"low": 0, "high": 1, "log": True}}}, "fit.epochs.tune: .*above 0"),
    "value": (
        {"model.layers.0.Dense.activation": {"tune": ["rleu"]}},
        "activation=rleu.*model.layers.0.Dense: .*rleu",
    ),
    "tuner": ({"search": {"Random": {}}}, "search.Random: unknown name. Expected one of RandomSearch, .* Did you mean"),
    "two": ({"search": {"RandomSearch": {}, "GridSearch": {}}}, "search: expected exactly one of RandomSearch, "),
    "argument": (
        {"search": {"RandomSearch": {"trials": 3}}},
        "search.RandomSearch.trials: unknown name. .* Did you mean 'max_trials'?",
    ),
    "given here": ({"search": {"GridSearch": {"directory": "x"}}}, "search.GridSearch.directory: unknown name."),
    "objective": ({"search": {"RandomSearch": {"objective": "val_speed"}}}, "search.RandomSearch: .*'val_speed'"),
}


@pytest.mark.parametrize(("overrides", "message"), BAD.values(), ids=BAD)
def test_mistakes_are_named_with_file_and_key(overrides, message, path):
    pytest.importorskip("optuna")
    with pytest.raises(cli.ConfigError, match=message) as caught:
        cli.search(cli.read_config(str(path), overrides))
    assert str(caught.value).startswith(str(path))


def test_another_folder_is_left_alone(path, tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "thing").write_text("")
    with pytest.raises(cli.ConfigError, match="search: holds something else than a search. Give another --run_dir."):
        cli.search(cli.read_config(str(path), {}))


def test_the_best_config_is_plain_yaml(path):
    tree = hypermodel(path).resolve(tuner.HyperParameters())
    assert yaml.safe_load(cli.run_folder.to_yaml(tree)) == tree
