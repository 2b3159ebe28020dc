"""Files of data sets: where they are found, what is refused, what the readers give."""

import gzip
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import kerax
from kerax import config
from kerax.datasets import sources

RNG = np.random.default_rng(0)


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAX_DATASETS_DIR", str(tmp_path))
    monkeypatch.setenv("KERAX_HOME", str(tmp_path / "home"))
    return tmp_path


def npz_of(path, **arrays):
    np.savez(path, **arrays)
    return path


def texts(*lengths):
    rows = np.empty(len(lengths), object)
    rows[:] = [RNG.integers(1, 60, length).tolist() for length in lengths]
    return rows


def write_idx(path, array, compress=True):
    data = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if compress else data)


def test_arrays_of_lists_are_read_without_running_anything(tmp_path):
    rows, labels = texts(3, 5, 0), np.arange(3)
    arrays = sources.read_npz(npz_of(tmp_path / "a.npz", x=rows, y=labels))
    assert arrays["x"].tolist() == rows.tolist() and arrays["x"].dtype == object
    np.testing.assert_array_equal(arrays["y"], labels)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused(tmp_path, protocol):
    trap = tmp_path / "trap"
    rows = np.empty(1, object)
    rows[0] = Evil(trap)
    npz_of(tmp_path / "a.npz", x=rows)
    (tmp_path / "batch").write_bytes(pickle.dumps({b"data": Evil(trap)}, protocol))
    for read, name in ((sources.read_npz, "a.npz"), (sources.read_pickle, "batch")):
        with pytest.raises(ValueError, match=r"not a pickle of plain data: .*system is not allowed"):
            read(tmp_path / name)
    assert not trap.exists()
    assert pickle.loads(pickle.dumps(Evil(trap))) == 0 and trap.exists()  # the trap does work


@pytest.mark.parametrize(
    "value",
    [np.float32(1), len, np.ma.masked_array([1]), np.memmap, os.environ, type("New", (), {}), slice(1), {1: print}],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_only_plain_data_is_admitted(tmp_path, value):
    try:
        data = pickle.dumps(value, 2)
    except Exception:
        data = b"cos\nsystem\n."
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ValueError, match="is not allowed"):
        sources.read_pickle(tmp_path / "a")


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a"
    for data in (b"", b"\x80\x02]q\x00(K\x01", b"garbage"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="'.*a' is not a pickle"):
            sources.read_pickle(path)
    for data in (b"", b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", b"\0\0\x08\xff" + b"\0" * 8):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="not a whole IDX file"):
            sources.read_idx(path)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, texts(2, 3))
    header = buffer.getvalue()[: buffer.getvalue().index(b"\n") + 1]
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x.npy", header + pickle.dumps([1, 2, 3]))
    with pytest.raises(ValueError, match="something else than its header says"):
        sources.read_npz(tmp_path / "b.npz")


def test_idx_files_are_read(tmp_path):
    array = RNG.integers(0, 256, (3, 4, 5)).astype("uint8")
    for compress in (True, False):
        write_idx(tmp_path / "a", array, compress)
        np.testing.assert_array_equal(sources.read_idx(tmp_path / "a"), array)


