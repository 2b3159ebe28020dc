"""What a stranger does with the pages of the documentation alone, each in ten lines at most.

A table of one's own: `tests/cli/test_own_data.py`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.saving.test_elsewhere import s3 as s3  # the server of a bucket on this computer

ROOT = Path(__file__).parents[1]
LAYER = """\
import kerax

@kerax.saving.register_keras_serializable("mine")
class Gate(kerax.layers.Layer):
    def build(self, shape):
        self.gate = self.add_weight((shape[-1],), "ones")

    def call(self, x):
        return x * kerax.ops.sigmoid(self.gate)
"""
CONFIG = """\
data: {name: digits, scale: 0.0625}
model:
  class_name: Sequential
  input_shape: [64]
  layers: [Dense: {units: 32, activation: relu}, Gate: {}, Dense: {units: 10, activation: softmax}]
compile: {optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 4, verbose: 0}
distribution: fsdp
run_dir: RUN
"""


def kerax_command(*words, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "kerax", *words], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_layer_of_ones_own_on_eight_devices(tmp_path):
    assert len(CONFIG.splitlines()) <= 10 and len(LAYER.splitlines()) <= 10
    (tmp_path / "mylayers.py").write_text(LAYER)
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("RUN", "run"))
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    words = ("train", "mine.yaml", "--import", "mylayers.py")
    done = kerax_command(*words, cwd=tmp_path, **devices)
    assert done.returncode == 0, done.stderr
    spread = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
    done = kerax_command(*words, "--distribution", "none", "--run_dir", "alone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = json.loads((tmp_path / "alone" / "results.json").read_text())["test"]
    np.testing.assert_allclose(spread["loss"], alone["loss"], rtol=1e-3)
    done = kerax_command("evaluate", "run", "--import", "mylayers.py", cwd=tmp_path)
    assert done.returncode == 0 and f"test loss {spread['loss']:.3f}"[:-1] in done.stdout, done.stderr
    done = kerax_command(*words, "--distribution", "fsdb", cwd=tmp_path)
    assert done.returncode == 2 and "Did you mean 'fsdp'" in done.stderr


@pytest.mark.slow
def test_a_run_in_a_bucket_that_is_killed_goes_on_and_is_evaluated_elsewhere(s3, tmp_path):
    text = CONFIG.replace("RUN", f"{s3}/stranger").replace("Gate: {}, ", "").replace("distribution: fsdp\n", "")
    (tmp_path / "mine.yaml").write_text(text.replace("epochs: 4", "epochs: 400"))
    child = subprocess.Popen(
        [sys.executable, "-m", "kerax", "train", "mine.yaml"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(" Non-trainable"):
            break
    time.sleep(4)
    child.send_signal(signal.SIGTERM)  # as a cloud takes a machine away
    child.communicate(timeout=60)
    assert child.returncode == 143
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = f"{s3}/stranger"
    done = kerax_command("train", f"{run}/config.yaml", "--resume", "--fit.epochs", "420", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    done = kerax_command("evaluate", run, cwd=elsewhere)
    accuracy = float(done.stdout.split("test accuracy ")[1].split()[0])
    assert done.returncode == 0 and accuracy > 0.9, done.stdout + done.stderr
    assert [path.name for path in elsewhere.iterdir()] == []  # nothing is written beside the bucket
