"""The data sets of the use cases: what the loaders make of small files, and the real files where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from kerax import datasets

SNAILS = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15\nI,0.33,0.255,0.08,0.205,0.0895,0.0395,0.055,7\n\n"
PEOPLE = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, "
    "United-States, <=50K\n"
    "50, ?, 83311, Masters, 14, Divorced, Sales, Husband, Black, Female, 0, 12, 13, Cuba, >50K.\n\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAX_DATASETS_DIR", str(tmp_path))
    for name in ("tabular", "text", "series"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def real_file():
    """Skips where a file of real data is not at hand."""

    def require(name):
        if not (Path(os.environ.get("KERAX_DATASETS_DIR", "")) / name).is_file():
            pytest.skip(f"KERAX_DATASETS_DIR names no folder with {name}")

    return require


def test_abalones_have_columns_and_any_target(folder):
    (folder / "tabular" / "abalone.csv").write_text(SNAILS * 5)
    (x, y), (x_test, y_test) = datasets.abalone.load_data()
    assert set(x) == {"sex", "length", "diameter", "height", "whole", "shucked", "viscera", "shell"}
    assert len(y) == 8 and len(y_test) == len(x_test["sex"]) == 2 and y.dtype == np.float32
    by_sex = {"M": 15, "I": 7}
    assert [by_sex[sex] for sex in x["sex"]] == y.tolist()
    (x, y), _ = datasets.abalone.load_data(["rings", "sex"], test_split=0)
    assert "sex" not in x and sorted(set(zip(y["sex"].tolist(), y["rings"].tolist()))) == [(1, 7.0), (2, 15.0)]
    with pytest.raises(ValueError, match="`target` must be among sex, length"):
        datasets.abalone.load_data("age")


def test_census_columns_are_numbers_and_texts(folder):
    (folder / "tabular" / "adult-train.csv").write_text(PEOPLE)
    (folder / "tabular" / "adult-test.csv").write_text("|1x3 Cross validator\n" + PEOPLE)
    (x, y), (x_test, y_test) = datasets.census_income.load_data()
    assert y.tolist() == y_test.tolist() == [0, 1]
    assert x["age"].tolist() == [39, 50] and x["loss"].dtype == np.int32
    assert x["workclass"].tolist() == ["State-gov", "?"] and x_test["country"].tolist() == ["United-States", "Cuba"]


def test_windows_of_temperatures_are_followed_by_their_targets(folder):
    lines = [f'"1981-01-{day:02}",{day}.5' for day in range(1, 31)]
    path = folder / "series" / "daily-min-temperatures.csv"
    path.write_text("\n".join(['"Date","Temp"', *lines]) + "\n")
    dates, temperatures = datasets.daily_temperatures.load_series()
    assert dates[0] == np.datetime64("1981-01-01") and temperatures[-1] == 30.5
    (x, y), (x_test, y_test) = datasets.daily_temperatures.load_data(window=4, horizon=2, test_split=0.2)
    assert x.shape == (24 - 5, 4, 1) and y[0].tolist() == [5.5, 6.5] and y[-1].tolist() == [23.5, 24.5]
    assert len(x_test) == 5 and y_test[0].tolist() == [25.5, 26.5] and y_test[-1].tolist() == [29.5, 30.5]
    np.testing.assert_array_equal(x_test[:, -1, 0] + 1, y_test[:, 0])
    with pytest.raises(ValueError, match="at least 1"):
        datasets.daily_temperatures.load_data(window=0)
    with pytest.raises(ValueError, match="32 days do not fit into 24"):
        datasets.daily_temperatures.load_data(window=30, horizon=2)


def test_characters_are_followed_by_the_next_ones(folder):
    text = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 3
    (folder / "text" / "tinyshakespeare.txt").write_text(text)
    (x, y), (x_test, _) = datasets.shakespeare.load_data(context=8, stride=2, test_split=0.25)
    assert x.dtype == np.uint8 and x.shape == y.shape and x_test.shape[1] == 8
    assert datasets.shakespeare.decode(x[1]) == text[2:10] and datasets.shakespeare.decode(y[1]) == text[3:11]
    cut = int(len(text) * 0.75)
    assert datasets.shakespeare.decode(x_test.ravel()) == text[cut : cut + x_test.size]
    with pytest.raises(ValueError, match="'ä' is none of the characters"):
        datasets.shakespeare.encode("ä")
    with pytest.raises(ValueError, match="`stride` must be at least 1"):
        datasets.shakespeare.load_data(stride=0)


def test_the_plays_are_told_apart(real_file):
    real_file("text/tinyshakespeare.txt")
    (x, y), (x_test, y_test) = datasets.shakespeare_plays.load_data()
    assert len(x) + len(x_test) == 5261 and len(datasets.shakespeare_plays.PLAYS) == 9
    plays = {datasets.shakespeare_plays.PLAYS[play] for play, speech in zip(y, x) if "Petruchio" in speech}
    assert plays == {"The Taming of the Shrew"}
    assert np.bincount(y_test).max() / len(y_test) < 0.165


def test_a_sixth_of_mnist_is_split(real_file):
    real_file("mnist/t10k-images-idx3-ubyte.gz")
    (x, y), (x_test, y_test) = datasets.mnist_10k.load_data()
    assert x.shape == (8000, 28, 28) and x_test.shape == (2000, 28, 28)
    images, labels = datasets.mnist.load_test_data()
    assert np.concatenate([x, x_test]).sum() == images.sum()
    assert np.bincount(np.concatenate([y, y_test])).tolist() == np.bincount(labels).tolist()


@pytest.mark.parametrize("name", ["abalone", "census_income"])
def test_real_tables_are_whole(name, real_file):
    real_file(f"tabular/{'adult-train' if name == 'census_income' else name}.csv")
    (x, y), (_, y_test) = getattr(datasets, name).load_data()
    assert (len(y), len(y_test)) == {"abalone": (3341, 836), "census_income": (32561, 16281)}[name]
    assert {len(column) for column in x.values()} == {len(y)}
