"""What holds of every run: the same bits however it is cut, a usable model however it ends."""

import operator
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import kerax
from kerax import config
from kerax.train import feed, program, state
from tests.sharing import share_programs

pytestmark = pytest.mark.optimized

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(70, 6)).astype("float32")
Y = DRAW.integers(0, 3, size=(70,))
PACKAGE = os.path.dirname(kerax.__file__) + os.sep


def make_model(**compile_arguments):
    kerax.utils.set_random_seed(7)
    model = kerax.Sequential(
        [
            kerax.Input((6,)),
            kerax.layers.Dense(8, activation="relu"),
            kerax.layers.BatchNormalization(),
            kerax.layers.Dropout(0.3),
            kerax.layers.Dense(3, kernel_regularizer="l2"),
        ]
    )
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], **compile_arguments)
    return share_programs(model, f"laws {compile_arguments}")


class Counting(kerax.callbacks.Callback):
    """Sees every batch."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append((batch, logs["loss"]))


def trajectory(callbacks=None, **compile_arguments):
    """Weights, history and optimizer state after two epochs with a ragged last batch."""
    model = make_model(**compile_arguments)
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks, validation_split=0.2).history
    return [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)], history


@pytest.fixture(scope="module")
def reference():
    return trajectory()


def assert_same_bits(found, expected):
    assert found[1] == expected[1]
    for one, two in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, two)


class TestChunking:
    @pytest.mark.slow
    def test_a_run_repeats_bit_for_bit(self, reference):
        assert_same_bits(trajectory(), reference)

    def test_a_callback_at_every_batch_changes_no_bit(self, reference):
        watcher = Counting()
        assert_same_bits(trajectory([watcher]), reference)
        assert [batch for batch, _ in watcher.batches] == list(range(7)) * 2
        assert all(isinstance(loss, float) for _, loss in watcher.batches)

    def test_steps_per_execution_changes_no_bit(self, reference):
        watcher = Counting()
        assert_same_bits(trajectory([watcher], steps_per_execution=3), reference)
        assert 2 <= len(watcher.batches) < 14

    def test_streaming_from_the_host_changes_no_bit(self, reference, monkeypatch):
        monkeypatch.setattr(config, "_resident_bytes", 0)
        assert_same_bits(trajectory(), reference)

    @pytest.mark.slow
    def test_streaming_in_small_chunks_sees_the_same_batches(self, reference, monkeypatch):
        # Not the same bits: XLA's CPU backend compiles a loop over so few bytes in another way.
        monkeypatch.setattr(config, "_resident_bytes", 0)
        monkeypatch.setattr(feed, "BLOCK_BYTES", 8 * 6 * 4 * 2)
        weights, history = trajectory()
        for one, two in zip(weights, reference[0], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
        assert history["accuracy"] == reference[1]["accuracy"]

    @pytest.mark.slow
    @pytest.mark.parametrize("target", [0.0, 1e9])
    def test_the_pace_changes_no_bit(self, reference, monkeypatch, target):
        monkeypatch.setattr(program.Pace, "target", target)
        assert_same_bits(trajectory(), reference)

    def test_an_epoch_of_validation_in_between_changes_no_weight(self, reference):
        model = make_model()
        model.fit(X[:56], Y[:56], batch_size=8, epochs=2, verbose=0)
        for one, two in zip(model.get_weights(), reference[0]):
            np.testing.assert_array_equal(one, two)

    def test_two_fits_are_one(self, reference):
        model = make_model()
        model.fit(X[:56], Y[:56], batch_size=8, epochs=1, verbose=0)
        model.fit(X[:56], Y[:56], batch_size=8, initial_epoch=1, epochs=2, verbose=0)
        for one, two in zip(model.get_weights(), reference[0]):
            np.testing.assert_array_equal(one, two)

    @pytest.mark.medium
    def test_a_convolution_is_dispatched_step_by_step_with_the_same_bits(self):
        def run(callbacks):
            kerax.utils.set_random_seed(1)
            model = kerax.Sequential(
                [kerax.Input((4, 4, 1)), kerax.layers.Conv2D(2, 2), kerax.layers.Flatten(), kerax.layers.Dense(1)]
            )
            model.compile("sgd", "mse")
            model.fit(
                X[:, :, None, None][:, [0, 1, 2, 3]] * np.ones((1, 1, 4, 1)), X[:, :1], verbose=0, callbacks=callbacks
            )
            return model.get_weights()

        for one, two in zip(run(None), run([Counting()])):
            np.testing.assert_array_equal(one, two)


def snapshots(num_steps):
    """The weights after each step of the run that the tests below interrupt."""
    found = []

    class Snapshot(kerax.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(self.model.get_weights())

    model = make_model()
    model.fit(X, Y, batch_size=8, steps_per_epoch=num_steps, verbose=0, callbacks=[Snapshot()])
    return found


def assert_usable(model, expected):
    for one, two in zip(model.get_weights(), expected):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, two)
    assert np.isfinite(model.predict(X, verbose=0)).all()
    assert np.isfinite(model.evaluate(X, Y, verbose=0)).all()
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


class TestEndings:
    @pytest.mark.slow
    def test_ctrl_c_from_a_callback_leaves_the_last_finished_step(self):
        class Interrupt(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.2)  # the signal is delivered here at the latest

        before = signal.getsignal(signal.SIGINT)
        model = make_model()
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[Interrupt()])
        assert signal.getsignal(signal.SIGINT) is before
        assert_usable(model, snapshots(4)[-1])

    def test_an_exception_in_a_callback_leaves_the_last_finished_step(self):
        class Fail(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 2:
                    raise RuntimeError("mine")

        model = make_model()
        with pytest.raises(RuntimeError, match="mine"):
            model.fit(X, Y, batch_size=8, verbose=0, callbacks=[Fail()])
        assert_usable(model, snapshots(3)[-1])

    @pytest.mark.slow
    @pytest.mark.parametrize("resident", [True, False])
    def test_ctrl_c_without_callbacks_is_served_soon_and_leaves_a_usable_model(self, resident, monkeypatch):
        if not resident:
            monkeypatch.setattr(config, "_resident_bytes", 0)
        model = make_model()
        model.fit(X, Y, batch_size=8, verbose=0)
        sent = []

        def send():
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(0.3, send)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, batch_size=8, epochs=10**6, verbose=0)
        assert time.perf_counter() - sent[0] < 2.0
        assert_usable(model, model.get_weights())
        assert int(model.optimizer.iterations) > 9

    @pytest.mark.slow
    def test_many_interrupts_at_any_moment_never_lose_the_weights(self):
        model = make_model()
        model.fit(X, Y, batch_size=8, verbose=0)
        for attempt in range(12):
            timer = threading.Timer(0.02 + 0.003 * attempt, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                model.fit(X, Y, batch_size=8, epochs=10**6, verbose=0)
            assert all(np.isfinite(weight).all() for weight in model.get_weights())
        assert_usable(model, model.get_weights())

    @pytest.mark.parametrize("moment", ["lend", "Store.release"])
    @pytest.mark.parametrize("call", ["fit", "train_on_batch"])
    def test_an_interrupt_while_arrays_change_hands_is_served_afterwards(self, monkeypatch, moment, call):
        model = make_model()
        model.fit(X[:56], Y[:56], batch_size=8, verbose=0)
        before, done = model.get_weights(), int(model.optimizer.iterations)
        owner, _, name = moment.rpartition(".")
        owner = operator.attrgetter(owner)(state) if owner else state
        original, sent = getattr(owner, name), []

        def interrupted(*args):
            sent.append(True)
            if len(sent) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return original(*args)

        monkeypatch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            getattr(model, call)(X[:8], Y[:8])
        assert all(weight._store is None for weight in model.weights)
        for one, two in zip(model.get_weights(), before, strict=True):
            np.testing.assert_allclose(one, two, atol=0.05)  # a step's difference at most
        assert done <= int(model.optimizer.iterations) <= done + 1

    def test_a_generator_that_fails_leaves_the_last_finished_step(self):
        def batches():
            yield X[:8], Y[:8]
            yield X[8:16], Y[8:16]
            raise OSError("the disk is gone")

        model = make_model()
        with pytest.raises(OSError, match="the disk is gone"):
            model.fit(batches(), verbose=0)
        expected = make_model()
        expected.fit(X[:16], Y[:16], batch_size=8, shuffle=False, verbose=0)
        assert_usable(model, expected.get_weights())

    def test_fit_works_in_a_thread(self):
        model = make_model()
        thread = threading.Thread(target=lambda: model.fit(X, Y, batch_size=8, verbose=0))
        thread.start()
        thread.join(60)
        assert int(model.optimizer.iterations) == 9

    def test_stop_training_in_a_batch_hook_ends_after_that_batch(self):
        class Stop(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                self.model.stop_training = batch == 2

        model = make_model()
        history = model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[Stop()])
        assert int(model.optimizer.iterations) == 3
        assert history.epoch == [0]


class TestReadingAndWritingWhileTraining:
    @pytest.mark.slow
    def test_values_read_in_callbacks_stay_valid(self):
        kept = []

        class Keep(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                layer = self.model.layers[0]
                kept.append((layer.kernel.value, layer.kernel.numpy(), self.model.get_weights()[0], logs))

        model = make_model()
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[Keep()])
        assert len(kept) == 9
        for value, copy, weight, logs in kept:
            np.testing.assert_array_equal(value, copy)
            np.testing.assert_array_equal(value, weight)
            assert np.isfinite(logs["loss"])
        assert len({copy.tobytes() for _, copy, _, _ in kept}) == 9

    @pytest.mark.slow
    def test_the_callback_may_predict_evaluate_and_call_the_model(self):
        seen = []

        class Look(kerax.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                predicted = self.model.predict(X, verbose=0)
                np.testing.assert_allclose(predicted, np.asarray(self.model(X)), rtol=1e-4, atol=1e-5)
                seen.append(self.model.evaluate(X, Y, verbose=0, return_dict=True)["loss"])

        plain = make_model()
        expected = plain.fit(X, Y, batch_size=8, epochs=2, verbose=0, validation_data=(X, Y)).history
        watched = make_model()
        found = watched.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[Look()]).history
        np.testing.assert_allclose(seen, expected["val_loss"], rtol=1e-5)
        assert found["loss"] == expected["loss"]
        for one, two in zip(plain.get_weights(), watched.get_weights()):
            np.testing.assert_array_equal(one, two)

    def test_assignments_are_obeyed_from_the_next_step_on(self):
        class Reset(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                self.model.layers[0].kernel.assign(np.zeros((6, 8)))

        model = make_model()
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[Reset()])
        np.testing.assert_array_equal(model.layers[0].kernel.numpy(), np.zeros((6, 8)))

    @pytest.mark.medium
    def test_set_weights_in_a_callback_starts_over(self):
        start = make_model().get_weights()
        losses = []

        class Again(kerax.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                losses.append(logs["loss"])
                self.model.set_weights(start)

        model = kerax.Sequential([kerax.Input((6,)), kerax.layers.Dense(3)])
        start = model.get_weights()
        model.compile("sgd", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[Again()])
        assert losses[0] == losses[1] == losses[2]
        np.testing.assert_array_equal(model.get_weights()[0], start[0])

    def test_a_new_learning_rate_is_obeyed_from_the_next_step_on_without_compiling(self, monkeypatch):
        class Halt(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 1:
                    self.model.optimizer.learning_rate = 0.0
                    rates.append(float(self.model.optimizer.learning_rate))
                    kept.extend(self.model.trainable_weights[0].numpy().ravel())

        rates, kept = [], []
        model = make_model()
        model.fit(X, Y, batch_size=8, verbose=0)
        programs = len(model.compilation.programs)
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[Halt()])
        assert rates == [0.0]
        np.testing.assert_array_equal(model.trainable_weights[0].numpy().ravel(), kept)
        assert len(model.compilation.programs) == programs

    def test_weights_held_outside_are_not_destroyed_by_training(self):
        model = make_model()
        held = [weight.value for weight in model.weights]
        copies = [np.array(value) for value in held]
        model.fit(X, Y, batch_size=8, verbose=0)
        for value, copy in zip(held, copies):
            np.testing.assert_array_equal(value, copy)

    @pytest.mark.slow
    def test_two_models_that_share_a_layer_train_in_turn(self):
        shared = kerax.layers.Dense(4)
        one, two = (kerax.Sequential([kerax.Input((6,)), shared, kerax.layers.Dense(1)]) for _ in range(2))
        for model in (one, two):
            model.compile("sgd", "mse")
        for model in (one, two, one):
            model.fit(X, X[:, :1], verbose=0)
        np.testing.assert_array_equal(one.layers[0].kernel.numpy(), two.layers[0].kernel.numpy())
        assert np.isfinite(one.predict(X, verbose=0)).all()


class TestHops:
    def run_counted(self, model, num_steps):
        """Calls of functions in kerax during a fit of that many steps."""
        times = num_steps // 64
        calls, (x, y) = [], (np.tile(X[:64], (times, 1)), np.tile(Y[:64], times))

        def profile(frame, event, _):
            if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
                calls.append(frame.f_code.co_qualname)

        sys.setprofile(profile)
        try:
            model.fit(x, y, batch_size=1, steps_per_epoch=num_steps, verbose=0)
        finally:
            sys.setprofile(None)
        return len(calls)

    @pytest.mark.medium
    def test_no_python_call_per_step(self, monkeypatch):
        model = make_model()
        monkeypatch.setattr(program.Pace, "target", 10.0)
        self.run_counted(model, 640)
        few, many = self.run_counted(model, 640), self.run_counted(model, 640 * 5)
        assert (many - few) / (640 * 4) < 0.8  # some 50 per block of 64 batches, of which 10 begin a pass

    @pytest.mark.medium
    def test_frames_between_fit_and_the_compiled_step(self, monkeypatch):
        model = make_model()
        model.fit(X, Y, batch_size=13, verbose=0)
        stacks = []
        for _, compiled in (item for item in model.compilation.programs.items() if item[0][0] == "train"):
            for form in ("_many", "_one"):
                original = getattr(compiled, form)

                def spy(*args, original=original):
                    frames, frame = [], sys._getframe(1)
                    while frame is not None:
                        frames.append(frame.f_code.co_qualname)
                        frame = frame.f_back
                    stacks.append(frames[: frames.index("Model.fit") + 1])
                    return original(*args)

                spy.compile_behind = original.compile_behind
                monkeypatch.setattr(compiled, form, spy)
        model.fit(X, Y, batch_size=13, verbose=0)
        assert stacks
        expected = ["Program.__call__", "Stepper.__call__", "Training.advance", "fit", "Model.fit"]
        assert all(stack == expected for stack in stacks), stacks
