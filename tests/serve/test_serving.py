"""The queue, what is loaded, and reloading."""

import asyncio
import threading
import time

import numpy as np
import pytest

import kerax
from kerax import layers
from tests.serve.client import get, post, send

pytest.importorskip("starlette")
from kerax.serve.batching import Batcher
from kerax.serve.tensors import RequestError


def make_model(units=3):
    return kerax.Sequential([kerax.Input((4,), name="row"), layers.Dense(units, bias_initializer="uniform")])


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 4)).astype("float32")


@pytest.fixture
def serving():
    """Makes servers that are ready, and closes them."""
    made = []

    def make(models, **options):
        made.append(kerax.serve.Server(models, **options))
        made[-1].wait()
        return made[-1]

    yield make
    for server in made:
        server.close()


def predict(server, x, name="m", **kwargs):
    answer = post(server, f"/v1/models/{name}:predict", {"instances": x.tolist()})
    assert answer.status == 200, answer
    return np.array(answer.json()["predictions"])


class Owner:
    """A model that takes its time: adds 1, and says how many rows each batch had."""

    def __init__(self, sizes=(1, 2, 4, 8), seconds=0.0):
        self.mixes_rows = False
        self.sizes, self.seconds, self.batches, self.go = list(sizes), seconds, [], threading.Event()
        self.go.set()

    def run(self, arrays):
        self.go.wait(10)
        self.batches.append(len(arrays[0]))
        time.sleep(self.seconds)
        return [arrays[0] + 1]


@pytest.fixture
def batcher():
    noted = []
    batcher = Batcher(16, 0, noted.append)
    batcher.noted = noted
    yield batcher
    batcher.close()


# Batches.


def test_what_waits_leaves_together_and_each_gets_its_own_rows(batcher):
    owner = Owner()

    async def run():
        owner.go.clear()
        first = asyncio.ensure_future(batcher.compute(owner, [np.zeros((1, 2))]))
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(batcher.compute(owner, [np.full((n, 2), n)])) for n in (3, 1, 2)]
        await asyncio.sleep(0.05)
        assert batcher.rows == 6
        owner.go.set()
        return await asyncio.gather(first, *others)

    results = asyncio.run(run())
    assert [out.shape[0] for (out,) in results] == [1, 3, 1, 2]
    assert all((out == value).all() for (out,), value in zip(results, (1, 4, 2, 3)))
    assert owner.batches == [1, 8]  # 6 rows, filled up
    batcher.close()  # what is noted is noted after the answers
    assert [(batch.rows, batch.padding) for batch in batcher.noted] == [(1, 0), (6, 2)]


def test_many_rows_go_in_several_batches(batcher):
    owner = Owner()
    (out,) = asyncio.run(batcher.compute(owner, [np.arange(13.0)[:, None]]))
    np.testing.assert_array_equal(out[:, 0], np.arange(13) + 1)
    assert owner.batches == [8, 8]


def test_rows_of_other_shapes_and_models_are_computed_apart(batcher):
    one, other = Owner(), Owner()

    async def run():
        one.go.clear()
        jobs = [batcher.compute(owner, [np.zeros((1, n))]) for owner, n in ((one, 2), (one, 3), (other, 2), (one, 2))]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0.05)
        one.go.set()
        return await asyncio.gather(*tasks)

    assert [out.shape for (out,) in asyncio.run(run())] == [(1, 2), (1, 3), (1, 2), (1, 2)]
    assert sum(one.batches) == 3 and other.batches == [1]


