"""Bad input is refused before anything is compiled, by a message with the way out, and the model is none the worse."""

import jax
import numpy as np
import pytest

import kerax

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
LABELS = np.arange(12) % 3
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
_compilations = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: _compilations.append(event) if event.endswith("backend_compile_duration") else None
)


def make_model(loss="sparse_categorical_crossentropy", kind="sequential", units=3, **arguments):
    dense = kerax.layers.Dense(units, activation="softmax", name="scores")
    if kind == "sequential":
        model = kerax.Sequential([kerax.Input((4,)), dense])
    elif kind == "functional":
        inputs = kerax.Input((4,), name="features")
        model = kerax.Model(inputs, dense(inputs))
    else:

        class Own(kerax.Model):
            def __init__(self):
                super().__init__()
                self.dense = dense

            def call(self, inputs):
                return self.dense(inputs)

        model = Own()
        model(X[:1])
    model.compile(kerax.optimizers.SGD(0.1), loss, **arguments)
    model.get_weights()
    return model


def assert_refused(call, *parts):
    """`call` raises a ValueError or TypeError whose message holds every part, and compiles nothing."""
    _compilations.clear()
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert not _compilations
    return message


def assert_unharmed(model, before, y=LABELS):
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.isfinite(model.fit(X, y, verbose=0).history["loss"]).all()


KINDS = pytest.mark.parametrize("kind", ["sequential", "functional", "subclassed"])


class TestOrderOfCalls:
    @pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
    def test_training_before_compile(self, method):
        model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(1)])
        assert_refused(lambda: getattr(model, method)(X, LABELS), "compile", method)

    def test_fit_without_an_optimizer(self):
        model = make_model()
        model.compile(None, "mse")
        assert_refused(lambda: model.fit(X, LABELS, verbose=0), "optimizer")

    def test_fit_without_anything_to_minimise(self):
        model = make_model()
        model.compile("sgd")
        with pytest.raises(ValueError, match="`loss`"):
            model.fit(X, LABELS, verbose=0)

    def test_a_loss_without_targets(self):
        model = make_model()
        assert_refused(lambda: model.fit(X, verbose=0), "targets", "`y`")

    def test_a_layer_that_forgot_super_init(self):
        class Forgetful(kerax.layers.Layer):
            def __init__(self):
                self.units = 3

            def call(self, inputs):
                return inputs

        for call in (
            lambda: Forgetful()(X),
            lambda: kerax.Sequential([kerax.Input((4,)), Forgetful()]),
            lambda: Forgetful()(kerax.Input((4,))),
        ):
            assert_refused(call, "super().__init__()", "Forgetful")

    def test_a_model_that_forgot_super_init(self):
        class Forgetful(kerax.Model):
            def __init__(self):
                self.dense = kerax.layers.Dense(1)

            def call(self, inputs):
                return self.dense(inputs)

        assert_refused(lambda: Forgetful()(X), "super().__init__()", "Forgetful")
        assert_refused(lambda: Forgetful().compile("sgd", "mse"), "super().__init__()", "Forgetful")
        assert_refused(lambda: Forgetful().fit(X, X), "super().__init__()", "Forgetful")

    def test_a_layer_without_call(self):
        class Empty(kerax.layers.Layer):
            pass

        with pytest.raises(NotImplementedError, match="Empty.*call"):
            Empty()(X)


