import importlib
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import kerax

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3)).astype("float32")
Y = DRAW.normal(size=(20, 1)).astype("float32")


@pytest.fixture(scope="module")
def model():
    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
    model.compile(kerax.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


class Recorder:
    """A logger that remembers."""

    def __init__(self):
        self.seen, self.closed = [], 0

    def log(self, numbers, step):
        self.seen.append((step, numbers))

    def close(self):
        self.closed += 1


class TestLogging:
    @pytest.mark.medium
    def test_epochs(self, model):
        logger = Recorder()
        history = model.fit(
            X,
            Y,
            batch_size=5,
            epochs=2,
            verbose=0,
            validation_data=(X, Y),
            callbacks=[kerax.callbacks.Logging(logger)],
        ).history
        assert [step for step, _ in logger.seen] == [4, 8] and logger.closed == 1
        first = logger.seen[0][1]
        assert first == {name: values[0] for name, values in history.items()} | {"epoch": 0.0}
        assert all(type(value) is float for value in first.values())

    def test_batches(self, model):
        logger, lengths = Recorder(), []

        class Each(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                lengths.append(logs["loss"])

        callbacks = [kerax.callbacks.Logging(logger, every=3), Each()]
        model.fit(X, Y, batch_size=5, epochs=2, verbose=0, callbacks=callbacks)
        batches = [(step, numbers) for step, numbers in logger.seen if "batch_loss" in numbers]
        assert [step for step, _ in batches] == [3, 6] and batches[0][1].keys() == {"batch_loss", "batch_mae"}
        np.testing.assert_allclose([numbers["batch_loss"] for _, numbers in batches], [lengths[2], lengths[5]])
        assert [step for step, _ in logger.seen] == [3, 4, 6, 8]

    def test_it_asks_for_no_batches_it_does_not_send(self, model):
        callbacks = kerax.callbacks.CallbackList([kerax.callbacks.Logging(Recorder())], model=model)
        assert callbacks.until_look("train", 0) >= 2**30
        callbacks = kerax.callbacks.CallbackList([kerax.callbacks.Logging(Recorder(), every=50)], model=model)
        assert callbacks.until_look("train", 0) == 50

    def test_steps_go_on_in_a_second_fit_and_in_a_resumed_one(self, model, tmp_path):
        logger = Recorder()
        callback = kerax.callbacks.Logging(logger)
        model.fit(X, Y, batch_size=5, verbose=0, callbacks=[callback])
        callback.set_state(callback.get_state())
        model.fit(X, Y, batch_size=5, epochs=3, initial_epoch=2, verbose=0, callbacks=[callback])
        assert [(step, numbers["epoch"]) for step, numbers in logger.seen] == [(4, 0.0), (4, 2.0)]

    def test_arrays_and_a_logger_without_close(self):
        seen = []
        callback = kerax.callbacks.Logging(types.SimpleNamespace(log=lambda numbers, step: seen.append(numbers)))
        callback.on_epoch_end(0, {"a": np.array([1.0, 2.0])})
        callback.close()
        assert seen == [{"a/0": 1.0, "a/1": 2.0, "epoch": 0.0}]

    def test_wrong_arguments(self):
        with pytest.raises(TypeError, match=r"Logging: `logger` must have a method `log\(numbers, step\)`. Got 3"):
            kerax.callbacks.Logging(3)
        for every in (0, 1.5, True):
            with pytest.raises(ValueError, match="Logging: `every` must be a number of batches"):
                kerax.callbacks.Logging(Recorder(), every)


def fake(monkeypatch, name, **members):
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**members))


