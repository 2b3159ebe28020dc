"""What `save`, `load_model` and the like take: paths, folders, open files, layers, parts; and what they refuse."""

import io
import os
import resource
import subprocess
import sys
import threading
import warnings

import h5py
import keras
import numpy as np
import pytest

import kerax
from kerax import layers, saving

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 3)).astype(np.float32), RNG.normal(size=(8, 2)).astype(np.float32)


def make(k=kerax, units=2, dense=None):
    return k.Sequential([k.Input((3,)), k.layers.Dense(4, name="a"), (dense or k.layers.Dense)(units, name="b")])


def trained(k=kerax):
    model = make(k)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    return model


def same(first, second):
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.safetensors", "folder"])
def test_every_file_gives_its_weights(name, tmp_path):
    model, other = trained(), make()
    path = tmp_path / name
    if name in ("m.weights.h5", "m.safetensors"):
        model.save_weights(path)
    else:
        model.save(path, zipped=None if "." in name else False)
    other.load_weights(path)
    assert same(model, other)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_open_files(name, tmp_path):
    model = trained()
    model.save(tmp_path / name)
    with open(tmp_path / name, "rb") as file:
        assert same(saving.load_model(file), model)
    other = make()
    with open(tmp_path / name, "rb") as file:
        other.load_weights(file)
    assert same(model, other)


def test_buffers():
    model, other, whole, weights = trained(), make(), io.BytesIO(), io.BytesIO()
    model.save(whole)
    model.save_weights(weights)
    for buffer in (whole, weights):
        buffer.seek(0)
    assert same(saving.load_model(whole), model)
    other.load_weights(weights)
    assert same(model, other)


@pytest.mark.parametrize("layer", [layers.Dense(2), layers.LSTM(2), layers.BatchNormalization()])
def test_layers_are_saved_alone(layer, tmp_path):
    layer.build((None, 4, 3))
    saving.save_model(layer, tmp_path / "layer.keras")
    assert same(saving.load_model(tmp_path / "layer.keras"), layer)
    assert same(keras.saving.load_model(tmp_path / "layer.keras"), layer)


def test_folders_are_replaced_whole(tmp_path):
    path = tmp_path / "folder"
    make().save(path, zipped=False)
    model = trained()
    model.save(path, zipped=False)
    assert same(saving.load_model(path), model) and os.listdir(tmp_path) == ["folder"]
    with pytest.raises(ValueError, match="without ending"):
        model.save(tmp_path / "folder.keras", zipped=False)
    with pytest.raises(ValueError, match="exists"):
        model.save(path, zipped=False, overwrite=False)


def test_objects_are_skipped(tmp_path):
    model, path = trained(), tmp_path / "m.weights.h5"
    model.save_weights(path, objects_to_skip=[model.layers[0]])
    other = make()
    with pytest.raises(ValueError, match="layers/dense/vars"):
        other.load_weights(path)
    other.load_weights(path, objects_to_skip=[other.layers[0]])
    np.testing.assert_array_equal(other.get_weights()[2], model.get_weights()[2])
    assert not np.array_equal(other.get_weights()[0], model.get_weights()[0])
    # A file of all of it, of which a part is wanted.
    model.save(tmp_path / "m.keras")
    other = make()
    other.load_weights(tmp_path / "m.keras", objects_to_skip=[other.layers[1]])
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "none"])
def test_a_missing_file_is_both_errors(name, tmp_path):
    for kind in (FileNotFoundError, ValueError):
        with pytest.raises(kind, match="there is no file"):
            saving.load_model(tmp_path / name)
    if name != "none":
        with pytest.raises(FileNotFoundError):
            make().load_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["m.pkl", "m.tf", "m.png"])
def test_unknown_endings(name, tmp_path):
    for call in (make().save, saving.load_model, make().save_weights, make().load_weights):
        with pytest.raises(ValueError, match="name"):
            call(tmp_path / name)
    with pytest.raises(ValueError, match="name"):
        kerax.callbacks.ModelCheckpoint(tmp_path / name)
    make().save(tmp_path / "m_v1.5")  # a folder's name may hold a point


def test_formats_by_argument(tmp_path):
    make().save(tmp_path / "m.keras", save_format="keras", include_optimizer=False)
    with pytest.raises(ValueError, match="save_format"):
        make().save(tmp_path / "m", save_format="keras")
    with pytest.raises(ValueError, match="unknown argument 'foo'"):
        make().save(tmp_path / "m.keras", foo=1)


