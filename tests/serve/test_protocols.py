"""Requests and answers in KServe's and TensorFlow Serving's forms: the numbers of `predict`, and what is refused."""

import base64
import gzip
import io
import json

import numpy as np
import pytest

import kerax
from kerax import layers
from tests.serve.client import get, post

pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def model():
    return kerax.Sequential([kerax.Input((4,), name="row"), layers.Dense(3, activation="softmax")])


@pytest.fixture(scope="module")
def pair():
    """Two inputs and two outputs, in dicts."""
    a, b = kerax.Input((2,), name="a"), kerax.Input((1,), name="b", dtype="int32")
    table = layers.Flatten()(layers.Embedding(5, 2)(b))
    return kerax.Model({"a": a, "b": b}, {"sum": layers.Add()([a, table]), "score": layers.Dense(1)(a)})


@pytest.fixture(scope="module")
def picture_model():
    inputs = kerax.Input((6, 5, 3), name="image")
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(inputs)))
    return kerax.Model(inputs, outputs)


@pytest.fixture(scope="module")
def text_model():
    vectorize = layers.TextVectorization(output_sequence_length=4, vocabulary=["good", "bad", "film"])
    inputs = kerax.Input((1,), dtype="string", name="text")
    return kerax.Model(inputs, layers.Dense(1)(layers.Flatten()(layers.Embedding(6, 2)(vectorize(inputs)))))


@pytest.fixture(scope="module")
def table_model():
    color, size = kerax.Input((1,), dtype="string", name="color"), kerax.Input((1,), name="size")
    found = layers.StringLookup(vocabulary=["red", "blue"], output_mode="one_hot")(color)
    return kerax.Model({"color": color, "size": size}, layers.Dense(1)(layers.Concatenate()([found, size])))


@pytest.fixture(scope="module")
def server(model, pair, picture_model, text_model, table_model):
    models = {"rows": model, "pair": pair, "pictures": picture_model, "texts": text_model, "table": table_model}
    server = kerax.serve.Server(models, max_batch=4, max_bytes=20_000, labels={"pictures": ["cat", "dog", "cow"]})
    server.wait()
    assert server.is_ready, [entry.error for entry in server.repository.entries()]
    yield server
    server.close()


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(7, 4)).astype("float32")


def png(pixels):
    image = pytest.importorskip("PIL.Image").fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


# TensorFlow Serving.


@pytest.mark.medium
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_instances_give_predictions(server, model, x, version):
    expected = model.predict(x, verbose=0)
    for instances in (x.tolist(), [{"row": row.tolist()} for row in x]):
        answer = post(server, f"/v1/models/rows{version}:predict", {"instances": instances})
        assert answer.status == 200, answer
        np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-6)


def test_inputs_give_outputs(server, model, x):
    for inputs in (x.tolist(), {"row": x.tolist()}):
        answer = post(server, "/v1/models/rows:predict", {"inputs": inputs, "signature_name": "serving_default"})
        np.testing.assert_allclose(answer.json()["outputs"], model.predict(x, verbose=0), rtol=1e-6)


def test_several_inputs_and_outputs_go_by_name(server, pair):
    given = {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[1], [4]]}
    expected = pair.predict({name: np.array(value) for name, value in given.items()}, verbose=0)
    outputs = post(server, "/v1/models/pair:predict", {"inputs": given}).json()["outputs"]
    rows = [{"a": given["a"][index], "b": given["b"][index]} for index in range(2)]
    predictions = post(server, "/v1/models/pair:predict", {"instances": rows}).json()["predictions"]
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-6)
        np.testing.assert_allclose([row[name] for row in predictions], value, rtol=1e-6)


def test_status_and_metadata_are_those_of_tensorflow_serving(server):
    (state,) = get(server, "/v1/models/pair").json()["model_version_status"]
    assert state == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    found = get(server, "/v1/models/pair/versions/1/metadata").json()
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["b"]["dtype"] == "DT_INT32" and found["model_spec"]["name"] == "pair"
    assert [size["size"] for size in signature["outputs"]["sum"]["tensor_shape"]["dim"]] == ["-1", "2"]


