"""Runs that are interrupted or killed, and go on from a checkpoint: the same bits as without."""

import os
import signal
import subprocess
import sys
import time
import warnings

import jax
import numpy as np
import pytest

import kerax
from kerax import callbacks, checkpoint, layers
from tests.sharing import share_programs

pytestmark = pytest.mark.optimized

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(52, 6)).astype("float32")
Y = DRAW.integers(0, 3, 52)


def make():
    kerax.utils.set_random_seed(3)
    model = kerax.Sequential(
        [
            kerax.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3),
        ]
    )
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kerax.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    return share_programs(model, "resume")


class Stop(callbacks.Callback):
    """Interrupts after a number of batches, or in the validation or at the end of an epoch."""

    def __init__(self, batches=None, epoch=None, where=None):
        super().__init__()
        self.batches, self.epoch, self.where, self.count = batches, epoch, where, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        if self.count == self.batches:
            raise KeyboardInterrupt

    def on_test_begin(self, logs=None):
        if self.where == "validation" and self.now == self.epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if self.where == "epoch_end" and epoch == self.epoch:
            raise KeyboardInterrupt


class Rows(kerax.utils.PyDataset):
    def __len__(self):
        return 7

    def __getitem__(self, index):
        return X[index * 8 : index * 8 + 8], Y[index * 8 : index * 8 + 8]


def generator():
    for index in range(1000):
        rows = np.arange(index * 5, index * 5 + 5) % len(X)
        yield X[rows], Y[rows]


def grain_rows():
    grain = pytest.importorskip("grain")
    rows = grain.MapDataset.source(np.arange(len(X))).shuffle(5).repeat(50)
    return rows.to_iter_dataset().map(lambda row: (X[row], Y[row])).batch(8)


SOURCES = {
    "arrays": (lambda: (X, Y), dict(batch_size=8)),
    "arrays, cut passes": (lambda: (X, Y), dict(batch_size=8, steps_per_epoch=5)),
    "PyDataset": (lambda: (Rows(),), {}),
    "PyDataset, cut passes": (lambda: (Rows(),), dict(steps_per_epoch=4)),
    "generator": (lambda: (generator(),), dict(steps_per_epoch=7)),
    "grain": (lambda: (grain_rows(),), dict(steps_per_epoch=7)),
}
PLACES = [Stop(1), Stop(7), Stop(9), Stop(epoch=1, where="validation"), Stop(epoch=1, where="epoch_end")]


def run(source, tmp_path, *more, **arguments):
    """A model after three epochs, its history, and what the loggers wrote."""
    make_data, options = SOURCES[source]
    model = make()
    given = [
        callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.5),
        callbacks.CSVLogger(tmp_path / "log.csv"),
        callbacks.JSONLogger(tmp_path / "log.jsonl"),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        *more,
    ]
    options = options | dict(epochs=3, verbose=0, validation_data=(X[:20], Y[:20]))
    history = model.fit(*make_data(), callbacks=given, **options, **arguments)
    texts = [(tmp_path / name).read_text() for name in ("log.csv", "log.jsonl")]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model.get_state_tree())], history.history, history.epoch, texts


def assert_same(first, second):
    for a, b in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[1:] == second[1:]


