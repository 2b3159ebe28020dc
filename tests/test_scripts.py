"""`scripts/train.py` and `scripts/evaluate.py`, run as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kerax

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


@pytest.mark.slow
def test_evaluate_and_inspect_files_without_the_script_that_made_them(tmp_path):
    (x, y), (x_test, y_test) = kerax.datasets.digits.load_data()
    model = kerax.Sequential([kerax.Input((64,)), kerax.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x.reshape(-1, 64) / 16.0, y, verbose=0)
    expected = model.evaluate(x_test.reshape(-1, 64) / 16.0, y_test, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "folder")
    config = ROOT / "configs" / "digits_mlp.yaml"
    for path in (tmp_path / "model.keras", tmp_path / "folder"):
        code, output, errors = run_script("evaluate.py", path, "--config", config)
        assert code == 0, errors
        assert reported_lines(output) == [f"test {name} {value:.4f}" for name, value in expected.items()]
        code, output, errors = run_script("inspect_file.py", path)
        assert code == 0, errors
        assert re.search(r"float32\[64, 10\]", output) and "Sequential" in output
    target = tmp_path / "out.npz"
    code, output, errors = run_script("evaluate.py", path, "--config", config, "--predict", target)
    assert code == 0, errors
    with np.load(target) as found:
        predictions = model.predict(x_test.reshape(-1, 64) / 16.0, verbose=0)
        np.testing.assert_allclose(found["predictions"], predictions, rtol=1e-6)
    code, _, errors = run_script("evaluate.py", tmp_path / "model.keras")
    assert code == 2 and "Give one by --config CONFIG." in errors
    code, _, errors = run_script("inspect_file.py", config)
    assert code == 2 and "expected the folder of a checkpoint" in errors


@pytest.mark.medium
def test_a_wrong_config_gives_one_line_and_exit_code_2(tmp_path):
    config = tmp_path / "wrong.yaml"
    config.write_text((ROOT / "configs" / "digits_mlp.yaml").read_text().replace("units: 256", "unit: 256"))
    code, output, errors = run_script("train.py", config)
    assert (code, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert errors.startswith(
        f"train.py: error: {config}, line 11: model.layers.0.Dense.unit: unknown name. Expected one of units,"
    )
    assert errors.endswith("Did you mean 'units'?\n")


@pytest.mark.medium
def test_a_missing_checkpoint_gives_one_line_and_exit_code_2(tmp_path):
    code, output, errors = run_script("evaluate.py", tmp_path / "none")
    assert (code, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert errors.startswith("evaluate.py: error: ") and str(tmp_path / "none") in errors
    assert errors.endswith("Expected the folder that `kerax train` printed.\n")


@pytest.mark.slow
@pytest.mark.parametrize(("config", "accuracy"), [("digits_cnn", 0.985), ("digits_mlp", 0.965)])
def test_configs_reach_their_accuracy(config, accuracy, tmp_path):
    code, output, errors = run_script("train.py", ROOT / "configs" / f"{config}.yaml", "--run_dir", tmp_path)
    assert code == 0, errors
    (line,) = [line for line in reported_lines(output) if line.startswith("test accuracy")]
    assert float(line.split()[-1]) >= accuracy
