"""Which batches the loops do, where hooks end them, and what the logs are called: compared with Keras."""

import warnings

import keras
import numpy as np
import pytest

import kerax

X = np.arange(40).reshape(20, 2).astype("float32") / 20
Y = np.ones((20, 1), "float32")


def make(library, outputs=1, **options):
    inputs = library.Input((2,))
    tensors = [library.layers.Dense(1, kernel_initializer="ones", name=name)(inputs) for name in "abc"[:outputs]]
    model = library.Model(inputs, tensors[0] if outputs == 1 else tensors)
    model.compile(**{"optimizer": "sgd", "loss": "mse"} | options)
    return model


def recorder(library, stop_at="", flag="stop_training"):
    """A callback that notes its batch hooks and sets a flag of the model in one of them."""

    class Recorder(library.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.calls = []

        def note(self, call):
            self.calls.append(call)
            if call == stop_at:
                setattr(self.model, flag, True)

    for kind in ("train", "test", "predict"):
        for end in ("begin", "end"):

            def hook(self, batch, logs=None, what=f"{kind} {end}"):
                self.note(f"{what} {batch}")

            setattr(Recorder, f"on_{kind}_batch_{end}", hook)
    Recorder.on_epoch_begin = lambda self, epoch, logs=None: self.note(f"epoch {epoch}")
    Recorder.on_epoch_end = lambda self, epoch, logs=None: self.note(f"end of {epoch}")
    Recorder.on_test_begin = lambda self, logs=None: self.note("test")
    return Recorder()


def trace(library, run, stop_at="", flag="stop_training", **options):
    model, callback = make(library, **options), recorder(library, stop_at, flag)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*ran out.*")
        found = run(model, callback)
    if hasattr(found, "history"):
        found = {name: np.round(values, 4).tolist() for name, values in found.history.items()}
    return callback.calls, np.shape(found) if isinstance(found, np.ndarray) else found


def fit(**arguments):
    given = {"batch_size": 4, "shuffle": False, "verbose": 0} | arguments
    return lambda model, callback: model.fit(X, Y, callbacks=[callback], **given)


def evaluate(model, callback):
    return round(float(model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[callback])), 4)


def predict(model, callback):
    return model.predict(X, batch_size=4, verbose=0, callbacks=[callback])


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (fit(epochs=2), {"steps_per_execution": 3}),
        (fit(epochs=4, steps_per_epoch=3), {}),
        (fit(epochs=2, steps_per_epoch=7), {"run_eagerly": True}),
        (fit(epochs=5, initial_epoch=3, validation_data=(X, Y), validation_steps=2), {}),
        (fit(epochs=4, validation_data=(X, Y), validation_freq=[1, 3], validation_batch_size=10), {}),
        (fit(epochs=2, validation_data=(X, Y), validation_steps=9), {"jit_compile": False}),
        (fit(epochs=3, steps_per_epoch=3, validation_data=(X, Y), validation_steps=1), {"steps_per_execution": 2}),
        (lambda model, callback: model.predict(X, batch_size=4, steps=3, verbose=0), {"steps_per_execution": 2}),
        (evaluate, {"steps_per_execution": 7}),
        (predict, {"steps_per_execution": 2}),
        (evaluate, {"steps_per_execution": 2, "run_eagerly": True}),
        (predict, {"steps_per_execution": 2, "jit_compile": False}),
        (lambda model, callback: model.predict(X, batch_size=4, steps=9, verbose=0, callbacks=[callback]), {}),
    ],
)
def test_batches_and_hooks_are_those_of_keras(run, options):
    assert trace(kerax, run, **options) == trace(keras, run, **options)


