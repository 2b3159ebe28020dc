"""Steps done before callbacks have seen those before them: nobody can tell."""

import contextlib
import os
import signal
import threading

import jax
import numpy as np
import pytest

import kerax
from kerax.train.lookahead import LookAhead
from kerax.train.program import Stepper

pytestmark = pytest.mark.optimized

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(500, 6)).astype("float32")
Y = DRAW.integers(0, 3, size=(500,))
STEPS = 63  # per epoch, the last one on 4 rows


def make_model(*layers):
    kerax.utils.set_random_seed(7)
    model = kerax.Sequential([kerax.Input((6,)), *layers, kerax.layers.Dropout(0.3), kerax.layers.Dense(3)])
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


class Run:
    """Trains one compiled model from the same start again and again, and counts the dispatches."""

    def __init__(self, model, monkeypatch):
        self.model, self.dispatched, self.taken_back = model, [], []
        self.patch = monkeypatch
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)  # compiled and measured
        self.state = model.get_state_tree()
        dispatch, take_back = Stepper.__call__, LookAhead._take_back

        def count(self_, program, piece, step):
            self.dispatched.append(piece.num_batches)
            return dispatch(self_, program, piece, step)

        def note(self_, leaves):
            left = self_._ahead[1].num_batches - self_._seen
            if left:
                self.taken_back.append(left)
            return take_back(self_, leaves)

        monkeypatch.setattr(Stepper, "__call__", count)
        monkeypatch.setattr(LookAhead, "_take_back", note)

    def __call__(self, callback, seconds=1e9, **arguments):
        """The weights, optimizer's variables and history after two epochs, or how they stopped."""
        self.patch.setattr(LookAhead, "seconds", seconds)
        self.dispatched.clear()
        self.taken_back.clear()
        model = self.model
        model.set_state_tree(self.state)
        model.kerax_passes, model.stop_training = 0, False
        error, history = None, None
        try:
            history = model.fit(
                X, Y, **{"batch_size": 8, "epochs": 2, "verbose": 0} | arguments, callbacks=callback
            ).history
        except (ArithmeticError, KeyboardInterrupt) as raised:
            error = type(raised)
        values = [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]
        return values, history, error

    def both(self, make, **arguments):
        """What `make()`'s callback sees and leaves, one step at a time and ahead; these must be the same."""
        alone, together = make(), make()
        expected = self(alone, seconds=0, **arguments)
        assert set(self.dispatched) == {1}
        found = self(together, **arguments)
        assert max(self.dispatched) > 1
        for one, two in zip(found[0], expected[0], strict=True):
            np.testing.assert_array_equal(one, two)
        assert found[1:] == expected[1:]
        assert together.seen == alone.seen
        return together, found


@pytest.fixture(scope="module")
def model():
    return make_model(kerax.layers.Dense(8, activation="relu"), kerax.layers.BatchNormalization())


@pytest.fixture
def run(model, monkeypatch):
    return Run(model, monkeypatch)


class Watcher(kerax.callbacks.Callback):
    """Notes the logs of every batch, and calls `act(model, batch)` after those in `at`."""

    def __init__(self, act=None, at=()):
        super().__init__()
        self.act, self.at, self.seen = act, at, []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, dict(logs)))
        if batch in self.at:
            self.seen.append(self.act(self.model, batch))


