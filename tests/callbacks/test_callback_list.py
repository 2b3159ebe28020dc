import os

import keras
import numpy as np
import pytest

import kerax

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3)).astype("float32")
Y = DRAW.normal(size=(20, 1)).astype("float32")


@pytest.fixture(scope="module")
def model():
    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def run(module, epochs=2, batches=3):
    """A training loop of one's own: the calls that a callback sees."""
    calls = []

    class Note(module.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            calls.append(("begin", batch))

        def on_train_batch_end(self, batch, logs=None):
            calls.append(("end", batch, dict(logs)))

        def on_test_batch_end(self, batch, logs=None):
            calls.append(("test", batch, dict(logs)))

        def on_predict_batch_end(self, batch, logs=None):
            calls.append(("predict", batch, dict(logs)))

        def on_epoch_end(self, epoch, logs=None):
            calls.append((epoch, self.params["epochs"], dict(logs)))

    model = module.Sequential([module.Input((3,)), module.layers.Dense(1)])
    listed = module.callbacks.CallbackList([Note()], add_history=True, model=model, epochs=epochs)
    listed.on_train_begin()
    for epoch in range(epochs):
        listed.on_epoch_begin(epoch)
        for batch in range(batches):
            listed.on_train_batch_begin(batch)
            listed.on_train_batch_end(batch, {"loss": 1.0 / (batch + 1)})
        listed.on_test_begin()
        listed.on_test_batch_begin(0)
        listed.on_test_batch_end(0, {"loss": 2.0})
        listed.on_test_end({"loss": 2.0})
        listed.on_epoch_end(epoch, {"loss": 0.5})
    listed.on_train_end({"loss": 0.5})
    listed.on_predict_begin()
    listed.on_predict_batch_begin(0)
    listed.on_predict_batch_end(0, {"outputs": 3.0})
    listed.on_predict_end()
    return calls, model.history.history


def test_a_loop_of_ones_own_sees_what_keras_shows():
    assert run(kerax) == run(keras)


def test_every_and_looks_space_the_hooks(model):
    calls = []

    class Sparse(kerax.callbacks.Callback):
        sees_batches = kerax.callbacks.When(every=4, at=(1, 7))

        def on_train_batch_begin(self, batch, logs=None):
            calls.append(("begin", batch))

        def on_train_batch_end(self, batch, logs=None):
            calls.append(("end", batch))

    expected = [("begin", 0), ("end", 0), ("begin", 1), ("end", 3), ("begin", 4)]  # after 1, 4, and 7, 8 batches
    expected += [("end", 1), ("begin", 2), ("end", 2), ("begin", 3)]  # of the second epoch
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[Sparse()])
    assert calls == expected


def test_history_and_progress_are_added_once(capsys):
    history = kerax.callbacks.History()
    kinds = (kerax.callbacks.History, kerax.callbacks.ProgbarLogger)
    listed = kerax.callbacks.CallbackList(history, add_history=True, add_progbar=True, epochs=1, steps=2, verbose=2)
    assert [type(callback) for callback in listed.callbacks] == [*kinds] and listed.callbacks[0] is history
    listed.on_train_begin()
    listed.on_epoch_begin(0)
    listed.on_epoch_end(0, {"loss": 0.25})
    assert "loss: 0.2500" in capsys.readouterr().out and history.history == {"loss": [0.25]}


@pytest.mark.parametrize("verbose, lines", [(0, 0), (2, 1)])
def test_a_progress_display_takes_the_verbosity_of_the_call(model, capsys, verbose, lines):
    for call in (model.fit, model.evaluate):
        call(X, Y, verbose=verbose, callbacks=[kerax.callbacks.ProgbarLogger()])
        shown = capsys.readouterr().out.splitlines()
        assert len(shown) == lines
    model.predict(X, verbose=verbose, callbacks=[kerax.callbacks.ProgbarLogger()])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["predict"] * lines


DIRECTIONS = {
    "up": "accuracy auc binary_accuracy binary_io_u concordance_correlation cosine_similarity f1_score fbeta_score "
    "io_u mean_io_u one_hot_mean_io_u pearson_correlation precision precision_at_recall r2_score recall "
    "sensitivity_at_specificity sparse_top_k_categorical_accuracy",
    "down": "binary_crossentropy categorical_hinge hinge kl_divergence logcosh mean_absolute_error "
    "mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error poisson "
    "root_mean_squared_error sparse_categorical_crossentropy squared_hinge accelerometer_loss recall_head_mse",
}


def test_auto_mode_goes_the_way_of_keras():
    for direction, names in DIRECTIONS.items():
        for name in names.split():
            theirs = keras.metrics.get(name) if hasattr(keras.metrics, name) else None
            assert getattr(theirs, "_direction", direction) == direction
            sign = kerax.callbacks.EarlyStopping(monitor=f"val_{name}").sign
            assert sign == (1 if direction == "up" else -1), name


@pytest.mark.parametrize("kind", ["EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint"])
def test_a_number_of_unknown_direction_needs_a_mode(model, tmp_path, kind):
    class Add(kerax.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["reward"] = float(epoch)

    arguments = {"filepath": tmp_path / "a.weights.h5", "save_best_only": True} if kind == "ModelCheckpoint" else {}
    make = getattr(kerax.callbacks, kind)
    with pytest.raises(ValueError, match=f"{kind}.*'reward'.*mode='max'"):
        model.fit(X, Y, verbose=0, callbacks=[Add(), make(monitor="reward", **arguments)])
    callback = make(monitor="reward", mode="max", **arguments)
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[Add(), callback])
    assert callback.best == 2.0


def test_cooldown():
    callback = kerax.callbacks.ReduceLROnPlateau(cooldown=2)
    assert not callback.in_cooldown()
    callback.cooldown_counter = 1
    assert callback.in_cooldown()


def test_batches_have_an_older_name_too(model):
    seen = []

    class Note(kerax.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_train_batch_end(self, batch, logs=None):
            seen.append(("end", batch, dict(logs)))

    listed = kerax.callbacks.CallbackList([Note()], model=model)
    listed.on_train_begin()
    listed.on_epoch_begin(0)
    listed.on_batch_begin(0)
    listed.on_batch_end(0, {"loss": 1.0})
    assert seen == [("begin", 0), ("end", 0, {"loss": 1.0})]


def test_the_watched_number_is_read_as_in_keras():
    for module in (kerax, keras):
        stopping = module.callbacks.EarlyStopping("loss")
        assert stopping.get_monitor_value({"loss": 2.0}) == 2.0
    with pytest.warns(UserWarning, match="Did you mean 'loss'"):
        assert kerax.callbacks.EarlyStopping("losss", mode="min").get_monitor_value({"loss": 2.0}) is None


def test_after_fit_a_checkpoint_callback_is_done_and_its_folder_holds_steps_alone(model, tmp_path):
    callback = kerax.callbacks.OrbaxCheckpoint(tmp_path / "steps", max_to_keep=1)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    callback.wait_until_finished()
    assert [name.isdigit() for name in os.listdir(tmp_path / "steps")] == [True]