def test_classes_come_best_first(server, picture_model):
    images = np.random.default_rng(0).integers(0, 255, (2, 6, 5, 3)).astype("float32")
    scores = picture_model.predict(images, verbose=0)
    answer = post(server, "/v1/models/pictures:classify?top_k=2", {"examples": images.tolist()}).json()["result"]
    assert [[name for name, _ in row] for row in answer] == [
        [["cat", "dog", "cow"][n] for n in np.argsort(-row)[:2]] for row in scores
    ]
    np.testing.assert_allclose([row[0][1] for row in answer], scores.max(1), rtol=1e-5)
    (both,) = post(server, "/v1/models/texts:classify", {"examples": ["good film"]}).json()["result"]
    assert sorted(name for name, _ in both) == ["0", "1"] and sum(score for _, score in both) == pytest.approx(1)


# KServe.


def tensor(name, array, **parameters):
    kinds = {"float32": "FP32", "int32": "INT32", "int64": "INT64", "float64": "FP64", "uint8": "UINT8"}
    head = {"name": name, "shape": list(array.shape), "datatype": kinds[array.dtype.name]}
    return head | ({"parameters": parameters} if parameters else {"data": array.ravel().tolist()})


def binary(path, server, head, *arrays):
    text = json.dumps(head).encode()
    tail = b"".join(array if isinstance(array, bytes) else array.tobytes() for array in arrays)
    return post(server, path, text + tail, {"Inference-Header-Content-Length": str(len(text))})


def test_tensors_in_json(server, model, x):
    answer = post(server, "/v2/models/rows/versions/1/infer", {"id": "7", "inputs": [tensor("row", x)]}).json()
    (output,) = answer["outputs"]
    assert answer["id"] == "7" and answer["model_name"] == "rows" and answer["model_version"] == "1"
    assert output["shape"] == [7, 3] and output["datatype"] == "FP32"
    np.testing.assert_allclose(np.reshape(output["data"], (7, 3)), model.predict(x, verbose=0), rtol=1e-6)
    # Nested as well as flat, and of another dtype that holds the same numbers.
    nested = tensor("row", x.astype("float64")) | {"data": x.tolist()}
    assert post(server, "/v2/models/rows/infer", {"inputs": [nested]}).json()["outputs"] == [output]


def test_tensors_as_bytes(server, pair):
    a, b = np.array([[1, 2], [3, 4]], "float32"), np.array([[1], [4]], "int32")
    inputs = [tensor("b", b, binary_data_size=b.nbytes), tensor("a", a, binary_data_size=a.nbytes)]
    asked = [{"name": "score"}, {"name": "sum", "parameters": {"binary_data": True}}]
    answer = binary("/v2/models/pair/infer", server, {"inputs": inputs, "outputs": asked}, b, a)
    length = int(answer.headers["inference-header-content-length"])
    score, total = json.loads(answer.body[:length])["outputs"]
    expected = pair.predict({"a": a, "b": b}, verbose=0)
    np.testing.assert_allclose(np.reshape(score["data"], (2, 1)), expected["score"], rtol=1e-6)
    assert total["parameters"]["binary_data_size"] == len(answer.body) - length == 16
    np.testing.assert_allclose(
        np.frombuffer(answer.body[length:], "float32").reshape(total["shape"]), expected["sum"], rtol=1e-6
    )


def test_texts_as_bytes(server, text_model):
    texts = ["good film", "bäd film"]
    data = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)
    head = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    answer = binary("/v2/models/texts/infer", server, {"inputs": [head]}, data).json()
    expected = text_model.predict(np.array(texts)[:, None], verbose=0)
    np.testing.assert_allclose(answer["outputs"][0]["data"], expected[:, 0], rtol=1e-5)


def test_classification_is_an_output_of_texts(server, x):
    asked = [{"name": "output_0", "parameters": {"classification": 2}}]
    (output,) = post(server, "/v2/models/rows/infer", {"inputs": [tensor("row", x)], "outputs": asked}).json()[
        "outputs"
    ]
    assert output["datatype"] == "BYTES" and output["shape"] == [7, 2]
    score, number, name = output["data"][0].split(":")
    assert float(score) > 0.3 and number == name


def test_metadata_ready_and_index(server):
    assert get(server, "/v2").json()["extensions"] == ["binary_tensor_data", "classification", "model_repository"]
    found = get(server, "/v2/models/pair").json()
    assert {"name": "b", "datatype": "INT32", "shape": [-1, 1]} in found["inputs"] and found["versions"] == ["1"]
    assert found["platform"] == "kerax" and found["outputs"][0]["shape"] == [-1, 1]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/pair/ready", "/v2/models/pair/versions/1/ready"):
        assert get(server, path).status == 200
    assert {"name": "pair", "version": "1", "state": "READY", "reason": ""} in post(
        server, "/v2/repository/index"
    ).json()


