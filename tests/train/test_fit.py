import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from tests.pairs import assert_same_fit, assert_same_history, assert_same_weights, make_pair

ROWS = 22
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(ROWS, 4)).astype("float32")
Y = (X @ DRAW.normal(size=(4, 2))).astype("float32")
LABELS = DRAW.integers(0, 3, size=(ROWS,))
WEIGHTS = DRAW.uniform(0.5, 2.0, size=(ROWS,)).astype("float32")


def regression(module, **compile_arguments):
    model = module.Sequential(
        [module.Input((4,)), module.layers.Dense(5, activation="tanh", name="a"), module.layers.Dense(2, name="b")]
    )
    arguments = {"optimizer": module.optimizers.Adam(0.01), "loss": "mse", "metrics": ["mae"]} | compile_arguments
    model.compile(**arguments)
    return model


def classifier(module, **compile_arguments):
    model = module.Sequential([module.Input((4,)), module.layers.Dense(3, activation="softmax", name="a")])
    arguments = {
        "optimizer": module.optimizers.SGD(0.1, momentum=0.9),
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
    } | compile_arguments
    model.compile(**arguments)
    return model


def two_headed(module, **compile_arguments):
    left, right = module.Input((4,), name="left"), module.Input((3,), name="right")
    hidden = module.layers.Concatenate(name="joined")([left, right])
    number = module.layers.Dense(2, name="number")(hidden)
    kind = module.layers.Dense(3, activation="softmax", name="kind")(hidden)
    model = module.Model([left, right], [number, kind])
    arguments = {
        "optimizer": module.optimizers.SGD(0.05),
        "loss": ["mse", "sparse_categorical_crossentropy"],
        "loss_weights": [0.3, 2.0],
        "metrics": {"number": ["mae"], "kind": ["accuracy"]},
    } | compile_arguments
    model.compile(**arguments)
    return model