class TestAhead:
    @pytest.mark.medium
    def test_who_reads_the_logs_of_every_batch_gets_the_same_from_fewer_dispatches(self, run):
        watcher, _ = run.both(Watcher)
        assert [item[0] for item in watcher.seen if isinstance(item, tuple)] == list(range(STEPS)) * 2
        assert not run.taken_back
        assert max(run.dispatched) == 32
        assert sum(run.dispatched) == 2 * STEPS

    def test_epochs_that_end_within_a_pass(self, run):
        run.both(Watcher, epochs=5, steps_per_epoch=26)
        assert not run.taken_back

    def test_who_reads_weights_gets_those_of_the_batch(self, run):
        def read(model, batch):
            return [float(variable.numpy().sum()) for variable in model.weights], int(model.optimizer.iterations.value)

        run.both(lambda: Watcher(read, {0, 9, 11, 40}))
        assert run.taken_back

    @pytest.mark.medium
    def test_who_reads_at_every_batch_is_soon_left_alone(self, run):
        def read(model, batch):
            return float(model.metrics[0].result())

        run.both(lambda: Watcher(read, range(STEPS)))
        assert sum(run.taken_back) < 4

    def test_what_is_set_holds_from_the_next_batch_on(self, run):
        def assign(model, batch):
            model.optimizer.learning_rate = 0.5 / (batch + 1)

        run.both(lambda: Watcher(assign, {7, 30}))

    @pytest.mark.medium
    def test_evaluation_within_a_hook(self, run):
        run.both(lambda: Watcher(lambda model, batch: model.evaluate(X[:40], Y[:40], verbose=0), {20}))

    def test_stopping_leaves_the_weights_of_that_batch(self, run):
        def stop(model, batch):
            model.stop_training = True

        run.both(lambda: Watcher(stop, {21}))
        assert sum(run.taken_back) > 0

    def test_an_error_leaves_the_weights_of_that_batch(self, run):
        def fail(model, batch):
            raise ZeroDivisionError

        _, (_, _, error) = run.both(lambda: Watcher(fail, {21}))
        assert error is ZeroDivisionError
        run.both(Watcher)  # and a model to go on with

    def test_ctrl_c_leaves_the_weights_of_that_batch(self, run):
        _, (_, _, error) = run.both(lambda: Watcher(lambda *_: os.kill(os.getpid(), signal.SIGINT), {21}))
        assert error is KeyboardInterrupt

    @pytest.mark.medium
    def test_a_thread_that_reads_weights_changes_none(self, run):
        def read():
            while not done.is_set():
                with contextlib.suppress(RuntimeError, ValueError):  # a step has just replaced an array
                    run.model.get_weights()

        expected, done = run(Watcher(), seconds=0), threading.Event()
        thread = threading.Thread(target=read)
        thread.start()
        try:
            found = run(Watcher(), epochs=20), run(Watcher())
        finally:
            done.set()
            thread.join()
        for one, two in zip(found[1][0], expected[0], strict=True):
            np.testing.assert_array_equal(one, two)

    @pytest.mark.medium
    def test_nan_is_noticed(self, run):
        class Notes(Watcher):
            def on_non_finite(self, message):
                self.message = message

        x = X.copy()
        x[:, 2] = np.where(np.arange(500) == 300, np.nan, x[:, 2])
        notes = Notes()
        run.patch.setattr(LookAhead, "seconds", 1e9)
        run.model.set_state_tree(run.state)
        run.model.fit(x, Y, batch_size=8, epochs=2, verbose=0, callbacks=[notes], shuffle=False)
        assert "`x`" in notes.message
        assert "first in row 4" in notes.message  # 300 = 37 * 8 + 4
        assert all(np.isfinite(weight).all() for weight in run.model.get_weights())
        assert len(notes.seen) < 2 * 2 * STEPS

    def test_boundaries_are_not_passed(self, run):
        class Saves(Watcher):
            saves_run = kerax.callbacks.When(every=10)

            def on_checkpoint(self, epoch, batch, logs=None):
                self.seen.append(("saved", batch, float(self.model.get_weights()[0].sum())))

        run.both(Saves)
        assert not run.taken_back

        class Looks(Watcher):
            sees_batches = kerax.callbacks.When(every=1, at=(14, 41))

        run.both(Looks)
        starts = set(np.cumsum(run.dispatched).tolist())
        assert {14, 41} <= starts

    def test_a_profiler_can_refuse(self, run):
        class Profiler(Watcher):
            sees_batches = kerax.callbacks.When(every=1, in_lockstep=True)

        run(Profiler())
        assert set(run.dispatched) == {1}

    def test_a_large_state_is_not_copied(self, run):
        run.patch.setattr(LookAhead, "most_bytes", 100)
        run(Watcher())
        assert set(run.dispatched) == {1}


class Prints(kerax.layers.Layer):
    def call(self, x):
        jax.debug.callback(lambda: None)
        return x


@pytest.mark.medium
def test_a_step_that_calls_the_host_is_done_once(monkeypatch):
    run = Run(make_model(Prints()), monkeypatch)
    run(Watcher())
    assert set(run.dispatched) == {1}
