"""What the engine adds to a step: keys, guards, parts of batches, groups of batches, programs compiled behind."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import kerax
from kerax import config, layers
from kerax.train.state import state_variables

pytestmark = pytest.mark.optimized

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(70, 6)).astype("float32")
Y = DRAW.integers(0, 3, 70)


def classifier(*extra, optimizer=None, metrics=("accuracy",), **compiled):
    kerax.utils.set_random_seed(1)
    model = kerax.Sequential([kerax.Input((6,)), layers.Dense(5, activation="tanh"), *extra, layers.Dense(3)])
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or kerax.optimizers.SGD(0.1), loss, metrics=list(metrics), **compiled)
    return model


def training_programs(model) -> list:
    return [program for key, program in model.compilation.programs.items() if key[0] == "train"]


class Noisy(layers.Layer):
    """Adds noise in training and inference alike, and keeps what it drew last."""

    def build(self, input_shape):
        self.drawn = self.add_weight(name="drawn", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        noise = jax.random.normal(self.next_key(), inputs.shape)
        self.drawn.assign(noise[0, 0])
        return inputs + noise


class TestKeys:
    @pytest.mark.medium
    def test_compiling_again_does_not_repeat_the_draws(self):
        model = classifier(Noisy())
        drawn = []
        for _ in range(3):
            model.fit(X, Y, batch_size=70, verbose=0)
            drawn.append(float(model.layers[1].drawn.value))
            model.compile("sgd", "sparse_categorical_crossentropy")
        assert len(set(drawn)) == 3

    @pytest.mark.medium
    def test_random_layers_in_inference_draw_anew_for_each_batch_and_each_call(self):
        model = classifier(Noisy())
        zeros = np.zeros((64, 6), "float32")
        first, second = (model.predict(zeros, batch_size=4, verbose=0) for _ in range(2))
        assert len(np.unique(first[::4, 0])) == 16 and not np.array_equal(first, second)
        results = [model.evaluate(X, Y, verbose=0)[0] for _ in range(2)]
        assert results[0] != results[1]

    @pytest.mark.medium
    def test_evaluating_between_does_not_change_the_training(self):
        weights = []
        for looks in (False, True):
            model = classifier(layers.Dropout(0.5))
            for _ in range(2):
                model.fit(X, Y, verbose=0)
                if looks:
                    model.evaluate(X, Y, verbose=0)
                    model.predict(X, verbose=0)
            weights.append(model.get_weights())
        for one, two in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, two)


class TestGuard:
    def broken_at(self, step, value):
        x = X.copy()
        x[step * 10] = value
        return x

    @pytest.mark.medium
    def test_the_weights_of_the_step_before_are_kept(self, capsys):
        model, twin = classifier(), classifier()
        model.fit(
            self.broken_at(4, np.nan),
            Y,
            batch_size=10,
            shuffle=False,
            verbose=0,
            epochs=9,
            callbacks=[kerax.callbacks.TerminateOnNaN()],
        )
        twin.fit(X[:40], Y[:40], batch_size=10, shuffle=False, verbose=0)
        for one, two in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
        said = capsys.readouterr().out
        assert "step 4: `x` of the batch holds NaN or infinity, first in row 0 (1 rows)" in said
        model.fit(X, Y, verbose=0)  # unguarded again

    @pytest.mark.medium
    def test_it_names_the_layer(self, capsys):
        class Root(layers.Layer):
            def call(self, inputs):
                return jnp.sqrt(inputs - 1.0)

        model = classifier(Root(name="root_of_minus_one"))
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.TerminateOnNaN()])
        assert "the output of layer 'root_of_minus_one' (Root) is the first" in capsys.readouterr().out

    @pytest.mark.slow
    def test_it_names_the_gradient(self, capsys):
        class RootOfZero(layers.Layer):
            def call(self, inputs):
                return jnp.sqrt(inputs * 0.0)

        model = classifier(RootOfZero())
        model.fit(X, Y, verbose=0, callbacks=[kerax.callbacks.TerminateOnNaN()])
        assert "the gradient of 'dense/bias' is the first" in capsys.readouterr().out

    @pytest.mark.medium
    @pytest.mark.parametrize("source", ["large arrays", "generator"])
    def test_the_batch_is_found_again(self, source, capsys, monkeypatch):
        monkeypatch.setattr(config, "_resident_bytes", 0)
        x = self.broken_at(3, np.inf)
        batches = ((x[i : i + 10], Y[i : i + 10]) for i in range(0, 70, 10))
        data = (x, Y) if source == "large arrays" else (batches,)
        model = classifier()
        model.fit(*data, batch_size=10, shuffle=False, verbose=0, callbacks=[kerax.callbacks.TerminateOnNaN()])
        assert "step 3: `x` of the batch" in capsys.readouterr().out

    def test_without_a_guard_there_is_a_warning(self):
        model = classifier()
        with pytest.warns(UserWarning, match="TerminateOnNaN"):
            model.fit(self.broken_at(0, np.nan), Y, verbose=0)


class TestMicroBatches:
    @pytest.mark.slow
    def test_the_update_is_that_of_the_whole_batch(self):
        weights, histories = [], []
        for parts in (None, 2, 5):
            model = classifier(micro_batches=parts, optimizer=kerax.optimizers.Adam(0.01))
            histories.append(model.fit(X, Y, batch_size=20, epochs=3, verbose=0).history)
            weights.append(model.get_weights())
        for other, history in zip(weights[1:], histories[1:], strict=True):
            for one, two in zip(weights[0], other, strict=True):
                np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-6)
            for name, values in histories[0].items():
                np.testing.assert_allclose(history[name], values, rtol=1e-5)

    @pytest.mark.medium
    def test_parts_draw_differently_and_update_state_in_turn(self):
        model = classifier(layers.BatchNormalization(momentum=0.0), Noisy(), micro_batches=7)
        model.fit(X, Y, batch_size=70, shuffle=False, verbose=0)
        hidden = model.layers[0]
        fresh = classifier(layers.BatchNormalization(momentum=0.0), Noisy())
        last = np.asarray(fresh.layers[0](X[60:]))  # the moving mean is the last part's
        np.testing.assert_allclose(model.layers[1].moving_mean.value, last.mean(0), rtol=1e-5, atol=1e-6)
        assert hidden.built

    @pytest.mark.slow
    def test_gradient_norm_in_the_logs(self):
        model = classifier(log_gradient_norm=True)
        history = model.fit(X, Y, batch_size=70, verbose=0).history
        twin = classifier()
        before = [w.copy() for w in twin.get_weights()]
        twin.fit(X, Y, batch_size=70, verbose=0)
        moved = sum(np.sum((a - b) ** 2) for a, b in zip(before, twin.get_weights(), strict=True))
        np.testing.assert_allclose(history["gradient_norm"][0], np.sqrt(moved) / 0.1, rtol=1e-4)
        assert "gradient_norm" not in model.evaluate(X, Y, verbose=0, return_dict=True)


class TestSweeps:
    @pytest.mark.slow
    @pytest.mark.parametrize("metrics", [["accuracy"], [kerax.metrics.AUC(num_thresholds=7, from_logits=True)]])
    def test_groups_of_batches_evaluate_as_single_ones_do(self, metrics):
        y = np.eye(3)[Y] if metrics != ["accuracy"] else Y
        model = classifier(layers.BatchNormalization(), metrics=metrics)
        if metrics != ["accuracy"]:
            model.compile("sgd", kerax.losses.CategoricalCrossentropy(from_logits=True), metrics=metrics)
        results = {}
        for batch_size in (3, 4):  # 70 rows: 23 and a rest of 1; 17 and a rest of 2
            results[batch_size] = model.evaluate(X, y, batch_size=batch_size, verbose=0, return_dict=True)
            assert next(p for k, p in model.compilation.programs.items() if k[0] == "test").does_blocks_at_once
            seen: list = []
            watch = kerax.callbacks.LambdaCallback(
                on_test_batch_end=lambda batch, logs, seen=seen: seen.append(dict(logs))
            )
            singly = model.evaluate(X, y, batch_size=batch_size, verbose=0, return_dict=True, callbacks=[watch])
            assert len(seen) == -(-70 // batch_size) and seen[-1] == singly
            for name, value in singly.items():
                assert results[batch_size][name] == pytest.approx(value, rel=1e-5)

    @pytest.mark.medium
    def test_a_metric_that_does_more_than_add_is_evaluated_batch_by_batch(self):
        class Largest(kerax.metrics.Metric):
            def __init__(self):
                super().__init__(name="largest")
                self.value = self.add_weight(name="value", initializer="zeros")

            def update_state(self, y_true, y_pred, sample_weight=None):
                self.value.assign(jnp.maximum(self.value.value, jnp.max(y_pred)))

            def result(self):
                return self.value

        model = classifier(metrics=[Largest()])
        found = model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)["largest"]
        assert found == pytest.approx(model.predict(X, verbose=0).max(), rel=1e-6)
        assert not next(p for k, p in model.compilation.programs.items() if k[0] == "test").does_blocks_at_once

    @pytest.mark.slow
    @pytest.mark.parametrize("resident", [None, 0])
    @pytest.mark.parametrize("rows", [1, 3, 4, 64, 70])
    def test_predictions_are_those_of_calling_the_model(self, rows, resident, monkeypatch):
        monkeypatch.setattr(config, "_resident_bytes", resident)
        model = classifier()
        np.testing.assert_allclose(
            model.predict(X[:rows], batch_size=4, verbose=0), model(X[:rows]), rtol=1e-5, atol=1e-6
        )

    def test_each_batch_keeps_its_own_statistics(self):
        class Centred(layers.Layer):
            def call(self, inputs):
                return inputs - jnp.mean(inputs, 0, keepdims=True)

        model = kerax.Sequential([kerax.Input((6,)), Centred()])
        outputs = model.predict(X[:64], batch_size=4, verbose=0)
        expected = X[:64].reshape(16, 4, 6)
        np.testing.assert_allclose(outputs, (expected - expected.mean(1, keepdims=True)).reshape(64, 6), atol=1e-6)

    @pytest.mark.medium
    def test_metrics_hold_the_evaluations_values_afterwards(self):
        metric = kerax.metrics.SparseCategoricalAccuracy(name="hits")
        model = classifier(metrics=[metric])
        model.fit(X, Y, verbose=0)
        logs = model.evaluate(X[:20], Y[:20], verbose=0, return_dict=True)
        assert float(metric.result()) == pytest.approx(logs["hits"])


class TestPrograms:
    @pytest.mark.medium
    def test_the_program_of_the_last_batch_is_compiled_behind(self):
        model = classifier()
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
        full, rest = training_programs(model)
        assert full._many.is_coming and rest._one.is_coming
        model.fit(X[:38], Y[:38], batch_size=16, verbose=0)  # the same rest of another data set
        assert np.isfinite(model.get_weights()[0]).all()

    def test_epochs_that_go_on_in_a_pass_run_the_same_program(self):
        model = classifier()
        model.fit(X[:64], Y[:64], batch_size=16, steps_per_epoch=3, epochs=5, verbose=0)
        (program,) = training_programs(model)
        forms = [getattr(form, "_function", form) for form in (program._many, program._one)]
        assert sum(form._cache_size() for form in forms) == 0  # what was compiled behind fitted every epoch

    @pytest.mark.medium
    def test_flops_of_a_step(self):
        model = classifier()
        model.fit(X, Y, batch_size=35, verbose=0)
        (program,) = training_programs(model)
        products = 2 * 35 * (6 * 5 + 5 * 3)  # forward; about as much for each of the two gradients
        assert 2 * products < program.flops() < 6 * products

    @pytest.mark.medium
    def test_the_compilation_cache(self, tmp_path, monkeypatch):
        names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
        names += ("jax_persistent_cache_min_entry_size_bytes", "jax_enable_compilation_cache")
        before = {name: getattr(jax.config, name) for name in names}
        try:
            assert config.enable_compilation_cache(tmp_path / "xla") == str(tmp_path / "xla")
            jax.jit(lambda x: x * 3.25 + 1)(jnp.ones(3)).block_until_ready()
            assert os.listdir(tmp_path / "xla")
            classifier().fit(X, Y, verbose=0)  # compiles in this thread
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()  # JAX goes on writing to one that it has opened


class TestDebugging:
    @pytest.mark.medium
    def test_overfit_batches(self):
        seen = []

        class Seen(layers.Layer):
            def call(self, inputs):
                jax.debug.callback(lambda a: seen.append(np.asarray(a)), inputs[0, 0])
                return inputs

        kerax.utils.set_random_seed(0)
        model = kerax.Sequential([kerax.Input((6,)), Seen(), layers.Dense(3)])
        model.compile("sgd", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = model.fit(X, Y, batch_size=10, epochs=3, overfit_batches=2, validation_data=(X, Y), verbose=0)
        jax.effects_barrier()
        assert {float(value) for value in seen} == {float(X[0, 0]), float(X[10, 0])}
        assert len(history.history["val_loss"]) == 3

    @pytest.mark.medium
    def test_limit_batches(self):
        model = classifier()
        model.fit(X, Y, batch_size=10, epochs=2, limit_batches=3, validation_data=(X, Y), verbose=0)
        assert int(model.optimizer.iterations.value) == 6
        batches = ((X[:5], Y[:5]) for _ in range(100))
        model.fit(batches, limit_batches=4, verbose=0)
        assert int(model.optimizer.iterations.value) == 10
        with pytest.raises(ValueError, match="`limit_batches` must be an integer of at least 1"):
            model.fit(X, Y, limit_batches=0)


@pytest.mark.medium
def test_a_data_set_on_disk_is_streamed(tmp_path):
    np.save(tmp_path / "x.npy", np.tile(X, (40, 1)))
    np.save(tmp_path / "y.npy", np.tile(Y, 40))
    x, y = (np.load(tmp_path / name, mmap_mode="r") for name in ("x.npy", "y.npy"))
    before = config.resident_bytes()
    try:
        config.set_resident_bytes(1000)
        model = classifier()
        model.fit(x, y, epochs=2, verbose=0)
        config.set_resident_bytes(None)
        twin = classifier()
        twin.fit(np.asarray(x), np.asarray(y), epochs=2, verbose=0)
    finally:
        config.set_resident_bytes(None)
    assert config.resident_bytes() == before
    for one, two in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert state_variables(model).opt_state