class TestParityOfFit:
    @pytest.mark.medium
    def test_ragged_last_batch_and_validation(self):
        assert_same_fit(
            regression, X, Y, batch_size=8, epochs=3, validation_data=(X[:9] + 1, Y[:9]), validation_batch_size=4
        )

    @pytest.mark.medium
    def test_sample_weights_of_training_and_validation(self):
        assert_same_fit(
            lambda module: regression(module, weighted_metrics=["mse"]),
            X,
            Y,
            sample_weight=WEIGHTS,
            batch_size=8,
            epochs=3,
            validation_data=(X[:9], Y[:9], WEIGHTS[:9]),
        )

    @pytest.mark.medium
    def test_class_weights(self):
        assert_same_fit(
            lambda module: classifier(module, weighted_metrics=["accuracy"], metrics=None),
            X,
            LABELS,
            class_weight={0: 1.0, 1: 0.2, 2: 3.0},
            batch_size=8,
            epochs=3,
        )

    @pytest.mark.medium
    def test_a_list_of_metrics_for_the_only_output(self):
        assert_same_fit(lambda module: regression(module, loss=["mse"], metrics=[["mae"]]), X, Y, epochs=1)

    @pytest.mark.medium
    def test_class_weights_do_not_count_in_the_rows_split_off_for_validation(self):
        assert_same_fit(
            lambda module: classifier(module, weighted_metrics=["accuracy"], metrics=None),
            X,
            LABELS,
            class_weight={0: 1.0, 1: 0.2, 2: 3.0},
            validation_split=0.4,
            batch_size=8,
            epochs=2,
        )

    @pytest.mark.medium
    def test_class_weights_of_one_hot_targets(self):
        assert_same_fit(
            lambda module: classifier(module, loss="categorical_crossentropy"),
            X,
            np.eye(3, dtype="float32")[LABELS],
            class_weight={0: 1.0, 1: 0.2, 2: 3.0},
            batch_size=8,
            epochs=2,
        )

    @pytest.mark.slow
    def test_validation_split_and_frequency(self):
        ours, _ = assert_same_fit(
            classifier, X, LABELS[:, None], batch_size=5, epochs=3, validation_split=0.3, validation_freq=2
        )
        assert len(ours.history.history["val_loss"]) == 1

    @pytest.mark.slow
    def test_validation_frequency_as_a_list(self):
        ours, _ = assert_same_fit(
            classifier, X, LABELS, batch_size=8, epochs=4, validation_data=(X, LABELS), validation_freq=[1, 4]
        )
        assert len(ours.history.history["val_loss"]) == 2

    @pytest.mark.slow
    def test_several_outputs_as_lists(self):
        ours, theirs = assert_same_fit(
            two_headed, [X, X[:, :3]], [Y, LABELS], batch_size=8, epochs=3, validation_data=([X, X[:, :3]], [Y, LABELS])
        )
        mine = ours.evaluate([X, X[:, :3]], [Y, LABELS], verbose=0, return_dict=True)
        other = theirs.evaluate([X, X[:, :3]], [Y, LABELS], verbose=0, return_dict=True)
        assert set(mine) == set(other)
        for name, value in other.items():
            assert mine[name] == pytest.approx(value, abs=1e-5)
        for mine, other in zip(ours.predict([X, X[:, :3]], verbose=0), theirs.predict([X, X[:, :3]], verbose=0)):
            np.testing.assert_allclose(mine, other, atol=1e-5)

    @pytest.mark.slow
    def test_several_inputs_and_outputs_as_dicts(self):
        def make(module):
            left, right = module.Input((4,), name="left"), module.Input((3,), name="right")
            hidden = module.layers.Concatenate(name="joined")([left, right])
            outputs = {
                "kind": module.layers.Dense(3, activation="softmax", name="kind")(hidden),
                "number": module.layers.Dense(2, name="number")(hidden),
            }
            model = module.Model({"left": left, "right": right}, outputs)
            model.compile(
                module.optimizers.SGD(0.05),
                loss={"number": "mse", "kind": "sparse_categorical_crossentropy"},
                loss_weights={"number": 0.5, "kind": 1.5},
                metrics={"kind": ["accuracy"]},
                weighted_metrics={"number": ["mae"]},
            )
            return model

        data = {"right": X[:, :3], "left": X}
        targets = {"number": Y, "kind": LABELS}
        weights = {"number": WEIGHTS, "kind": WEIGHTS[::-1].copy()}
        ours, theirs = assert_same_fit(make, data, targets, sample_weight=weights, batch_size=8, epochs=3)
        mine, other = ours.predict(data, verbose=0), theirs.predict(data, verbose=0)
        assert set(mine) == set(other) == {"kind", "number"}
        np.testing.assert_allclose(mine["kind"], other["kind"], atol=1e-5)

    @pytest.mark.medium
    def test_regularizers_batch_normalization_and_activity(self):
        def make(module):
            model = module.Sequential(
                [
                    module.Input((4,)),
                    module.layers.Dense(5, kernel_regularizer="l2", activity_regularizer="l1", name="a"),
                    module.layers.BatchNormalization(momentum=0.8, name="b"),
                    module.layers.Dense(2, bias_regularizer=module.regularizers.L2(0.1), name="c"),
                ]
            )
            model.compile(module.optimizers.RMSprop(0.01), "mse", metrics=["mse"])
            return model

        assert_same_fit(make, X, Y, batch_size=8, epochs=3, validation_data=(X, Y), tolerance=3e-5)

    @pytest.mark.medium
    def test_frozen_layers(self):
        def make(module):
            model = module.Sequential(
                [
                    module.Input((4,)),
                    module.layers.Dense(5, name="a"),
                    module.layers.BatchNormalization(name="b"),
                    module.layers.Dense(2, name="c"),
                ]
            )
            model.layers[0].trainable = model.layers[1].trainable = False
            model.compile(module.optimizers.SGD(0.1, momentum=0.9), "mse")
            return model

        ours, _ = assert_same_fit(make, X, Y, batch_size=8, epochs=3)
        assert len(ours.trainable_weights) == 2

    @pytest.mark.medium
    def test_steps_per_epoch_on_generators(self):
        def batches():
            while True:
                for start in range(0, ROWS, 8):
                    yield X[start : start + 8], Y[start : start + 8]

        ours, theirs = make_pair(regression)
        # Keras draws a batch more than it uses from a generator for validation: here all are the same.
        held_out = ((X[:8], Y[:8]) for _ in itertools.count())
        arguments = dict(steps_per_epoch=4, epochs=3, verbose=0, validation_data=held_out, validation_steps=2)
        mine = ours.fit(batches(), **arguments)
        assert_same_history(mine, theirs.fit(batches(), **arguments))
        assert_same_weights(ours, theirs)

    @pytest.mark.medium
    def test_batches_with_sample_weights(self):
        def batches():
            for start in range(0, ROWS, 8):
                yield X[start : start + 8], Y[start : start + 8], WEIGHTS[start : start + 8]

        ours, theirs = make_pair(lambda module: regression(module, weighted_metrics=["mse"]))
        assert_same_history(ours.fit(batches(), verbose=0), theirs.fit(batches(), verbose=0))
        assert_same_weights(ours, theirs)

    @pytest.mark.medium
    def test_constraints(self):
        def make(module):
            model = module.Sequential(
                [module.Input((4,)), module.layers.Dense(2, kernel_constraint="non_neg", bias_constraint="max_norm")]
            )
            model.compile(module.optimizers.SGD(0.3), "mse")
            return model

        ours, _ = assert_same_fit(make, X, Y, batch_size=8, epochs=2)
        assert (ours.get_weights()[0] >= 0).all()

    @pytest.mark.medium
    def test_a_model_with_own_losses_and_metrics_of_every_form(self):
        def make(module):
            def mean_gap(y_true, y_pred):
                return module.ops.mean(module.ops.abs(y_true - y_pred), axis=-1)

            return regression(
                module, loss=mean_gap, metrics=[mean_gap, module.metrics.MeanSquaredError(name="squares"), "mse"]
            )

        assert_same_fit(make, X, Y, batch_size=8, epochs=2)


