"""What a user may replace or set: steps, losses, optimizers, precision, what is trained."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import kerax
from tests.pairs import assert_same_fit, make_pair
from tests.train.test_fit import ROWS, X, Y, regression, two_headed


class TestOverriding:
    def test_a_pure_train_step(self):
        class Doubled(kerax.Sequential):
            def train_step(self, state, data):
                logs, state = super().train_step(state, data)
                return {"twice": logs["loss"] * 2, **logs}, state

        model = Doubled([kerax.Input((4,)), kerax.layers.Dense(2)])
        model.compile("sgd", "mse")
        history = model.fit(X, Y, verbose=0).history
        assert history["twice"] == pytest.approx([2 * value for value in history["loss"]])

    def test_a_train_step_from_scratch_with_jax(self):
        class Own(kerax.Model):
            def __init__(self):
                super().__init__()
                self.dense = kerax.layers.Dense(2, name="dense")

            def call(self, inputs):
                return self.dense(inputs)

            def train_step(self, state, data):
                x, y = data

                def loss_fn(params):
                    y_pred, new = self.apply({"params": params, "state": state.state}, x, training=True)
                    return jnp.mean((y - y_pred) ** 2), new

                (loss, new), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
                params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
                opt_state = state.opt_state._replace(iterations=state.opt_state.iterations + 1)
                return {"mine": loss}, state._replace(params=params, state=new, opt_state=opt_state)

        model = Own()
        model.compile("sgd")
        history = model.fit(X, Y, batch_size=22, epochs=4, shuffle=False, verbose=0).history
        assert list(history) == ["mine"]
        x = np.concatenate([X, np.ones((ROWS, 1))], 1)
        fresh = Own()
        fresh.build((None, 4))
        assert history["mine"][3] < history["mine"][0]
        assert x.shape == (ROWS, 5)

    @pytest.mark.medium
    @pytest.mark.parametrize("micro_batches", [None, 2])
    def test_what_compute_metrics_returns_is_logged(self, micro_batches):
        def make(module):
            class Own(module.Sequential):
                def compute_metrics(self, x, y, y_pred, sample_weight=None):
                    results = super().compute_metrics(x, y, y_pred, sample_weight)
                    return {"loss": results["loss"], "twice": 2 * results["mae"]}

            model = Own([module.Input((4,)), module.layers.Dense(2)])
            extra = {"micro_batches": micro_batches} if module is kerax else {}
            model.compile("sgd", "mse", metrics=["mae"], **extra)
            return model

        model, other = assert_same_fit(make, X, Y, batch_size=22, epochs=2, validation_split=0.5)
        ours, theirs = (each.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True) for each in (model, other))
        assert ours == pytest.approx(theirs, rel=1e-5)

    def test_a_train_step_with_metric_objects(self):
        class Tracked(kerax.Model):
            def __init__(self):
                super().__init__()
                self.dense = kerax.layers.Dense(2)
                self.largest = kerax.metrics.Mean(name="largest")

            def call(self, inputs):
                return self.dense(inputs)

            def train_step(self, state, data):
                logs, state = super().train_step(state, data)
                self.largest.update_state(jnp.max(jnp.abs(data[1])))
                return {"loss": logs["loss"], "largest": self.largest.result()}, state

        model = Tracked()
        model.compile("sgd", "mse")
        history = model.fit(X, Y, batch_size=11, epochs=2, shuffle=False, verbose=0).history
        expected = np.mean([np.abs(Y[:11]).max(), np.abs(Y[11:]).max()])
        assert history["largest"] == pytest.approx([expected] * 2, rel=1e-5)

    def test_a_wrong_train_step_says_what_to_return(self):
        class Wrong(kerax.Sequential):
            def train_step(self, state, data):
                return {"loss": 0.0}, state.params

        model = Wrong([kerax.Input((4,)), kerax.layers.Dense(2)])
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="TrainState"):
            model.fit(X, Y, verbose=0)

    @pytest.mark.medium
    def test_compute_loss(self):
        def make(module):
            class Weighted(module.Model):
                def __init__(self):
                    super().__init__()
                    self.dense = module.layers.Dense(2, name="dense")

                def call(self, inputs):
                    return self.dense(inputs)

                def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                    base = super().compute_loss(x, y, y_pred, sample_weight, training)
                    return 3.0 * base + module.ops.mean(module.ops.square(y_pred))

            model = Weighted()
            model(X)
            model.compile(module.optimizers.SGD(0.05), "mse", metrics=["mae"])
            return model

        assert_same_fit(make, X, Y, batch_size=8, epochs=2)

    @pytest.mark.medium
    def test_add_loss_in_a_layer(self):
        def make(module):
            class Penalty(module.layers.Layer):
                def call(self, inputs):
                    self.add_loss(0.1 * module.ops.mean(module.ops.square(inputs)))
                    return inputs

            model = module.Sequential([module.Input((4,)), module.layers.Dense(2, name="a"), Penalty(name="p")])
            model.compile(module.optimizers.SGD(0.05), "mse")
            return model

        ours, theirs = assert_same_fit(make, X, Y, batch_size=8, epochs=2)
        assert ours.evaluate(X, Y, verbose=0) == pytest.approx(theirs.evaluate(X, Y, verbose=0), abs=1e-5)

    @pytest.mark.medium
    def test_arrays_and_counts_that_are_added_are_summed(self):
        def make(module):
            class Penalty(module.layers.Layer):
                def call(self, inputs):
                    self.add_loss(module.ops.mean(module.ops.square(inputs), axis=-1))
                    self.add_loss(module.ops.sum(module.ops.cast(inputs > 0, "int32"), axis=-1))
                    return inputs

            layer = module.layers.Dense(2, name="a", kernel_regularizer=lambda kernel: 0.1 * module.ops.square(kernel))
            model = module.Sequential([module.Input((4,)), layer, Penalty(name="p")])
            model.compile(module.optimizers.SGD(0.05), "mse")
            return model

        ours, theirs = assert_same_fit(make, X, Y, batch_size=8, epochs=1)
        found, expected = (model.evaluate(X[:13], Y[:13], batch_size=5, verbose=0) for model in (ours, theirs))
        assert found == pytest.approx(expected, rel=1e-5)

    def test_add_loss_alone_needs_no_targets(self):
        class Own(kerax.Model):
            def __init__(self):
                super().__init__()
                self.dense = kerax.layers.Dense(4)

            def call(self, inputs):
                outputs = self.dense(inputs)
                self.add_loss(jnp.mean((outputs - inputs) ** 2))
                return outputs

        model = Own()
        model.compile(kerax.optimizers.SGD(0.1))
        losses = model.fit(X, epochs=3, verbose=0).history["loss"]
        assert losses[2] < losses[0]

    def test_test_step_and_predict_step(self):
        class Own(kerax.Sequential):
            def test_step(self, state, data):
                logs, state = super().test_step(state, data)
                return logs | {"extra": jnp.float32(7.0)}, state

            def predict_step(self, state, data):
                return {"doubled": 2 * super().predict_step(state, data)}

        model = Own([kerax.Input((4,)), kerax.layers.Dense(2)])
        model.compile("sgd", "mse")
        assert model.evaluate(X, Y, return_dict=True, verbose=0)["extra"] == 7
        np.testing.assert_allclose(model.predict(X, verbose=0)["doubled"], 2 * np.asarray(model(X)), rtol=1e-5)


class TestSettings:
    @pytest.mark.slow
    def test_run_eagerly_runs_python_at_every_step_and_gives_the_same_weights(self):
        calls = []

        def make(eagerly):
            class Noted(kerax.layers.Layer):
                def call(self, inputs):
                    calls.append(isinstance(inputs, jax.core.Tracer))
                    return inputs

            kerax.utils.set_random_seed(3)
            model = kerax.Sequential([kerax.Input((4,)), Noted(), kerax.layers.Dense(2)])
            model.compile("adam", "mse", metrics=["mae"], run_eagerly=eagerly)
            calls.clear()
            history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, validation_data=(X, Y)).history
            return model.get_weights(), history, len(calls)

        weights, history, count = make(True)
        expected, expected_history, traced = make(False)
        assert count >= 8 > traced
        for one, two in zip(weights, expected):
            np.testing.assert_allclose(one, two, atol=1e-6)
        for name in history:
            np.testing.assert_allclose(history[name], expected_history[name], atol=1e-6)

    @pytest.mark.medium
    def test_values_can_be_printed_and_branched_on_when_eager(self):
        class Branching(kerax.Model):
            def __init__(self):
                super().__init__()
                self.dense = kerax.layers.Dense(2)

            def call(self, inputs):
                return self.dense(inputs) if float(inputs.sum()) > -1e9 else inputs

        model = Branching()
        model.compile("sgd", "mse", run_eagerly=True)
        assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"][0])

    @pytest.mark.medium
    @pytest.mark.parametrize("steps", [3, pytest.param("auto", marks=pytest.mark.slow)])
    def test_steps_per_execution_changes_no_number(self, steps):
        def run(**arguments):
            kerax.utils.set_random_seed(5)
            model = regression(kerax, **arguments)
            history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0).history
            return model.get_weights(), history

        (one, first), (two, second) = run(), run(steps_per_execution=steps)
        assert first == second
        for a, b in zip(one, two):
            np.testing.assert_array_equal(a, b)

    def test_freezing_after_compile_counts_from_the_next_fit(self):
        model = regression(kerax, optimizer=kerax.optimizers.Adam(0.05))
        model.fit(X, Y, verbose=0)
        first, last = model.layers
        first.trainable = False
        frozen, moving = first.get_weights(), last.get_weights()
        model.fit(X, Y, verbose=0)
        np.testing.assert_array_equal(frozen[0], first.get_weights()[0])
        assert not np.array_equal(moving[0], last.get_weights()[0])
        first.trainable = True
        model.fit(X, Y, verbose=0)
        assert not np.array_equal(frozen[0], first.get_weights()[0])

    @pytest.mark.medium
    def test_ema_weights_are_those_of_keras(self):
        assert_same_fit(
            lambda module: regression(
                module, optimizer=module.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.8, weight_decay=0.1)
            ),
            X,
            Y,
            batch_size=8,
            epochs=3,
        )

    @pytest.mark.medium
    def test_an_optax_transformation_trains_as_adam(self):
        ours = regression(kerax, optimizer=optax.adam(0.01, eps=1e-7))
        other = regression(kerax)
        other.set_weights(ours.get_weights())
        for model in (ours, other):
            model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        for one, two in zip(ours.get_weights(), other.get_weights()):
            np.testing.assert_allclose(one, two, atol=1e-4)

    @pytest.mark.slow
    def test_mixed_precision_keeps_float32_weights_and_learns(self):
        kerax.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = regression(kerax)
        finally:
            kerax.config.set_dtype_policy("float32")
        losses = model.fit(X, Y, epochs=20, batch_size=8, verbose=0).history["loss"]
        assert losses[-1] < 0.8 * losses[0]
        assert all(weight.dtype == "float32" for weight in model.get_weights())
        assert model.predict(X, verbose=0).dtype.name == "bfloat16"

    @pytest.mark.medium
    def test_loss_scaling_changes_no_update(self):
        ours, other = (
            regression(kerax, optimizer=kerax.optimizers.SGD(0.05, loss_scale_factor=factor)) for factor in (None, 64.0)
        )
        other.set_weights(ours.get_weights())
        histories = [model.fit(X, Y, shuffle=False, verbose=0).history["loss"] for model in (ours, other)]
        np.testing.assert_allclose(*histories, rtol=1e-6)
        for one, two in zip(ours.get_weights(), other.get_weights()):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)

    @pytest.mark.medium
    def test_gradient_accumulation_is_one_large_batch(self):
        small = regression(kerax, optimizer=kerax.optimizers.SGD(0.05, gradient_accumulation_steps=2))
        large = regression(kerax, optimizer=kerax.optimizers.SGD(0.05))
        large.set_weights(small.get_weights())
        small.fit(X[:16], Y[:16], batch_size=4, shuffle=False, verbose=0)
        large.fit(X[:16], Y[:16], batch_size=8, shuffle=False, verbose=0)
        for one, two in zip(small.get_weights(), large.get_weights()):
            np.testing.assert_allclose(one, two, atol=1e-6)

    @pytest.mark.medium
    def test_inputs_by_position_and_by_name_are_the_same(self):
        model = two_headed(kerax)
        by_list = model.predict([X, X[:, :3]], verbose=0)
        by_name = model.predict({"right": X[:, :3], "left": X}, verbose=0)
        for one, two in zip(by_list, by_name):
            np.testing.assert_array_equal(one, two)

    def test_compile_config_round_trip(self):
        model = regression(kerax)
        config = model.get_compile_config()
        other = kerax.models.clone_model(model)
        other.compile_from_config(config)
        assert other.get_compile_config() == config
        other.set_weights(model.get_weights())
        np.testing.assert_allclose(other.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-6)

    def test_keras_reads_the_compile_config(self):
        ours, theirs = make_pair(regression)
        config = ours.get_compile_config()
        theirs.compile_from_config(config)
        assert isinstance(theirs.optimizer, keras.optimizers.Adam)


def test_a_test_step_may_report_nothing():
    class Silent(kerax.Sequential):
        def test_step(self, state, data):
            return {}, state

    model = Silent([kerax.Input((3,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 3), "float32")
    for data in ((x, x[:, :1]), (((x[:2], x[:2, :1]) for _ in range(4)),)):
        assert model.evaluate(*data, verbose=0, return_dict=True) == {}