ADDRESSES = ["ftp://host/m.keras", "webdav://host/run", "https://host/m.weights.h5"]


@pytest.mark.parametrize("path", ADDRESSES)
def test_addresses_that_nobody_reaches_are_refused_everywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, callbacks, utils = make(), kerax.callbacks, kerax.utils
    calls = [model.save, model.save_weights, model.load_weights, saving.load_model, saving.KerasFileEditor]
    calls += [callbacks.ModelCheckpoint, callbacks.BackupAndRestore, callbacks.OrbaxCheckpoint, callbacks.CSVLogger]
    calls += [kerax.checkpoint.Checkpointer, lambda path: kerax.checkpoint.save(path, model), utils.load_img]
    calls += [lambda path: utils.save_img(path, np.zeros((2, 2, 3))), utils.image_dataset_from_directory]
    calls += [callbacks.TensorBoard] if hasattr(callbacks, "TensorBoard") else []
    model.compile("sgd", "mse")
    calls += [lambda path: model.fit(X, Y, verbose=0, resume=path)]
    for call in calls:
        with pytest.raises((ValueError, ImportError), match="kerax reads and writes|tensorboardX"):
            call(path)
    assert os.listdir(tmp_path) == []


def test_addresses_as_objects_with_a_path(tmp_path):
    class Place:
        def __fspath__(self):
            return "ftp://host/m.keras"

    for path in (Place(), b"ftp://host/m.keras"):
        with pytest.raises(ValueError, match="ftp://"):
            make().save(path)


class Mine(layers.Dense):
    pass


@pytest.mark.medium
def test_a_swapped_class_takes_the_weights_of_the_old_one(tmp_path):
    model = trained()
    model.save(tmp_path / "m.keras")
    again = saving.load_model(tmp_path / "m.keras", custom_objects={"Dense": Mine})
    assert isinstance(again.layers[0], Mine) and same(again, model)
    # Some of them: then paths alone would lead to the wrong ones.
    mixed = kerax.Sequential([kerax.Input((3,)), Mine(3), layers.Dense(3), Mine(3, name="c")])
    mixed.save(tmp_path / "mixed.keras")
    again = saving.load_model(tmp_path / "mixed.keras", custom_objects={"Mine": layers.Dense})
    assert type(again.layers[0]) is layers.Dense and same(again, mixed)
    # A file of Keras's.
    theirs = trained(keras)
    theirs.save(tmp_path / "theirs.keras")
    assert same(saving.load_model(tmp_path / "theirs.keras", custom_objects={"Dense": Mine}), theirs)


@pytest.mark.parametrize("first, second", [(Mine, layers.Dense), (layers.Dense, Mine)])
def test_weights_of_a_subclass_in_order(first, second, tmp_path):
    old, new = (kerax.Sequential([kerax.Input((3,)), *(kind(3) for _ in range(11))]) for kind in (first, second))
    old.save_weights(tmp_path / "m.weights.h5")
    new.load_weights(tmp_path / "m.weights.h5")
    assert same(old, new)
    other = kerax.Sequential([kerax.Input((3,)), *(second(3) for _ in range(10))])
    with pytest.raises(ValueError, match="does not fit"):
        other.load_weights(tmp_path / "m.weights.h5")


def test_what_does_not_fit_is_skipped_layer_by_layer(tmp_path):
    theirs = make(keras)
    for name in ("m.weights.h5", "m.keras"):
        (theirs.save_weights if "weights" in name else theirs.save)(tmp_path / name)
        model, reference = make(units=5), make(keras, units=5)
        for one in (model, reference):
            one.set_weights([np.zeros_like(np.asarray(weight)) for weight in one.get_weights()])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one.load_weights(tmp_path / name, skip_mismatch=True)
        assert same(model, reference)


@pytest.mark.parametrize("by_name", [False, True])
def test_older_files_with_another_head(by_name, tmp_path):
    theirs = make(keras)
    theirs.save(tmp_path / "m.h5")
    model = kerax.Sequential([kerax.Input((3,)), layers.Dense(4, name="a"), layers.Dense(7, name="head")])
    if by_name:
        model.load_weights(tmp_path / "m.h5", by_name=True)
    else:
        with pytest.warns(UserWarning, match="expected shape"):
            model.load_weights(tmp_path / "m.h5", skip_mismatch=True)
    np.testing.assert_array_equal(model.get_weights()[0], theirs.get_weights()[0])


