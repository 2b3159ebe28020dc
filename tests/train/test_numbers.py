"""Numbers that depend on what happened before: states that go on, accumulated gradients, runs inside hooks."""

import sys
import threading

import numpy as np
import pytest

import kerax
from kerax import layers

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 4)).astype("f4"), RNG.normal(size=(32, 1)).astype("f4")
SERIES = RNG.normal(size=(4, 6, 3)).astype("f4")


def linear(**options):
    kerax.utils.set_random_seed(0)
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(1)])
    model.compile(**({"optimizer": "sgd", "loss": "mse", "metrics": ["mae"]} | options))
    return model


class TestStatesThatGoOn:
    """A stateful recurrent layer of one half after the other gives what one of the whole gives.

    Keras on JAX does not, against its documentation.
    """

    @staticmethod
    def pair(make, batch=2):
        stateful = kerax.Sequential([kerax.Input(batch_shape=(batch, None, 3)), make(stateful=True)])
        whole = kerax.Sequential([kerax.Input((None, 3)), make(stateful=False)])
        whole.set_weights(stateful.get_weights())
        return stateful, whole

    @pytest.mark.medium
    @pytest.mark.parametrize(
        "make",
        [
            lambda **kw: layers.LSTM(4, return_sequences=True, **kw),
            lambda **kw: layers.GRU(4, return_sequences=True, **kw),
            lambda **kw: layers.RNN([layers.SimpleRNNCell(3), layers.LSTMCell(4)], return_sequences=True, **kw),
        ],
        ids=["LSTM", "GRU", "stacked cells"],
    )
    def test_from_call_to_call(self, make):
        stateful, whole = self.pair(make)
        expected = whole.predict(SERIES[:2], verbose=0)
        calls = {
            "predict": lambda part: stateful.predict(part, verbose=0),
            "predict in a large batch": lambda part: stateful.predict(part, batch_size=32, verbose=0),
            "predict_on_batch": stateful.predict_on_batch,
            "call": lambda part: np.asarray(stateful(part)),
        }
        for name, call in calls.items():
            stateful.layers[0].reset_state()
            found = np.concatenate([call(SERIES[:2, :2]), call(SERIES[:2, 2:])], axis=1)
            np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)

    def test_from_batch_to_batch(self):
        stateful, whole = self.pair(lambda **kw: layers.GRU(4, return_sequences=True, **kw))
        # The second batch goes on where the first one stopped.
        batches = np.concatenate([SERIES[:2, :3], SERIES[:2, 3:]])
        expected = whole.predict(SERIES[:2], verbose=0)
        found = stateful.predict(batches, batch_size=2, verbose=0)
        np.testing.assert_allclose(np.concatenate([found[:2], found[2:]], axis=1), expected, atol=1e-6)

    @pytest.mark.medium
    def test_in_evaluation(self):
        stateful, whole = self.pair(lambda **kw: layers.LSTM(4, return_sequences=True, **kw))
        targets = RNG.normal(size=(2, 6, 4)).astype("f4")
        for model in (stateful, whole):
            model.compile("sgd", "mse")
        expected = whole.evaluate(SERIES[:2], targets, verbose=0)
        halves = [SERIES[:2, :3], SERIES[:2, 3:]], [targets[:, :3], targets[:, 3:]]
        parts = [stateful.evaluate(x, y, batch_size=2, verbose=0) for x, y in zip(*halves, strict=True)]
        assert np.mean(parts) == pytest.approx(expected, rel=1e-5)
        stateful.layers[0].reset_state()
        whole_pass = stateful.evaluate(*map(np.concatenate, halves), batch_size=2, verbose=0)
        assert whole_pass == pytest.approx(expected, rel=1e-5)
        stateful.layers[0].reset_state()
        parts = [stateful.test_on_batch(x, y) for x, y in zip(*halves, strict=True)]
        assert np.mean(parts) == pytest.approx(expected, rel=1e-5)

    def test_eagerly(self):
        stateful, whole = self.pair(lambda **kw: layers.GRU(4, return_sequences=True, **kw))
        stateful.compile(run_eagerly=True)
        found = np.concatenate(
            [stateful.predict(part, batch_size=2, verbose=0) for part in np.split(SERIES[:2], 2, 1)], 1
        )
        np.testing.assert_allclose(found, whole.predict(SERIES[:2], verbose=0), atol=1e-6)

    def test_another_size_of_batch_is_refused(self):
        stateful, _ = self.pair(lambda **kw: layers.GRU(4, **kw))
        with pytest.raises(ValueError, match=r"\(batch\).*size 2"):
            stateful.predict(SERIES[:3], batch_size=2, verbose=0)