class TestData:
    @KINDS
    def test_wrong_feature_count(self, kind):
        model = make_model(kind=kind)
        before = model.get_weights()
        for method in ("fit", "evaluate"):
            assert_refused(lambda m=method: getattr(model, m)(X[:, :3], LABELS, verbose=0), "4", "3")
        assert_refused(lambda: model.predict(X[:, :3], verbose=0), "4", "3")
        assert_refused(lambda: model.train_on_batch(X[:, :3], LABELS), "4", "3")
        with pytest.raises(ValueError, match="4.*3"):
            model(X[:, :3])
        assert_unharmed(model, before)
        assert_refused(lambda: model.fit(X[:, :3], LABELS, verbose=0), "4", "3")

    @pytest.mark.parametrize("kind", ["sequential", "functional"])
    def test_wrong_rank(self, kind):
        model = make_model(kind=kind)
        before = model.get_weights()
        assert_refused(lambda: model.fit(np.stack([X, X], 2), LABELS, verbose=0), "shape")
        assert_refused(lambda: model.predict(X[:, 0], verbose=0), "shape")
        assert_unharmed(model, before)

    def test_unequal_lengths(self):
        model = make_model()
        before = model.get_weights()
        assert_refused(lambda: model.fit(X, LABELS[:5], verbose=0), "number of samples", "12", "5")
        assert_refused(lambda: model.fit(X, LABELS, sample_weight=np.ones(3), verbose=0), "sample_weight", "3")
        assert_refused(lambda: model.evaluate(X, LABELS[:5], verbose=0), "evaluate", "12", "5")
        assert_refused(lambda: model.fit(X, LABELS, validation_data=(X, LABELS[:5]), verbose=0), "validation", "5")
        assert_unharmed(model, before)

    def test_wrong_number_of_inputs(self):
        left, right = kerax.Input((4,), name="left"), kerax.Input((4,), name="right")
        model = kerax.Model([left, right], kerax.layers.Dense(1)(kerax.layers.Add()([left, right])))
        model.compile("sgd", "mse")
        assert_refused(lambda: model.fit(X, X[:, :1], verbose=0), "2 inputs", "left", "right")
        assert_refused(lambda: model.fit({"left": X, "rihgt": X}, X[:, :1], verbose=0), "right")

    def test_empty_data(self):
        model = make_model()
        for call in (
            lambda: model.fit(X[:0], LABELS[:0], verbose=0),
            lambda: model.fit([], [], verbose=0),
            lambda: model.fit({}, verbose=0),
            lambda: model.fit(iter([]), verbose=0),
            lambda: model.evaluate(X[:0], LABELS[:0], verbose=0),
            lambda: model.predict(X[:0], verbose=0),
            lambda: model.predict(iter([]), verbose=0),
            lambda: model.fit(X, LABELS, validation_data=(X[:0], LABELS[:0]), verbose=0),
        ):
            assert_refused(call, "empty")
        assert_refused(lambda: model.fit(None, verbose=0), "`x`", "None")
        assert_refused(lambda: model.fit(3, verbose=0), "`x`")

    @pytest.mark.parametrize("batch_size", [0, -1, 2.5, "32"])
    def test_bad_batch_size(self, batch_size):
        model = make_model()
        assert_refused(lambda: model.fit(X, LABELS, batch_size=batch_size, verbose=0), "batch_size", repr(batch_size))
        assert_refused(lambda: model.evaluate(X, LABELS, batch_size=batch_size, verbose=0), "batch_size")
        assert_refused(lambda: model.predict(X, batch_size=batch_size, verbose=0), "batch_size")

    def test_text_and_objects(self):
        model = make_model()
        assert_refused(lambda: model.fit(np.array([["a"] * 4] * 12), LABELS, verbose=0), "numbers")
        assert_refused(lambda: model.fit(X, np.array(["cat"] * 12), verbose=0), "`y`", "numbers")
        assert_refused(lambda: model.fit(np.array([None] * 12), LABELS, verbose=0), "object")

    def test_what_a_source_of_batches_cannot_take(self):
        model = make_model()

        def batches():
            yield X, LABELS

        assert_refused(lambda: model.fit(batches(), LABELS, verbose=0), "`y`")
        assert_refused(lambda: model.fit(batches(), sample_weight=LABELS, verbose=0), "`sample_weight`")
        assert_refused(lambda: model.fit(batches(), validation_split=0.5, verbose=0), "validation_split")
        assert_refused(lambda: model.fit(iter([(1, 2, 3, 4)]), verbose=0), "4 parts")