# Pictures, texts and tables.


def test_pictures_are_inputs(server, picture_model):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype("uint8")
    expected = picture_model.predict(pixels[None].astype("float32"), verbose=0)
    data, path = png(pixels), "/v1/models/pictures:predict"
    in_json = {"instances": [{"b64": base64.b64encode(data).decode()}]}
    boundary = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    form = boundary + data + b"\r\n" + boundary + data + b"\r\n--b--\r\n"
    kinds = [(data, {"content-type": "image/png"}, 1), (form, {"content-type": "multipart/form-data; boundary=b"}, 2)]
    for body, headers, rows in [*kinds, (in_json, None, 1)]:
        answer = post(server, path, body, headers)
        assert answer.status == 200, answer
        np.testing.assert_allclose(answer.json()["predictions"], expected.repeat(rows, 0), rtol=1e-5)
    answer = post(server, "/v2/models/pictures/infer", data, {"content-type": "image/png"}).json()
    np.testing.assert_allclose(answer["outputs"][0]["data"], expected[0], rtol=1e-5)


def test_pictures_get_the_size_and_colors_of_the_input(server):
    for pixels in (np.full((12, 9, 4), 7, "uint8"), np.full((3, 3), 7, "uint8")):
        answer = post(server, "/v1/models/pictures:predict", png(pixels), {"content-type": "image/png"})
        assert answer.status == 200, answer


def test_texts_are_inputs(server, text_model):
    expected = text_model.predict(np.array([["good film"]]), verbose=0)
    for body, headers in (
        (b"good film", {"content-type": "text/plain"}),
        ({"instances": ["good film"]}, None),
        ({"instances": [["good film"]]}, None),
        ({"instances": [{"text": {"b64": base64.b64encode(b"good film").decode()}}]}, None),
    ):
        answer = post(server, "/v1/models/texts:predict", body, headers)
        np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-5)


def test_tables_are_inputs(server, table_model, model, x):
    columns = {"color": np.array([["red"], ["blue"], ["green"]]), "size": np.array([[1], [2.5], [3]], "float32")}
    expected = table_model.predict(columns, verbose=0)
    rows = [{"color": "red", "size": 1}, {"color": "blue", "size": 2.5}, {"color": "green", "size": 3}]
    for body, headers in (
        (b"size,color\n1,red\n2.5,blue\n3,green\n", {"content-type": "text/csv"}),
        ({"instances": rows}, None),
        ({"inputs": {"color": ["red", "blue", "green"], "size": [1, 2.5, 3]}}, None),
    ):
        answer = post(server, "/v1/models/table:predict", body, headers).json()
        np.testing.assert_allclose(answer.get("predictions", answer.get("outputs")), expected, rtol=1e-5)
    lines = "\n".join(["a,b,c,d", *(",".join(map(str, row)) for row in x.tolist())]).encode()
    answer = post(server, "/v1/models/rows:predict", lines, {"content-type": "text/csv"})
    np.testing.assert_allclose(answer.json()["predictions"], model.predict(x, verbose=0), rtol=1e-5)


# What is refused.

