import contextlib
import json
import struct
import sys

import jax
import keras
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

import kerax
from kerax.callbacks.callback import num_iterations
from kerax.callbacks.tensorboard import _image
from tests.pairs import make_pair

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3)).astype("float32")
Y = DRAW.normal(size=(20, 2)).astype("float32")
LABELS = DRAW.integers(0, 7, (20, 2))


def make(module):
    model = module.Sequential([module.Input((3,)), module.layers.Dense(2, name="out")], name="net")
    model.compile(module.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


@pytest.fixture(scope="module")
def model():
    return make(kerax)


def values(folder):
    """`{(run, tag): {step: summary value}}` of all event files under a folder."""
    found = {}
    for path in sorted(folder.glob("*/events*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                found.setdefault((path.parent.name, value.tag), {})[event.step] = value
            data = data[16 + size :]
    return found


def scalars(folder):
    return {
        key: {step: value.simple_value for step, value in steps.items()}
        for key, steps in values(folder).items()
        if next(iter(steps.values())).WhichOneof("value") == "simple_value"
    }


class Recorder:
    """Stands for `tensorflow.summary`: what Keras's callback writes, as `{(run, tag): {step: value}}`."""

    def __init__(self):
        self.found, self.runs, self.conditions = {}, [], []

    def create_file_writer(self, folder):
        recorder, run = self, folder.split("/")[-1]

        class Writer:
            @contextlib.contextmanager
            def as_default(self, step=None):
                recorder.runs.append(run)
                yield
                recorder.runs.pop()

            def flush(self):
                pass

            close = flush

        return Writer()

    @contextlib.contextmanager
    def record_if(self, condition):
        self.conditions.append(condition)
        yield
        self.conditions.pop()

    def scalar(self, tag, value, step):
        if self.runs and (len(self.runs) > 1 or not self.conditions or self.conditions[-1]()):
            self.found.setdefault((self.runs[-1], tag), {})[int(step)] = float(value)

    def histogram(self, tag, value, step):
        self.found.setdefault((self.runs[-1], tag), {})[int(step)] = None

    image = histogram


@pytest.mark.medium
@pytest.mark.parametrize("update_freq", ["epoch", "batch", 4])
def test_tags_steps_and_numbers_are_those_of_keras(tmp_path, update_freq):
    ours, theirs = make_pair(make)
    arguments = dict(log_dir=tmp_path, histogram_freq=2, write_images=True, update_freq=update_freq)
    callback = keras.callbacks.TensorBoard(**arguments, write_graph=False)
    callback._summary_module = recorder = Recorder()
    fit = dict(batch_size=4, epochs=3, shuffle=False, verbose=0, validation_data=(X, Y))
    theirs.fit(X, Y, **fit, callbacks=[callback])
    ours.fit(X, Y, **fit, callbacks=[kerax.callbacks.TensorBoard(**arguments, write_graph=False)])
    written = values(tmp_path)
    assert {key: set(steps) for key, steps in written.items()} == {k: set(v) for k, v in recorder.found.items()}
    for key, steps in scalars(tmp_path).items():
        assert steps == pytest.approx(recorder.found[key], rel=1e-4, abs=1e-6), key
    if update_freq == 4:
        assert sorted(written["train", "batch_loss"]) == [4, 8, 12]


def test_logs_are_read_only_where_they_are_written(model, tmp_path, monkeypatch):
    read = []
    numbers = kerax.train.logs.Logs._numbers
    monkeypatch.setattr(kerax.train.logs.Logs, "_numbers", lambda self: read.append(self._fetched) or numbers(self))
    callback = kerax.callbacks.TensorBoard(tmp_path, write_graph=False, update_freq=5)
    model.fit(X, Y, batch_size=2, verbose=0, callbacks=[callback])
    assert read.count(False) == 3  # batches 5 and 10, and the epoch
    assert sorted(scalars(tmp_path)["train", "batch_mae"]) == [5, 10]


def test_histograms_and_images_hold_the_weights(model, tmp_path):
    callback = kerax.callbacks.TensorBoard(tmp_path, histogram_freq=1, write_images=True)
    model.fit(X, Y, verbose=0, callbacks=[callback])
    found = values(tmp_path)
    histogram = found["train", "net/out/kernel/histogram"][0].histo
    kernel = model.get_weights()[0]
    assert histogram.num == 6 and histogram.sum == pytest.approx(kernel.sum(), rel=1e-5)
    assert (histogram.min, histogram.max) == pytest.approx((kernel.min(), kernel.max()))
    image = found["train", "net/out/kernel/image"][0].image
    assert (image.height, image.width) == (3, 2)
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_images_of_kernels():
    kernel = np.arange(24.0).reshape(1, 2, 3, 4)  # (height, width, inputs, outputs)
    image = _image(kernel)
    assert image.min() == 0 and image.max() == 1
    np.testing.assert_allclose(_image(np.arange(24.0).reshape(2, 1, 3, 4)), np.arange(24.0).reshape(6, 4) / 23)
    table = _image(np.arange(2 * 2 * 3 * 4.0).reshape(2, 2, 3, 4))
    assert table.shape == (6, 8)
    assert table[2 * 2 + 1, 3 * 2 + 1] == 1  # height 1, width 1, input 2, output 3
    assert _image(np.ones(5)).shape == (1, 5) and _image(np.ones(5)).max() == 0
    assert _image(np.ones((2000, 3))).shape == (1024, 3)
    assert _image(np.float64(3.0)).shape == (1, 1)


def test_weights_that_are_not_finite_are_left_out(model, tmp_path):
    callback = kerax.callbacks.TensorBoard(tmp_path, histogram_freq=1, write_images=True, write_graph=False)
    weights = model.get_weights()
    model.fit(X, Y * np.nan, verbose=0, callbacks=[callback])
    model.set_weights(weights)
    tags = {tag for _, tag in values(tmp_path)}
    assert "epoch_loss" in tags and not any("histogram" in tag or "image" in tag for tag in tags)


def test_the_model_is_written_as_text_and_as_a_graph(model, tmp_path):
    model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.TensorBoard(tmp_path)])
    found = values(tmp_path)
    text = found["train", "model/summary/text_summary"][0].tensor.string_val[0].decode()
    assert "out (Dense)" in text and "Trainable params: 8" in text
    assert "model/json/text_summary" in {tag for _, tag in found}
    graph = found["train", "keras"][0]
    assert graph.metadata.plugin_data.plugin_name == "graph_keras_model"
    assert json.loads(graph.tensor.string_val[0])["config"]["layers"][1]["config"]["name"] == "out"


def test_a_subclass_has_no_graph(tmp_path):
    class Net(kerax.Model):
        def __init__(self):
            super().__init__()
            self.dense = kerax.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    net = Net()
    net.compile("sgd", "mse")
    net.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.TensorBoard(tmp_path, histogram_freq=1)])
    tags = {tag for _, tag in values(tmp_path)}
    assert "model/summary/text_summary" in tags and "keras" not in tags
    assert {tag for tag in tags if "histogram" in tag} == {"net/dense/kernel/histogram", "net/dense/bias/histogram"}


