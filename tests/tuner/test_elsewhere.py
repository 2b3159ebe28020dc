"""Searches at addresses: in memory, and on an S3 server of this computer."""

import threading
import uuid

import fsspec
import numpy as np
import pytest

import kerax
from kerax.cli import main
from tests.saving.test_elsewhere import place, s3  # noqa: F401  fixtures

pytest.importorskip("optuna")
from kerax import tuner
from kerax.tuner.journal import AddressJournal

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")


def build(hp):
    model = kerax.Sequential(
        [kerax.Input((3,)), kerax.layers.Dense(hp.Choice("units", [1, 2, 4])), kerax.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    return model


def search(place, **options):  # noqa: F811
    found = tuner.GridSearch(build, "loss", directory=place, project_name="p", max_models_to_keep=1, **options)
    found.search(X, X[:, :1], epochs=1, verbose=0)
    return found


@pytest.mark.medium
def test_a_search_is_kept_and_goes_on(place):  # noqa: F811
    first = search(place, max_trials=2)
    assert [trial.status for trial in first.trials] == ["COMPLETED"] * 2
    second = search(place)
    assert len(second.trials) == 3 and second.trials[0].score == first.trials[0].score
    files, path = fsspec.core.url_to_fs(f"{place}/p")
    kept = [name for name in files.find(path) if name.endswith("weights.h5")]
    assert len(kept) == 1  # of the best trial alone
    (model,) = second.get_best_models()
    loss = float(model.evaluate(X, X[:, :1], verbose=0))
    assert loss <= second.get_best_trials()[0].score + 1e-6
    assert len(search(place, max_trials=1, overwrite=True).trials) == 1


def test_two_who_write_at_once_lose_nothing(place):  # noqa: F811
    journals = [AddressJournal(f"{place}/journal") for _ in range(2)]

    def write(journal, name):
        for number in range(8):
            journal.append_logs([{"from": name, "number": number}])

    threads = [threading.Thread(target=write, args=(journal, name)) for name, journal in enumerate(journals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [list(journal.read_logs(0)) for journal in journals]
    assert entries[0] == entries[1] and len(entries[0]) == 16
    for name in range(2):
        assert [entry["number"] for entry in entries[0] if entry["from"] == name] == list(range(8))
    assert list(journals[0].read_logs(14)) == entries[0][14:]


CONFIG = """
data: {name: blobs, rows: 40}
model:
  class_name: Sequential
  input_shape: [2]
  layers:
    - Dense: {units: {tune: [2, 3]}, activation: relu}
    - Dense: {units: 2}
compile: {optimizer: sgd, loss: {SparseCategoricalCrossentropy: {from_logits: true}}}
fit: {epochs: 1}
"""


@pytest.mark.slow
def test_the_command_searches_at_an_address(tmp_path, capsys):
    address = f"memory://{uuid.uuid4().hex}/search"
    data = tmp_path / "points.csv"
    rows = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    data.write_text("a,b,kind\n" + "".join(f"{a},{b},{int(a > b)}\n" for a, b in rows))
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.replace("{name: blobs, rows: 40}", f"{{name: csv, path: {data}, target: kind}}"))
    words = ["tune", str(config), "--run_dir", address, "--search.GridSearch.objective", "loss"]
    main(words)
    shown, errors = capsys.readouterr()
    assert not errors and f"best config: {address}/best.yaml" in shown and "Trial 2" in shown
    assert "units" in fsspec.open(f"{address}/best.yaml", "rt").open().read()
    main(words)  # goes on: nothing is left
    assert "Trial 1" not in capsys.readouterr().out.partition("Results")[0]