def test_a_full_queue_refuses_and_recovers(batcher):
    owner = Owner(sizes=(1, 2, 4))

    async def run():
        owner.go.clear()
        tasks = [asyncio.ensure_future(batcher.compute(owner, [np.zeros((4, 1))])) for _ in range(8)]
        done, _ = await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.ALL_COMPLETED)
        refused = [task for task in tasks if task in done]
        for task in refused:
            with pytest.raises(RequestError) as found:
                task.result()
            assert found.value.status == 503 and found.value.headers["Retry-After"] == "1"
        with pytest.raises(RequestError) as found:
            await batcher.compute(owner, [np.zeros((17, 1))])
        assert found.value.status == 413
        owner.go.set()
        answered = [await task for task in tasks if task not in refused]
        return len(answered), len(refused)

    answered, refused = asyncio.run(run())
    assert answered + refused == 8 and 4 <= answered <= 5 and batcher.rows == 0
    assert asyncio.run(batcher.compute(owner, [np.zeros((1, 1))]))[0] == 1


def test_what_nobody_waits_for_is_not_computed(batcher):
    owner = Owner()

    async def run():
        owner.go.clear()
        first = asyncio.ensure_future(batcher.compute(owner, [np.zeros((1, 1))]))
        await asyncio.sleep(0.05)
        gone = asyncio.ensure_future(batcher.compute(owner, [np.zeros((3, 1))]))
        await asyncio.sleep(0.02)
        gone.cancel()
        owner.go.set()
        await first

    asyncio.run(run())
    assert asyncio.run(batcher.compute(owner, [np.zeros((1, 1))]))[0] == 1
    assert owner.batches == [1, 1] and batcher.rows == 0


def test_a_model_that_raises_spoils_its_own_batch_only(batcher):
    owner = Owner()

    def fail(_):
        raise ZeroDivisionError("no")

    owner.run, run = fail, owner.run
    with pytest.raises(ZeroDivisionError):
        asyncio.run(batcher.compute(owner, [np.zeros((20, 1))[:16]]))
    owner.run = run
    assert asyncio.run(batcher.compute(owner, [np.zeros((1, 1))]))[0] == 1


def test_closing_computes_what_waits():
    batcher, owner = Batcher(16, 0, lambda batch: None), Owner(seconds=0.05)

    async def run():
        tasks = [asyncio.ensure_future(batcher.compute(owner, [np.zeros((1, 1))])) for _ in range(4)]
        await asyncio.sleep(0.01)
        await asyncio.to_thread(batcher.close)
        with pytest.raises(RequestError):
            await batcher.compute(owner, [np.zeros((1, 1))])
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(run())) == 4


def test_an_idle_device_waits_if_it_shall():
    batcher, owner = Batcher(16, 0.2, lambda batch: None), Owner()

    async def run():
        first = asyncio.ensure_future(batcher.compute(owner, [np.zeros((1, 1))]))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, batcher.compute(owner, [np.zeros((1, 1))]))

    asyncio.run(run())
    batcher.close()
    assert owner.batches == [2]


# Programs.


def test_nothing_is_compiled_after_the_server_is_ready(serving, compilations):
    model = make_model()
    server = serving({"m": model}, max_batch=6)
    (entry,) = server.repository.entries()
    assert entry.sizes == [1, 2, 4, 6] and entry.model.num_programs == 4
    with compilations() as compiled:
        found = [predict(server, rows(19)[:count]) for count in range(1, 20)]
    assert entry.model.num_programs == 4 and compiled == []
    expected = model.predict(rows(19), verbose=0)
    for count, outputs in enumerate(found, 1):
        np.testing.assert_allclose(outputs, expected[:count], rtol=1e-5, atol=1e-6)


def test_padding_changes_no_other_row(serving):
    inputs = kerax.Input((4,), name="row")
    inverse = kerax.Model(inputs, layers.Lambda(lambda x: 1 / x)(inputs))  # of zeros it is infinite
    server = serving({"m": inverse}, max_batch=8)
    for count in (1, 3, 5):
        np.testing.assert_array_equal(predict(server, rows(count)), (1 / rows(count)).astype("float32"))