KINDS = {
    "bool": np.ones((3, 4), bool),
    "complex": np.ones((3, 4), np.complex64),
    "integers": np.ones((3, 4), np.int32),
    "opaque": np.ones((3, 4), np.dtype("V4")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["m.weights.h5", "m.h5"])
def test_stored_weights_of_another_kind_are_named(kind, name, tmp_path):
    path, model = tmp_path / name, make()
    model.save_weights(path) if "weights" in name else model.save(path)
    place = "layers/dense/vars/0" if "weights" in name else "model_weights/a/a/kernel"
    with h5py.File(path, "r+") as file:
        if place not in file:
            place = "model_weights/a/sequential/a/kernel"
        del file[place]
        file[place] = KINDS[kind]
    before = model.get_weights()
    with pytest.raises(ValueError, match="a/kernel.*another kind"):
        model.load_weights(path)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.fixture
def little_room():
    """Files of at most 100 KB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large():
    return kerax.Sequential([kerax.Input((3,)), layers.Dense(20_000)])


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.h5", "m.weights.json", "folder"])
def test_a_full_disk_is_an_error_that_names_the_file(name, tmp_path, little_room):
    path, is_weights = tmp_path / name, ".weights" in name
    options = {"max_shard_size": 1e-3} if name.endswith("json") else {"zipped": False} if name == "folder" else {}

    def save(model):
        (model.save_weights if is_weights else model.save)(path, **options)

    small = kerax.Sequential([kerax.Input((3,)), layers.Dense(2)])
    save(small)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError) as error:
        save(large())
    assert str(error.value.filename).startswith(str(tmp_path / name.split(".")[0]))
    assert sorted(os.listdir(tmp_path)) == before
    small.load_weights(path)


@pytest.mark.medium
def test_writers_and_readers_do_not_meet(tmp_path):
    path, failures = tmp_path / "m.weights.h5", []
    models = [make() for _ in range(3)]
    for value, model in enumerate(models):
        model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    models[0].save_weights(path)

    def attempt(call):
        try:
            for _ in range(20):
                call()
        except Exception as error:
            failures.append(error)

    reader = make()

    def read():
        reader.load_weights(path)
        assert len({float(weight.mean()) for weight in reader.get_weights()}) == 1

    threads = [threading.Thread(target=attempt, args=[lambda m=m: m.save_weights(path)]) for m in models]
    threads.append(threading.Thread(target=attempt, args=[read]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and os.listdir(tmp_path) == ["m.weights.h5"]


def test_hdf5_files_are_read_while_another_process_holds_them(tmp_path):
    model, path = make(), tmp_path / "m.weights.h5"
    model.save_weights(path)
    hold = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(path)]
    # Its lock keeps readers off that ask for one.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        model.load_weights(path)
        holder.communicate(b"\n")
    with h5py.File(path, "r"):
        model.load_weights(path)


@pytest.mark.parametrize("name", ["m.keras", "m-{epoch}.keras", "m-{epoch}.weights.h5", "run-{epoch}", "{epoch}/m.h5"])
def test_the_paths_of_checkpoints_are_tried_before_training(name, tmp_path):
    (tmp_path / "file").write_text("")
    model = make()
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(OSError, match="file"):
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.ModelCheckpoint(tmp_path / "file" / name)])
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.ModelCheckpoint(tmp_path / "folder" / name)])
    assert os.listdir(tmp_path / "folder")


def test_everything_by_star():
    names: dict = {}
    exec("from kerax import *", names)
    assert {"layers", "Model", "legacy"} <= names.keys()


def test_legacy_descriptions():
    for old in (kerax.legacy.saving, kerax.utils.legacy):
        described = old.serialize_keras_object(layers.Dense(3, name="d"))
        assert described["class_name"] == "Dense" and described["config"]["units"] == 3
        assert old.deserialize_keras_object(described, module_objects={"Dense": layers.Dense}).units == 3
        assert old.deserialize_keras_object("f", custom_objects={"f": make}) is make
        assert isinstance(old.deserialize_keras_object("D", module_objects={"D": dict}), dict)
        with pytest.raises(ValueError, match="Unknown activation 'g'"):
            old.deserialize_keras_object("g", printable_module_name="activation")
