import csv
import io
import math
import re
import sys
import types

import keras
import numpy as np
import pytest

import kerax
from kerax.callbacks.progress_views import format_number
from tests.pairs import make_pair

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3)).astype("float32")
Y = (X @ np.array([[1.0], [2.0], [-1.0]])).astype("float32")
NOISE = DRAW.normal(size=(8, 1)).astype("float32") * 3


def make(module, optimizer=None):
    model = module.Sequential([module.Input((3,)), module.layers.Dense(1)])
    model.compile(optimizer or module.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


@pytest.fixture(scope="module")
def pair():
    """Models compiled once; `reset` puts their weights back."""
    ours, theirs = make_pair(make)
    start = theirs.get_weights()

    def reset():
        for model in (ours, theirs):
            model.set_weights(start)
            model.optimizer.learning_rate = 0.1
        return ours, theirs

    return reset


HOOKS = [name for name in dir(keras.callbacks.Callback) if re.fullmatch(r"on_(train|test|predict|epoch).*", name)]


def recorder(module):
    """A callback that writes down every hook with its arguments and the names in the logs."""

    class Recorder(module.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.calls = []

    def hook(name):
        def record(self, *args, **kwargs):
            logs = args[-1] if not isinstance(args[-1], int) else kwargs.get("logs")
            self.calls.append((name, *[a for a in args if isinstance(a, int)], tuple(sorted(logs or {}))))

        return record

    for name in HOOKS:
        setattr(Recorder, name, hook(name))
    return Recorder()


class TestHooks:
    @pytest.mark.medium
    def test_order_and_arguments_are_those_of_keras(self, pair):
        recorded = []
        for module, model in zip((kerax, keras), pair()):
            callback = recorder(module)
            arguments = dict(batch_size=8, verbose=0, callbacks=[callback])
            model.fit(X, Y, epochs=2, validation_data=(X, Y), validation_batch_size=8, shuffle=False, **arguments)
            model.evaluate(X, Y, **arguments)
            model.predict(X, **arguments)
            recorded.append(callback.calls)
        ours, theirs = recorded
        assert [call[:-1] for call in ours] == [call[:-1] for call in theirs]
        for mine, other in zip(ours, theirs):
            if mine[0].endswith("end"):
                assert mine == other

    def test_params_and_model(self, pair):
        model, _ = pair()
        callback = kerax.callbacks.Callback()
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=callback)
        assert callback.model is model
        assert callback.params == {"epochs": 3, "steps": 3, "verbose": 0}

    def test_logs_are_numbers_of_the_batch_so_far(self, pair):
        seen = {}
        for module, model in zip((kerax, keras), pair()):

            class Keep(module.callbacks.Callback):
                def on_train_batch_end(self, batch, logs=None):
                    seen.setdefault(self.model, []).append(dict(logs))

            model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[Keep()])
        ours, theirs = seen.values()
        for mine, other in zip(ours, theirs):
            assert mine == pytest.approx(other, abs=1e-5)
            assert all(isinstance(value, float) for value in mine.values())

    def test_logs_are_a_mapping(self, pair):
        model, _ = pair()

        class Use(kerax.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                assert logs.get("loss") == logs["loss"] == dict(logs)["loss"] == {**logs}["loss"]
                assert "loss" in logs and "nothing" not in logs and logs.get("nothing", 3) == 3
                assert sorted(logs) == sorted(logs.keys()) == ["loss", "mae"]
                assert "loss" in repr(logs) and f"{logs['loss']:.3f}"
                logs["mine"] = 7.0
                logs.update({"more": 8.0})

        history = model.fit(X, Y, verbose=0, callbacks=[Use()]).history
        assert history["mine"] == [7.0] and history["more"] == [8.0]

    def test_old_names_of_batch_hooks(self, pair):
        model, _ = pair()
        calls = []

        class Old(kerax.callbacks.Callback):
            def on_batch_begin(self, batch, logs=None):
                calls.append(("begin", batch))

            def on_batch_end(self, batch, logs=None):
                calls.append(("end", batch))

        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[Old()])
        assert calls == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]

    def test_every_spaces_the_batch_hooks(self, pair):
        model, _ = pair()
        calls = []

        class Sparse(kerax.callbacks.Callback):
            sees_batches = kerax.callbacks.When(every=4)

            def on_train_batch_end(self, batch, logs=None):
                calls.append(batch)

        model.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[Sparse()])
        assert calls == [3, 7, 1, 5, 9]

    def test_steps_per_execution_spaces_the_batch_hooks_and_the_last_batch_is_never_left_out(self):
        model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
        model.compile("sgd", "mse", steps_per_execution=3)
        callback = recorder(kerax)
        model.fit(X, Y, batch_size=3, epochs=2, verbose=0, callbacks=[callback])
        calls = [call[:-1] for call in callback.calls if "batch" in call[0]]
        begin, end = "on_train_batch_begin", "on_train_batch_end"
        # As Keras, which calls the last `end` as if the execution were full; there are batches 0 to 6.
        assert calls == [(begin, 0), (end, 2), (begin, 3), (end, 5), (begin, 6), (end, 8)] * 2

    def test_close_is_called_however_the_run_ends(self, pair):
        model, _ = pair()
        closed = []

        class Closing(kerax.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                raise RuntimeError

            def close(self):
                closed.append(True)

        with pytest.raises(RuntimeError):
            model.fit(X, Y, verbose=0, callbacks=[Closing()])
        assert closed == [True]

    def test_lambda_callback(self, pair):
        model, _ = pair()
        calls = []
        callback = kerax.callbacks.LambdaCallback(
            on_train_begin=lambda logs: calls.append("begin"),
            on_epoch_end=lambda epoch, logs: calls.append((epoch, logs["loss"])),
            on_train_batch_end=lambda batch, logs: calls.append(batch),
            on_test_begin=lambda logs: calls.append("test"),
        )
        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[callback], validation_data=(X, Y))
        assert calls[:4] == ["begin", 0, 1, "test"] and calls[4][0] == 0
        with pytest.raises(TypeError, match="on_epoch"):
            kerax.callbacks.LambdaCallback(on_epoch=print)

    def test_a_callback_list_can_be_handed_over(self, pair):
        model, _ = pair()
        history = kerax.callbacks.History()
        callbacks = kerax.callbacks.CallbackList([history], model=model, epochs=1, steps=1, verbose=0)
        model.fit(X, Y, verbose=0, callbacks=callbacks)
        assert history.epoch == [0]


