"""Mistakes that were made once: each test failed before its mend."""

import gc
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import config, layers, ops
from kerax.train import feed, training

pytestmark = pytest.mark.optimized

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.normal(size=(40, 2)).astype("float32")


@pytest.mark.medium
def test_assigned_numpy_memory_is_copied():
    for _ in range(20):
        dense = layers.Dense(3)
        dense.build((None, 4))
        kernel = np.ones((4, 3), np.float32)
        dense.set_weights([kernel, np.zeros(3, np.float32)])
        kernel[:] = 5
        np.testing.assert_array_equal(dense.kernel.value, np.ones((4, 3)))


@pytest.mark.medium
def test_initializers_of_users_are_told_apart_by_more_than_their_config():
    class Filled(kerax.initializers.Initializer):
        def __init__(self, function):
            self.function = function

        def __call__(self, shape, dtype=None):
            return self.function(shape)

        def get_config(self):
            return {}

    for number in (3.0, 4.0):
        dense = layers.Dense(2, kernel_initializer=Filled(lambda shape, n=number: np.full(shape, n)))
        dense.build((None, 2))
        assert dense.get_weights()[0][0, 0] == number


@pytest.mark.medium
def test_masks_survive_a_cast_to_the_compute_dtype():
    tokens = np.array([[1, 2, 0, 0]])
    lstm = layers.LSTM(2, dtype="mixed_bfloat16")
    embedded = layers.Embedding(3, 3, mask_zero=True)(tokens)
    masked = lstm(embedded)
    np.testing.assert_allclose(np.float32(masked), np.float32(lstm(np.asarray(embedded)[:, :2])), rtol=1e-2)


@pytest.mark.medium
def test_losses_of_eager_calls_do_not_pile_up():
    model = kerax.Sequential([layers.Dense(3, activity_regularizer="l2"), layers.Dense(1)])
    for _ in range(3):
        model(X)
    assert len(model.losses) == 1


@pytest.mark.medium
def test_dropout_may_stay_active_in_prediction_and_evaluation():
    inputs = kerax.Input((4,))
    model = kerax.Model(inputs, layers.Dropout(0.5)(layers.Dense(2)(inputs), training=True))
    model.compile("sgd", "mse")
    model.fit(X, Y, validation_data=(X, Y), verbose=0)
    assert (model.predict(X, verbose=0) == 0).any()


