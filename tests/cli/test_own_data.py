"""`data:` of one's own: tables, arrays, folders, functions; a table with missing values to an exported model."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import kerax
from kerax import cli
from kerax.cli import build, files, tables
from kerax.cli.config import ConfigError, resolve_config

ROWS = [
    "area,rooms,town,price",
    "50,2,Ulm,100",
    ",3,Bonn,150.5",
    "80.5,4,,200",
    "NA,5,Ulm,250",
    "95,1,Kiel,300",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("houses.csv").write_text("\n".join(ROWS) + "\n")
    return tmp_path


def config(data, layers=("Dense: {units: 1}",), **model):
    tree = {
        "data": data,
        "model": {"class_name": "Sequential", "layers": [yaml.safe_load(layer) for layer in layers], **model},
        "compile": {"loss": "mse"},
        "run_dir": "run",
    }
    return resolve_config(tree, {}, source="test.yaml")


def loaded(**data):
    found = config(data)
    train, test = build.load_data(found)
    return train, test, found.value["model"].get("input_shape")


def test_columns_have_the_kinds_that_their_cells_have(here):
    table = tables.read_table("houses.csv")
    assert [column.dtype.kind for column in table.values()] == ["f", "i", "U", "f"]
    np.testing.assert_array_equal(np.isnan(table["area"]), [False, True, False, True, False])
    assert list(table["town"]) == ["Ulm", "Bonn", "", "Ulm", "Kiel"]


def test_the_same_table_in_other_formats(here):
    table = tables.read_table("houses.csv")
    rows = [dict(zip(table, row, strict=True)) for row in zip(*(column.tolist() for column in table.values()))]
    plain = [{name: None if value == "" or value != value else value for name, value in row.items()} for row in rows]
    Path("houses.jsonl").write_text("\n".join(json.dumps(row) for row in plain))
    Path("houses.tsv").write_text("\n".join(row.replace(",", "\t") for row in ROWS))
    paths = ["houses.jsonl", "houses.tsv"]
    try:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(plain), "houses.parquet")
        paths.append("houses.parquet")
    except ImportError:
        pass
    for path in paths:
        other = tables.read_table(path)
        for name, column in table.items():
            np.testing.assert_array_equal(other[name], column, err_msg=f"{path} {name}")


def test_a_table_of_numbers_makes_rows_and_the_input_shape(here):
    Path("numbers.csv").write_text("a,b,kind\n" + "".join(f"{i},{i / 2},{'xy'[i % 2]}\n" for i in range(10)))
    (x, y), (x_test, _), shape = loaded(name="csv", path="numbers.csv", target="kind", test_split=0.3)
    assert x.shape == (7, 2) and x_test.shape == (3, 2) and shape == [2] and x.dtype == np.float32
    np.testing.assert_array_equal(y, x[:, 0].astype(int) % 2)
    assert set(x[:, 0]) | set(x_test[:, 0]) == set(range(10))
    (again, _), _, _ = loaded(name="csv", path="numbers.csv", target="kind", test_split=0.3)
    np.testing.assert_array_equal(again, x)
    (x, y), (x_test, _), _ = loaded(name="csv", path="numbers.csv", target=["b"], columns=["a"], test="numbers.csv")
    assert x.shape == x_test.shape == (10, 1) and y["b"].dtype == np.float32


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"path": "houses.csv", "target": "prise"}, "there is no column 'prise'. Did you mean 'price'"),
        ({"path": "house.csv", "target": "price"}, "No such file"),
        ({"path": "houses.csv"}, "'target' is missing|target"),
        ({"path": "houses.csv", "target": "price"}, "column 'area' has 2 missing values of|column 'town' holds text"),
        ({"path": "houses.csv", "target": "area"}, "the target 'area' has 2 missing values"),
        ({"path": "houses.csv", "target": "price", "sep": ";"}, "sep"),
    ],
)
def test_what_is_wrong_is_named(here, data, words):
    with pytest.raises(ConfigError, match=words):
        loaded(name="csv", **data)


def test_broken_files_name_the_line(here):
    Path("bad.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(ConfigError, match="line 3 has 1 columns"):
        loaded(name="csv", path="bad.csv", target="a")
    Path("bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(ConfigError, match="line 2 is no JSON"):
        loaded(name="jsonl", path="bad.jsonl", target="a")
    Path("bad.jsonl").write_text('{"a": [1]}\n')
    with pytest.raises(ConfigError, match="column 'a' holds list"):
        loaded(name="jsonl", path="bad.jsonl", target="a")


def test_arrays(here):
    x, y = np.arange(20.0, dtype=np.float32).reshape(10, 2), np.arange(10)
    np.savez("data.npz", x=x, y=y)
    (x_train, y_train), (x_test, _), shape = loaded(name="npz", path="data.npz")
    assert x_train.shape == (8, 2) and x_test.shape == (2, 2) and shape == [2]
    np.testing.assert_array_equal(x_train[:, 0], 2 * y_train)
    np.savez("parts.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    (x_train, _), (x_test, _), _ = loaded(name="npz", path="parts.npz")
    assert len(x_train) == 10 and len(x_test) == 3
    np.save("x.npy", x)
    np.save("y.npy", y)
    (x_train, y_train), _, _ = loaded(name="npy", path="x.npy", y="y.npy")
    np.testing.assert_array_equal(x_train[:, 0], 2 * y_train)
    (x_train, targets), _, _ = loaded(name="npy", path="x.npy", targets="inputs")
    np.testing.assert_array_equal(x_train, targets)
    with pytest.raises(ConfigError, match="there is no array 'inputs'. Arrays: x, y"):
        loaded(name="npz", path="data.npz", x="inputs")


def test_folders_of_images_and_texts(here):
    image = pytest.importorskip("PIL.Image")
    for kind, shade in (("cats", 0), ("dogs", 255)):
        for root in ("images", "texts"):
            (here / root / kind).mkdir(parents=True)
        for number in range(5):
            image.new("RGB", (9, 7), (shade,) * 3).save(here / "images" / kind / f"{number}.png")
            (here / "texts" / kind / f"{number}.txt").write_text(f"these are {kind}")
    (x, y), (x_test, _), shape = loaded(name="image_folder", path="images", image_size=[4, 6])
    assert x.shape == (8, 4, 6, 3) and len(x_test) == 2 and shape == [4, 6, 3]
    np.testing.assert_array_equal(x[:, 0, 0, 0], 255 * y)
    (x, y), _, shape = loaded(name="text_folder", path="texts", text={"output_sequence_length": 4})
    assert x.shape == (8, 4) and shape == [4]
    assert len(np.unique(x[y == 0], axis=0)) == 1
    with pytest.raises(ConfigError, match="there is no such folder"):
        loaded(name="image_folder", path="nowhere", image_size=[4, 6])


def test_a_registered_function(here):
    @kerax.saving.register_keras_serializable("mine")
    def my_data(rows):
        return (np.ones((rows, 3)), np.ones(rows)), (np.ones((2, 3)), np.ones(2))

    (x, _), _, shape = loaded(name="function", function="mine>my_data", arguments={"rows": 5})
    assert x.shape == (5, 3) and shape == [3]
    with pytest.raises(ConfigError, match="no registered function 'theirs'.*--import"):
        loaded(name="function", function="theirs")


@pytest.mark.slow
def test_a_strangers_table_becomes_a_trained_exported_model(here):
    """Ten lines of YAML; missing numbers and words; the file takes the columns as they are."""
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    lines = ["area,rooms,town,price"]
    for index in range(300):
        area, rooms, town = rng.uniform(30, 200), rng.integers(1, 7), ["Ulm", "Bonn", "Kiel"][rng.integers(3)]
        price = 3 * area + 20 * rooms + {"Ulm": 50, "Bonn": 90, "Kiel": 10}[town]
        lines.append(f"{'' if index % 11 == 0 else area:.5},{rooms},{'' if index % 17 == 0 else town},{price:.1f}")
    Path("houses.csv").write_text("\n".join(lines))
    text = """\
