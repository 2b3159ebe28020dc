"""What the page offers: the best classes of a classification, not of a regression."""

import numpy as np
import pytest

import kerax
from kerax import layers
from tests.serve.client import get, post

pytest.importorskip("starlette")


def one(units, activation=None, loss=None):
    model = kerax.Sequential([kerax.Input((2,)), layers.Dense(units, activation=activation)])
    if loss is not None:
        model.compile("sgd", loss)
    return model


MODELS = {
    "price": (one(1), False),
    "prices": (one(3, loss="mse"), False),
    "absolute": (one(1, loss=kerax.losses.MeanAbsoluteError()), False),
    "chance": (one(1, "sigmoid"), True),
    "kinds": (one(3, "softmax"), True),
    "logits": (one(3, loss=kerax.losses.SparseCategoricalCrossentropy(from_logits=True)), True),
    "unknown": (one(3), True),
}


def test_classes_are_offered_where_there_are_some(tmp_path):
    one(2, loss="mae").save(tmp_path / "saved.keras")
    given = {name: model for name, (model, _) in MODELS.items()} | {"saved": str(tmp_path / "saved.keras")}
    server = kerax.serve.Server(given, max_batch=1)
    server.wait()
    found = {model["name"]: model["has_classes"] for model in get(server, "/v2/models").json()["models"]}
    server.close()
    assert found == {name: has_classes for name, (_, has_classes) in MODELS.items()} | {"saved": False}


@pytest.mark.medium
def test_a_run_tells_the_names_of_its_classes(tmp_path, monkeypatch):
    from kerax.cli import main

    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 2)).round(3)
    kinds = np.array(["wet", "dry"])[(rows[:, 0] > 0).astype(int)]
    table = "a,b,kind\n" + "".join(f"{a},{b},{kind}\n" for (a, b), kind in zip(rows, kinds))
    (tmp_path / "weather.csv").write_text(table)
    (tmp_path / "c.yaml").write_text("""
data: {name: csv, path: weather.csv, target: kind}
model: {class_name: Sequential, layers: [Dense: {units: 2, activation: softmax}]}
compile: {optimizer: {Adam: {learning_rate: 0.1}}, loss: sparse_categorical_crossentropy}
fit: {epochs: 20, verbose: 0}
run_dir: run
""")
    assert main(["train", "c.yaml"]) == 0
    # The rows with what is to be predicted, as in the file for training.
    assert main(["predict", "run", "--input", "weather.csv", "--output", "found.csv"]) == 0
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[0] == "class,dry,wet" and len(lines) == 61
    found = [line.split(",")[0] for line in lines[1:]]
    assert np.mean(np.array(found) == kinds) > 0.8
    assert main(["predict", "run", "--input", "weather.csv", "--output", "found.npz"]) == 0
    with np.load("found.npz") as file:
        assert file["class_names"].tolist() == ["dry", "wet"]
        assert file["class_names"][file["predictions"].argmax(1)].tolist() == found
    server = kerax.serve.Server("run", max_batch=1)
    server.wait()
    answer = post(server, "/v1/models/run:classify", {"examples": rows[:1].tolist()}).json()
    server.close()
    assert answer["result"][0][0][0] == found[0]