@pytest.mark.parametrize(
    ("run", "stop_at", "flag"),
    [
        (fit(epochs=3), "train begin 2", "stop_training"),
        (fit(epochs=3), "train end 2", "stop_training"),
        (fit(epochs=3, validation_data=(X, Y)), "test end 0", "stop_training"),
        (fit(epochs=2, validation_data=(X, Y)), "test end 0", "stop_evaluating"),
        (evaluate, "test", "stop_evaluating"),
        (evaluate, "test begin 2", "stop_evaluating"),
        (evaluate, "test end 2", "stop_evaluating"),
        (predict, "predict begin 1", "stop_predicting"),
        (predict, "predict end 1", "stop_predicting"),
    ],
)
def test_a_hook_ends_the_loop(run, stop_at, flag):
    assert trace(kerax, run, stop_at, flag) == trace(keras, run, stop_at, flag)


def test_pieces_that_come_one_by_one_are_counted_together():
    batches = lambda: iter([(X[:4], Y[:4])] * 5)
    run = lambda model, callback: model.evaluate(batches(), verbose=0, callbacks=[callback]) and None
    calls, _ = trace(kerax, run, steps_per_execution=2)
    hooks = [f"test {end} {batch}" for first in (0, 2, 4) for end, batch in (("begin", first), ("end", first + 1))]
    assert calls == ["test", *hooks]


def endless():
    while True:
        yield X[:4], Y[:4]


def test_endless_data_ends_where_a_hook_says():
    model, callback = make(kerax), recorder(kerax, "test end 3", "stop_evaluating")
    model.evaluate(endless(), callbacks=[callback], verbose=0)
    assert callback.calls[-1] == "test end 3"
    callback = recorder(kerax, "predict end 3", "stop_predicting")
    assert len(model.predict(endless(), callbacks=[callback], verbose=0)) == 16
    callback = recorder(kerax, "train end 3")
    model.fit(endless(), callbacks=[callback], verbose=0)
    assert callback.calls[-2:] == ["train end 3", "end of 0"]


def lists_of_names(library, metrics, weighted=None, outputs=1, loss="mse", y=Y):
    model = make(library, outputs, loss=loss, metrics=metrics, weighted_metrics=weighted)
    history = list(model.fit(X, y, verbose=0, validation_data=(X, y)).history)
    found = model.evaluate(X, y, verbose=0)
    results = model.evaluate(X, y, verbose=0, return_dict=True)
    return history, list(results), bool(np.isclose(np.ravel(found)[0], results["loss"]))


@pytest.mark.medium
@pytest.mark.parametrize(
    "arguments",
    [
        {"metrics": ["mse", "acc", "mae"]},
        {"metrics": ["mae", "acc"], "weighted": ["mae", "acc"]},
        {"metrics": [lambda y_true, y_pred: y_pred[:, 0], "mae", "mae"]},
        {"metrics": None, "outputs": 3, "y": [Y, Y, Y]},
        {"metrics": [["mae"], ["mae", "mse"], []], "outputs": 3, "y": [Y, Y, Y]},
        {"metrics": None, "outputs": 3, "loss": ["mse", None, None], "y": Y},
        {"metrics": None, "outputs": 3, "loss": [None, "mae", "mse"], "y": [Y, Y]},
        {"metrics": [None, ["mae"], None], "outputs": 3, "loss": ["mse", None, None], "y": [Y, Y, Y]},
    ],
)
def test_logs_have_the_names_and_the_order_of_keras(arguments):
    assert lists_of_names(kerax, **arguments) == lists_of_names(keras, **arguments)


@pytest.mark.medium
def test_metrics_have_the_targets_of_outputs_without_them_left_out():
    assert "c_mae" in lists_of_names(kerax, [None, None, ["mae"]], outputs=3, loss=["mse", None, "mse"], y=[Y, Y])[0]


@pytest.mark.parametrize("form", [(X, Y), [X, Y], [X, Y, np.ones(20)], (X, Y[:, 0])])
def test_forms_of_validation_data(form):
    found = [make(library).fit(X, Y, verbose=0, shuffle=False, validation_data=form) for library in (kerax, keras)]
    np.testing.assert_allclose(*(history.history["val_loss"] for history in found), rtol=1e-5)


def test_validation_data_may_lack_targets_where_the_loss_needs_none():
    model = kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(1, activity_regularizer="l2")])
    model.compile("sgd")
    for form in ((X,), [X]):
        assert "val_loss" in model.fit(X, verbose=0, validation_data=form).history