def test_steps_per_second(model, tmp_path):
    callback = kerax.callbacks.TensorBoard(tmp_path, write_steps_per_second=True, update_freq=5)
    model.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[callback])
    found = scalars(tmp_path)
    assert sorted(found["train", "batch_steps_per_second"]) == [5, 10, 15, 20]
    assert sorted(found["train", "epoch_steps_per_second"]) == [0, 1]
    assert all(value > 0 for value in found["train", "epoch_steps_per_second"].values())


def test_a_second_fit_and_an_evaluation_write_too(model, tmp_path):
    callback = kerax.callbacks.TensorBoard(tmp_path, write_graph=False)
    model.fit(X, Y, verbose=0, callbacks=[callback])
    model.fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=[callback])
    model.evaluate(X, Y, verbose=0, callbacks=[callback])
    found = scalars(tmp_path)
    assert sorted(found["train", "epoch_loss"]) == [0, 1]
    assert list(found["validation", "evaluation_loss_vs_iterations"]) == [int(model.optimizer.iterations)]
    assert callback._writers == {}


@pytest.fixture
def profiler(monkeypatch):
    """Stands for JAX's profiler: the calls, each with the number of steps that the optimizer has taken."""
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    return calls


class Watch(kerax.callbacks.TensorBoard):
    """Notes after how many batches the profiler starts and stops."""

    def _start_trace(self):
        super()._start_trace()
        self.started = num_iterations(self.model) - self._start

    def _stop_trace(self):
        super()._stop_trace()
        self.stopped = num_iterations(self.model) - self._start


