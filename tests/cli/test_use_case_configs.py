"""Every config of a use case gives data, a model that fits it, and a step of training, and says what it reaches."""

import os
from pathlib import Path

import numpy as np
import pytest

from kerax import cli

ALL = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
CONFIGS = [path for path in ALL if "Reached: " in path.read_text(encoding="utf-8")]
FILES = {
    "abalone": "tabular/abalone.csv",
    "census_income": "tabular/adult-train.csv",
    "daily_temperatures": "series/daily-min-temperatures.csv",
    "digits": None,
    "mnist_10k": "mnist/t10k-images-idx3-ubyte.gz",
    "shakespeare": "text/tinyshakespeare.txt",
    "shakespeare_plays": "text/tinyshakespeare.txt",
}


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains(path):
    config = cli.read_config(str(path), {"fit.epochs": 1})
    file = FILES[config["data"]["name"].value]
    if file is not None and not (Path(os.environ.get("KERAX_DATASETS_DIR", "")) / file).is_file():
        pytest.skip(f"KERAX_DATASETS_DIR names no folder with {file}")
    (x, y), (x_test, y_test) = cli.load_data(config)
    model = cli.build_model(config)
    arguments = {**cli.build_fit_arguments(config), "limit_batches": 1, "verbose": 0}
    assert np.isfinite(model.fit(x, y, **arguments).history["loss"]).all()
    assert np.isfinite(model.evaluate(x_test, y_test, batch_size=arguments["batch_size"], steps=1, verbose=0)).all()


def test_each_use_case_has_its_config():
    names = {cli.read_config(str(path), {})["data"]["name"].value for path in CONFIGS}
    assert names == set(FILES) and len(CONFIGS) >= 11