class TestOnBatch:
    @pytest.mark.slow
    def test_train_test_and_predict_on_batch_agree_with_keras(self):
        ours, theirs = make_pair(lambda module: regression(module, weighted_metrics=["mse"]))
        for _ in range(2):
            mine = ours.train_on_batch(X, Y, sample_weight=WEIGHTS, return_dict=True)
            other = theirs.train_on_batch(X, Y, sample_weight=WEIGHTS, return_dict=True)
            assert mine == pytest.approx(other, abs=1e-5)
        assert ours.test_on_batch(X, Y, return_dict=True) == pytest.approx(
            theirs.test_on_batch(X, Y, return_dict=True), abs=1e-5
        )
        ours.reset_metrics()
        theirs.reset_metrics()
        np.testing.assert_allclose(ours.test_on_batch(X, Y), theirs.test_on_batch(X, Y), atol=1e-5)
        np.testing.assert_allclose(ours.predict_on_batch(X), theirs.predict_on_batch(X), atol=1e-5)

    @pytest.mark.medium
    def test_class_weight(self):
        ours, theirs = make_pair(classifier)
        weight = {0: 0.1, 1: 1.0, 2: 4.0}
        np.testing.assert_allclose(
            ours.train_on_batch(X, LABELS, class_weight=weight),
            theirs.train_on_batch(X, LABELS, class_weight=weight),
            atol=1e-5,
        )

    @pytest.mark.medium
    def test_one_number_comes_as_a_scalar(self):
        model = regression(kerax, metrics=None)
        assert np.ndim(model.train_on_batch(X, Y)) == 0
        assert np.ndim(model.test_on_batch(X, Y)) == 0
        assert np.ndim(model.evaluate(X, Y, verbose=0)) == 0


class TestEvaluateAndPredict:
    @pytest.mark.medium
    def test_evaluate_agrees_with_keras(self):
        ours, theirs = make_pair(lambda module: regression(module, weighted_metrics=["mse"]))
        for arguments in (
            dict(batch_size=8),
            dict(batch_size=8, sample_weight=WEIGHTS),
            dict(batch_size=8, steps=2),
            dict(batch_size=100),
        ):
            np.testing.assert_allclose(
                ours.evaluate(X, Y, verbose=0, **arguments), theirs.evaluate(X, Y, verbose=0, **arguments), atol=1e-5
            )
        mine = ours.evaluate(X, Y, verbose=0, return_dict=True)
        assert next(iter(mine)) == "loss" and set(mine) == {"loss", "mae", "mse"}

    def test_evaluate_changes_no_weights_and_no_state(self):
        model = regression(kerax)
        before = model.get_weights()
        model.evaluate(X, Y, verbose=0)
        for old, new in zip(before, model.get_weights()):
            np.testing.assert_array_equal(old, new)

    @pytest.mark.medium
    def test_predict_agrees_with_keras(self):
        ours, theirs = make_pair(regression)
        expected = theirs.predict(X, verbose=0)
        for data in (X, jnp.asarray(X), (X[i : i + 8] for i in range(0, ROWS, 8)), X.tolist()):
            found = ours.predict(data, batch_size=None if not hasattr(data, "shape") else 8, verbose=0)
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(ours.predict(X, batch_size=8, steps=2, verbose=0), expected[:16], atol=1e-5)
        np.testing.assert_allclose(ours.predict(X[:1], verbose=0), expected[:1], atol=1e-5)

    def test_predict_needs_no_compile(self):
        model = kerax.Sequential([kerax.layers.Dense(2)])
        assert model.predict(X, verbose=0).shape == (ROWS, 2)

    @pytest.mark.medium
    def test_predict_in_batches_is_predict_at_once_for_every_row_count(self):
        model = regression(kerax)
        whole = model.predict_on_batch(X)
        for size in (1, 3, 7, 21, 22, 23):
            np.testing.assert_allclose(model.predict(X, batch_size=size, verbose=0), whole, atol=1e-6)