data:
  name: csv
  path: houses.csv
  target: price
  features: {impute: median, features: {area: float_normalized, rooms: float, town: string_categorical}}
model: {class_name: Sequential, layers: [Dense: {units: 16, activation: relu}, Dense: {units: 1}]}
compile: {optimizer: {Adam: {learning_rate: 0.05}}, loss: mse, metrics: [mae]}
fit: {epochs: 40, verbose: 0}
run_dir: run
"""
    assert len(text.splitlines()) <= 10
    Path("houses.yaml").write_text(text)
    assert cli.main(["train", "houses.yaml"]) == 0
    assert json.loads(Path("run/results.json").read_text())["test"]["mean_absolute_error"] < 60
    assert cli.main(["predict", "run", "--input", "houses.csv", "--output", "prices.npy"]) == 0
    assert cli.main(["export", "run", "houses.onnx"]) == 0
    session = onnxruntime.InferenceSession("houses.onnx")
    table = tables.read_table("houses.csv")
    columns = {name: table[name].reshape(-1, 1) for name in ("area", "rooms", "town")}
    feeds = {
        "area": columns["area"].astype(np.float32),
        "rooms": columns["rooms"].astype(np.float32),
        "town": columns["town"].astype(object),
    }
    np.testing.assert_allclose(session.run(None, feeds)[0], np.load("prices.npy"), rtol=1e-4)
    assert cli.main(["export", "run", "plain.onnx", "--without_preprocessing"]) == 0
    assert len(onnxruntime.InferenceSession("plain.onnx").get_inputs()) == 1


def test_columns_of_one_name_are_refused_where_they_are_taken_by_name_only(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(ValueError, match="twice.csv: the first line names the column 'a' twice"):
        tables.read_table(str(path))
    np.testing.assert_array_equal(files.read_inputs(str(path)), [[1, 2, 3]])
    with pytest.raises(ConfigError, match="the column 'a' twice"):
        files.read_inputs(str(path), {"a": "float32"})
