import http.server
import json
import threading
import urllib.parse
import warnings

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


class TestJSONLogger:
    def test_a_line_per_epoch(self, model, tmp_path):
        path = tmp_path / "runs" / "log.jsonl"
        lines = []

        class Read(kerax.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                lines.append(path.read_text().count("\n"))

        callbacks = [kerax.callbacks.JSONLogger(path), Read()]
        history = model.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y), callbacks=callbacks).history
        assert lines == [1, 2]  # an epoch's line is there before the next begins
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [list(row) for row in rows] == [["epoch", "loss", "mae", "val_loss", "val_mae"]] * 2
        assert [row["val_loss"] for row in rows] == history["val_loss"]

    def test_append_goes_on_and_survives_a_cut_line(self, model, tmp_path):
        path = tmp_path / "log.jsonl"
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.JSONLogger(path)])
        with path.open("a") as file:
            file.write('{"epoch": 1, "lo')
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.JSONLogger(path, append=True)])
        lines = path.read_text().splitlines()
        assert len(lines) == 3 and json.loads(lines[0])["epoch"] == json.loads(lines[2])["epoch"] == 0
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.JSONLogger(path)])
        assert len(path.read_text().splitlines()) == 1

    def test_numbers_that_json_lacks_are_null(self, tmp_path):
        callback = kerax.callbacks.JSONLogger(tmp_path / "log.jsonl")
        callback.on_train_begin()
        callback.on_epoch_end(0, {"a": np.nan, "b": -np.inf, "c": np.float32(0.5), "d": np.array([1.0, np.nan])})
        callback.close()
        text = (tmp_path / "log.jsonl").read_text()
        assert text == '{"epoch": 0, "a": null, "b": null, "c": 0.5, "d": [1.0, null]}\n'

    def test_pandas_reads_it(self, model, tmp_path):
        pandas = pytest.importorskip("pandas")
        path = tmp_path / "log.jsonl"
        history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[kerax.callbacks.JSONLogger(path)]).history
        np.testing.assert_allclose(pandas.read_json(path, lines=True)["loss"], history["loss"], rtol=1e-6)


@pytest.fixture
def server():
    """A server on this machine: its address, and the requests it has received as (path, headers, body)."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            requests.append((self.path, dict(self.headers), body))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    listening = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", requests
    listening.shutdown()
    thread.join()
    listening.server_close()


class TestRemoteMonitor:
    def test_a_form_by_default(self, model, server):
        root, requests = server
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[kerax.callbacks.RemoteMonitor(root)]).history
        assert [path for path, _, _ in requests] == ["/publish/epoch/end/"] * 2
        _, headers, body = requests[1]
        assert headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert list(urllib.parse.parse_qs(body)) == ["data"]
        sent = json.loads(urllib.parse.parse_qs(body)["data"][0])
        assert sent == {"epoch": 1, "loss": history["loss"][1], "mae": history["mae"][1]}

    def test_json_with_headers(self, model, server):
        root, requests = server
        callback = kerax.callbacks.RemoteMonitor(root, "/here", headers={"X-Token": "secret"}, send_as_json=True)
        callback.on_epoch_end(3, {"loss": np.float32(0.5), "bad": np.nan})
        ((path, headers, body),) = requests
        assert path == "/here" and headers["X-Token"] == "secret" and headers["Content-Type"] == "application/json"
        assert body == '{"epoch": 3, "loss": 0.5, "bad": null}'

    @pytest.mark.parametrize("path, message", [("/broken", "answered 500"), (None, "could not reach the server")])
    def test_it_warns_once_and_training_goes_on(self, model, server, path, message):
        root, _ = server
        callback = kerax.callbacks.RemoteMonitor(root, path) if path else kerax.callbacks.RemoteMonitor(CLOSED)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback])
        found = [str(warning.message) for warning in caught if "RemoteMonitor" in str(warning.message)]
        assert len(history.epoch) == 3 and len(found) == 1 and message in found[0]

    def test_other_addresses_are_refused(self):
        with pytest.raises(ValueError, match="'file:///etc'"):
            kerax.callbacks.RemoteMonitor("file:///etc")


CLOSED = "http://127.0.0.1:9"  # nothing listens there


class TestLearningRateLogger:
    def test_it_adds_the_rate(self, model):
        callbacks = [
            kerax.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=1e9),
            kerax.callbacks.LearningRateLogger(),
        ]
        model.optimizer.learning_rate = 0.1
        history = model.fit(X, Y, epochs=3, verbose=0, callbacks=callbacks).history
        np.testing.assert_allclose(history["learning_rate"], [0.1, 0.05, 0.025], rtol=1e-6)

    def test_a_schedule(self):
        model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
        schedule = kerax.optimizers.schedules.InverseTimeDecay(0.1, decay_steps=1, decay_rate=1.0)
        model.compile(kerax.optimizers.SGD(schedule), "mse")
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[kerax.callbacks.LearningRateLogger()]).history
        np.testing.assert_allclose(history["learning_rate"], [0.1 / 2, 0.1 / 3], rtol=1e-6)

    def test_an_optax_transformation_keeps_its_rate_to_itself(self):
        import optax

        model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
        model.compile(optax.sgd(0.1), "mse")
        history = model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.LearningRateLogger()]).history
        assert list(history) == ["loss"]