@pytest.mark.medium
def test_freezing_a_normalization_without_weights_is_obeyed_at_the_next_fit():
    norm = layers.BatchNormalization(scale=False, center=False)
    model = kerax.Sequential([kerax.Input((4,)), norm, layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    norm.trainable = False
    before = norm.get_weights()
    model.fit(X, Y, verbose=0)
    for old, new in zip(before, norm.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.medium
def test_arrays_made_in_build_leak_no_tracer():
    class Positions(kerax.Layer):
        def build(self, input_shape):
            self.table = jnp.arange(4.0)
            self.offset = self.add_weight(shape=(4,), initializer="ones", name="offset")
            self.offset.assign(ops.arange(4, dtype="float32"))

        def call(self, inputs):
            return inputs + self.table + self.offset.value

    inputs = kerax.Input((4,))
    model = kerax.Model(inputs, Positions()(inputs))
    np.testing.assert_array_equal(model.get_weights()[0], [0, 1, 2, 3])
    np.testing.assert_allclose(model(X), X + 2 * np.arange(4), rtol=1e-6)
    deferred = kerax.Sequential([Positions(), layers.Dense(2)])
    deferred.compile("sgd", "mse")
    deferred.fit(X, Y, verbose=0)


@pytest.mark.medium
def test_metrics_of_the_same_name_keep_their_own_state():
    class Counting(layers.Dense):
        def __init__(self, units):
            super().__init__(units)
            self.seen = kerax.metrics.Sum(name="loss")

    model = kerax.Sequential([kerax.Input((4,)), Counting(3), Counting(2)])
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"][-1])


@pytest.mark.medium
def test_a_sequential_takes_a_masked_input():
    inner = kerax.Sequential([layers.Dense(3), layers.LSTM(2)])
    tokens = kerax.Input((None,), dtype="int32")
    model = kerax.Model(tokens, inner(layers.Embedding(5, 3, mask_zero=True)(tokens)))
    padded, short = model(np.array([[1, 2, 0, 0, 0]])), model(np.array([[1, 2]]))
    np.testing.assert_allclose(padded, short, rtol=1e-5)


@pytest.mark.medium
def test_stateless_call_takes_a_key_for_random_layers():
    model = kerax.Sequential([kerax.Input((4,)), layers.Dropout(0.5)])
    outputs, _ = model.stateless_call([], [], X, training=True, key=1)
    assert (np.asarray(outputs) == 0).any()
    # Without one, as steps written for Keras call it: one made of the values, so that other inputs draw anew.
    first, again, other = (np.asarray(model.stateless_call([], [], x, training=True)[0]) for x in (X, X, X + 1))
    np.testing.assert_array_equal(first, again)
    assert ((first == 0) != (other == 0)).any()


@pytest.mark.medium
def test_a_step_without_logs_trains_the_same_from_large_arrays(monkeypatch):

    monkeypatch.setattr(config, "_resident_bytes", 0)
    monkeypatch.setattr(feed, "BLOCK_BYTES", 4096)
    results = []
    for with_logs in (True, False, False):

        class Quiet(kerax.Sequential):
            def train_step(self, state, data, with_logs=with_logs):
                logs, state = super().train_step(state, data)
                return (logs if with_logs else {}), state

        kerax.utils.set_random_seed(0)
        model = Quiet([kerax.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(2)])
        model.compile("sgd", "mse")
        rows = np.random.default_rng(1).normal(size=(4000, 64)).astype("float32")
        model.fit(rows, rows[:, :2], batch_size=4, verbose=0)
        results.append(model.get_weights()[0])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.medium
def test_metric_objects_keep_their_names_with_several_outputs():
    inputs = kerax.Input((4,))
    model = kerax.Model(inputs, {"a": layers.Dense(1, name="a")(inputs), "b": layers.Dense(1, name="b")(inputs)})
    metric = kerax.metrics.MeanSquaredError(name="mine")
    for _ in range(2):
        model.compile("sgd", "mse", metrics={"a": [metric], "b": ["mae"]})
        x, y = np.ones((4, 4), "float32"), np.ones((4, 1), "float32")
        history = model.fit(x, {"a": y, "b": y}, verbose=0).history
        assert {"a_mine", "b_mae"} <= set(history) and metric.name == "mine"


@pytest.mark.medium
def test_a_mask_that_is_passed_stays_with_the_call():
    for model in (
        kerax.Sequential([kerax.Input((3, 2)), layers.LSTM(2)]),
        kerax.Model(inputs := kerax.Input((3, 2)), layers.LSTM(2)(inputs)),
    ):
        x = jnp.ones((2, 3, 2))
        masked = model(x, mask=jnp.array([[True, False, False]] * 2))
        assert not np.allclose(masked, model(x))


@pytest.mark.medium
def test_a_key_is_not_baked_into_a_traced_function():
    drop = layers.Dropout(0.5)
    x = jnp.ones((3, 4))
    drop(x, training=True)
    with pytest.raises(ValueError, match="every call of the traced function would repeat it"):
        jax.jit(lambda x: drop(x, training=True))(x)
    variables = drop.variables_tree()
    jax.jit(lambda x: drop.apply(variables, x, training=True, key=jax.random.key(1))[0])(x)


def test_a_lost_mask_is_said_once():
    tokens = np.array([[1, 0]])
    model = kerax.Sequential([layers.Embedding(3, 2, mask_zero=True), layers.Flatten(), layers.Dense(1)])
    with pytest.warns(UserWarning, match="flatten.*has a mask, which this layer does not pass on"):
        model(tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(tokens)


@pytest.mark.medium
def test_stateless_call_takes_the_trees_of_a_state():
    class Own(kerax.Sequential):
        def train_step(self, state, data):
            x, y = data

            def loss_fn(params):
                y_pred, new = self.stateless_call(params, state.state, x, training=True)
                return jnp.mean((y - y_pred) ** 2), new

            (loss, new), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
            params, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
            return {"loss": loss}, state._replace(params=params, state=new, opt_state=opt_state)

    model = Own([kerax.Input((4,)), layers.BatchNormalization(), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(1, 1, (8, 4)).astype("float32")
    history = model.fit(x, np.ones((8, 1)), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert not np.allclose(model.layers[0].moving_mean.value, 0)


@pytest.mark.slow
def test_clear_session_forgets_programs():
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(1, kernel_initializer="he_normal")])
    before = model.predict(np.ones((2, 4)), verbose=0)
    kerax.utils.clear_session()
    np.testing.assert_array_equal(model.predict(np.ones((2, 4)), verbose=0), before)


def test_a_callback_sees_the_outputs_of_its_batch_alone():
    seen = []

    class Note(kerax.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            seen.append(np.asarray(logs["outputs"]))

    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(2)])
    outputs = model.predict(X, batch_size=16, verbose=0, callbacks=[Note()])
    assert [len(batch) for batch in seen] == [16, 16, 8]
    np.testing.assert_array_equal(np.concatenate(seen), outputs)


@pytest.mark.medium
@pytest.mark.parametrize("steps_per_epoch", [None, 2])
def test_the_data_of_a_fit_is_freed_with_it(steps_per_epoch, monkeypatch):
    feeds = []

    class Noted(training.Feed):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            feeds.append(weakref.ref(self))

    monkeypatch.setattr(training, "Feed", Noted)
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    gc.disable()
    try:
        model.fit(X, Y, batch_size=16, steps_per_epoch=steps_per_epoch, verbose=0)
        assert [feed() for feed in feeds] == [None]
    finally:
        gc.enable()


class TestNoTracerLeaks:
    """JAX's own check, switched on around everything a user calls."""

    class Recurrent(kerax.Model):
        def __init__(self):
            super().__init__()
            self.table = kerax.layers.Embedding(9, 4, mask_zero=True)
            self.recurrent = kerax.layers.LSTM(3, recurrent_dropout=0.1)
            self.head = kerax.layers.Dense(1)

        def call(self, x):
            return self.head(self.recurrent(self.table(x)))

    @staticmethod
    def functional():
        inputs = kerax.Input((5,), dtype="int32")
        x = kerax.layers.Embedding(9, 4, mask_zero=True)(inputs)
        x = kerax.layers.LayerNormalization()(x + kerax.layers.MultiHeadAttention(2, 2)(x, x))
        return kerax.Model(inputs, kerax.layers.Dense(1)(kerax.layers.GlobalAveragePooling1D()(x)))

    @pytest.mark.medium
    @pytest.mark.parametrize("make", [functional, Recurrent], ids=["functional", "subclass"])
    def test_under_the_check(self, make):
        x, y = np.ones((5, 5), "int32"), np.ones((5, 1), "float32")
        with jax.checking_leaks():
            model = make()
            model.compile("adam", "mse", metrics=["mae"])
            model.fit(x, y, batch_size=2, epochs=2, validation_data=(x, y), verbose=0)
            model.evaluate(x, y, verbose=0)
            model.predict(x, verbose=0)
            model.train_on_batch(x, y)
            model(x)