ROW = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("v1/models/rows:predict", b"{", "not JSON"),
        ("v1/models/rows:predict", b"\xff\xfe", "not JSON"),
        ("v1/models/rows:predict", b"[" * 10_000, "not JSON"),
        ("v1/models/rows:predict", [ROW], "either `instances` or `inputs`"),
        ("v1/models/rows:predict", {}, "either `instances` or `inputs`"),
        ("v1/models/rows:predict", {"instances": [ROW], "inputs": [ROW]}, "either `instances` or `inputs`"),
        ("v1/models/rows:predict", {"instances": []}, "a list of one row or more"),
        ("v1/models/rows:predict", {"instances": 3}, "a list of one row or more"),
        ("v1/models/rows:predict", {"instances": [ROW], "signature_name": "train"}, "'serving_default'"),
        (
            "v1/models/rows:predict",
            {"instances": [[1, 2]]},
            "input 'row': expected float32 of shape [rows, 4]. Got int64",
        ),
        (
            "v1/models/rows:predict",
            {"instances": [ROW, [1]]},
            "input 'row': expected float32 of shape [rows, 4]. Got rows of",
        ),
        ("v1/models/rows:predict", {"instances": [["a", "b", "c", "d"]]}, "input 'row'"),
        ("v1/models/rows:predict", {"instances": [[None, 2, 3, 4]]}, "input 'row'"),
        ("v1/models/rows:predict", {"instances": [[1e300, 2, 3, 4]]}, "input 'row'"),
        ("v1/models/rows:predict", {"instances": [{"b64": "AAAA"}]}, "input 'row'"),
        ("v1/models/rows:predict", {"inputs": {"z": [ROW]}}, "Missing: ['row'], unknown: ['z']"),
        ("v1/models/rows:predict", {"instances": [{"row": ROW}, {"z": 1}]}, "row 1 must have the inputs ['row']"),
        ("v1/models/rows:classify?top_k=0", {"examples": [ROW]}, "`top_k`"),
        ("v1/models/pair:predict", {"instances": [ROW]}, "give each by its name"),
        ("v1/models/pair:predict", {"inputs": {"a": [[1, 2]], "b": [[1], [2]]}}, "a 1, b 2"),
        ("v1/models/pair:predict", {"inputs": {"a": [[1, 2]], "b": [[1.5]]}}, "input 'b': expected int32"),
        ("v1/models/pair:predict", {"inputs": {"a": [[1, 2]], "b": [[1e12]]}}, "is not from -2147483648"),
        ("v1/models/texts:predict", {"instances": [3]}, "input 'text': expected string"),
        ("v1/models/texts:predict", {"instances": [{"b64": "!"}]}, "input 'text'"),
        ("v2/models/rows/infer", {}, "a list `inputs`"),
        ("v2/models/rows/infer", {"inputs": [3]}, "`name`"),
        ("v2/models/rows/infer", {"inputs": [{"name": "row", "datatype": "FP99", "shape": [1, 4]}]}, "Got 'FP99'"),
        (
            "v2/models/rows/infer",
            {"inputs": [{"name": "row", "datatype": "FP32", "shape": [-1, 4]}]},
            "input 'row': `shape`",
        ),
        (
            "v2/models/rows/infer",
            {"inputs": [{"name": "row", "datatype": "FP32", "shape": [1, 4]}]},
            "`data` is missing",
        ),
        (
            "v2/models/rows/infer",
            {"inputs": [{"name": "row", "datatype": "FP32", "shape": [2, 4], "data": ROW}]},
            "input 'row': expected 8 values",
        ),
        (
            "v2/models/rows/infer",
            {"inputs": [{"name": "row", "datatype": "FP32", "shape": [1, 4], "data": ROW}], "outputs": [{"name": "z"}]},
            "has ['output_0']. Got 'z'",
        ),
    ],
)
def test_bad_requests_are_told_what_is_wrong(server, path, body, words):
    answer = post(server, f"/{path}", body)
    assert answer.status == 400 and words in answer.error, answer


def test_bad_bytes_are_told_what_is_wrong(server):
    head = {"inputs": [tensor("row", np.ones((1, 4), "float32"), binary_data_size=16)]}
    for tail, words in ((b"\0" * 15, "input 'row'"), (b"\0" * 20, "20 bytes after the JSON")):
        answer = binary("/v2/models/rows/infer", server, head, tail)
        assert answer.status == 400 and words in answer.error
    for length in ("abc", "99", "-1"):
        answer = post(server, "/v2/models/rows/infer", b"{}", {"Inference-Header-Content-Length": length})
        assert answer.status == 400 and "must be a number of at most 2" in answer.error
    cut = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}
    assert "cut off" in binary("/v2/models/texts/infer", server, {"inputs": [cut]}, b"\5\0\0\0ab").error


def test_bad_uploads_are_told_what_is_wrong(server):
    for path, kind, body, words in (
        ("pictures", "image/png", b"no picture", "input 'image': expected a picture"),
        ("rows", "image/png", b"", "a single picture is no input of 'rows', which takes 'row'"),
        ("pair", "text/plain", b"x", "a single text"),
        ("texts", "text/plain", b"\xff", "not UTF-8"),
        ("rows", "multipart/form-data", b"x", "the form cannot be read"),
        ("rows", "text/csv", b"1,2,3,4\n1\n", "the same number of columns"),
        ("rows", "text/csv", b"1,2,3,x\n", "expected numbers"),
        ("table", "text/csv", b"a,b\n1,2\n", "names the columns ['color', 'size']"),
    ):
        answer = post(server, f"/v1/models/{path}:predict", body, {"content-type": kind})
        assert answer.status == 400 and words in answer.error, answer