class TestWandbLogger:
    def test_calls(self, model, monkeypatch):
        calls = []

        class Run:
            def log(self, numbers, step):
                calls.append((step, numbers))

            def finish(self):
                calls.append("finish")

        fake(monkeypatch, "wandb", init=lambda **options: calls.append(options) or Run())
        callback = kerax.callbacks.WandbLogger(project="p", mode="offline")
        assert calls == []  # nothing is opened before training
        history = model.fit(X, Y, batch_size=5, verbose=0, callbacks=[callback]).history
        expected = {name: values[0] for name, values in history.items()} | {"epoch": 0.0}
        assert calls == [{"project": "p", "mode": "offline"}, (4, expected), "finish"]
        calls.clear()
        model.fit(X, Y, batch_size=5, verbose=0, callbacks=[kerax.callbacks.WandbLogger(run=Run())])
        assert len(calls) == 1 and calls[0][0] == 4  # a run of one's own stays open

    def test_the_model_is_kept_as_an_artifact(self, model, monkeypatch):
        kept = []

        class Artifact:
            def __init__(self, name, type):
                self.name, self.type = name, type

            def add_file(self, path):  # now: the file is gone later
                self.model = kerax.saving.load_model(path)

        run = types.SimpleNamespace(log=lambda numbers, step: None, log_artifact=kept.append)
        fake(monkeypatch, "wandb", Artifact=Artifact)
        callback = kerax.callbacks.WandbLogger(run=run, artifacts=True)
        model.fit(X, Y, batch_size=5, verbose=0, callbacks=[callback])
        (artifact,) = kept
        assert (artifact.name, artifact.type) == (model.name, "model")
        np.testing.assert_array_equal(artifact.model.predict(X, verbose=0), model.predict(X, verbose=0))

    @pytest.mark.slow
    def test_the_real_library(self, model, tmp_path, monkeypatch):
        wandb = pytest.importorskip("wandb", reason="wandb is not installed")
        monkeypatch.setenv("WANDB_SILENT", "true")
        options = {"project": "p", "mode": "offline", "dir": str(tmp_path), "artifacts": True}
        callback = kerax.callbacks.WandbLogger(every=2, **options)
        model.fit(X, Y, batch_size=5, verbose=0, callbacks=[callback])
        wandb.teardown()  # waits for the process that writes
        (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
        assert b"batch_loss" in file.read_bytes()


class TestMLflowLogger:
    def test_calls(self, model, monkeypatch):
        calls = []

        class Client:
            def __init__(self, uri):
                calls.append(uri)

            def get_experiment_by_name(self, name):
                return None

            def create_experiment(self, name):
                return f"id of {name}"

            def create_run(self, experiment, run_name):
                calls.append((experiment, run_name))
                return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r"))

            def log_param(self, *args):
                calls.append(args)

            def log_metric(self, run, name, value, step):
                calls.append((run, name, value, step))

            def set_terminated(self, *args):
                calls.append(args)

        fake(monkeypatch, "mlflow", MlflowClient=Client)
        callback = kerax.callbacks.MLflowLogger(None, "uri", "e", "n", params={"rate": 0.1})
        loss = model.fit(X, Y, batch_size=5, verbose=0, callbacks=[callback]).history["loss"][0]
        assert calls[:3] == ["uri", ("id of e", "n"), ("r", "rate", 0.1)]
        assert ("r", "loss", loss, 4) in calls and calls[-1] == ("r", "FINISHED") and len(calls) == 7

        class Broken(kerax.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                raise OSError("broken")

        with pytest.raises(OSError, match="broken"):
            model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.MLflowLogger(run_id="old"), Broken()])
        assert calls[-1] == ("old", "FAILED")

    @pytest.mark.slow
    def test_the_real_library(self, model, tmp_path):
        mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        callback = kerax.callbacks.MLflowLogger(None, uri, "digits", "first", params={"rate": 0.1})
        history = model.fit(X, Y, batch_size=5, epochs=2, verbose=0, callbacks=[callback]).history
        client = mlflow.MlflowClient(uri)
        (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
        assert run.info.status == "FINISHED" and run.data.params == {"rate": "0.1"}
        seen = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")]
        np.testing.assert_allclose(seen, list(zip([4, 8], history["loss"])))


@pytest.mark.parametrize("name, library", [("WandbLogger", "wandb"), ("MLflowLogger", "mlflow")])
def test_the_library_is_asked_for_by_name(name, library, monkeypatch):
    def missing(wanted):
        raise ModuleNotFoundError(name=wanted)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=rf"{name} needs {library}: pip install 'kerax\[{library}\]'"):
        getattr(kerax.callbacks, name)()


def test_the_lines_of_the_guide_send_the_numbers(model):
    """Services that have no callback here: what the guide says about each, with something in its place."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "callbacks.md").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^\| (Comet|Aim|Neptune|ClearML) \| `(.+)` \|$", guide, flags=re.MULTILINE))
    assert len(lines) == 4
    for line in lines.values():
        calls = []
        note = lambda *args, calls=calls, **options: calls.append((args, options))
        experiment = types.SimpleNamespace(log_metrics=note)
        names = {"callbacks": kerax.callbacks, "experiment": experiment}
        names |= {"run": Run(note), "logger": types.SimpleNamespace(report_scalar=note)}
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[eval(line, names)]).history
        assert len(calls) == 2 if "append" in line or "log_metrics" in line else len(calls) == 2 * len(history)
        assert str(history["loss"][1]) in str(calls)


class Run:
    """What Aim's and Neptune's runs have."""

    def __init__(self, note):
        self.track = self.append = note

    def __getitem__(self, name):
        return self
