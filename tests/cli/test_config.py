"""Configs: reading, overriding, building, and the one error that each mistake gets."""

from pathlib import Path

import pytest

import kerax
from kerax import cli

ROOT = Path(__file__).parents[2]
CONFIG = """
run_dir: runs/small
data: {name: digits, scale: 0.0625}
model:
  class_name: Sequential
  input_shape: [64]
  layers:
    - Dense: {units: 8, activation: relu}
    - Dropout: {rate: 0.5}
    - Dense: {units: 10}
compile:
  optimizer: {Adam: {learning_rate: 1e-3}}
  loss: sparse_categorical_crossentropy
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return str(path)


def with_overrides(path, *arguments):
    path, overrides = cli.parse_arguments([path, *arguments], "CONFIG", "")
    return cli.read_config(path, overrides)


def build(path, *arguments):
    """Everything that a config describes: `(data, model, fit arguments)`."""
    config = with_overrides(path, *arguments)
    return cli.load_data(config), cli.build_model(config), cli.build_fit_arguments(config)


def test_sections_left_out_get_their_defaults(path):
    config = with_overrides(path).value
    assert (config["seed"], config["fit"], config["callbacks"]) == (0, {}, [])
    assert config["compile"]["optimizer"] == {"Adam": {"learning_rate": 0.001}}


def test_overrides_reach_every_depth(path):
    config = with_overrides(
        path,
        *("--seed", "7"),
        *("--fit.epochs", "3"),
        "--compile.optimizer.Adam.learning_rate=1e-2",
        *("--compile.metrics", "[accuracy]"),
        *("--model.layers.0.Dense.units", "16"),
    ).value
    assert config["seed"] == 7
    assert config["fit"] == {"epochs": 3}
    assert config["compile"]["optimizer"] == {"Adam": {"learning_rate": 0.01}}
    assert config["compile"]["metrics"] == ["accuracy"]
    assert config["model"]["layers"][0] == {"Dense": {"units": 16, "activation": "relu"}}


def test_overrides_leave_the_tree_they_are_given_alone():
    tree = {"run_dir": "a", "data": {"name": "digits"}, "model": {}, "compile": {}, "fit": {"epochs": 1}}
    config = cli.resolve_config(tree, {"fit.epochs": 2}, "memory")
    assert (tree["fit"], config.value["fit"]) == ({"epochs": 1}, {"epochs": 2})


def test_data_is_scaled_and_takes_the_shape_of_the_input(path):
    ((x_train, y_train), (x_test, _)), _, _ = build(path)
    assert x_train.shape == (1437, 64) and x_test.shape == (360, 64) and y_train.shape == (1437,)
    assert x_train.dtype == "float32" and x_train.max() == 1.0


def test_the_model_is_built_and_compiled(path):
    _, model, _ = build(path)
    assert [type(layer) for layer in model.layers] == [kerax.layers.Dense, kerax.layers.Dropout, kerax.layers.Dense]
    assert model.output_shape == (None, 10)
    assert isinstance(model.optimizer, kerax.optimizers.Adam)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)


def test_arguments_may_be_objects_themselves(path):
    schedule = "{CosineDecay: {initial_learning_rate: 0.5, decay_steps: 10}}"
    _, model, _ = build(
        path,
        *("--compile.optimizer.Adam.learning_rate", schedule),
        *("--model.layers.0.Dense.kernel_regularizer", "{L2: {l2: 0.5}}"),
    )
    assert float(model.optimizer.learning_rate) == pytest.approx(0.5)
    assert isinstance(model.layers[0].kernel_regularizer, kerax.regularizers.L2)


def test_optimizers_and_losses_may_be_names_or_classes(path):
    _, model, _ = build(
        path,
        *("--compile.optimizer", "sgd"),
        *("--compile.loss", "{SparseCategoricalCrossentropy: {from_logits: true}}"),
        *("--compile.metrics", "[accuracy, {SparseTopKCategoricalAccuracy: {k: 2}}]"),
    )
    assert isinstance(model.optimizer, kerax.optimizers.SGD)


def test_callbacks_come_with_the_arguments_of_fit(path):
    _, _, arguments = build(path, "--fit.epochs", "2", "--callbacks", "[EarlyStopping: {patience: 4}, TerminateOnNaN]")
    early_stopping, terminate = arguments.pop("callbacks")
    assert arguments == {"epochs": 2}
    assert isinstance(early_stopping, kerax.callbacks.EarlyStopping) and early_stopping.patience == 4
    assert isinstance(terminate, kerax.callbacks.TerminateOnNaN)


MISTAKES = {
    "section": ("--fti.epochs 3", "fti: unknown name. Expected one of seed, run_dir, .* Did you mean 'fit'?"),
    "seed": ("--seed x", "seed: expected a whole number. Got 'x'."),
    "seed as boolean": ("--seed true", "seed: expected a whole number. Got True."),
    "section type": ("--callbacks 3", "callbacks: expected a list. Got 3."),
    "fit argument": ("--fit.epoch 3", "fit.epoch: unknown name. .* Did you mean 'epochs'?"),
    "fit data": ("--fit.x 3", "fit.x: unknown name."),
    "compile argument": ("--compile.los mse", "compile.los: unknown name. .* Did you mean 'loss'?"),
    "optimizer": ("--compile.optimizer {Adm:}", "compile.optimizer: unknown optimizer 'Adm'. .* Did you mean 'Adam'?"),
    "optimizer name": ("--compile.optimizer adm", "compile.optimizer: .*adm"),
    "two optimizers": ("--compile.optimizer.SGD.momentum 0.9", "compile.optimizer: expected exactly one optimizer"),
    "optimizer argument": (
        "--compile.optimizer.Adam.lr 1",
        "compile.optimizer.Adam.lr: unknown name. Expected one of learning_rate, ",
    ),
    "schedule argument": (
        "--compile.optimizer.Adam.learning_rate {CosineDecay:{initial_learning_rate:1}}",
        "compile.optimizer.Adam.learning_rate.CosineDecay: 'decay_steps' is missing.",
    ),
    "loss": ("--compile.loss sparse_categorical_crossentrpy", "compile.loss: .*sparse_categorical_crossentrpy"),
    "metric": ("--compile.metrics [acuracy]", "compile.metrics.0: .*acuracy"),
    "layer": ("--model.layers.1 Dens", "model.layers.1: unknown layer 'Dens'. .* Did you mean 'Dense'?"),
    "code": ("--model.layers.1 os.system", "model.layers.1: unknown layer 'os.system'. Expected a class of"),
    "base class": ("--model.layers.1 Layer", "model.layers.1: unknown layer 'Layer'."),
    "no class": ("--model.layers.1 [Dense]", "model.layers.1: expected exactly one layer: ClassName or"),
    "missing argument": ("--model.layers.1 Dense", "model.layers.1: 'units' is missing."),
    "refused argument": ("--model.layers.0.Dense.units -1", "model.layers.0.Dense: .*-1"),
    "layer argument": ("--model.layers.0.Dense.unit 3", "model.layers.0.Dense.unit: .* Did you mean 'units'?"),
    "layer position": ("--model.layers.9.Dense.units 3", "model.layers: expected a position from 0 to 2. Got '9'."),
    "below a number": ("--model.layers.0.Dense.units.x 3", "model.layers.0.Dense.units: cannot set 'x' below 8"),
    "model": (
        "--model.class_name Secuential",
        "model.class_name: expected Sequential or Functional. Got 'Secuential'.",
    ),
    "layer shapes": (
        "--model.layers.1 {Conv2D:{filters:2,kernel_size:3}}",
        "model.layers.1: ",
    ),
    "input shape": ("--model.input_shape [8]", "model.input_shape: the examples have shape \\(8, 8\\). Got \\[8\\]."),
    "dataset": ("--data.name digit", "data.name: unknown dataset 'digit'. Expected one of .* Did you mean 'digits'?"),
    "dataset argument": (
        "--data.scal 1",
        "data.scal: unknown name. Expected one of name, scale, features, text, targets. Did you mean",
    ),
    "scale": ("--data.scale big", "data.scale: expected a number. Got 'big'."),
    "callback": ("--callbacks [EarlyStoping]", "callbacks.0: unknown callback 'EarlyStoping'. .* Did you mean 'EarlyS"),
    "callback argument": ("--callbacks [EarlyStopping:{wait:1}]", "callbacks.0.EarlyStopping.wait: unknown name."),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named_with_file_and_key(arguments, message, path):
    option, value = arguments.split(" ", 1)
    value = value.replace(":", ": ").strip()
    with pytest.raises(cli.ConfigError, match=message) as caught:
        build(path, option, value)
    text = str(caught.value)
    assert text.startswith(f"{path} with {option}: ")
    assert "\n" not in text


def test_a_section_that_is_missing_is_named(path):
    Path(path).write_text("seed: 1")
    with pytest.raises(cli.ConfigError, match="small.yaml: 'run_dir' is missing."):
        with_overrides(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "small.yaml, line 1, column 6: is not YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("seed: 1\nfit:\n\tepochs: 3", "small.yaml, line 3, column 1: is not YAML: .*cannot start any token"),
        ("seed: 1\nfit: {a: 1}\nseed: 2", "small.yaml, line 3: seed: is given twice, first in line 1."),
        ("fit: &a [*a]", "small.yaml, line 1: fit.0: holds itself."),
        ("seed: 1\nrun_dir: [a]\ndata: {}\nmodel: {}\ncompile: {}", "small.yaml, line 2: run_dir: expected a string."),
        ("- 1", "small.yaml: expected a mapping with one of seed, run_dir"),
        ("", "small.yaml: is empty. Expected a mapping with one of seed, run_dir"),
        ("# nothing\n", "small.yaml: is empty."),
    ],
)
def test_files_that_hold_no_config_are_refused(text, message, path):
    Path(path).write_text(text)
    with pytest.raises(cli.ConfigError, match=message):
        with_overrides(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(cli.ConfigError, match="none.yaml: cannot be read: No such file or directory"):
        cli.read_config(str(tmp_path / "none.yaml"), {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one CONFIG, then --section.name VALUE. Got \\[\\]."),
        (["a", "b"], "expected one CONFIG, .* Got \\['a', 'b'\\]."),
        (["a", "--seed"], "--seed: expected a value after it."),
        (["a", "--seed", "--fit.epochs", "3"], "--seed: expected a value after it."),
        (["a", "--fit", "{a"], "--fit: the value is not YAML"),
    ],
)
def test_wrong_command_lines_say_what_is_expected(arguments, message):
    with pytest.raises(cli.ConfigError, match=message):
        cli.parse_arguments(arguments, "CONFIG", "")


def test_negative_numbers_are_values():
    assert cli.parse_arguments(["a", "--seed", "-1"], "CONFIG", "") == ("a", {"seed": -1})


def test_help_lists_the_sections(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.parse_arguments(["--help"], "CONFIG", "Trains.")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "CONFIG [--section.name VALUE ...]" in text
    assert "Trains." in text and "--compile" in text and "--fit.epochs 3" in text


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp"])
def test_the_configs_of_the_repository_build(name):
    (_, _), model, arguments = build(str(ROOT / "configs" / f"{name}.yaml"))
    assert model.output_shape == (None, 10)
    assert arguments["validation_split"] == 0.1
