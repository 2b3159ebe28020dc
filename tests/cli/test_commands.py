"""The `kerax` command: training, repeating, resuming, testing and predicting, and what is said about mistakes."""

import csv
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml

import kerax
from kerax import cli

CONFIG = """\
run_dir: RUN
data: {name: digits, scale: 0.0625}
model:
  class_name: Sequential
  input_shape: [64]
  layers:
    - Dense: {units: 8, activation: relu}
    - Dropout: {rate: 0.2}
    - Dense: {units: 10, activation: softmax}
compile:
  optimizer: {Adam: {learning_rate: 1e-2}}
  loss: sparse_categorical_crossentropy
  metrics: [accuracy]
fit: {epochs: 2, batch_size: 256, verbose: 0, validation_split: 0.1}
logs: {tensorboard: false}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.replace("RUN", str(tmp_path / "run")))
    return path


def kerax_command(*words):
    return cli.main([str(word) for word in words])


def numbers(folder):
    """The metrics of a run, as both files have them."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with open(folder / "metrics.csv", newline="") as file:
        assert [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)] == rows
    return rows


@pytest.mark.slow
def test_a_run_is_kept_repeated_tested_and_left_alone(config, tmp_path, capsys):
    run = tmp_path / "run"
    assert kerax_command("train", config, "--seed", 3) == 0
    trained = capsys.readouterr().out
    assert f"run folder: {run}" in trained and f"checkpoint: {run / 'checkpoint'}" in trained
    assert sorted(path.name for path in run.iterdir()) == [
        *("backup", "checkpoint", "config.yaml", "environment.json", "metrics.csv", "metrics.jsonl", "results.json"),
    ]
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["seed"], kept["run_dir"], kept["fit"]["epochs"]) == (3, str(run), 2)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["kerax"] == kerax.__version__ and environment["devices"] == ["cpu"]
    assert {"jax", "numpy", "optax", "orbax-checkpoint", "python"} <= environment["versions"].keys()
    assert environment["command"] == sys.argv
    results = json.loads((run / "results.json").read_text())["test"]

    assert kerax_command("train", run / "config.yaml") == 0
    assert f"{run} holds a run already, and is left alone.\nrun folder: {run}-2\n" in capsys.readouterr().out
    again = tmp_path / "run-2"
    assert numbers(again) == numbers(run) and len(numbers(run)) == 2
    assert json.loads((again / "results.json").read_text())["test"] == results

    for path in (run, run / "checkpoint"):
        assert kerax_command("evaluate", path) == 0
        assert f"test accuracy {results['accuracy']:.4f}" in capsys.readouterr().out
    assert kerax_command("train", config, "--resume") == 2
    assert f"error: {again}: this run is finished." in capsys.readouterr().err

    (_, _), (x, _) = kerax.datasets.digits.load_data()
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, other=x[:1])
    np.savetxt(tmp_path / "x.csv", x.reshape(-1, 64), delimiter=",", header=",".join("ab" * 32), comments="")
    found = []
    for name, target in ((None, "p.npy"), ("x.npy", "p.npz"), ("x.npz", "p.csv"), ("x.csv", "q.npy")):
        source = [] if name is None else ["--input", tmp_path / name]
        assert kerax_command("predict", run, *source, "--output", tmp_path / target) == 0
        assert f"predictions: {tmp_path / target}" in capsys.readouterr().out
        target = tmp_path / target
        if target.suffix == ".csv":
            assert target.read_text().startswith("output_0,output_1,")
            found.append(np.loadtxt(target, delimiter=",", skiprows=1))
        else:
            loaded = np.load(target)
            found.append(loaded["predictions"] if target.suffix == ".npz" else loaded)
    model = kerax.saving.load_model(run / "checkpoint")
    for predictions in found:
        np.testing.assert_allclose(predictions, model.predict(x.reshape(-1, 64) / 16, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "seconds"), [(KeyboardInterrupt, 30), (RuntimeError, 0)], ids=["interrupt", "crash"])
