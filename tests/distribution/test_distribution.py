"""Many devices: eight virtual ones in a process of their own, and two processes that train together."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import kerax
from kerax import distribution

HERE = Path(__file__).parent


@pytest.mark.slow
def test_on_eight_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, str(HERE / "on_eight_devices.py")], env=environment, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout[-6000:]


def start(folder: Path, strategy: str, count: int = 2, kill_at: int | None = None) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    kill = [] if kill_at is None else [str(kill_at)]
    return [
        subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), str(number), str(count), str(port), str(folder), strategy, *kill],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def results(processes: list[subprocess.Popen]) -> list[dict]:
    found = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            for each in processes:
                each.kill()
            raise
        assert process.returncode == 0, err[-3000:]
        found.append(json.loads(out.split("RESULT")[1]))
    return found


def assert_close(expected: dict, found: dict):
    for name in ("history", "more", "evaluate", "predict", "weights", "restored"):
        for a, b in zip(jax.tree.leaves(expected[name]), jax.tree.leaves(found[name]), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return results(start(tmp_path_factory.mktemp("alone"), "data", 1))[0]


@pytest.mark.slow
def test_two_processes_equal_one(alone, tmp_path):
    first, second = results(start(tmp_path / "data", "data"))
    assert_close(alone, first)
    for a, b in zip(jax.tree.leaves(alone["shares"]), jax.tree.leaves(first["shares"]), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    assert {**first, "held": 0} == {**second, "held": 0}
    assert len((tmp_path / "data" / "log.csv").read_text().splitlines()) == 4  # written by one


@pytest.mark.slow
def test_weights_in_shares_and_going_on_after_one_process_was_killed(alone, tmp_path):
    folder = tmp_path / "weights"
    survivor, killed = start(folder, "fsdp", kill_at=8)
    assert killed.wait(300) == -signal.SIGKILL
    survivor.kill()
    survivor.wait(60)
    first, second = results(start(folder, "fsdp"))
    uninterrupted, _ = results(start(tmp_path / "uninterrupted", "fsdp"))
    assert first["held"] == second["held"] == 0.5
    assert first == second == uninterrupted  # to the bit
    assert_close(alone, first)


class TestNames:
    def test_devices(self):
        assert distribution.list_devices("cpu") == [f"cpu:{device.id}" for device in jax.devices("cpu")]
        assert distribution.get_device_count() == len(jax.devices())

    def test_a_mesh_of_named_devices(self):
        mesh = distribution.DeviceMesh((1, 1), ("a", "b"), distribution.list_devices()[:1])
        assert mesh.devices.shape == mesh.shape == (1, 1)
        assert mesh.axis_size(("a", "b")) == 1

    def test_layout_maps_find_what_matches_whole_paths(self):
        mesh = distribution.DeviceMesh((1, 1), ("a", "b"), jax.devices()[:1])
        rules = distribution.LayoutMap(mesh)
        rules["dense.*kernel"] = (None, "b")
        rules["dense.*bias"] = distribution.TensorLayout(("b",))
        assert rules["dense_1/kernel"].axes == (None, "b")
        assert rules["dense_1/bias"].device_mesh is mesh
        assert rules["conv/kernel"] is None and rules["model/dense/kernel"] is None
        with pytest.raises(ValueError, match="has a layout already"):
            rules["dense.*bias"] = ("a",)
        with pytest.raises(ValueError, match="'c'.*not one of the mesh's"):
            rules["x"] = ("c",)
        with pytest.raises(ValueError, match="spreads two dimensions over one"):
            rules["x"] = ("a", "a")
        del rules["dense.*bias"]
        assert list(rules) == ["dense.*kernel"] and len(rules) == 1

    def test_one_is_active_at_a_time(self):
        one = distribution.DataParallel(devices=jax.devices()[:1])
        assert distribution.distribution() is None
        with one.scope():
            assert distribution.distribution() is one
            assert distribution.process_batch_size(8) == 8
            model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(2)])
            model.compile("sgd", "mse")
            model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
            assert isinstance(model.layers[0].kernel.value.sharding, jax.NamedSharding)
        assert distribution.distribution() is None
        with pytest.raises(ValueError, match="expected a distribution"):
            distribution.set_distribution("all")

    def test_tensors_are_placed_eagerly_and_under_jit(self):
        mesh = distribution.DeviceMesh((1,), ("a",), jax.devices()[:1])
        layout = distribution.TensorLayout(("a", None), mesh)
        x = np.ones((2, 3))
        assert distribution.distribute_tensor(x, layout).sharding.spec == jax.P("a")
        assert jax.jit(lambda x: distribution.distribute_tensor(x, layout))(x).shape == (2, 3)
        symbolic = kerax.Input((3,))
        assert distribution.distribute_tensor(symbolic, layout) is symbolic

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"job_addresses": "localhost:1"}, "num_processes"),
            ({"job_addresses": "localhost:1", "num_processes": 2, "process_id": 2}, "from 0 to 1"),
        ],
    )
    def test_initialize_says_what_is_missing(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            distribution.initialize(**arguments)

    def test_the_numbers_from_the_environment_are_checked(self, monkeypatch):
        monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "two")
        with pytest.raises(ValueError, match="NUM_PROCESSES must be an integer. Got 'two'"):
            distribution.initialize()


def test_layouts_find_weights_by_the_names_of_layers():
    class Block(kerax.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.kept_as = kerax.layers.Dense(4, name="named")

        def build(self, input_shape):
            self.kept_as.build(input_shape)

        def call(self, inputs):
            return self.kept_as(inputs)

    inputs = kerax.Input((2,))
    model = kerax.Model(inputs, Block()(inputs))
    mesh = kerax.distribution.DeviceMesh((1, 1), ["batch", "model"], kerax.distribution.list_devices()[:1])
    for rule in ("block/named/kernel", ".*/named/kernel"):
        layouts = kerax.distribution.LayoutMap(mesh)
        layouts[rule] = (None, "model")
        plan = kerax.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
        assert [plan.get_variable_layout(weight).axes for weight in model.weights] == [(None, "model"), (None,)]
