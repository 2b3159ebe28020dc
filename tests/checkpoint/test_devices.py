"""Checkpoints between different numbers of devices, and notices of preemption, in processes of their own."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from kerax import checkpoint

pytestmark = pytest.mark.slow

MAKE = """
import os, sys, time, socket
import jax, numpy as np, kerax
from kerax import callbacks, checkpoint, layers

def make():
    kerax.utils.set_random_seed(0)
    model = kerax.Sequential([kerax.Input((8,)), layers.Dense(16), layers.Dense(8)])
    model.compile("adam", "mse")
    return model

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
"""
SPREAD = """
model = make()
model.fit(X, X, verbose=0)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))
for variable in model.variables:
    if variable.shape and variable.shape[0] % 8 == 0:
        variable.assign(jax.device_put(variable.value, jax.NamedSharding(mesh, jax.P("d"))))
checkpoint.save(sys.argv[1], model)
np.savez(sys.argv[2], *model.get_weights())
"""
GATHER = """
model = make()
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))
for variable in model.variables:
    if len(jax.devices()) > 1 and variable.shape and variable.shape[0] % 8 == 0:
        variable.assign(jax.device_put(variable.value, jax.NamedSharding(mesh, jax.P("d"))))
before = [len(variable.value.sharding.device_set) for variable in model.variables]
checkpoint.restore(sys.argv[1], model)
assert before == [len(variable.value.sharding.device_set) for variable in model.variables]
with np.load(sys.argv[2]) as expected:
    for name, weight in zip(expected.files, model.get_weights(), strict=True):
        np.testing.assert_array_equal(expected[name], weight)
"""
PREEMPTED = """
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
jax.distributed.initialize(address, 1, 0)

class Slow(callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("batch", flush=True)
        time.sleep(0.02)

make().fit(X, X, batch_size=1, epochs=50, verbose=0, callbacks=[Slow(), callbacks.BackupAndRestore(sys.argv[1])])
"""


def run(code, devices, *arguments):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    subprocess.run([sys.executable, "-c", MAKE + code, *map(str, arguments)], check=True, env=environment)


def test_saved_on_eight_devices_restored_on_one_and_back(tmp_path):
    run(SPREAD, 8, tmp_path / "eight", tmp_path / "weights.npz")
    for devices in (1, 4, 8):
        run(GATHER, devices, tmp_path / "eight", tmp_path / "weights.npz")
    arrays = checkpoint.restore_arrays(tmp_path / "eight")
    with np.load(tmp_path / "weights.npz") as expected:
        np.testing.assert_array_equal(arrays["params"]["dense"]["kernel"], expected["arr_0"])


def test_a_notice_of_preemption_saves_and_ends_the_process(tmp_path):
    command = [sys.executable, "-c", MAKE + PREEMPTED, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, errors[-2000:]
    assert output.count("Interrupted in epoch") == 1
    run_found = checkpoint.inspect(tmp_path / "run")["run"]
    assert run_found["step"] % 16 == 0 or run_found["step"] == 0