def test_a_run_that_stopped_is_resumed_to_the_same_numbers(stop, seconds, config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.run_folder, "SECONDS_TO_BACKUP", seconds)
    assert kerax_command("train", config, "--fit.epochs", 3, "--run_dir", "whole") == 0

    def kill(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 1:
            raise stop

    original = kerax.callbacks.JSONLogger.on_epoch_end
    monkeypatch.setattr(kerax.callbacks.JSONLogger, "on_epoch_end", kill)
    if stop is KeyboardInterrupt:
        assert kerax_command("train", config, "--fit.epochs", 3, "--run_dir", "cut") == 130
        assert "Go on by `kerax train cut/config.yaml --resume`." in capsys.readouterr().err
    else:
        with pytest.raises(stop):
            kerax_command("train", config, "--fit.epochs", 3, "--run_dir", "cut")
    assert kerax.checkpoint.latest_step("cut/backup") is not None
    monkeypatch.setattr(kerax.callbacks.JSONLogger, "on_epoch_end", original)
    assert kerax_command("train", "cut/config.yaml", "--resume") == 0
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")
    environment = json.loads((tmp_path / "cut" / "environment.json").read_text())
    assert len(environment["earlier"]) == 1
    assert (tmp_path / "cut" / "results.json").read_text() == (tmp_path / "whole" / "results.json").read_text()


def test_the_printed_config_is_whole_and_makes_the_same_model(config, tmp_path, capsys):
    assert kerax_command("train", config, "--fit.epochs", 1, "--print_config") == 0
    text = capsys.readouterr().out
    whole = yaml.safe_load(text)
    assert whole["fit"]["epochs"] == 1 and whole["fit"]["shuffle"] is True and whole["seed"] == 0
    assert whole["model"]["layers"][0]["Dense"]["kernel_initializer"] == "glorot_uniform"
    assert whole["compile"]["optimizer"]["Adam"]["beta_2"] == 0.999 and whole["compile"]["run_eagerly"] is False
    assert not (tmp_path / "run").exists()
    printed = tmp_path / "printed.yaml"
    printed.write_text(text)
    models = []
    for path in (config, printed):
        kerax.utils.set_random_seed(0)
        read = cli.read_config(str(path), {})
        models.append(cli.build_model(read))
        cli.build_fit_arguments(read)
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(first, second)
    assert kerax_command("train", printed, "--print_config") == 0
    assert capsys.readouterr().out == text


def test_help_tells_every_field_of_what_the_config_names(config, capsys):
    with pytest.raises(SystemExit):
        cli.train(["--help"])
    assert "--resume" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        cli.train([str(config), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for piece in (
        "--model.layers.0.Dense, --model.layers.2.Dense: layer Dense",
        "  .units (whole number, required)\n      Size of the last output axis",
        "  .use_bias (true or false, default true)",
        "--compile.optimizer.Adam: optimizer Adam",
        "  .learning_rate (number, default 0.001)",
        "--fit: Model.fit",
        "  .epochs (whole number, default 1)\n      Number of the last epoch.",
        "--data: data set digits",
        "every layer also\n",
    ):
        assert piece in text, piece
    assert text.count("  .trainable (") == 1
    assert "  .callbacks" not in text


BAD = {
    "no command": (["trian"], "kerax: error: unknown command 'trian'. Expected one of train, .* Did you mean 'train'?"),
    "no config": (["train"], r"kerax train: error: expected one CONFIG, then --section.name VALUE. Got \[\]."),
    "no file": (["train", "none.yaml"], "kerax train: error: none.yaml: cannot be read: No such file or directory."),
    "a folder": (["train", "."], "kerax train: error: .: cannot be read: Is a directory."),
    "unknown key": (["train", "C", "--fit.epoch", "3"], "fit.epoch: unknown name. .* Did you mean 'epochs'?"),
    "key in the file": (["train", "BAD"], "bad.yaml, line 7: model.layers.0.Dense.unit: .* Did you mean 'units'?"),
    "wrong type": (["train", "C", "--fit.epochs", "many"], "fit.epochs: expected a number. Got 'many'."),
    "no number": (["train", "C", "--fit.epochs", "null"], "fit.epochs: expected a number. Got None."),
    "half an epoch": (["train", "C", "--fit.epochs", "2.5"], "small.yaml .*: fit: `epochs` must be an integer .* 2.5."),
    "truth": (["train", "C", "--fit.shuffle", "maybe"], "fit.shuffle: expected true or false. Got 'maybe'."),
    "truth for a number": (
        ["train", "C", "--fit.validation_split", "true"],
        "fit.validation_split: expected a number.",
    ),
    "rate": (
        ["train", "C", "--model.layers.1.Dropout.rate", "half"],
        "model.layers.1.Dropout: a value has the wrong type .* Got {'rate': 'half'}.",
    ),
    "patience": (
        ["train", "C", "--callbacks", "[EarlyStopping: {patience: soon}]"],
        "callbacks.0.EarlyStopping.patience: expected a number. Got 'soon'.",
    ),
    "shape": (["train", "C", "--model.input_shape", "64"], "model.input_shape: expected a list of sizes, .* Got 64."),
    "size": (["train", "C", "--model.input_shape", "[a]"], "model.input_shape.0: expected a whole number .* Got 'a'."),
    "seed": (["train", "C", "--seed", "-1"], r"seed: set_random_seed: `seed` must be an integer in .* Got -1."),
    "name": (
        ["train", "C", "--model.name", "3"],
        "model.name: Sequential: `name` must be a string",
    ),
    "no layers": (["train", "C", "--model.layers", "[]"], "model.layers: expected at least one layer."),
    "no folder for it": (["train", "C", "--run_dir", "''"], "run_dir: expected the path of a folder for"),
    "dots": (["train", "C", "--fit.", "3"], "--fit.: expected names joined by dots, as in --fit.epochs."),
    "batch size": (["train", "C", "--fit.batch_size", "0"], "fit: .*`batch_size`.* 0"),
    "labels": (["train", "C", "--model.layers.2.Dense.units", "4"], r"fit: labels must be in \[0, 4\)"),
    "unknown class": (["train", "C", "--model.layers.1", "Dens"], "model.layers.1: unknown layer 'Dens'."),
    "log": (["train", "C", "--logs.tensorbord", "true"], "logs.tensorbord: unknown name. .* mean 'tensorboard'?"),
    "log type": (["train", "C", "--logs.csv", "3"], "logs.csv: expected true or false. Got 3."),
    "nothing to resume": (["train", "C", "--resume"], "run: there is no run to go on with. Leave out --resume"),
    "run folder": (
        ["train", "C", "--run_dir", "bad.yaml/x"],
        "run_dir: bad.yaml/x cannot be made: Not a directory.",
    ),
    "data set": (["train", "C", "--data", "{name: mnist}"], "data.name: get_file: cannot fetch .*no network"),
    "no checkpoint": (["evaluate", "none"], "kerax evaluate: error: .*none.* Expected the folder that `kerax train`"),
    "no model": (["evaluate", "none.keras", "--config", "C"], "none.keras"),
    "batch": (
        ["predict", "none", "--batch_size", "x"],
        "--batch_size: expected a whole number of at least 1. Got 'x'.",
    ),
    "ending": (["predict", "none", "--output", "x.txt"], "x.txt: expected a file that ends in .npy, .npz, .csv."),
    "no folder": (["predict", "none", "--output", "no/x.npy"], "no/x.npy: there is no folder .*no."),
    "option": (["inspect", "x.keras", "--a", "1"], "kerax inspect: error: unknown option --a. Expected FILE only."),
    "no archive": (["inspect", "none.keras"], "kerax inspect: error: .*none.keras"),
    "benchmark": (["benchmark", "--steps", "0"], "expected at least two widths, and numbers of at least 1."),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_mistakes_get_one_line_with_the_place(words, message, config, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    monkeypatch.setenv("KERAX_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAX_DATASETS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(config.read_text().replace("units: 8", "unit: 8"))
    code = kerax_command(*({"C": config, "BAD": "bad.yaml"}.get(word, word) for word in words))
    output, errors = capsys.readouterr()
    assert code == 2
    assert re.search(message, errors), errors
    assert len(errors.splitlines()) == 1 and "Traceback" not in output
    assert not [path for path in tmp_path.glob("run*/*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n3,x\n", "x.csv: line 3, column 2: expected a number. Got 'x'."),
        ("x.csv", "1,2\n3\n", "x.csv: line 2 has 1 columns, those before it 2."),
        ("x.csv", "a,b\n", "x.csv: there are no rows in it."),
        ("x.npy", "no array", "x.npy: "),
        ("x.npz", "no archive", "x.npz: "),
        ("x.txt", "", "x.txt: expected a file that ends in .npy, .npz, .csv."),
    ],
)
def test_files_that_hold_no_inputs_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(cli.ConfigError, match=message):
        cli.files.read_inputs(str(tmp_path / name))


def test_several_arrays_and_outputs_go_by_their_names(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(2), b=np.zeros(3))
    assert {name: len(value) for name, value in cli.files.read_inputs(str(tmp_path / "x.npz")).items()} == {
        "a": 2,
        "b": 3,
    }
    cli.files.write_array(str(tmp_path / "y.npz"), [np.ones(2), np.zeros(1)])
    assert np.load(tmp_path / "y.npz").files == ["output_0", "output_1"]
    with pytest.raises(
        cli.ConfigError, match="there are several outputs, output_0, output_1. Give a file that ends in"
    ):
        cli.files.write_array(str(tmp_path / "y.csv"), [np.ones(2), np.zeros(1)])


def test_a_model_without_a_config_predicts(tmp_path, capsys):
    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    x = np.arange(12, dtype="f").reshape(4, 3)
    np.save(tmp_path / "x.npy", x)
    words = ["predict", tmp_path / "model.keras", "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert kerax_command(*words, "--batch_size", 2) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0), rtol=1e-6)
    np.save(tmp_path / "x.npy", x[:, :2])
    assert kerax_command(*words) == 2
    assert re.search(r"x.npy: .*\(.*2\)", capsys.readouterr().err)
    assert kerax_command("predict", tmp_path / "model.keras") == 2
    assert "model.keras: there is no config in it. Give one by --config CONFIG." in capsys.readouterr().err


def test_folders_are_numbered(tmp_path):
    choose = cli.run_folder.choose_folder
    for expected in ("run", "run-2", "run-3"):
        folder = choose(str(tmp_path / "run"), resume=False)
        assert folder.name == expected and (folder / "config.yaml").is_file()  # claimed
    (tmp_path / "run-7").mkdir()  # empty folders and other names do not count
    (tmp_path / "run-02").mkdir()
    (tmp_path / "run-02" / "x").write_text("")
    assert choose(str(tmp_path / "run"), resume=True).name == "run-3"
    other = choose(str(tmp_path / "other"), resume=False)
    (other / "logs").mkdir()
    cli.run_folder.give_back(other)
    assert choose(str(tmp_path / "other"), resume=False) == other == tmp_path / "other"
    with pytest.raises(cli.ConfigError, match="none: there is no run to go on with"):
        choose(str(tmp_path / "none"), resume=True)


@pytest.mark.slow
def test_benchmark_compares_with_hand_written_jax(capsys):
    assert kerax_command("benchmark", "--widths", 8, 4, 3, "--steps", 20, "--rounds", 2, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["loop", "scan", "kerax"]
    assert found["loop"]["ratio"] == 1.0
    for numbers in found.values():  # the same steps, so the same losses
        assert numbers["loss"] == pytest.approx(found["loop"]["loss"], rel=1e-4)
        assert numbers["us_per_step"] > 0


@pytest.mark.medium
def test_a_benchmark_says_what_its_numbers_mean(capsys):
    assert kerax_command("benchmark", "--widths", 8, 3, "--steps", 10, "--rounds", 1) == 0
    table, words = capsys.readouterr().out.split("\nloop: ")
    ratio = re.search(r"^kerax +\S+ +(\S+)", table, flags=re.MULTILINE)[1]
    assert f"kerax: `fit` takes {ratio} of the loop's time" in words and "Equal losses" in words


@pytest.mark.slow
def test_the_command_is_a_module_too():
    command = [sys.executable, "-m", "kerax", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout) == (0, f"kerax {kerax.__version__}\n"), done.stderr


@pytest.mark.slow
def test_a_second_process_of_a_run_compiles_nothing(config, tmp_path):
    cache = tmp_path / "programs"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    command = [sys.executable, "-m", "kerax", "train", str(config)]
    kept = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert f"compiled programs: {cache}\n" in done.stdout
        kept.append({path.name for path in cache.iterdir() if not path.name.endswith("-atime")})
    assert kept[0] and kept[0] == kept[1]


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_stops_no_run(config, tmp_path):
    (tmp_path / "file").write_text("")
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "file" / "programs"),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
    }
    command = [sys.executable, "-m", "kerax", "train", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "compiled programs are not kept" in done.stderr, done.stderr