def test_unknown_places_are_not_found(server):
    assert "There is rows" in post(server, "/v1/models/row:predict", {}).error
    assert "Did you mean 'rows'" in post(server, "/v2/models/row/infer", {}).error
    assert "no version '2'. There is 1" in post(server, "/v1/models/rows/versions/2:predict", {}).error
    for answer in (get(server, "/v2/models/z"), get(server, "/v1/models/z"), get(server, "/nothing")):
        assert answer.status == 404 and answer.error
    assert get(server, "/v2/models/rows/infer").status == 405


def test_large_bodies_are_read_and_refused(server):
    answer = post(server, "/v1/models/rows:predict", b"1" * 30_000, parts=5)
    assert answer.status == 413 and "30000 bytes. At most 20000" in answer.error
    answer = post(server, "/v1/models/rows:predict", b"", {"content-encoding": "br"})
    assert answer.status == 415 and "Expected gzip" in answer.error


def test_packed_bodies_are_unpacked_up_to_the_limit(server):
    path, headers = "/v1/models/rows:predict", {"content-encoding": "gzip"}
    body = json.dumps({"instances": [[1, 2, 3, 4]]}).encode()
    expected = post(server, path, body).json()
    packed = gzip.compress(body)
    for given in (packed, gzip.compress(body[:9]) + gzip.compress(body[9:])):
        assert post(server, path, given, headers, parts=3).json() == expected
    for given, status, words in (
        (gzip.compress(b" " * 20_001), 413, "more than 20000 bytes, unpacked"),
        (gzip.compress(b" " * 10**7), 413, "more than 20000 bytes, unpacked"),
        (packed[:-4], 400, "it is cut off"),
        (body, 400, "not gzip"),
        (b"", 400, "not JSON"),
    ):
        answer = post(server, path, given, headers)
        assert answer.status == status and words in answer.error


def test_long_answers_are_packed_for_clients_that_take_it(server):
    path, body = "/v1/models/rows:predict", {"instances": [[1, 2, 3, 4]] * 800}
    plain = post(server, path, body)
    assert "content-encoding" not in plain.headers
    packed = post(server, path, body, {"accept-encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip" and packed.headers["vary"] == "Accept-Encoding"
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body) / 5
    assert gzip.decompress(packed.body) == plain.body
    for given, accepted in ((body, "gzip;q=0"), ({"instances": [[1, 2, 3, 4]]}, "gzip")):
        assert "content-encoding" not in post(server, path, given, {"accept-encoding": accepted}).headers


# For tools and people.


def test_metrics_count_requests_and_batches(server):
    post(server, "/v1/models/pair:predict", {"inputs": {"a": [[1, 2]] * 3, "b": [[1]] * 3}})
    post(server, "/v1/models/pair:predict", {})
    text = get(server, "/metrics").body.decode()
    assert 'kerax_requests_total{model="pair",status="200",version="1"}' in text.replace(
        'model="pair",version="1",status="200"', 'model="pair",status="200",version="1"'
    )
    for name in (
        "kerax_batch_rows_bucket",
        "kerax_padding_rows_total",
        "kerax_request_seconds_count",
        "kerax_programs",
    ):
        assert f'{name}{{model="pair"' in text or f'{name}{{le="1.0",model="pair"' in text, name
    assert "kerax_queue_rows 0.0" in text


def test_openapi_has_an_example_that_works_for_each_model(server):
    document = get(server, "/openapi.json").json()
    assert document["openapi"].startswith("3.") and "/v2/health/ready" in document["paths"]
    tried = 0
    for path, methods in document["paths"].items():
        for content in [methods["post"]["requestBody"]["content"]] if "requestBody" in methods.get("post", {}) else []:
            if path.endswith(("infer", ":predict")):
                answer = post(server, path, content["application/json"]["example"])
                assert answer.status == 200, (path, answer)
                tried += 1
    assert tried == 10
    assert (
        "multipart/form-data"
        in document["paths"]["/v1/models/pictures/versions/1:classify"]["post"]["requestBody"]["content"]
    )


def test_the_page_needs_nothing_from_elsewhere(server):
    page = get(server, "/")
    assert page.headers["content-type"].startswith("text/html") and b'type: "file"' in page.body
    assert b"http://" not in page.body and b"https://" not in page.body
    described = get(server, "/v2/models").json()["models"]
    assert [model["name"] for model in described if model["images"]] == ["pictures"]
    assert [model["name"] for model in described if model["has_labels"]] == ["pictures"]