def overfitting(module, callback, epochs=12, **arguments):
    """A fit whose validation loss falls, then rises."""
    arguments = dict(epochs=epochs, verbose=0, shuffle=False, callbacks=[callback]) | arguments
    return (X[:8], Y[:8] + NOISE), arguments | {"validation_data": (X[8:], Y[8:])}


class TestEarlyStopping:
    @pytest.mark.parametrize(
        "arguments",
        [
            dict(),
            dict(patience=3),
            dict(patience=2, min_delta=0.05),
            dict(patience=2, baseline=0.5),
            dict(patience=1, start_from_epoch=4),
            dict(monitor="loss", mode="max", patience=2),
            dict(patience=2, restore_best_weights=True),
            dict(patience=100, restore_best_weights=True),
            dict(patience=2, baseline=0.01, restore_best_weights=True),
        ],
    )
    def test_it_stops_and_restores_as_keras_does(self, pair, arguments):
        found = []
        for module, model in zip((kerax, keras), pair()):
            callback = module.callbacks.EarlyStopping(**arguments)
            data, options = overfitting(module, callback)
            history = model.fit(*data, **options)
            found.append((callback.stopped_epoch, callback.best_epoch, len(history.epoch), model.get_weights()))
        assert found[0][:3] == found[1][:3]
        for one, two in zip(found[0][3], found[1][3]):
            np.testing.assert_allclose(one, two, atol=1e-4)

    def test_messages(self, pair, capsys):
        model, _ = pair()
        callback = kerax.callbacks.EarlyStopping(patience=1, restore_best_weights=True, verbose=1)
        data, options = overfitting(kerax, callback)
        model.fit(*data, **options)
        printed = capsys.readouterr().out
        assert "early stopping" in printed and "Restoring model weights" in printed

    def test_a_missing_number_warns_with_a_suggestion(self, pair):
        model, _ = pair()
        misspelt, callbacks = "val_los", kerax.callbacks
        with pytest.warns(UserWarning, match="'val_los'.*Did you mean"):
            model.fit(
                X, Y, verbose=0, validation_data=(X, Y), callbacks=[callbacks.EarlyStopping(misspelt, mode="min")]
            )
        with pytest.raises(
            ValueError, match="'val_los'.*Did you mean 'val_loss'"
        ):  # as Keras, which knows no direction
            model.fit(X, Y, verbose=0, validation_data=(X, Y), callbacks=[callbacks.EarlyStopping(misspelt)])

    def test_auto_mode_knows_what_grows(self):
        for monitor, sign in (("val_accuracy", 1), ("auc", 1), ("val_loss", -1), ("mae", -1), ("f1_score", 1)):
            assert kerax.callbacks.EarlyStopping(monitor=monitor).sign == sign
        with pytest.warns(UserWarning, match="'auto', 'min' or 'max'"):  # as Keras does
            kerax.callbacks.EarlyStopping(mode="best")

    def test_it_can_be_used_twice(self, pair):
        model, _ = pair()
        callback = kerax.callbacks.EarlyStopping(patience=1)
        epochs = []
        for _ in range(2):
            pair()
            data, options = overfitting(kerax, callback)
            epochs.append(len(model.fit(*data, **options).epoch))
        assert epochs[0] == epochs[1] < 12


