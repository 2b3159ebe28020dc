"""`scripts/train.py` and `scripts/evaluate.py`, run as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_script(name, *arguments):
    """A script in a process of its own: `(exit code, stdout, stderr)`."""
    command = [sys.executable, ROOT / "scripts" / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    return done.returncode, done.stdout, done.stderr


def reported_lines(output):
    """The lines that report the test results."""
    return [line for line in output.splitlines() if line.startswith("test ")]


@pytest.mark.slow
def test_evaluate_repeats_the_result_of_train(tmp_path):
    config, layers = ROOT / "configs" / "digits_mlp.yaml", "[Dense: {units: 10, activation: softmax}]"
    code, trained, errors = run_script(
        "train.py", config, "--model.layers", layers, "--fit.epochs", 1, "--run_dir", tmp_path / "run"
    )
    assert code == 0, errors
    checkpoint = tmp_path / "run" / "checkpoint"
    assert f"checkpoint: {checkpoint}" in trained.splitlines()
    assert any(re.fullmatch(r"test accuracy [01]\.\d{4}", line) for line in trained.splitlines())

    code, evaluated, errors = run_script("evaluate.py", checkpoint)
    assert code == 0, errors
    assert reported_lines(evaluated) == reported_lines(trained)

    code, _, errors = run_script("evaluate.py", checkpoint, "--model.layers.0.Dense.units", 12)
    assert code == 2
    assert errors.startswith("evaluate.py: error: ") and "Traceback" not in errors
    assert "kernel" in errors and "10" in errors and "12" in errors


def test_a_wrong_config_gives_one_line_and_exit_code_2(tmp_path):
    config = tmp_path / "wrong.yaml"
    config.write_text((ROOT / "configs" / "digits_mlp.yaml").read_text().replace("units: 256", "unit: 256"))
    code, output, errors = run_script("train.py", config)
    assert (code, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert errors.startswith(
        f"train.py: error: {config}: model.layers.0.Dense.unit: unknown name. Expected one of units,"
    )
    assert errors.endswith("Did you mean 'units'?\n")


def test_a_missing_checkpoint_gives_one_line_and_exit_code_2(tmp_path):
    code, output, errors = run_script("evaluate.py", tmp_path / "none")
    assert (code, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert errors.startswith("evaluate.py: error: ") and str(tmp_path / "none") in errors
    assert errors.endswith("Expected the folder that train.py printed.\n")


@pytest.mark.slow
@pytest.mark.parametrize(("config", "accuracy"), [("digits_cnn", 0.985), ("digits_mlp", 0.965)])
def test_configs_reach_their_accuracy(config, accuracy, tmp_path):
    code, output, errors = run_script("train.py", ROOT / "configs" / f"{config}.yaml", "--run_dir", tmp_path)
    assert code == 0, errors
    (line,) = [line for line in reported_lines(output) if line.startswith("test accuracy")]
    assert float(line.split()[-1]) >= accuracy