def test_files_are_looked_for_in_the_folder_first(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(sources, "get_file", lambda name, origin, **options: asked.append((name, options)) or "cached")
    assert sources.fetch("a.npz", "https://x/a.npz", "0" * 64, "set", extract=True) == "cached"
    assert asked == [
        ("a.npz", {"file_hash": "0" * 64, "cache_subdir": os.path.join("datasets", "set"), "extract": True})
    ]
    (folder / "a.npz").write_bytes(b"1")
    assert sources.fetch("a.npz", "https://x/a.npz", "0" * 64, "set") == str(folder / "a.npz")
    (folder / "set").mkdir()
    (folder / "set" / "a.npz").write_bytes(b"2")
    assert sources.fetch("a.npz", "https://x/a.npz", "0" * 64, "set") == str(folder / "set" / "a.npz")
    assert sources.fetch(str(folder / "a.npz"), "https://x/a.npz", "0" * 64) == str(folder / "a.npz")
    assert len(asked) == 1


def same_as_keras(name, folder, monkeypatch, *arguments, **options):
    """What kerax loads from the folder is what Keras loads from the same file."""
    module = __import__(f"keras.src.datasets.{name}", fromlist=["x"])
    monkeypatch.setattr(module, "get_file", lambda *a, **k: str(folder / f"{name}.npz"))
    ours = getattr(kerax.datasets, name).load_data(*arguments, **options)
    theirs = module.load_data(*arguments, **options)
    for mine, other in zip(ours, theirs, strict=True):
        for one, two in zip(mine, other, strict=True):
            assert one.dtype == two.dtype and one.tolist() == two.tolist(), options


def test_tables_are_those_of_keras(folder, monkeypatch):
    x, y = RNG.normal(size=(700, 3)), RNG.normal(size=700)
    for name in ("boston_housing", "california_housing"):
        npz_of(folder / f"{name}.npz", x=x, y=y)
        same_as_keras(name, folder, monkeypatch)
        same_as_keras(name, folder, monkeypatch, test_split=0.5, seed=7)
        with pytest.raises(ValueError, match="`test_split`"):
            getattr(kerax.datasets, name).load_data(test_split=1)
    same_as_keras("california_housing", folder, monkeypatch, version="small")
    with pytest.raises(ValueError, match="`version`"):
        kerax.datasets.california_housing.load_data("middle")


OPTIONS = [
    {},
    {"num_words": 30},
    {"num_words": 30, "skip_top": 10, "oov_char": None},
    {"maxlen": 6, "seed": 5},
    {"start_char": None},
    {"start_char": None, "index_from": 0},
    {"index_from": 5, "start_char": 3, "oov_char": 4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_texts_are_those_of_keras(folder, monkeypatch, options):
    lengths = [2, 3, 4, 5, 6, 7, 8, 9, 10, 3]
    parts = {"x_train": texts(*lengths), "x_test": texts(*lengths), "y_train": np.arange(10), "y_test": np.arange(10)}
    npz_of(folder / "imdb.npz", **parts)
    npz_of(folder / "reuters.npz", x=parts["x_train"], y=parts["y_train"])
    same_as_keras("imdb", folder, monkeypatch, **options)
    same_as_keras("reuters", folder, monkeypatch, **options)
    same_as_keras("reuters", folder, monkeypatch, test_split=0.4, **options)


def test_wrong_arguments_of_texts_are_named(folder):
    npz_of(folder / "imdb.npz", x_train=texts(3), x_test=texts(3), y_train=np.zeros(1), y_test=np.zeros(1))
    with pytest.raises(TypeError, match="'nb_words'"):
        kerax.datasets.imdb.load_data(nb_words=3)
    with pytest.raises(ValueError, match="`maxlen`=2"):
        kerax.datasets.imdb.load_data(maxlen=2)
    npz_of(folder / "reuters.npz", x=texts(3), y=np.zeros(1))
    with pytest.raises(ValueError, match="`test_split`"):
        kerax.datasets.reuters.load_data(test_split=1.0)


def test_word_indices_and_topics(folder):
    for name in ("imdb", "reuters"):
        (folder / f"{name}_word_index.json").write_text(json.dumps({"the": 1}))
        assert getattr(kerax.datasets, name).get_word_index() == {"the": 1}
    assert kerax.datasets.reuters.get_label_names() == keras.datasets.reuters.get_label_names()


def test_cifar_is_read_as_by_keras(folder, monkeypatch):
    def write(path, labels, count=4):
        path.parent.mkdir(parents=True, exist_ok=True)
        batch = {"data": RNG.integers(0, 256, (count, 3072)).astype("uint8")}
        batch |= {name: RNG.integers(0, 10, count).tolist() for name in labels}
        path.write_bytes(pickle.dumps({k.encode(): v for k, v in batch.items()}, 3))

    for index in range(1, 6):
        write(folder / "cifar-10-batches-py" / f"data_batch_{index}", ["labels"])
    write(folder / "cifar-10-batches-py" / "test_batch", ["labels"])
    for name in ("train", "test"):
        write(folder / "cifar-100-python" / name, ["fine_labels", "coarse_labels"])
    (x_train, y_train), (x_test, y_test) = kerax.datasets.cifar10.load_data()
    assert (x_train.shape, y_train.shape, x_test.shape) == ((20, 32, 32, 3), (20, 1), (4, 32, 32, 3))
    assert {array.dtype.name for array in (x_train, y_train, x_test, y_test)} == {"uint8"}
    from keras.src.datasets import cifar100

    monkeypatch.setattr(cifar100, "get_file", lambda *a, **k: str(folder))
    for mode in ("fine", "coarse"):
        ours, theirs = kerax.datasets.cifar100.load_data(mode), cifar100.load_data(mode)
        for mine, other in zip(ours, theirs, strict=True):
            for one, two in zip(mine, other, strict=True):
                np.testing.assert_array_equal(one, two)
    try:
        config.set_image_data_format("channels_first")
        np.testing.assert_array_equal(kerax.datasets.cifar10.load_data()[0][0], x_train.transpose(0, 3, 1, 2))
    finally:
        config.set_image_data_format("channels_last")
    # As Python 2 wrote bytes: through a codec.
    batch = {b"data": x_test.transpose(0, 3, 1, 2).reshape(4, -1), b"labels": y_test[:, 0].tolist()}
    (folder / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, 2))
    np.testing.assert_array_equal(kerax.datasets.cifar10.load_data()[1][0], x_test)
    with pytest.raises(ValueError, match="`label_mode`"):
        kerax.datasets.cifar100.load_data("all")
    (folder / "cifar-100-python" / "train").write_bytes(pickle.dumps({b"data": [1]}, 2))
    with pytest.raises(ValueError, match="is not a batch of CIFAR images"):
        kerax.datasets.cifar100.load_data()


def test_digits_and_clothes_are_read_from_four_files(folder):
    images, labels = RNG.integers(0, 256, (3, 28, 28)).astype("uint8"), np.arange(3, dtype="uint8")
    for name, module in (("mnist", kerax.datasets.mnist), ("fashion-mnist", kerax.datasets.fashion_mnist)):
        (folder / name).mkdir()
        for part in ("train", "t10k"):
            write_idx(folder / name / f"{part}-images-idx3-ubyte.gz", images)
            write_idx(folder / name / f"{part}-labels-idx1-ubyte.gz", labels)
        for x, y in module.load_data():
            np.testing.assert_array_equal(x, images)
            np.testing.assert_array_equal(y, labels)
    (folder / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    npz_of(folder / "mnist" / "mnist.npz", x_train=images, y_train=labels, x_test=images[:1], y_test=labels[:1])
    (_, y_train), (x_test, _) = kerax.datasets.mnist.load_data()
    assert len(y_train) == 3 and len(x_test) == 1


def test_the_real_test_digits():
    if not (Path(os.environ.get("KERAX_DATASETS_DIR", "")) / "mnist").is_dir():
        pytest.skip("KERAX_DATASETS_DIR names no folder with MNIST")
    images, labels = kerax.datasets.mnist.load_test_data()
    assert images.shape == (10000, 28, 28) and images.dtype == np.uint8
    assert labels[:5].tolist() == [7, 2, 1, 0, 4] and images.mean() == pytest.approx(33.79, abs=0.01)


def test_without_a_network_the_error_says_where_to_put_the_file(folder, monkeypatch):
    import urllib.error
    import urllib.request

    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(ConnectionError, match=r"imdb\.npz"):
        kerax.datasets.imdb.load_data()