class TestModelCheckpoint:
    def test_weights_of_every_epoch_under_formatted_names(self, pair, tmp_path):
        model, _ = pair()
        path = tmp_path / "{epoch:02d}-{loss:.1f}.weights.h5"
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[kerax.callbacks.ModelCheckpoint(path)]).history
        names = sorted(file.name for file in tmp_path.iterdir())
        assert names == [f"{epoch + 1:02d}-{loss:.1f}.weights.h5" for epoch, loss in enumerate(history["loss"])]
        weights = model.get_weights()
        model.set_weights([np.zeros_like(weight) for weight in weights])
        model.load_weights(tmp_path / names[-1])
        np.testing.assert_array_equal(model.get_weights()[0], weights[0])

    def test_save_best_only_keeps_the_best(self, pair, tmp_path):
        model, theirs = pair()
        path = tmp_path / "best.weights.h5"
        callback = kerax.callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True)
        data, options = overfitting(kerax, callback)
        losses = model.fit(*data, **options).history["val_loss"]
        assert min(losses) < losses[-1]
        assert callback.best == min(losses)
        model.load_weights(path)
        assert model.evaluate(X[8:], Y[8:], verbose=0)[0] == pytest.approx(min(losses), rel=1e-5)
        theirs.load_weights(path)
        np.testing.assert_array_equal(theirs.get_weights()[0], model.get_weights()[0])

    def test_a_threshold_must_be_beaten(self, pair, tmp_path):
        model, _ = pair()
        path = tmp_path / "m.weights.h5"
        callback = kerax.callbacks.ModelCheckpoint(
            path, monitor="loss", save_best_only=True, initial_value_threshold=1e-9
        )
        model.fit(X, Y, verbose=0, callbacks=[callback])
        assert not path.exists()

    def test_save_freq_in_batches(self, pair, tmp_path):
        model, _ = pair()
        callback = kerax.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}.weights.h5", save_freq=4)
        model.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[callback])
        names = {file.name.removesuffix(".weights.h5") for file in tmp_path.iterdir()}
        assert names == {"1-4", "1-8", "2-2", "2-6", "2-10"}

    def test_a_folder_holds_the_whole_training_state(self, pair, tmp_path):
        model, _ = pair()
        callback = kerax.callbacks.ModelCheckpoint(tmp_path / "run" / "{epoch}")
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
        other = make(kerax)
        kerax.checkpoint.restore(tmp_path / "run" / "2", other)
        np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
        assert int(other.optimizer.iterations) == int(model.optimizer.iterations)

    def test_folders_that_are_missing_are_made(self, pair, tmp_path):
        model, _ = pair()
        path = tmp_path / "a" / "b" / "m.weights.h5"
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.ModelCheckpoint(path)])
        assert path.exists()

    def test_errors(self, pair, tmp_path):
        with pytest.raises(ValueError, match="save_freq"):
            kerax.callbacks.ModelCheckpoint("m.weights.h5", save_freq="batch")
        with pytest.raises(ValueError, match="weights.h5"):
            kerax.callbacks.ModelCheckpoint("m", save_weights_only=True)
        model, _ = pair()
        with pytest.raises(KeyError, match="acuracy"):
            model.fit(
                X, Y, verbose=0, callbacks=[kerax.callbacks.ModelCheckpoint(tmp_path / "{acuracy:.2f}.weights.h5")]
            )

    def test_messages(self, pair, tmp_path, capsys):
        model, _ = pair()
        path = tmp_path / "m.weights.h5"
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.ModelCheckpoint(path, verbose=1)])
        assert str(path) in capsys.readouterr().out