@pytest.mark.parametrize("batches, start, stop", [((3, 7), 2, 7), (1, 0, 1), ("12,13", 11, 13), ((9, 12), 8, 12)])
@pytest.mark.parametrize("update_freq", ["epoch", 4])
def test_the_profile_covers_the_batches_and_no_other(model, tmp_path, profiler, batches, start, stop, update_freq):
    callback = Watch(tmp_path, profile_batch=batches, update_freq=update_freq)
    model.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[callback])
    assert profiler == ["start", "stop"]
    assert (callback.started, callback.stopped) == (start, stop)


def test_a_profile_is_stopped_however_fit_ends(model, tmp_path, profiler):
    class Fail(kerax.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError

    for last in (5, 500):
        profiler.clear()
        callbacks = [kerax.callbacks.TensorBoard(tmp_path, profile_batch=(2, last)), Fail()]
        with pytest.raises(RuntimeError):
            model.fit(X, Y, batch_size=2, verbose=0, callbacks=callbacks)
        assert profiler == ["start", "stop"]


@pytest.mark.medium
def test_jax_writes_the_profile_where_tensorboard_looks(model, tmp_path):
    model.fit(X, Y, batch_size=2, verbose=0, callbacks=[kerax.callbacks.TensorBoard(tmp_path, profile_batch=(4, 5))])
    assert list(tmp_path.glob("train/plugins/profile/*/*.xplane.pb"))


def test_a_profile_that_is_running_already_is_left_alone(model, tmp_path, monkeypatch):
    def start(folder):
        raise RuntimeError("Only one profile may be run at a time.")

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: pytest.fail("stopped someone else's profile"))
    with pytest.warns(UserWarning, match="batches 2 to 3 are not profiled: Only one"):
        model.fit(X, Y, verbose=0, epochs=5, callbacks=[kerax.callbacks.TensorBoard(tmp_path, profile_batch=(2, 3))])


def test_embeddings(tmp_path):
    layers = [kerax.Input((2,), dtype="int32"), kerax.layers.Embedding(7, 3, name="words"), kerax.layers.Flatten()]
    model = kerax.Sequential(layers)
    model.compile("sgd", "mse")
    callback = kerax.callbacks.TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "labels.tsv"})
    model.fit(LABELS, np.zeros((20, 6)), verbose=0, callbacks=[callback])
    table = np.loadtxt(tmp_path / "words.tsv", delimiter="\t")
    np.testing.assert_allclose(table, model.get_weights()[0], rtol=1e-5)
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "words.tsv"' in config and 'metadata_path: "labels.tsv"' in config
    callback = kerax.callbacks.TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"wrods": "labels.tsv"})
    with pytest.raises(ValueError, match=r"\['wrods'\].*\['words'\]"):
        model.fit(LABELS, np.zeros((20, 6)), verbose=0, callbacks=[callback])


def test_errors(monkeypatch):
    for update_freq in ("batches", 0, 2.5):
        with pytest.raises(ValueError, match="update_freq"):
            kerax.callbacks.TensorBoard(update_freq=update_freq)
    for profile_batch in (-1, (5, 3), "a,b", (1, 2, 3), (0, 3)):
        with pytest.raises(ValueError, match="profile_batch"):
            kerax.callbacks.TensorBoard(profile_batch=profile_batch)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'kerax\[tensorboard\]'"):
        kerax.callbacks.TensorBoard()
