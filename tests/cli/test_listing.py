"""Runs: made longer, listed, compared; classes of one's own by `--import`."""

import csv

import pytest

import kerax
from kerax import cli
from tests.cli.test_commands import CONFIG

MINE = """
import kerax

@kerax.saving.register_keras_serializable("mine")
class ScaledByHand(kerax.layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CONFIG.replace("RUN", "runs/a"))
    return tmp_path


def kerax_command(*words):
    return cli.main([str(word) for word in words])


@pytest.mark.slow
def test_a_finished_run_is_made_longer_to_the_same_numbers(folder, capsys):
    assert kerax_command("train", "c.yaml") == 0
    assert kerax_command("train", "runs/a/config.yaml", "--resume", "--fit.epochs", 2) == 2
    assert "give more epochs than its 2" in capsys.readouterr().err
    assert kerax_command("train", "runs/a/config.yaml", "--resume", "--fit.epochs", 4) == 0
    assert kerax_command("train", "c.yaml", "--run_dir", "runs/b", "--fit.epochs", 4) == 0
    first, second = (list(csv.DictReader(open(f"runs/{name}/metrics.csv", newline=""))) for name in "ab")
    assert first == second and len(first) == 4
    assert (folder / "runs/a/results.json").read_text() == (folder / "runs/b/results.json").read_text()
    capsys.readouterr()

    assert kerax_command("train", "c.yaml", "--run_dir", "runs/c", "--compile.optimizer.Adam.learning_rate", 0.03) == 0
    capsys.readouterr()
    assert kerax_command("runs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "runs/a", "runs/b", "runs/c"]
    assert "4/4" in lines[1] and "2/2" in lines[3] and "val_loss" in lines[1] and "accuracy" in lines[1]
    assert kerax_command("compare", "runs/a", "runs/c") == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line}
    assert rows["compile.optimizer.Adam.learning_rate"] == ["0.01", "0.03"] and rows["fit.epochs"] == ["4", "2"]
    assert "fit.batch_size" not in rows and len(rows["val_loss"][0]) == 4 and len(rows["val_loss"][2]) == 2
    assert kerax_command("compare", "runs/a", "runs/b") == 0
    assert "no field differs" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_ended_by_itself_stays_ended(folder, capsys):
    text = (folder / "c.yaml").read_text() + "callbacks: [{EarlyStopping: {monitor: loss, min_delta: 100}}]\n"
    (folder / "c.yaml").write_text(text)
    assert kerax_command("train", "c.yaml", "--fit.epochs", 3) == 0
    assert kerax_command("train", "runs/a/config.yaml", "--resume", "--fit.epochs", 6) == 2
    assert "ended by itself after epoch" in capsys.readouterr().err


@pytest.mark.slow
def test_classes_of_ones_own(folder, capsys, request):
    request.addfinalizer(lambda: kerax.saving.get_custom_objects().pop("mine>ScaledByHand", None))
    (folder / "mine.py").write_text(MINE)
    text = (folder / "c.yaml").read_text().replace("- Dropout: {rate: 0.2}", "- ScaledByHand: {factor: 3}")
    (folder / "c.yaml").write_text(text)
    assert kerax_command("train", "c.yaml") == 2
    assert "unknown layer 'ScaledByHand'" in capsys.readouterr().err
    assert kerax_command("train", "c.yaml", "--import", "mine.py") == 0
    kerax.saving.get_custom_objects().pop("mine>ScaledByHand")
    assert kerax_command("evaluate", "runs/a") == 2
    assert "Scaled" in capsys.readouterr().err
    assert kerax_command("evaluate", "runs/a", "--import=mine.py") == 0
    assert kerax_command("train", "c.yaml", "--import", "mine.py", "--model.layers.1.ScaledByHand.faktor", 1) == 2
    assert "factor" in capsys.readouterr().err


MISTAKES = {
    "no file": (["train", "c.yaml", "--import", "none.py"], "expected the path of a Python file. Got 'none.py'"),
    "no path": (["train", "c.yaml", "--import"], "expected the path of a Python file. Got ''"),
    "no runs": (["runs"], "runs: there are no runs in it"),
    "two folders": (["runs", "a", "b"], "one folder at most"),
    "one run": (["compare", "a"], "two runs or more"),
    "no run": (["compare", "a", "b"], "a: holds no run"),
    "an option": (["compare", "a", "b", "--x", "1"], "two runs or more"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(folder, mistake, capsys):
    words, message = MISTAKES[mistake]
    assert kerax_command(*words) == 2
    assert message in capsys.readouterr().err


def test_help(capsys):
    for command, words in (("runs", "newest last"), ("compare", "beside each other")):
        with pytest.raises(SystemExit):
            kerax_command(command, "--help")
        assert words in capsys.readouterr().out
    assert kerax_command("--help") == 0
    assert "--import FILE.py" in capsys.readouterr().out
