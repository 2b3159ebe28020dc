"""Libraries written for Keras, unmodified, on kerax: their typical use, in a process of their own for each file.

They run where the libraries are: in the Python that the variable `KERAX_ECOSYSTEM_PYTHON` names, else in this one. An
environment of their own is made with `python -m venv there`, `pip install -e . pytest keras-rs keras-tuner scikeras
bayesflow transformers torch grain six` and `pip install --no-deps keras-hub kagglehub kagglesdk`, which else bring
TensorFlow, and `pip install regex rich tokenizers sentencepiece safetensors tqdm requests`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITES = Path(__file__).parent / "suites"
ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("KERAX_ECOSYSTEM_PYTHON", sys.executable)
LIBRARIES = {
    "hub_backbones": "keras_hub",
    "hub_tasks": "keras_hub",
    "recommenders": "keras_rs",
    "tuner": "keras_tuner",
    "wrapped": "scikeras",
    "inference": "bayesflow",
}


@pytest.mark.slow
@pytest.mark.parametrize("suite", LIBRARIES)
def test_library(suite):
    env = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"} | {"PYTHONPATH": str(ROOT)}
    asks = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({LIBRARIES[suite]!r}) is None)"
    if subprocess.run([PYTHON, "-c", asks], env=env).returncode:
        pytest.skip(f"{LIBRARIES[suite]} is not installed in {PYTHON}")
    command = [
        PYTHON,
        "-m",
        "pytest",
        "-p",
        "kerax.as_keras.pytest_plugin",
        "-p",
        "no:cacheprovider",
        "-q",
        "--tb=short",
    ]
    command += ["-c", str(SUITES / "pytest.ini"), f"{suite}.py"]
    done = subprocess.run(command, cwd=SUITES, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