class TestOthers:
    def test_csv_logger(self, pair, tmp_path):
        model, _ = pair()
        path = tmp_path / "log.csv"
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[kerax.callbacks.CSVLogger(path)]).history
        model.fit(X, Y, epochs=1, verbose=0, callbacks=[kerax.callbacks.CSVLogger(path, append=True)])
        rows = list(csv.DictReader(path.open()))
        assert [row["epoch"] for row in rows] == ["0", "1", "0"]
        assert [float(row["loss"]) for row in rows[:2]] == pytest.approx(history["loss"])
        model.fit(X, Y, epochs=1, verbose=0, callbacks=[kerax.callbacks.CSVLogger(path, separator=";")])
        assert path.read_text().splitlines()[0] == "epoch;loss;mae"

    def test_a_csv_log_with_validation_now_and_then(self, pair, tmp_path):
        model, _ = pair()
        path = tmp_path / "log.csv"
        model.fit(
            X,
            Y,
            epochs=2,
            verbose=0,
            validation_data=(X, Y),
            validation_freq=2,
            callbacks=[kerax.callbacks.CSVLogger(path)],
        )
        rows = list(csv.DictReader(path.open()))
        assert float(rows[1]["val_loss"]) > 0 and rows[0]["val_loss"] == "NA"
        assert list(rows[0]) == ["epoch", "loss", "mae", "val_loss", "val_mae"]

    @pytest.mark.parametrize("how", ["batch", "end"])
    def test_terminate_on_nan(self, pair, capsys, how):
        model, _ = pair()
        broken = Y.copy()
        broken[-1 if how == "end" else 0] = np.nan
        history = model.fit(
            X, broken, batch_size=2, epochs=50, shuffle=False, verbose=0, callbacks=[kerax.callbacks.TerminateOnNaN()]
        )
        assert len(history.epoch) < 3
        assert "`y` of the batch holds NaN" in capsys.readouterr().out
        assert np.isfinite(model.get_weights()[0]).all()  # of the step before
        pair()
        with pytest.raises(RuntimeError, match="NaN"):
            model.fit(X, broken, verbose=0, callbacks=[kerax.callbacks.TerminateOnNaN(raise_error=True)])

    def test_learning_rate_scheduler_agrees_with_keras(self, pair):
        found = []
        for module, model in zip((kerax, keras), pair()):
            schedule = module.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch else 0.05)
            history = model.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[schedule]).history
            found.append((history, model.get_weights()))
        for name, values in found[1][0].items():
            np.testing.assert_allclose(found[0][0][name], values, rtol=1e-5)
        np.testing.assert_allclose(found[0][1][0], found[1][1][0], atol=1e-6)
        model, _ = pair()
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.LearningRateScheduler(lambda epoch: 0.25)])
        assert float(model.optimizer.learning_rate) == 0.25
        with pytest.raises(ValueError, match="float"):
            model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.LearningRateScheduler(lambda epoch: "fast")])

    def test_an_error_in_the_schedule_is_not_hidden(self, pair):
        model, _ = pair()

        def schedule(epoch, rate):
            return rate + None

        with pytest.raises(TypeError, match="unsupported operand"):
            model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.LearningRateScheduler(schedule)])

    @pytest.mark.parametrize(
        "arguments",
        [
            dict(patience=1, factor=0.5),
            dict(patience=1, factor=0.5, cooldown=2),
            dict(patience=2, factor=0.1, min_lr=0.05),
            dict(patience=1, monitor="loss", mode="max", factor=0.5),
            dict(patience=1, min_delta=0.5, factor=0.5),
        ],
    )
    def test_reduce_lr_on_plateau_agrees_with_keras(self, pair, arguments):
        found = []
        for module, model in zip((kerax, keras), pair()):
            data, options = overfitting(module, module.callbacks.ReduceLROnPlateau(**arguments))
            found.append(model.fit(*data, **options).history)
        np.testing.assert_allclose(found[0]["learning_rate"], found[1]["learning_rate"], rtol=1e-5)
        np.testing.assert_allclose(found[0]["val_loss"], found[1]["val_loss"], rtol=1e-4)

    def test_reduce_lr_on_plateau_refuses_a_factor_of_one(self):
        with pytest.raises(ValueError, match="factor"):
            kerax.callbacks.ReduceLROnPlateau(factor=1.0)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class TestDisplay:
    def test_a_pipe_gets_a_line_per_epoch(self, pair, capsys):
        model, _ = pair()
        model.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert re.fullmatch(
            r"Epoch 1/2 - 3/3 - \S+ \S+/step - loss: \S+ - mae: \S+ - val_loss: \S+ - val_mae: \S+", lines[0]
        ), lines[0]
        model.evaluate(X, Y)
        model.predict(X)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2 and "loss" in lines[0] and "1/1" in lines[1]

    def test_silence(self, pair, capsys):
        model, _ = pair()
        model.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y))
        model.evaluate(X, Y, verbose=0)
        model.predict(X, verbose=0)
        captured = capsys.readouterr()
        assert captured.out == captured.err == ""

    def test_two_is_a_line_per_epoch_even_in_a_terminal(self, pair, monkeypatch):
        model, _ = pair()
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        model.fit(X, Y, epochs=2, verbose=2)
        assert len(stream.getvalue().splitlines()) == 2
        assert "\x1b" not in stream.getvalue()

    def test_a_terminal_gets_a_bar_with_the_numbers_of_each_epoch(self, pair, monkeypatch):
        model, _ = pair()
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        history = model.fit(X, Y, batch_size=2, epochs=3, validation_data=(X, Y)).history
        text = stream.getvalue()
        assert "\x1b" in text
        for epoch in range(3):
            assert f"Epoch {epoch + 1}/3" in text
            assert format_number(history["val_loss"][epoch]) in text
        assert "10/10" in text

    def test_the_cursor_comes_back_after_an_error(self, pair, monkeypatch):
        model, _ = pair()
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("TERM", "xterm")

        class Fail(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                raise RuntimeError

        with pytest.raises(RuntimeError):
            model.fit(X, Y, batch_size=2, callbacks=[Fail()])
        assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h")

    def test_a_notebook_gets_one_display_that_is_updated(self, pair, monkeypatch):
        model, _ = pair()
        shown = []

        class Handle:
            def update(self, view):
                shown.append(view._repr_html_())

        opened = []
        ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
        ipython.display = display
        display.display = lambda view, display_id: opened.append(view) or Handle()
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        history = model.fit(X, Y, batch_size=2, epochs=3, validation_data=(X, Y)).history
        assert len(opened) == 1
        final = shown[-1]
        assert final.count("<tr>") == 4
        for name, values in history.items():
            assert f"<th>{name}</th>" in final
            assert all(format_number(value) in final for value in values)

    def test_small_and_broken_numbers_are_shown(self, pair, capsys):
        assert format_number(0.0) == "0.0000" and format_number(0.98765) == "0.9877"
        assert format_number(1.2345e-5) == "1.2345e-05"
        assert format_number(math.nan) == "nan" and format_number(math.inf) == "inf"
        assert format_number(1e12) == "1000000000000.0000" or "e" in format_number(1e12)

    @pytest.mark.medium
    def test_a_source_of_unknown_length(self, pair, capsys):
        model, _ = pair()
        model.fit(iter([(X, Y)] * 3))
        model.evaluate(iter([(X, Y)] * 3))
        model.predict(iter([X] * 3))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3 and "loss" in lines[0]