class TestAccumulatedGradients:
    @pytest.mark.medium
    @pytest.mark.parametrize(
        "make",
        [
            lambda **kw: kerax.optimizers.SGD(kerax.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), **kw),
            lambda **kw: kerax.optimizers.Adam(
                0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=None, **kw
            ),
            lambda **kw: kerax.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=2, **kw),
            lambda **kw: kerax.optimizers.AdamW(kerax.optimizers.schedules.CosineDecay(0.1, 5, warmup_steps=2), **kw),
        ],
        ids=["schedule", "average", "overwritten", "warmup"],
    )
    def test_small_batches_are_one_large_batch(self, make):
        found = []
        for steps, size in ((None, 16), (4, 4)):
            model = linear(optimizer=make(gradient_accumulation_steps=steps))
            model.fit(X, Y, batch_size=size, epochs=3, shuffle=False, verbose=0)
            rate = float(model.optimizer.learning_rate)
            found.append([*map(np.asarray, model.get_weights()), rate, int(model.optimizer.iterations)])
        for large, small in zip(*found, strict=True):
            np.testing.assert_allclose(small, large, rtol=1e-5, atol=1e-7)


class TestRunsInsideARun:
    def history(self, hook):
        model = linear()
        watching = kerax.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batch == 3 and hook(model))
        return model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=[watching]).history

    @pytest.mark.medium
    @pytest.mark.parametrize(
        "hook",
        [
            lambda model: model.evaluate(X[:8], Y[:8], verbose=0),
            lambda model: model.test_on_batch(X[:8], Y[:8]),
            lambda model: (model.predict(X, verbose=0), model.evaluate(X, Y, batch_size=8, verbose=0)),
            lambda model: linear().fit(X, Y, verbose=0),
        ],
        ids=["evaluate", "test_on_batch", "both", "another model's fit"],
    )
    def test_the_running_epoch_keeps_its_numbers(self, hook):
        assert self.history(hook) == self.history(lambda model: None)

    def test_validation_is_read_from_metrics_afterwards(self):
        model, seen = linear(), []
        read = kerax.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(model.metrics[-1].result()["mae"])
        )
        logs = model.fit(X, Y, validation_data=(X, -Y), verbose=0, callbacks=[read]).history
        assert float(seen[0]) == pytest.approx(logs["val_mae"][0])

    def test_an_evaluation_that_began_before_writes_nothing_into_a_run(self):
        expected = linear().fit(X, Y, epochs=3, batch_size=4, shuffle=False, verbose=0).history
        model, began, may_end = linear(), threading.Event(), threading.Event()

        class Waits(kerax.callbacks.Callback):
            def on_test_batch_begin(self, batch, logs=None):
                began.set()
                assert may_end.wait(30)

        thread = threading.Thread(target=lambda: model.evaluate(X, Y, callbacks=[Waits()], verbose=0))

        class Ends(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 3 and not may_end.is_set():
                    may_end.set()
                    thread.join()

        thread.start()
        assert began.wait(30)
        logs = model.fit(X, Y, epochs=3, batch_size=4, shuffle=False, verbose=0, callbacks=[Ends()]).history
        assert logs == expected

    @pytest.mark.medium
    @pytest.mark.parametrize("interval", [0.005, 0.0005, 0.00001])
    def test_another_thread_predicts_meanwhile(self, interval):
        """Also in an evaluation that began before `fit`, or while arrays go to a run and back."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(interval)
        try:
            for _ in range(3):
                self.fit_while_another_thread_predicts()
        finally:
            sys.setswitchinterval(before)

    @staticmethod
    def fit_while_another_thread_predicts():
        model, errors, done = linear(), [], threading.Event()
        model.predict(X, verbose=0)

        def predict():
            while not done.is_set():
                try:
                    model.predict(X, verbose=0)
                    model.evaluate(X, Y, verbose=0)
                except BaseException as error:
                    errors.append(error)
                    return

        thread = threading.Thread(target=predict)
        thread.start()
        logs = model.fit(X, Y, epochs=30, batch_size=4, shuffle=False, verbose=0).history
        done.set()
        thread.join()
        assert not errors
        assert logs == linear().fit(X, Y, epochs=30, batch_size=4, shuffle=False, verbose=0).history