@pytest.mark.parametrize("kind", ["kerax", "onnx"])
def test_rows_that_change_each_other_are_computed_as_they_came(serving, tmp_path, kind):
    inputs = kerax.Input((4,), name="row")
    centred = kerax.Model(inputs, layers.BatchNormalization()(inputs, training=True))
    if kind == "onnx":
        centred.export(tmp_path / "m.onnx", format="onnx", verbose=False)
    server = serving({"m": centred if kind == "kerax" else tmp_path / "m.onnx"}, max_batch=8)

    async def ask():
        bodies = [{"instances": rows(count).tolist()} for count in (3, 2, 5)]
        return await asyncio.gather(*(send(server, "POST", "/v1/models/m:predict", body) for body in bodies))

    for count, answer in zip((3, 2, 5), asyncio.run(ask())):
        expected = centred.predict(rows(count), verbose=0)
        np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-4, atol=1e-5)


def test_random_layers_draw_anew_for_each_batch(serving):
    inputs = kerax.Input((4,), name="row")
    noisy = kerax.Model(inputs, layers.Dropout(0.5)(inputs, training=True))
    server, x = serving({"m": noisy}, max_batch=2), np.ones((2, 4), "float32")
    assert server.is_ready
    assert len({predict(server, x).tobytes() for _ in range(8)}) > 4


@pytest.mark.medium
def test_open_sizes_are_computed_for_each_shape(serving):
    inputs = kerax.Input((None, 2), name="series")
    model = kerax.Model(inputs, [layers.LSTM(3)(inputs), layers.Dense(1)(inputs)])
    server = serving({"m": model})
    assert [spec.shape for spec in server.repository.find("m").outputs] == [(3,), (None, 1)]
    for length in (3, 5):
        x = np.random.default_rng(0).normal(size=(2, length, 2)).astype("float32")
        answer = post(server, "/v1/models/m:predict", {"inputs": x.tolist()}).json()["outputs"]
        for output, expected in zip(answer.values(), model.predict(x, verbose=0)):
            np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    series = [kerax.Input((None, 1), name=name) for name in "ab"]
    added = serving({"m": kerax.Model(series, layers.Add()(series))})
    answer = post(added, "/v1/models/m:predict", {"inputs": {"a": [[[1], [2]]], "b": [[[1], [2], [3]]]}})
    assert answer.status == 400 and "cannot be computed for these inputs" in answer.error


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["kerax", "onnx"])
def test_texts_of_any_length_are_computed_for_each_shape(serving, kind, tmp_path):
    vectorize = layers.TextVectorization(vocabulary=["good", "bad", "film"])
    inputs = kerax.Input((), dtype="string", name="text")
    counted = layers.GlobalAveragePooling1D()(layers.Embedding(6, 2)(vectorize(inputs)))
    model = kerax.Model(inputs, counted)
    if kind == "onnx":
        model.export(tmp_path / "m.onnx", format="onnx", verbose=False)
    server = serving({"m": model if kind == "kerax" else tmp_path / "m.onnx"}, max_batch=2)
    for text in ("good", "a bad film", "a b c d e f g"):
        answer = post(server, "/v1/models/m:predict", {"instances": [text]}).json()["predictions"]
        np.testing.assert_allclose(answer, model.predict(np.array([text]), verbose=0), rtol=1e-5)


def test_a_fixed_batch_is_filled_up(serving):
    inputs = kerax.Input(batch_shape=(3, 4), name="row")
    model = kerax.Model(inputs, layers.Dense(2)(inputs))
    server = serving({"m": model})
    x = rows(3)
    np.testing.assert_allclose(predict(server, x[:2]), model.predict(x, verbose=0)[:2], rtol=1e-5)