class TestArguments:
    @pytest.mark.medium
    def test_history_holds_every_epoch(self):
        model = regression(kerax)
        history = model.fit(X, Y, epochs=4, initial_epoch=2, verbose=0, validation_split=0.2)
        assert history is model.history
        assert history.epoch == [2, 3]
        assert set(history.history) == {"loss", "mae", "val_loss", "val_mae"}
        assert all(isinstance(value, float) for values in history.history.values() for value in values)
        assert history.params["epochs"] == 4 and history.params["steps"] == 1
        again = model.fit(X, Y, epochs=1, verbose=0)
        assert again is not history and again.epoch == [0]

    def test_no_epochs_give_an_empty_history(self):
        model = regression(kerax)
        before = model.get_weights()
        history = model.fit(X, Y, epochs=3, initial_epoch=3, verbose=0)
        assert history.history == {} and history.epoch == []
        np.testing.assert_array_equal(before[0], model.get_weights()[0])

    @pytest.mark.medium
    def test_steps_per_epoch_on_arrays_go_on_where_the_last_epoch_stopped(self):
        ours, theirs = make_pair(lambda module: regression(module, optimizer=module.optimizers.SGD(0.05)))
        ours.fit(X[:16], Y[:16], batch_size=4, steps_per_epoch=2, epochs=4, shuffle=False, verbose=0)
        theirs.fit(X[:16], Y[:16], batch_size=4, epochs=2, shuffle=False, verbose=0)
        assert_same_weights(ours, theirs)

    def test_steps_per_epoch_above_the_data_end_with_it(self):
        ours, theirs = make_pair(lambda module: regression(module, optimizer=module.optimizers.SGD(0.05)))
        with pytest.warns(UserWarning, match="ran out"):
            ours.fit(X[:16], Y[:16], batch_size=4, epochs=2, steps_per_epoch=8, shuffle=False, verbose=0)
        theirs.fit(X[:16], Y[:16], batch_size=4, epochs=2, shuffle=False, verbose=0)
        assert_same_weights(ours, theirs)

    def test_shuffle_uses_every_row_once_per_epoch_in_a_new_order(self):
        seen = []

        class Watching(kerax.Model):
            def __init__(self):
                super().__init__()
                self.dense = kerax.layers.Dense(1)

            def call(self, inputs):
                jax.debug.callback(lambda rows: seen.append(rows[:, 0].tolist()), inputs)
                return self.dense(inputs)

        model = Watching()
        model.compile("sgd", "mse")
        rows = np.arange(10, dtype="float32")[:, None]
        model.fit(rows, rows * 0, batch_size=5, epochs=3, verbose=0)
        jax.effects_barrier()
        orders = [seen[i] + seen[i + 1] for i in range(0, 6, 2)]
        assert all(sorted(order) == list(range(10)) for order in orders)
        assert len({tuple(order) for order in orders}) == 3

    @pytest.mark.slow
    def test_the_seed_decides_the_run(self):
        def run(seed):
            kerax.utils.set_random_seed(seed)
            model = regression(kerax)
            model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
            return model.get_weights()

        for one, two in zip(run(1), run(1)):
            np.testing.assert_array_equal(one, two)
        assert not np.array_equal(run(1)[0], run(2)[0])

    @pytest.mark.medium
    def test_validation_steps_limit_the_validation(self):
        ours, _ = assert_same_fit(
            regression, X, Y, epochs=2, validation_data=(X, Y), validation_batch_size=5, validation_steps=2
        )
        assert len(ours.history.history["val_loss"]) == 2

    def test_verbose_values_are_accepted(self, capsys):
        model = regression(kerax)
        for verbose in (0, 1, 2, "auto", True, False):
            model.fit(X, Y, verbose=verbose)
            model.evaluate(X, Y, verbose=verbose)
            model.predict(X, verbose=verbose)

    def test_compiling_again_starts_the_optimizer_anew_and_keeps_the_weights(self):
        model = regression(kerax)
        model.fit(X, Y, verbose=0)
        weights = model.get_weights()
        model.compile("sgd", "mae")
        np.testing.assert_array_equal(weights[0], model.get_weights()[0])
        assert set(model.fit(X, Y, verbose=0).history) == {"loss"}

    @pytest.mark.medium
    def test_fit_continues_the_optimizer_of_the_last_fit(self):
        ours, theirs = make_pair(regression)
        for model in (ours, theirs):
            for _ in range(2):
                model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
        assert_same_weights(ours, theirs)
        assert int(ours.optimizer.iterations) == 6
