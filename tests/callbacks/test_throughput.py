import time

import jax
import numpy as np
import pytest

import kerax
from kerax.plan import chips

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3)).astype("float32")
Y = DRAW.normal(size=(20, 1)).astype("float32")
SPEEDS = ["examples_per_second", "step_time"]


def make(**arguments):
    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse", **arguments)
    return model


@pytest.fixture(scope="module")
def model():
    return make()


class Sleep(kerax.callbacks.Callback):
    """Takes its time after every batch, and in every validation."""

    def __init__(self, seconds=0.0, validation=0.0):
        super().__init__()
        self.seconds, self.validation = seconds, validation

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)

    def on_test_batch_end(self, batch, logs=None):
        time.sleep(self.validation)


def test_numbers_agree_with_the_clock(model):
    callbacks = [Sleep(0.02), kerax.callbacks.Throughput()]
    history = model.fit(X, Y, batch_size=5, epochs=2, verbose=0, callbacks=callbacks).history
    for step_time, speed in zip(history["step_time"], history["examples_per_second"]):
        assert 0.02 < step_time < 0.2
        assert speed == pytest.approx(20 / (4 * step_time))


def test_waiting_for_a_compilation_elsewhere_does_not_count(model):
    class Wait(kerax.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            start = time.time()
            time.sleep(0.3)
            jax.monitoring.record_event_time_span("/kerax/compile/wait", start, time.time())

    history = model.fit(X, Y, batch_size=5, verbose=0, callbacks=[kerax.callbacks.Throughput(), Wait()]).history
    assert history["step_time"][0] < 0.2 and history["compile_time"][0] > 1.2


@pytest.mark.medium
def test_compilation_and_validation_do_not_count():
    def train_slowly(state, data):
        time.sleep(0.3)  # while the step is traced
        return kerax.train.steps.train_step(slow, state, data)

    slow = make()
    slow.train_step = train_slowly
    callbacks = [Sleep(validation=0.3), kerax.callbacks.Throughput()]
    history = slow.fit(X, Y, batch_size=10, epochs=2, verbose=0, validation_data=(X, Y), callbacks=callbacks).history
    assert max(history["step_time"]) < 0.1
    assert len(history["compile_time"]) == 1 and 0.3 < history["compile_time"][0] < 20


def test_compiled_already(model):
    model.fit(X, Y, verbose=0)
    history = model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.Throughput()]).history
    assert history["compile_time"][0] < 0.1


@pytest.mark.medium
def test_it_waits_once_an_epoch(model, monkeypatch):
    fetched = []
    device_get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: fetched.append(len(tree)) or device_get(tree))
    callback = kerax.callbacks.Throughput()
    model.fit(X, Y, batch_size=2, epochs=3, verbose=0, validation_data=(X, Y), callbacks=[callback])
    assert fetched.count(3) >= 3  # (iterations, rows), and the logs of training and of validation
    assert len(fetched) <= 9


@pytest.mark.medium
def test_a_source_of_batches_counts_its_rows(model):
    batches = [(X[:8], Y[:8]), (X[8:], Y[8:])]
    history = model.fit(iter(batches), verbose=0, callbacks=[kerax.callbacks.Throughput()]).history
    assert history["examples_per_second"][0] * history["step_time"][0] == pytest.approx(10)  # 20 rows in 2 steps


def test_share_of_the_peak(model):
    callback = kerax.callbacks.Throughput(peak_flops=1e9, flops_per_step=5e5)
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[callback]).history
    np.testing.assert_allclose(history["mfu"], 5e5 / 1e9 / np.array(history["step_time"]))


def test_operations_are_counted_by_the_model_or_its_program(model, monkeypatch):
    callback = kerax.callbacks.Throughput(peak_flops=1e9)
    monkeypatch.setattr(kerax.Model, "train_flops", lambda self: 7e4, raising=False)
    history = model.fit(X, Y, verbose=0, callbacks=[callback]).history
    np.testing.assert_allclose(history["mfu"], 7e4 / 1e9 / np.array(history["step_time"]))
    monkeypatch.delattr(kerax.Model, "train_flops")
    for key, program in model.compilation.programs.items():
        if key[0] == "train":
            monkeypatch.setattr(program, "flops", lambda: 9e4, raising=False)
    history = model.fit(X, Y, verbose=0, callbacks=[callback]).history
    np.testing.assert_allclose(history["mfu"], 9e4 / 1e9 / np.array(history["step_time"]))


def test_what_is_unknown_is_left_out(model):
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[kerax.callbacks.Throughput()]).history
    assert list(history) == ["loss", *SPEEDS, "compile_time"]  # a CPU's peak is in no table


def test_a_step_without_the_optimizer(model):
    class Count(kerax.Model):
        def call(self, x):
            return x

        def train_step(self, state, data):
            return {"loss": 0.0}, state

    count = Count()
    count.compile("sgd")
    history = count.fit(X, batch_size=5, verbose=0, callbacks=[kerax.callbacks.Throughput()]).history
    assert list(history) == ["loss", "step_time", "compile_time"]  # nobody counts the rows


@pytest.mark.parametrize("kind", ["NVIDIA H100 PCIe", "NVIDIA H200 NVL", "NVIDIA GH200 480GB", "TPU v4"])
def test_the_peak_is_that_of_plans(model, monkeypatch, kind):
    known = chips.chip_of(kind)
    monkeypatch.setattr(chips, "chip_of", lambda: known)
    callback = kerax.callbacks.Throughput(flops_per_step=1e9)
    history = model.fit(X, Y, batch_size=8, verbose=0, callbacks=[callback]).history
    np.testing.assert_allclose(history["mfu"], 1e9 / known.flops / np.array(history["step_time"]))


def test_errors():
    with pytest.raises(ValueError, match="peak_flops"):
        kerax.callbacks.Throughput(peak_flops=0)
    with pytest.raises(ValueError, match="flops_per_step"):
        kerax.callbacks.Throughput(flops_per_step=-1)