@pytest.mark.medium
def test_half_precision_int8_and_a_step_of_ones_own(serving):
    class Doubled(kerax.Sequential):
        def predict_step(self, state, data):
            return 2 * super().predict_step(state, data)

    half = kerax.Sequential([kerax.Input((4,), name="row"), layers.Dense(3, dtype="mixed_bfloat16")])
    doubled = Doubled([kerax.Input((4,), name="row"), layers.Dense(3)])
    small = kerax.Sequential([kerax.Input((4,), name="row"), layers.Dense(3)])
    small.quantize("int8")
    models = {"half": half, "doubled": doubled, "small": small}
    server = serving(models)
    for name, model in models.items():
        expected = np.asarray(model.predict(rows(2), verbose=0), "float32")
        np.testing.assert_allclose(predict(server, rows(2), name), expected, rtol=1e-5)
    x = rows(1)
    head = {"name": "row", "shape": [1, 4], "datatype": "FP32", "data": x.ravel().tolist()}
    data = {"inputs": [head], "parameters": {"binary_data_output": True}}
    assert b'"datatype": "BF16"' in post(server, "/v2/models/half/infer", data).body


# Files, names and versions.


@pytest.mark.medium
def test_every_kind_of_file_is_served(serving, tmp_path):
    pytest.importorskip("onnxruntime")
    model = make_model()
    model.save(tmp_path / "zipped.keras")
    model.save(tmp_path / "checkpoint")
    model.export(tmp_path / "file.onnx", format="onnx", verbose=False)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("")
    (run / "labels.txt").write_text("a\nb\nc\n")
    kerax.checkpoint.save(run / "checkpoint", model, metadata={"config": {"data": {"scale": 0.5}}})
    words = [str(tmp_path / name) for name in ("zipped.keras", "checkpoint", "file.onnx", "run")]
    server = serving(words, max_batch=2)
    assert server.is_ready and server.repository.names == ["zipped", "checkpoint", "file", "run"]
    for name in server.repository.names:
        np.testing.assert_allclose(predict(server, rows(3), name), model.predict(rows(3), verbose=0), rtol=1e-5)
    assert server.repository.find("run").labels == ["a", "b", "c"]
    assert server.repository.find("run").scale == pytest.approx(1 / 255)
    assert get(server, "/v2/models/file").json()["platform"] == "onnxruntime_onnx"
    answer = post(server, "/v1/models/file:predict", {"instances": [[1, 2]]})
    assert answer.status == 400 and "input 'row': expected float32 of shape [rows, 4]" in answer.error


def test_class_names_of_a_checkpoint_are_labels(serving, tmp_path):
    kerax.checkpoint.save(tmp_path / "m", make_model(), metadata={"class_names": ["x", "y", "z"]})
    server = serving(str(tmp_path / "m"), max_batch=1)
    (best,) = post(server, "/v1/models/m:classify?top_k=1", {"examples": rows(1).tolist()}).json()["result"]
    assert best[0][0] in ("x", "y", "z")