class TestInterrupted:
    @pytest.mark.slow
    @pytest.mark.parametrize("source", SOURCES)
    @pytest.mark.filterwarnings("ignore:generator cannot tell its position")
    def test_a_run_goes_on_as_if_it_had_never_stopped(self, source, tmp_path, capsys):
        whole = run(source, tmp_path)
        for number, stop in enumerate(PLACES):
            folder, stop.count = tmp_path / str(number), 0
            with pytest.raises(KeyboardInterrupt):
                run(source, tmp_path, stop, resume=folder)
            assert "Interrupted in epoch" in capsys.readouterr().out
            assert_same(run(source, tmp_path, resume=folder), whole)

    @pytest.mark.medium
    def test_a_run_that_is_done_returns_its_history_at_once(self, tmp_path):
        first = run("arrays", tmp_path, resume=tmp_path / "run")
        steps = checkpoint.all_steps(tmp_path / "run")
        assert_same(run("arrays", tmp_path, Stop(1), resume=tmp_path / "run"), first)
        assert checkpoint.all_steps(tmp_path / "run") == steps

    def test_a_run_that_stopped_early_does_not_start_again(self, tmp_path):
        class Enough(callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.stop_training = epoch == 1

        first = run("arrays", tmp_path, Enough(), resume=tmp_path / "run")
        assert first[2] == [0, 1]
        assert_same(run("arrays", tmp_path, Enough(), resume=tmp_path / "run"), first)

    @pytest.mark.medium
    def test_averaged_weights_in_place_are_saved_the_right_way_round(self, tmp_path):
        def train(epochs, **arguments):
            model = make()
            model.compile(kerax.optimizers.SGD(0.1, use_ema=True), "sparse_categorical_crossentropy")
            swap = callbacks.SwapEMAWeights(swap_on_epoch=True)
            model.fit(X, Y, batch_size=26, epochs=epochs, verbose=0, callbacks=[swap], **arguments)
            return model.get_weights()

        whole = train(3)
        backup = callbacks.BackupAndRestore(tmp_path / "run", delete_checkpoint=False)
        kerax.utils.set_random_seed(3)
        model = make()
        model.compile(kerax.optimizers.SGD(0.1, use_ema=True), "sparse_categorical_crossentropy")
        with pytest.raises(KeyboardInterrupt):
            model.fit(
                *(X, Y),
                batch_size=26,
                epochs=3,
                verbose=0,
                callbacks=[callbacks.SwapEMAWeights(swap_on_epoch=True), backup, Stop(5)],
            )
        for a, b in zip(train(3, resume=tmp_path / "run"), whole, strict=True):
            np.testing.assert_array_equal(a, b)


class TestRefusals:
    def test_other_data_or_arguments(self, tmp_path):
        make().fit(X, Y, batch_size=8, verbose=0, resume=tmp_path / "run")
        model = make()
        before = model.get_weights()
        with pytest.raises(ValueError, match="batch_size was 8, is 13"):
            model.fit(X, Y, batch_size=13, epochs=2, verbose=0, resume=tmp_path / "run")
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(ValueError, match="rows was 52, is 40"):
            make().fit(X[:40], Y[:40], batch_size=8, epochs=2, verbose=0, resume=tmp_path / "run")

    @pytest.mark.medium
    def test_another_model_changes_nothing(self, tmp_path):
        make().fit(X, Y, verbose=0, resume=tmp_path / "run")
        other = kerax.Sequential([kerax.Input((6,)), layers.Dense(3)])
        other.compile("sgd", "sparse_categorical_crossentropy")
        before = other.get_weights()
        with pytest.raises(ValueError, match="does not fit"):
            other.fit(X, Y, epochs=2, verbose=0, resume=tmp_path / "run")
        np.testing.assert_array_equal(other.get_weights()[0], before[0])

    def test_a_checkpoint_without_a_run(self, tmp_path):
        make().save(tmp_path / "model")
        with pytest.raises(ValueError, match="holds no run to go on with"):
            make().fit(X, Y, verbose=0, resume=tmp_path / "model")

    def test_a_folder_that_holds_something_else(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("precious")
        with pytest.raises(ValueError, match="left alone"):
            make().fit(X, Y, verbose=0, resume=tmp_path)
        assert (tmp_path / "thesis.txt").read_text() == "precious"

    def test_two_runs_on_one_folder(self, tmp_path):
        class Second(callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                with pytest.raises(ValueError, match="somebody else writes"):
                    make().fit(X, Y, verbose=0, resume=tmp_path / "run")
                self.tried = True

        second = Second()
        make().fit(X, Y, verbose=0, resume=tmp_path / "run", callbacks=[second])
        assert second.tried
        assert checkpoint.latest_step(tmp_path / "run") == 2


CHILD = """
import sys
sys.path.insert(0, {here!r})
from test_resume import *

class Slow(callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("batch", flush=True)
        time.sleep(0.02)

model = make()
model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[Slow()], resume={folder!r})
np.savez({result!r}, *[np.asarray(leaf) for leaf in jax.tree.leaves(model.get_state_tree())])
"""


@pytest.mark.slow
class TestProcesses:
    def start(self, tmp_path):
        code = CHILD.format(
            here=os.path.dirname(__file__), folder=str(tmp_path / "run"), result=str(tmp_path / "out.npz")
        )
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def whole(self):
        model = make()
        model.fit(X, Y, batch_size=8, epochs=4, verbose=0)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(model.get_state_tree())]

    def test_killed_again_and_again(self, tmp_path):
        for batches in (9, 3, 12):
            process = self.start(tmp_path)
            for _ in range(batches):
                process.stdout.readline()
            process.kill()
            process.communicate()
            for step in checkpoint.all_steps(tmp_path / "run"):
                checkpoint.restore_arrays(tmp_path / "run", step)
        assert self.start(tmp_path).wait() == 0
        with np.load(tmp_path / "out.npz") as result:
            for name, leaf in zip(result.files, self.whole(), strict=True):
                np.testing.assert_array_equal(result[name], leaf)

    @pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
    def test_a_signal_saves_once_and_ends_the_process(self, number, status, tmp_path):
        process = self.start(tmp_path)
        for _ in range(5):
            process.stdout.readline()
        begun = time.monotonic()
        process.send_signal(number)
        output, errors = process.communicate()
        assert time.monotonic() - begun < 10
        assert process.returncode == status, errors
        assert output.count("Interrupted in epoch 1") == 1
        (step,) = checkpoint.all_steps(tmp_path / "run")
        run = checkpoint.inspect(tmp_path / "run")["run"]
        assert (run["epoch"], run["step"]) == (0, step)
        assert 5 <= step <= 7


class TestFailures:
    @pytest.mark.medium
    def test_training_goes_on_when_the_disk_is_full(self, tmp_path):
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        model = make()
        model.fit(X, Y, batch_size=26, epochs=1, verbose=0, resume=tmp_path / "run")
        first = checkpoint.all_steps(tmp_path / "run")

        seen = []

        class Full(callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                seen.append(checkpoint.all_steps(tmp_path / "run"))
                resource.setrlimit(resource.RLIMIT_FSIZE, (10 if epoch < 3 else before[0], before[1]))

        try:
            with pytest.warns(UserWarning, match="could not be written.*as they were.*Training goes on"):
                model.fit(X, Y, batch_size=26, epochs=4, verbose=0, resume=tmp_path / "run", callbacks=[Full()])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert seen == [first] * len(seen)
        assert checkpoint.latest_step(tmp_path / "run") > first[-1]
        assert not [name for name in os.listdir(tmp_path / "run") if "tmp" in name]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = make()
            again.fit(X, Y, batch_size=26, epochs=4, verbose=0, resume=tmp_path / "run")
        np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])

    def test_the_last_save_is_tried_again_and_then_an_error(self, tmp_path):
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        model = make()
        checkpoint.save(tmp_path / "run", model)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            with (
                pytest.warns(UserWarning, match="Training goes on"),
                pytest.raises(OSError, match="could not be written"),
            ):
                model.fit(X, Y, verbose=0, callbacks=[callbacks.OrbaxCheckpoint(tmp_path / "run")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(model.history.epoch) == 1
        assert np.isfinite(model.predict(X[:4], verbose=0)).all()

    @pytest.mark.parametrize("harm", ["flip", "truncate", "missing", "meta"])
    def test_a_damaged_checkpoint_is_named_and_changes_nothing(self, harm, tmp_path):
        model = wide()
        checkpoint.save(tmp_path / "run", model, step=1, keep=2)
        checkpoint.save(tmp_path / "run", model, step=2, keep=2)
        state = tmp_path / "run" / "2" / "state"
        value = model.layers[0].kernel.numpy().tobytes()
        part = next(path for path in state.rglob("d/*") if value in path.read_bytes())
        content = bytearray(part.read_bytes())
        if harm == "flip":
            content[content.index(value) + 5] ^= 4
            part.write_bytes(content)
        elif harm == "truncate":
            part.write_bytes(content[: len(content) // 2])
        elif harm == "missing":
            part.unlink()
        else:
            (state.parent / "meta" / "metadata").write_text('{"format": ')
        other = wide()
        other.set_weights([weight + 1 for weight in other.get_weights()])
        before = other.get_weights()
        with pytest.raises(ValueError, match=r"run/2.*Complete steps beside it: \[1\]"):
            checkpoint.restore(tmp_path / "run", other)
        for a, b in zip(other.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)
        checkpoint.restore(tmp_path / "run", other, step=1)
        np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])

    @pytest.mark.slow
    def test_no_flipped_bit_or_cut_gives_other_weights(self, tmp_path):
        draw, model, other = np.random.default_rng(0), wide(), wide()
        checkpoint.save(tmp_path / "run", model)
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.stat().st_size]
        refused = 0
        for path in files * 3:
            content = path.read_bytes()
            harmed = bytearray(content)
            if draw.random() < 0.3:
                del harmed[draw.integers(len(content)) :]
            else:
                harmed[draw.integers(len(content))] ^= 1 << draw.integers(8)
            path.write_bytes(harmed)
            other.set_weights([weight * 0 for weight in other.get_weights()])
            try:
                checkpoint.restore(tmp_path / "run", other)
            except (ValueError, FileNotFoundError):
                refused += 1
                assert not any(weight.any() for weight in other.get_weights())
            else:
                np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
            path.write_bytes(content)
        assert refused > len(files) / 2


def wide():
    """A model whose kernel is large enough to lie in a file as it is."""
    model = kerax.Sequential([kerax.Input((40,)), layers.Dense(60)])
    model.compile("sgd", "mse")
    return model


class TestStates:
    def test_a_position_that_is_not_plain_data_becomes_a_number_of_batches(self, tmp_path):
        class Loader:
            def __iter__(self):
                return iter([(X[:8], Y[:8])] * 4)

            def state_dict(self):
                return {"worker": object()}

            def load_state_dict(self, state):
                raise AssertionError

        model = make()
        with pytest.warns(UserWarning, match="only its number of batches"), pytest.raises(KeyboardInterrupt):
            model.fit(Loader(), verbose=0, callbacks=[Stop(2)], resume=tmp_path / "run")
        with pytest.warns(UserWarning, match="the first 2 batches are drawn and left out"):
            make().fit(Loader(), verbose=0, resume=tmp_path / "run")

    def test_a_state_of_a_callback_that_cannot_be_saved_is_named(self, tmp_path):
        class Odd(callbacks.Callback):
            def get_state(self):
                return {"what": object()}

        with pytest.raises(TypeError, match="Odd: `get_state` must return plain data"):
            make().fit(X, Y, verbose=0, callbacks=[Odd()], resume=tmp_path / "run")

    def test_own_callbacks_go_on_with_arrays_and_numbers(self, tmp_path):
        class Counting(callbacks.Callback):
            def on_train_begin(self, logs=None):
                self.batches, self.sums = 0, np.zeros(2)

            def on_train_batch_end(self, batch, logs=None):
                self.batches += 1
                self.sums = self.sums + [logs["loss"], 1]

            def get_state(self):
                return {"batches": self.batches, "sums": self.sums, "nested": ("a", [1, None], {2: b"c"})}

            def set_state(self, state):
                assert state["nested"] == ("a", [1, None], {2: b"c"})
                self.batches, self.sums = state["batches"], np.asarray(state["sums"])

        whole, cut, rest = Counting(), Counting(), Counting()
        make().fit(X, Y, batch_size=26, epochs=2, verbose=0, callbacks=[whole])
        with pytest.raises(KeyboardInterrupt):
            make().fit(X, Y, batch_size=26, epochs=2, verbose=0, callbacks=[cut, Stop(3)], resume=tmp_path / "run")
        make().fit(X, Y, batch_size=26, epochs=2, verbose=0, callbacks=[rest], resume=tmp_path / "run")
        assert rest.batches == whole.batches == 4
        np.testing.assert_allclose(rest.sums, whole.sums, rtol=1e-6)


class TestCallbacks:
    @pytest.mark.medium
    def test_orbax_checkpoint_keeps_the_latest_and_a_model_comes_back_from_it(self, tmp_path):
        model = make()
        saver = callbacks.OrbaxCheckpoint(tmp_path / "run", max_to_keep=2, save_freq=2)
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[saver])
        assert checkpoint.all_steps(tmp_path / "run") == [12, 14]
        again = checkpoint.load_model(tmp_path / "run")
        np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
        assert type(again.optimizer).__name__ == "Adam" and int(again.optimizer.iterations) == 14
        arrays = checkpoint.restore_arrays(tmp_path / "run", only="params/dense")
        np.testing.assert_array_equal(arrays["params"]["dense"]["kernel"], model.get_weights()[0])
        assert list(arrays) == ["params"] and isinstance(arrays["params"]["dense"]["kernel"], np.ndarray)
        goes_on = make()
        goes_on.fit(X, Y, batch_size=8, epochs=3, verbose=0, resume=tmp_path / "run")
        assert int(goes_on.optimizer.iterations) == 21

    @pytest.mark.medium
    def test_only_better_ones_and_only_weights(self, tmp_path):
        class Fake(callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs["score"] = [1.0, 3.0, 2.0, 4.0][epoch]

        saver = callbacks.OrbaxCheckpoint(
            tmp_path / "run", "score", mode="max", save_best_only=True, save_weights_only=True, max_to_keep=None
        )
        make().fit(X, Y, batch_size=52, epochs=4, verbose=0, callbacks=[Fake(), saver])
        assert checkpoint.all_steps(tmp_path / "run") == [1, 2, 4]
        found = checkpoint.inspect(tmp_path / "run")
        assert found["metrics"]["score"] == 4.0 and found["run"] is None
        assert {name.split("/")[0] for name in found["leaves"]} == {"params", "state"}

    @pytest.mark.medium
    def test_policies_of_a_checkpointer(self, tmp_path):
        model = make()
        with checkpoint.Checkpointer(tmp_path / "best", keep=1, keep_best=2, monitor="loss") as checkpointer:
            for step, loss in enumerate([3.0, 1.0, 4.0, 2.0, 5.0]):
                checkpointer.save(model, step, metrics={"loss": loss})
        assert checkpoint.all_steps(tmp_path / "best") == [1, 3, 4]
        with checkpoint.Checkpointer(tmp_path / "due", keep=None, every_steps=3) as checkpointer:
            saved = []
            for _ in range(5):
                saved.append(checkpointer.save_if_due(model))
                model.train_on_batch(X[:8], Y[:8])
        assert saved == [0, None, None, 3, None]

    def test_every_so_many_seconds(self, tmp_path):
        class Slow(callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                time.sleep(0.06)

        backup = callbacks.BackupAndRestore(tmp_path / "run", False, delete_checkpoint=False, every_seconds=0.1)
        make().fit(X, Y, batch_size=8, verbose=0, callbacks=[Slow(), backup])
        assert 1 <= len(checkpoint.all_steps(tmp_path / "run")) <= 2

    def test_backups_are_removed_when_training_is_done(self, tmp_path):
        make().fit(X, Y, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path / "run")])
        assert not (tmp_path / "run").exists()

    def test_an_interrupt_after_the_backups_are_removed_is_an_interrupt(self, tmp_path):
        class Late(callbacks.Callback):
            def on_train_end(self, logs=None):
                raise KeyboardInterrupt

        model = make()
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path / "run"), Late()])
        assert not (tmp_path / "run").exists() and np.isfinite(model.predict(X, verbose=0)).all()

    def test_model_checkpoint_of_a_folder_holds_the_run(self, tmp_path):
        saver = callbacks.ModelCheckpoint(str(tmp_path / "{epoch}"))
        model = make()
        model.fit(X, Y, batch_size=26, epochs=2, verbose=0, callbacks=[saver])
        goes_on = make()
        goes_on.fit(X, Y, batch_size=26, epochs=2, verbose=0, resume=tmp_path / "1")
        np.testing.assert_array_equal(goes_on.get_weights()[0], model.get_weights()[0])

    def test_wrong_arguments(self, tmp_path):
        for arguments in (dict(save_freq=0), dict(save_freq="batch"), dict(backup_dir="")):
            with pytest.raises(ValueError, match="BackupAndRestore"):
                callbacks.BackupAndRestore(**({"backup_dir": tmp_path / "run"} | arguments))
        for arguments in (dict(keep=0), dict(every_steps=0), dict(mode="least")):
            with pytest.raises(ValueError, match="Checkpointer"):
                checkpoint.Checkpointer(tmp_path / "run", **arguments)
        with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
            checkpoint.load_model(tmp_path / "nowhere")