class TestComputeLoss:
    @pytest.mark.medium
    @pytest.mark.parametrize("eager", [False, True])
    def test_one_that_knows_no_training(self, eager):
        def run(library):
            class Own(library.Sequential):
                def compute_loss(self, x, y, y_pred, sample_weight=None):
                    return super().compute_loss(x, y, y_pred, sample_weight) * 2

            model = Own([library.Input((2,)), library.layers.Dense(1, kernel_initializer="ones")])
            model.compile("sgd", "mse", run_eagerly=eager)
            losses = model.fit(X, Y, shuffle=False, verbose=0).history["loss"]
            return [*losses, model.evaluate(X, Y, verbose=0), model.train_on_batch(X, Y)]

        np.testing.assert_allclose(run(kerax), run(keras), rtol=1e-5)

    def test_one_that_takes_keywords_alone(self):
        class Own(kerax.Sequential):
            def compute_loss(self, *, x=None, y=None, y_pred=None, **rest):
                assert rest["training"] in (True, False)
                return y_pred.mean()

        model = Own([kerax.Input((2,)), kerax.layers.Dense(1)])
        model.compile("sgd")
        assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


class TestMonitors:
    def run(self, library, metric, **arguments):
        callback = library.callbacks.EarlyStopping(**arguments)
        model = make(library, metrics=[metric])
        model.fit(X, Y, epochs=3, shuffle=False, verbose=0, validation_data=(X, Y), callbacks=[callback])
        return callback, model

    @pytest.mark.medium
    @pytest.mark.parametrize(
        ("make_metric", "monitor"),
        [
            (lambda library: library.metrics.R2Score(name="q"), "val_q"),
            (lambda library: library.metrics.MeanSquaredError(name="accuracy_of_q"), "accuracy_of_q"),
            (lambda library: "acc", "acc"),
            (lambda library: "mae", "val_mae"),
        ],
    )
    def test_the_metric_says_which_way_is_better(self, make_metric, monitor):
        found = {}
        for library in (kerax, keras):
            callback, _ = self.run(library, make_metric(library), monitor=monitor, min_delta=0.01)
            found[library] = callback.monitor_op.__name__, callback.best_epoch, round(callback.best, 4)
        assert found[kerax] == found[keras]

    @pytest.mark.parametrize("direction", ["up", "down", None])
    def test_metrics_of_users(self, direction):
        class Own(kerax.metrics.Mean):
            _direction = direction

            def update_state(self, y_true, y_pred, sample_weight=None):
                super().update_state(y_pred)

        if direction is None:
            with pytest.raises(ValueError, match="_direction"):
                self.run(kerax, Own("own"), monitor="val_own")
        else:
            callback, _ = self.run(kerax, Own("own"), monitor="val_own")
            assert callback.monitor_op is (kerax.ops.greater if direction == "up" else kerax.ops.less)

    @pytest.mark.parametrize("monitor", ["val_per", "val_per/1"])
    def test_an_array_is_monitored_by_its_mean_or_an_entry(self, monitor):
        class PerClass(kerax.metrics.Metric):
            _direction = "up"

            def __init__(self, name="per"):
                super().__init__(name=name)
                self.total = self.add_weight(shape=(3,), name="total")

            def update_state(self, y_true, y_pred, sample_weight=None):
                self.total.assign(np.array([1, 2, 6], "float32"))

            def result(self):
                return self.total.value

        callback, _ = self.run(kerax, PerClass(), monitor=monitor)
        assert callback.best == (2 if "/" in monitor else 3)

    def test_a_callback_used_again_starts_anew(self):
        for kind in ("EarlyStopping", "ReduceLROnPlateau"):
            callback = getattr(kerax.callbacks, kind)(monitor="loss", min_delta=0.5)
            assert callback.best is None
            for _ in range(2):
                make(kerax).fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
            callback.on_train_begin()
            assert callback.best is None and abs(callback.min_delta) == 0.5