class TestLabels:
    @pytest.mark.parametrize("bad", [3, -1, 255])
    def test_labels_out_of_range(self, bad):
        model = make_model()
        before = model.get_weights()
        labels = LABELS.copy()
        labels[4] = bad
        assert_refused(lambda: model.fit(X, labels, verbose=0), "[0, 3)", str(bad))
        assert_refused(lambda: model.evaluate(X, labels, verbose=0), "[0, 3)", str(bad))
        assert_refused(lambda: model.train_on_batch(X, labels), "[0, 3)", str(bad))
        assert_refused(lambda: model.fit(X, LABELS, validation_data=(X, labels), verbose=0), "[0, 3)", str(bad))
        assert_refused(lambda: model.fit(X[:4], LABELS[:4], validation_data=(X, labels[:, None]), verbose=0), "[0, 3)")
        assert_unharmed(model, before)

    def test_labels_out_of_range_in_the_first_batch_of_a_generator(self):
        model = make_model()
        assert_refused(lambda: model.fit(iter([(X, LABELS + 1)]), verbose=0), "[0, 3)", "3")

    def test_one_hot_labels_for_a_sparse_loss(self):
        model = make_model()
        before = model.get_weights()
        assert_refused(lambda: model.fit(X, ONE_HOT, verbose=0), "(12, 3)")
        assert_unharmed(model, before)

    def test_class_numbers_for_a_categorical_loss(self):
        model = make_model("categorical_crossentropy")
        before = model.get_weights()
        assert_refused(lambda: model.fit(X, LABELS, verbose=0), "shape", "(12, 3)")
        assert_refused(lambda: model.fit(X, ONE_HOT[:, :2], verbose=0), "shape", "(12, 3)", "(12, 2)")
        assert_unharmed(model, before, ONE_HOT)

    def test_targets_of_another_shape_for_a_regression_loss(self):
        model = make_model("mse")
        before = model.get_weights()
        assert_refused(lambda: model.fit(X, X, verbose=0), "shape", "(12, 4)", "(12, 3)")
        assert_unharmed(model, before, ONE_HOT)
        assert_refused(lambda: model.fit(X, X, verbose=0), "shape", "(12, 4)", "(12, 3)")

    def test_targets_of_another_shape_for_a_binary_loss(self):
        model = make_model("binary_crossentropy", units=1)
        assert_refused(lambda: model.fit(X, ONE_HOT, verbose=0), "shape", "(12, 3)", "(12, 1)")

    def test_number_and_names_of_targets(self):
        inputs = kerax.Input((4,))
        outputs = [kerax.layers.Dense(1, name="one")(inputs), kerax.layers.Dense(1, name="two")(inputs)]
        model = kerax.Model(inputs, outputs)
        model.compile("sgd", "mse")
        assert_refused(lambda: model.fit(X, X[:, :1], verbose=0), "one", "two")
        assert_refused(lambda: model.fit(X, {"one": X[:, :1], "tow": X[:, :1]}, verbose=0), "tow", "two")
        assert_refused(lambda: model.fit(X, {"one": X[:, :1]}, verbose=0), "two")

    def test_class_weights(self):
        model = make_model()
        assert_refused(lambda: model.fit(X, LABELS, class_weight={"cat": 1.0}, verbose=0), "class_weight", "cat")
        assert_refused(lambda: model.fit(X, LABELS, class_weight={-1: 1.0}, verbose=0), "class_weight", "-1")
        assert_refused(lambda: model.fit(X, LABELS, class_weight=[1.0, 2.0], verbose=0), "class_weight")
        assert_refused(lambda: model.fit(X, class_weight={0: 1.0}, verbose=0), "class_weight")


class TestNames:
    @pytest.mark.parametrize(
        "arguments, parts",
        [
            (dict(optimizer="adma"), ("adma", "Did you mean 'adam'")),
            (dict(loss="sparse_categorical_crossentrop"), ("Did you mean 'sparse_categorical_crossentropy'",)),
            (dict(loss="sgd", metrics=["acuracy"]), ("sgd",)),
            (dict(loss="mse", metrics=["acuracy"]), ("Did you mean 'accuracy'",)),
            (dict(loss="mse", weighted_metrics={"a": ["precison"]}), ("Did you mean 'precision'",)),
            (dict(loss="mse", steps_per_execution=0), ("steps_per_execution", "0")),
            (dict(optimizer=42, loss="mse"), ("optimizer", "42")),
            (dict(optimizer="sgd", loss=42), ("loss", "42")),
            (dict(loss="mse", metrics=[42]), ("metric", "42")),
        ],
    )
    def test_compile_refuses_what_it_does_not_know(self, arguments, parts):
        model = make_model()
        assert_refused(lambda: model.compile(**arguments), *parts)

    def test_losses_for_outputs_that_are_not_there(self):
        inputs = kerax.Input((4,))
        outputs = [kerax.layers.Dense(1, name="one")(inputs), kerax.layers.Dense(1, name="two")(inputs)]
        model = kerax.Model(inputs, outputs)
        for arguments in (
            dict(loss={"one": "mse", "tow": "mse"}),
            dict(loss="mse", loss_weights={"tow": 1.0}),
            dict(loss="mse", metrics={"tow": ["mae"]}),
        ):
            model.compile("sgd", **arguments)
            assert_refused(lambda: model.fit(X, [X[:, :1]] * 2, verbose=0), "tow", "two")
        model.compile("sgd", loss=["mse"] * 3)
        assert_refused(lambda: model.fit(X, [X[:, :1]] * 2, verbose=0), "3", "2")

    @pytest.mark.parametrize(
        "make, parts",
        [
            (lambda: kerax.layers.Dense(3, activation="rleu"), ("rleu", "Did you mean 'relu'")),
            (lambda: kerax.layers.Dense(3, activatoin="relu"), ("activatoin", "Did you mean 'activation'")),
            (lambda: kerax.layers.Dense(3, kernel_initializer="glorot_unifrom"), ("glorot_uniform",)),
            (lambda: kerax.layers.Dense(3, kernel_regularizer="l3"), ("l3",)),
            (lambda: kerax.layers.Dense(3, dtype="flaot32"), ("flaot32",)),
            (lambda: kerax.layers.Dense(0), ("units", "0")),
            (lambda: kerax.layers.Dense(), ("units",)),
            (lambda: kerax.Sequential([3]), ("3",)),
            (lambda: kerax.Sequential(kerax.layers.Dense(1)), ("list", "Dense")),
        ],
    )
    def test_layers_refuse_what_they_do_not_know(self, make, parts):
        assert_refused(make, *parts)

    @pytest.mark.parametrize(
        "arguments, parts",
        [
            (dict(epochs=-1), ("epochs", "-1")),
            (dict(epochs=1.5), ("epochs", "1.5")),
            (dict(initial_epoch=-1), ("initial_epoch",)),
            (dict(steps_per_epoch=0), ("steps_per_epoch", "0")),
            (dict(validation_split=1.0), ("validation_split", "1.0")),
            (dict(validation_split=-0.1), ("validation_split",)),
            (dict(validation_split=0.99), ("validation_split", "12 samples")),
            (dict(validation_freq=0), ("validation_freq", "0")),
            (dict(validation_freq="often"), ("validation_freq", "often")),
            (dict(validation_steps=0, validation_data=(X, LABELS)), ("validation_steps", "0")),
            (dict(validation_batch_size=-3, validation_data=(X, LABELS)), ("batch_size", "-3")),
            (dict(callbacks=["stop"]), ("callbacks", "stop")),
            (dict(callbacks=[kerax.callbacks.EarlyStopping]), ("callbacks", "EarlyStopping")),
            (dict(verbose="loud"), ("verbose", "loud")),
            (dict(epoch=3), ("epoch",)),
        ],
    )
    def test_fit_refuses_arguments_out_of_range(self, arguments, parts):
        model = make_model()
        assert_refused(lambda: model.fit(X, LABELS, **({"verbose": 0} | arguments)), *parts)

    @pytest.mark.parametrize("method", ["evaluate", "predict"])
    def test_evaluate_and_predict_refuse_bad_steps(self, method):
        model = make_model()
        arguments = {"x": X, "steps": 0, "verbose": 0} | ({"y": LABELS} if method == "evaluate" else {})
        assert_refused(lambda: getattr(model, method)(**arguments), "steps", "0")


