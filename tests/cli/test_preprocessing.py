"""What runs make of tables and texts is kept with them: `kerax predict` and the server take the same."""

import numpy as np
import pytest

import kerax
from kerax import datasets
from kerax.cli import main
from tests.serve.client import get, post

CONFIG = """
seed: 0
run_dir: run
data: {name: %s, %s}
model:
  class_name: Sequential
  input_shape: %s
  layers: %s
compile: {loss: mean_squared_error}
fit: {epochs: 1, verbose: 0}
logs: {backup: false}
"""
ROWS = 8
TABLE = {
    "age": np.array([20.0, 30.0, 40.0, 50.0] * 2),
    "job": np.array(["cook", "nurse", "cook", "pilot"] * 2),
    "floor": np.array([1, 2, 3, 1] * 2),
}
TEXTS = np.array(["to be or not", "to be", "a, b", "be"] * 2)
KINDS = "{age: float_normalized, job: string_categorical, floor: integer_categorical}"


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains a run on data made up, with the options that `data` has beside the name."""
    monkeypatch.chdir(tmp_path)

    def run(x, options, shape, layers):
        data = (x, np.zeros((ROWS, 1))), (x, np.zeros((ROWS, 1)))
        monkeypatch.setattr(datasets.digits, "load_data", lambda: data)
        (tmp_path / "config.yaml").write_text(CONFIG % ("digits", options, shape, layers))
        assert main(["train", "config.yaml"]) == 0
        assert main(["predict", "run"]) == 0  # of the data set, encoded as in training
        return np.load("predictions.npy")

    return run


def predicted(name):
    assert main(["predict", "run", "--input", name, "--output", "found.npy"]) == 0
    return np.load("found.npy")


def served(*requests):
    pytest.importorskip("starlette")
    server = kerax.serve.Server("run", max_batch=ROWS)
    server.wait()
    answers = [post(server, *request).json() for request in requests]
    specs = get(server, "/v2/models/run").json()["inputs"]
    server.close()
    return specs, answers


@pytest.mark.medium
def test_tables_are_taken_as_they_are(train, tmp_path):
    expected = train(TABLE, f"features: {{features: {KINDS}}}", [9], "[Dense: {units: 1}]")
    lines = [
        "job,age,other,floor",
        *(f"{TABLE['job'][n]},{TABLE['age'][n]},x,{TABLE['floor'][n]}" for n in range(ROWS)),
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "table.npz", **TABLE)
    for name in ("table.csv", "table.npz"):
        np.testing.assert_allclose(predicted(name), expected, rtol=1e-5, atol=1e-6)
    encoded = kerax.saving.load_model("run/preprocessing.keras").predict(
        {name: column[:, None] for name, column in TABLE.items()}, verbose=0
    )
    np.save("encoded.npy", encoded)  # the numbers that the model itself takes, as before
    np.testing.assert_allclose(predicted("encoded.npy"), expected, rtol=1e-5, atol=1e-6)

    path, rows = (
        "/v1/models/run:predict",
        [{name: column[n].item() for name, column in TABLE.items()} for n in range(8)],
    )
    table = b"age,job,floor\n20,cook,1\n"
    specs, (by_rows, by_columns, of_csv, wrong) = served(
        (path, {"instances": rows}),
        (path, {"inputs": {name: column.tolist() for name, column in TABLE.items()}}),
        (path, table, {"content-type": "text/csv"}),
        (path, {"instances": [rows[0] | {"job": 3}]}),
    )
    assert {spec["name"]: spec["datatype"] for spec in specs} == {"age": "FP32", "floor": "INT32", "job": "BYTES"}
    for found in (by_rows["predictions"], by_columns["outputs"]):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_csv["predictions"], expected[:1], rtol=1e-5, atol=1e-6)
    assert "input 'job': expected string" in wrong["error"]

    (tmp_path / "bad.csv").write_text("job,age,floor\ncook,20,1.5\n")
    assert main(["predict", "run", "--input", "bad.csv"]) == 2


@pytest.mark.medium
def test_texts_are_taken_as_they_are(train, tmp_path):
    options = "text: {output_sequence_length: 4}, scale: 0.5"
    expected = train(TEXTS, options, [2, 2], "[Flatten: {}, Dense: {units: 1}]")
    np.save("texts.npy", TEXTS)
    (tmp_path / "texts.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS))
    for name in ("texts.npy", "texts.csv"):
        np.testing.assert_allclose(predicted(name), expected, rtol=1e-5, atol=1e-6)
    path = "/v1/models/run:predict"
    _, (found, plain) = served(
        (path, {"instances": TEXTS.tolist()}), (path, TEXTS[0].encode(), {"content-type": "text/plain"})
    )
    np.testing.assert_allclose(found["predictions"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain["predictions"], expected[:1], rtol=1e-5, atol=1e-6)
