"""`kerax serve`: what it hands on, and mistakes on its command line."""

import subprocess
import sys

import pytest

import kerax
from kerax import serve
from kerax.cli import main


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kerax.Sequential([kerax.Input((4,), name="row"), kerax.layers.Dense(3)]).save("model.keras")


def test_options_are_handed_on(monkeypatch, capsys):
    given = []
    monkeypatch.setattr(serve, "run", lambda models, say, **options: given.append((models, options)))
    words = [
        "a.keras",
        "b=b.keras",
        "--port",
        "0",
        "--max_delay",
        "0.01",
        "--labels",
        "a=x.txt,b=y.txt",
        "--lengths",
        "32,128",
    ]
    assert main(["serve", *words]) == 0
    labels = {"a": "x.txt", "b": "y.txt"}
    assert given == [(["a.keras", "b=b.keras"], {"port": 0, "max_delay": 0.01, "labels": labels, "lengths": [32, 128]})]


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out
    assert "MODEL [MODEL ...]" in shown and "--max_queue" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected one MODEL or more"),
        (["model.keras", "--size", "3"], "unknown option --size"),
        (["model.keras", "--port", "x"], "--port: expected a whole number. Got 'x'"),
        (["model.keras", "--lengths", "8,x"], "--lengths: expected whole numbers, as 32,128. Got '8,x'"),
        (["model.keras", "--timeout", "x"], "--timeout: expected a number. Got 'x'"),
        (["model.keras", "--max_batch", "0"], "max_batch"),
        (["nothing.keras"], "there is no 'nothing.keras'"),
        (["model.keras", "model.keras"], "'model' is given twice"),
        (["model.keras", "--labels", "none.txt"], "'none.txt' cannot be read"),
    ],
)
def test_mistakes_are_told_in_a_line(words, message, model, capsys):
    assert main(["serve", *words, *([] if "--port" in words else ["--port", "0"])]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.medium
def test_a_missing_package_is_told_with_the_extra():
    code = (
        "import sys; sys.modules['starlette'] = None; from kerax.cli import main; sys.exit(main(['serve', 'x.keras']))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 2 and "pip install 'kerax[serve]'" in shown.stderr