class TestGraphs:
    def test_an_output_that_does_not_depend_on_the_inputs(self):
        one, two = kerax.Input((4,), name="one"), kerax.Input((4,), name="two")
        joined = kerax.layers.Add()([one, two])
        assert_refused(lambda: kerax.Model(one, joined), "disconnected", "two", "one")

    def test_outputs_that_are_not_symbolic(self):
        inputs = kerax.Input((4,))
        assert_refused(lambda: kerax.Model(inputs, X), "outputs", "symbolic")
        assert_refused(lambda: kerax.Model(X, inputs), "inputs", "symbolic")

    def test_a_layer_that_does_not_fit(self):
        inputs = kerax.Input((4,))
        assert_refused(lambda: kerax.layers.Conv2D(2, 3)(inputs), "conv2d", "ndim")
        layer = kerax.layers.Dense(2, name="mine")
        layer(inputs)
        assert_refused(lambda: layer(kerax.Input((5,))), "mine", "4", "5")

    def test_numpy_on_a_symbolic_tensor(self):
        inputs = kerax.Input((4,))
        assert_refused(lambda: np.tanh(inputs), "symbolic", "kerax.ops")
        assert_refused(lambda: bool(inputs), "symbolic")


def test_an_error_in_the_users_call_ends_at_the_users_line():
    class Wrong(kerax.layers.Layer):
        def call(self, inputs):
            return inputs @ np.ones((7, 2), "float32")

    model = kerax.Sequential([kerax.layers.Dense(3), Wrong(name="wrong")])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError) as caught:
        model.fit(X, X, verbose=0)
    last = caught.traceback[-1]
    assert last.name == "call" and str(last.path) == __file__
    assert any("wrong" in note for note in caught.value.__notes__)


def test_a_call_without_return_is_said():
    class Forgets(kerax.Model):
        def call(self, x):
            x * 2

    x = np.ones((4, 2), "float32")
    for call in (lambda m: m.fit(x, x, verbose=0), lambda m: m.predict(x, verbose=0), lambda m: m.train_on_batch(x, x)):
        model = Forgets()
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="Forgets.*`call` returned nothing"):
            call(model)


@pytest.mark.parametrize("shape", [(4,), (8, 8, 1), (5, 3)])
def test_one_row_needs_the_axis_of_the_batch(shape):
    model = kerax.Sequential([kerax.Input(shape), kerax.layers.Flatten()])
    with pytest.raises(ValueError, match=r"add the axis of the batch, `x\[None\]`"):
        model.predict(np.ones(shape, "float32"), verbose=0)
