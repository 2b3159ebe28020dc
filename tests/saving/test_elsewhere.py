"""Models, checkpoints, runs and data at addresses: memory, an S3 server, a stand-in of the Hugging Face Hub."""

import json
import os
import subprocess
import sys
import uuid

import numpy as np
import pytest

import kerax
from kerax import callbacks, checkpoint, layers, saving
from kerax.cli import main
from tests.saving.hub_server import Hub

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def make():
    kerax.utils.set_random_seed(1)
    model = kerax.Sequential(
        [kerax.Input((4,)), layers.Dense(3, activation="relu"), layers.Dropout(0.1), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model


def trained():
    model = make()
    model.fit(X, Y, verbose=0)
    return model


@pytest.fixture(scope="module")
def s3():
    """The address of a bucket on a server of this computer."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    known = dict(
        AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1",
        AWS_ENDPOINT_URL=f"http://{host}:{port}",
    )  # fmt: skip
    before = {name: os.environ.get(name) for name in known}
    os.environ.update(known)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)
    yield "s3://bucket"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(params=["memory", "s3"])
def place(request):
    """A folder elsewhere that is empty."""
    base = "memory://" if request.param == "memory" else request.getfixturevalue("s3") + "/"
    return f"{base}{uuid.uuid4().hex}"


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder", "run", "m.weights.h5", "m.safetensors"])
def test_models_and_weights(place, name):
    model, path, again = trained(), f"{place}/deep/{name}", make()
    if "weights" in name or "safetensors" in name:
        model.save_weights(path)
        again.load_weights(path)
        with pytest.raises(ValueError, match="exists"):
            model.save_weights(path, overwrite=False)
    else:
        model.save(path, zipped=False if name == "folder" else None)
        again = saving.load_model(path)
        with pytest.raises(ValueError, match="exists"):
            model.save(path, overwrite=False)
    for one, two in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_paths_of_files(tmp_path):
    model = trained()
    model.save((tmp_path / "m.keras").as_uri())
    assert (tmp_path / "m.keras").is_file()
    assert saving.load_model((tmp_path / "m.keras").as_uri()).built


class Stop(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise InterruptedError


@pytest.mark.medium
@pytest.mark.parametrize("how", ["resume", "BackupAndRestore"])
def test_a_run_goes_on_to_the_bit(place, how):
    expected = make().fit(X, Y, epochs=5, batch_size=16, verbose=0).history

    def fit(*more):
        keeper = [callbacks.BackupAndRestore(f"{place}/run")] if how != "resume" else []
        resume = f"{place}/run" if how == "resume" else None
        return make().fit(X, Y, epochs=5, batch_size=16, verbose=0, resume=resume, callbacks=[*keeper, *more])

    with pytest.raises(InterruptedError):
        fit(Stop())
    assert checkpoint.latest_step(f"{place}/run") == 6  # as it was after two epochs
    kerax.utils.set_random_seed(7)
    assert fit().history == expected
    assert bool(checkpoint.all_steps(f"{place}/run")) == (how == "resume")


@pytest.mark.medium
def test_steps_that_are_kept(place):
    model, last = trained(), f"{place}/last"
    for _ in range(4):
        model.fit(X, Y, verbose=0)
        checkpoint.save(last, model, keep=2, metadata={"a": 1})
    assert checkpoint.all_steps(last) == [8, 10]
    assert checkpoint.restore_metadata(last) == {"a": 1}
    for steps in ({20: 2.0, 30: 1.0, 40: 3.0}, {50: 5.0}):  # another object finds them with their metrics
        with checkpoint.Checkpointer(f"{place}/best", keep=1, keep_best=1) as checkpointer:
            for step, loss in steps.items():
                checkpointer.save(model, step=step, metrics={"val_loss": loss})
    assert checkpoint.all_steps(f"{place}/best") == [30, 50]
    assert checkpoint.inspect(f"{place}/best", 30)["metrics"] == {"val_loss": 1.0}
    assert set(checkpoint.restore_arrays(last, only="params")) == {"params"}
    checkpoint.delete(last)
    assert checkpoint.all_steps(last) == []
    with pytest.raises(FileNotFoundError, match=last):
        checkpoint.restore(last, model)


@pytest.mark.medium
def test_callbacks(place):
    model = make()
    kept = [
        callbacks.ModelCheckpoint(f"{place}/m-{{epoch}}.keras"),
        callbacks.ModelCheckpoint(f"{place}/w.weights.h5", save_weights_only=True),
        callbacks.ModelCheckpoint(f"{place}/run"),
        callbacks.OrbaxCheckpoint(f"{place}/steps", max_to_keep=2),
        callbacks.CSVLogger(f"{place}/log.csv"),
        callbacks.JSONLogger(f"{place}/log.jsonl"),
    ]
    model.fit(X, Y, epochs=3, verbose=0, callbacks=kept)
    again = saving.load_model(f"{place}/m-3.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert checkpoint.all_steps(f"{place}/run") == [6] and checkpoint.all_steps(f"{place}/steps") == [4, 6]
    import fsspec

    assert fsspec.open(f"{place}/log.csv", "rt").open().read().count("\n") == 4
    model.fit(X, Y, verbose=0, callbacks=[callbacks.CSVLogger(f"{place}/log.csv", append=True)])
    assert fsspec.open(f"{place}/log.csv", "rt").open().read().count("\n") == 5
    assert len(fsspec.open(f"{place}/log.jsonl").open().read().splitlines()) == 3


@pytest.mark.medium
def test_tensorboard(place, tmp_path):
    pytest.importorskip("tensorboardX")
    import fsspec

    from tests.callbacks.test_tensorboard import scalars

    seen = []

    class Look(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            files, path = fsspec.core.url_to_fs(place)
            seen.append(sum(files.size(name) for name in files.find(path) if "tfevents" in name))

    logs = callbacks.TensorBoard(place, histogram_freq=1)
    make().fit(X, Y, epochs=3, verbose=0, callbacks=[logs, Look()], validation_split=0.5)
    files, path = fsspec.core.url_to_fs(place)
    names = [name for name in files.find(path) if "tfevents" in name]
    assert {name.split("/")[-2] for name in names} == {"train", "validation"}
    assert 0 <= seen[0] < seen[1] < seen[2]  # after each epoch
    files.get(path, str(tmp_path / "copy"), recursive=True)
    assert sorted(scalars(tmp_path / "copy")["train", "epoch_loss"]) == [0, 1, 2]


def test_a_folder_that_holds_something_else_is_left_alone(place):
    import fsspec

    with fsspec.open(f"{place}/thesis.txt", "w") as file:
        file.write("mine")
    with pytest.raises(ValueError, match="something else"):
        checkpoint.save(place, trained())
    assert fsspec.open(f"{place}/thesis.txt", "rt").open().read() == "mine"


KILLED = """
import os, sys
from tests.saving.test_elsewhere import checkpoint, trained
from kerax import places
place, when = sys.argv[1:]
model = trained()
model.save(f"{place}/m.keras")
checkpoint.save(f"{place}/run", model, keep=2)
kind = type(places.file_system(place)[0])
put, left = kind._put_file, []
async def dying(self, *args, **kwargs):
    if not left:
        os._exit(9)
    left.pop()
    return await put(self, *args, **kwargs)
kind._put_file = dying
kind.clear_instance_cache()
if when == "file":  # before the one request that replaces it
    model.layers[0].kernel.assign(0 * model.layers[0].kernel)
    model.save(f"{place}/m.keras")
else:  # some of a step's files are there
    left[:] = range(3)
    checkpoint.save(f"{place}/run", model, step=50, keep=2)
"""


@pytest.mark.medium
@pytest.mark.parametrize("when", ["file", "step"])
def test_a_kill_while_something_is_put_there_leaves_what_was_there(s3, when):
    place = f"{s3}/{uuid.uuid4().hex}"
    done = subprocess.run([sys.executable, "-c", KILLED, place, when], capture_output=True, text=True, timeout=300)
    assert done.returncode == 9, done.stderr
    assert checkpoint.all_steps(f"{place}/run") == [2]
    for path in (f"{place}/m.keras", f"{place}/run"):
        for one, two in zip(saving.load_model(path).get_weights(), trained().get_weights(), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5)
    checkpoint.save(f"{place}/run", trained(), step=50)  # what was left of this step is no hindrance
    assert checkpoint.all_steps(f"{place}/run") == [50]


@pytest.mark.medium
def test_a_server_that_fails_is_told(s3, monkeypatch):
    from kerax import places

    place, model = f"{s3}/{uuid.uuid4().hex}", trained()
    checkpoint.save(f"{place}/run", model)

    async def fail(*_, **__):
        raise ConnectionError("gone")

    kind = type(places.file_system(place)[0])
    monkeypatch.setattr(kind, "_put_file", fail)
    kind.clear_instance_cache()
    with pytest.raises(OSError, match=r"gone.*m\.keras"):
        model.save(f"{place}/m.keras")
    with pytest.raises(OSError, match="could not be written to 's3://"):
        checkpoint.save(f"{place}/run", model)
    with pytest.warns(UserWarning, match="could not be written"), pytest.raises(OSError, match="could not be written"):
        model.fit(X, Y, verbose=0, callbacks=[callbacks.OrbaxCheckpoint(f"{place}/other")])
    with pytest.raises(OSError, match=r"gone.*run"):
        model.fit(X, Y, verbose=0, callbacks=[callbacks.ModelCheckpoint(f"{place}/run/m.keras")])
    assert checkpoint.all_steps(f"{place}/run") == [2]
    with checkpoint.Checkpointer(f"{place}/run", keep=2) as checkpointer:
        with pytest.raises(OSError, match="could not be written"):
            checkpointer.save(model, wait=True)
        monkeypatch.undo()
        kind.clear_instance_cache()
        checkpointer.folder.close()
    checkpoint.save(f"{place}/run", model)
    assert len(checkpoint.all_steps(f"{place}/run")) == 1


@pytest.mark.slow
def test_a_run_of_the_command_line_lives_in_a_bucket(s3, tmp_path, capsys):
    pytest.importorskip("upath")
    folder = f"{s3}/{uuid.uuid4().hex}/digits"
    config = os.path.join(os.path.dirname(__file__), "..", "..", "configs", "digits_cnn.yaml")
    main(["train", config, "--fit.epochs", "1", "--run_dir", folder])
    assert f"checkpoint: {folder}/checkpoint" in capsys.readouterr().out
    main(["evaluate", folder])
    accuracy = float(capsys.readouterr().out.split("test accuracy ")[1].split()[0])
    import fsspec

    results = json.loads(fsspec.open(f"{folder}/results.json").open().read())
    assert abs(results["test"]["accuracy"] - accuracy) < 1e-4
    main(["train", f"{folder}/config.yaml"])  # what is there is left alone
    assert f"checkpoint: {folder}-2/checkpoint" in capsys.readouterr().out


def test_data(place, tmp_path):
    pytest.importorskip("PIL")
    image = np.arange(48, dtype="uint8").reshape(4, 4, 3)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        kerax.utils.save_img(f"{place}/images/{name}", image, scale=False)
    np.testing.assert_array_equal(kerax.utils.img_to_array(kerax.utils.load_img(f"{place}/images/a/1.png")), image)
    found = kerax.utils.image_dataset_from_directory(f"{place}/images", image_size=(4, 4), batch_size=3, verbose=False)
    assert found.class_names == ["a", "b"]
    for _ in range(2):
        (batch, labels), *_ = found
        assert batch.shape == (3, 4, 4, 3) and sorted(labels) == [0, 0, 1]
    file = kerax.utils.get_file("one.png", origin=f"{place}/images/a/1.png", cache_dir=tmp_path)
    np.testing.assert_array_equal(kerax.utils.img_to_array(kerax.utils.load_img(file)), image)


@pytest.fixture(scope="module")
def hub():
    pytest.importorskip("huggingface_hub")
    with Hub() as hub:
        yield hub


class TestHub:
    def run(self, hub, tmp_path, code: str) -> str:
        """What a process of its own prints: the hub's address is read when its package is imported."""
        settings = dict(
            HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path), HF_TOKEN="hf_x", HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1",
        )  # fmt: skip
        head = "import numpy as np\nfrom tests.saving.test_elsewhere import *\nmodel = trained()\n"
        done = subprocess.run(
            [sys.executable, "-c", head + code], env=os.environ | settings, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @pytest.mark.medium
    def test_models_weights_and_card(self, hub, tmp_path):
        code = """
print(saving.push_to_hub(model, "me/sums", description="Adds.", data="mnist", metrics={"loss": 0.5}, license="mit"))
model.save("hf://me/plain")
model.save_weights("hf://me/weights")
again = make()
again.load_weights("hf://me/weights")
for other in (again, saving.load_model("hf://me/sums"), saving.load_model("hf://me/plain@main")):
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
for call, words in (
    (lambda: saving.load_model("hf://me/none"), "no such repository"),
    (lambda: saving.load_model("hf://me/weights"), "holds no model"),
    (lambda: again.load_weights("hf://me/nothing"), "no such repository"),
    (lambda: saving.load_model("hf://sums"), "hf://user/name"),
    (lambda: model.save("hf://me/plain", overwrite=False), "overwrite"),
    (lambda: checkpoint.save("hf://me/run", model), "this computer only"),
):
    try:
        call()
    except (ValueError, OSError) as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)
"""
        assert self.run(hub, tmp_path, code).strip() == "hf://me/sums"
        files = hub.repositories["me/sums"]
        assert set(files) == {"README.md", "config.json", "metadata.json", "model.weights.h5"}
        card = files["README.md"].decode()
        for words in ("license: mit", "- mnist", "Adds.", "| loss | 0.5 |", 'load_model("hf://me/sums")', "dense_1"):
            assert words in card, words

    @pytest.mark.medium
    def test_keras_opens_it(self, hub, tmp_path):
        keras = pytest.importorskip("keras")
        self.run(hub, tmp_path, 'saving.push_to_hub(model, "me/keras")')
        for name, data in hub.repositories["me/keras"].items():
            (tmp_path / "copy").mkdir(exist_ok=True)
            (tmp_path / "copy" / name).write_bytes(data)
        again = keras.saving.load_model(tmp_path / "copy")
        np.testing.assert_allclose(again.predict(X, verbose=0), trained().predict(X, verbose=0), rtol=1e-5)

    @pytest.mark.medium
    def test_a_card_that_somebody_wrote_stays(self, hub, tmp_path):
        hub.repositories["me/own"] = {"README.md": b"mine"}
        self.run(hub, tmp_path, 'model.save("hf://me/own")')
        assert hub.repositories["me/own"]["README.md"] == b"mine" and "config.json" in hub.repositories["me/own"]


@pytest.mark.medium
def test_a_missing_package_is_named(monkeypatch):
    import fsspec

    def missing(protocol):
        raise ImportError(protocol)

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for path, extra in (
        ("gs://b/m.keras", "gcs"),
        ("s3://b/run", "s3"),
        ("az://b/m.keras", "azure"),
        ("hf://a/b", "hub"),
    ):
        with pytest.raises(ImportError, match=rf"pip install 'kerax\[{extra}\]'"):
            trained().save(path)