def test_folders_with_numbers_are_versions(serving, tmp_path):
    models = {version: make_model() for version in (2, 10)}
    for version, model in models.items():
        (tmp_path / "m" / str(version)).mkdir(parents=True)
        model.save(tmp_path / "m" / str(version) / "model.keras")
    server = serving({"m": tmp_path / "m", "other": {3: models[2]}}, max_batch=1)
    assert get(server, "/v2/models/m").json()["versions"] == ["2", "10"]
    x = rows(1)
    for path, version in (("m", 10), ("m/versions/10", 10), ("m/versions/2", 2)):
        np.testing.assert_allclose(predict(server, x, path), models[version].predict(x, verbose=0), rtol=1e-5)
    assert get(server, "/v2/models/other").json()["versions"] == ["3"]
    states = get(server, "/v1/models/m").json()["model_version_status"]
    assert [state["version"] for state in states] == ["2", "10"]


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ("nothing.keras", {}, "there is no 'nothing.keras'"),
        ([], {}, "one model or more"),
        ("a b=m.keras", {}, "Give NAME=PATH"),
        ("m:x=m.keras", {}, "a version is a whole number"),
        (["m=a.keras", "m=b.keras"], {}, "'m' is given twice"),
        ("text.txt", {}, "'text.txt' is no model"),
        ("saved", {}, "is a SavedModel, which TensorFlow Serving serves"),
        ("bad.onnx", {}, "onnxruntime does not read 'bad.onnx'"),
        ("bad.keras", {}, "bad.keras"),
        ("gs://bucket/m.keras", {}, "files of this computer only"),
        (make_model, {}, "expected paths or models"),
        ({"m": kerax.Sequential([layers.Dense(2)])}, {}, "is not built"),
        (make_model(), {"max_batch": 0}, "max_batch"),
        (make_model(), {"timeout": 0}, "timeout > 0"),
        ({"m": make_model()}, {"labels": "nothing.txt"}, "'nothing.txt' cannot be read"),
        ({"mm": make_model()}, {"labels": {"m": ["a"]}}, "Did you mean 'mm'"),
    ],
)
def test_what_cannot_be_served_is_told(models, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("text.txt", "bad.onnx", "bad.keras"):
        (tmp_path / name).write_text("no")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_text("")
    with pytest.raises((ValueError, TypeError), match=message):
        kerax.serve.app(models, **options)


# Reloading.


def test_a_model_is_read_anew_without_a_gap(serving, tmp_path):
    path, x = tmp_path / "m.keras", rows(2)
    old, new = make_model(), make_model()
    old.save(path)
    server = serving(str(path), max_batch=2)
    expected = [model.predict(x, verbose=0) for model in (old, new)]
    new.save(path)

    async def run():
        found, is_done = [], False

        async def ask():
            while not is_done:
                answer = await send(server, "POST", "/v1/models/m:predict", {"instances": x.tolist()})
                assert answer.status == 200
                found.append(np.array(answer.json()["predictions"]))

        asking = [asyncio.ensure_future(ask()) for _ in range(3)]
        assert (await send(server, "POST", "/v2/repository/models/m/load")).status == 200
        for _ in range(5):
            await asyncio.sleep(0.01)
        is_done = True
        await asyncio.gather(*asking)
        return found

    found = asyncio.run(run())
    which = [[np.allclose(outputs, one, rtol=1e-5) for one in expected] for outputs in found]
    assert all(any(pair) for pair in which) and which[0] == [True, False] and which[-1] == [False, True]


def test_what_cannot_be_read_leaves_the_old_one(serving, tmp_path):
    path = tmp_path / "m.keras"
    make_model().save(path)
    server = serving(str(path), max_batch=1)
    path.write_text("no")
    answer = post(server, "/v2/repository/models/m/load")
    assert answer.status == 400 and "'m' was not loaded anew" in answer.error
    assert predict(server, rows(1)).shape == (1, 3)
    assert post(server, "/v2/repository/models/z/load").status == 404


def test_new_versions_are_found_and_removed_ones_go(serving, tmp_path):
    for version in ("1", "2"):
        (tmp_path / "m" / version).mkdir(parents=True)
        make_model().save(tmp_path / "m" / version / "model.keras")
    server = serving(str(tmp_path / "m"), max_batch=1)
    (tmp_path / "m" / "1").rename(tmp_path / "m" / "3")
    server.load("m")
    assert get(server, "/v2/models/m").json()["versions"] == ["2", "3"]


def test_a_model_of_this_process_is_served_with_its_new_weights(serving):
    model = make_model()
    server = serving({"m": model}, max_batch=1)
    before = predict(server, rows(1))
    model.set_weights([weight + 1 for weight in model.get_weights()])
    np.testing.assert_array_equal(predict(server, rows(1)), before)
    server.load("m")
    np.testing.assert_allclose(predict(server, rows(1)), model.predict(rows(1), verbose=0), rtol=1e-5)


# Before and after.


def test_requests_wait_for_nothing_before_all_is_ready():
    server = kerax.serve.Server({"m": make_model()}, max_batch=1)
    server.repository.prepare, prepare = lambda: None, server.repository.prepare
    assert get(server, "/v2/health/ready").status == 503 and get(server, "/v2/health/live").status == 200
    answer = post(server, "/v1/models/m:predict", {"instances": rows(1).tolist()})
    assert answer.status == 503 and answer.headers["retry-after"] == "1"
    prepare()
    assert get(server, "/v2/health/ready").status == 200
    server.close()


def test_answers_close_their_connections_while_the_server_ends(serving):
    server = serving({"m": make_model()}, max_batch=1)
    assert "connection" not in get(server, "/v2/health/ready").headers
    server.is_draining = True
    answer = post(server, "/v1/models/m:predict", {"instances": rows(1).tolist()})
    assert answer.status == 200 and answer.headers["connection"] == "close"
    assert get(server, "/v2/health/ready").status == 503


def test_a_full_queue_is_told_with_a_time_to_come_back(serving):
    server = serving({"m": make_model()}, max_batch=2, max_queue=3)
    (entry,) = server.repository.entries()
    run, entry.run = entry.run, lambda arrays: time.sleep(0.1) or run(arrays)

    async def ask():
        asked = [send(server, "POST", "/v1/models/m:predict", {"instances": rows(2).tolist()}) for _ in range(6)]
        return await asyncio.gather(*asked)

    answers = asyncio.run(ask())
    refused = [answer for answer in answers if answer.status == 503]
    assert refused and all(answer.headers["retry-after"] == "1" for answer in refused)
    assert all(answer.status == 200 for answer in answers if answer not in refused) and len(refused) < 6
    assert post(server, "/v1/models/m:predict", {"instances": rows(4).tolist()}).status == 413


def test_slow_answers_are_given_up(serving):
    server = serving({"m": make_model()}, max_batch=1, timeout=0.05)
    (entry,) = server.repository.entries()
    run, entry.run = entry.run, lambda arrays: time.sleep(0.2) or run(arrays)
    answer = post(server, "/v1/models/m:predict", {"instances": rows(1).tolist()})
    assert answer.status == 504 and "within 0.05 seconds" in answer.error


def test_a_client_that_hangs_up_is_counted_and_forgotten(serving):
    server = serving({"m": make_model()}, max_batch=1)

    async def run():
        messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

        async def receive():
            return messages.pop(0)

        async def take(message):
            pass

        path = "/v1/models/m:predict"
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": ""}
        await server(scope | {"query_string": b"", "headers": [], "http_version": "1.1"}, receive, take)

    asyncio.run(run())
    assert 'status="499"' in get(server, "/metrics").body.decode()
    assert predict(server, rows(1)).shape == (1, 3)


def test_what_a_client_that_hangs_up_asked_for_is_not_computed(serving):
    server = serving({"m": make_model()}, max_batch=4)
    (entry,) = server.repository.entries()
    run, sizes, go = entry.run, [], threading.Event()
    entry.run = lambda arrays: sizes.append(len(arrays[0])) or (go.wait(10) and run(arrays))

    async def ask():
        def post(count, end=None):
            body = {"instances": rows(count).tolist()}
            return asyncio.ensure_future(send(server, "POST", "/v1/models/m:predict", body, end=end))

        end = asyncio.Event()
        first = post(1)
        await asyncio.sleep(0.02)
        gone, stays = post(3, end), post(2)
        await asyncio.sleep(0.1)
        end.set()
        answers = [await gone]
        assert not first.done()
        go.set()
        return answers + [await first, await stays]

    assert [answer.status for answer in asyncio.run(ask())] == [499, 200, 200]
    assert sizes == [1, 2]
    assert 'status="499"' in get(server, "/metrics").body.decode()


def test_who_waits_while_another_starts_waits_until_it_is_ready(monkeypatch):
    server = kerax.serve.Server({"m": kerax.Sequential([kerax.Input((2,)), layers.Dense(1)])}, max_batch=1)
    starting, starts = threading.Event(), threading.Thread.start

    def start(thread):
        if thread.name == "kerax serve loading":
            starting.set()
            time.sleep(0.2)  # another thread runs meanwhile
        starts(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    other = threading.Thread(target=server.start)
    other.start()
    starting.wait()
    server.wait()
    assert server.is_ready
    other.join()
    server.close()
