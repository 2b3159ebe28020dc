"""What optimizers are given and asked for in code written for Keras: compared with Keras."""

import jax
import keras
import numpy as np
import pytest
from jax.experimental import sparse

import kerax

X = np.arange(16).reshape(8, 2).astype("float32") / 8
Y = np.ones((8, 1), "float32")


def make(library, optimizer):
    layers = [
        library.layers.Dense(units, name=name, kernel_initializer="ones") for units, name in ((2, "d1"), (1, "d2"))
    ]
    model = library.Sequential([library.Input((2,)), *layers])
    model.compile(optimizer, "mse")
    return model


def multi(library):
    default, other = library.optimizers.SGD(0.1, name="slow"), library.optimizers.Adam(0.01, name="fast")
    return library.optimizers.MultiOptimizer(library.optimizers.OptimizerMap(default, {".*d1.*": other}))


class TestRatesOfParts:
    @pytest.mark.parametrize("kind", ["plateau", "schedule", "schedule of two"])
    def test_callbacks_set_the_rate_of_each_part(self, kind):
        found = []
        for library in (kerax, keras):
            callbacks = library.callbacks
            callback = {
                "plateau": lambda: callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=100.0),  # noqa: B023
                "schedule": lambda: callbacks.LearningRateScheduler(lambda epoch: 0.25),  # noqa: B023
                "schedule of two": lambda: callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),  # noqa: B023
            }[kind]()
            model = make(library, multi(library))
            history = model.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[callback]).history
            found.append({name: np.round(values, 5).tolist() for name, values in history.items()})
        assert found[0] == found[1] and "learning_rate_fast" in found[0]

    def test_parts_inside_a_loss_scale(self):
        model = make(kerax, kerax.optimizers.LossScaleOptimizer(multi(kerax)))
        callback = kerax.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=100.0)
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback, kerax.callbacks.LearningRateLogger()])
        rates = [float(part.learning_rate) for part in model.optimizer.inner_optimizer.optimizers]
        np.testing.assert_allclose(rates, [0.01 / 4, 0.1 / 4])

    def test_parts_of_one_name_keep_their_rates_apart(self):
        parts = {"d1": kerax.optimizers.SGD(0.1), "d2": kerax.optimizers.SGD(0.2)}
        history = make(kerax, parts).fit(X, Y, verbose=0, callbacks=[kerax.callbacks.LearningRateLogger()]).history
        assert [history[name][0] for name in ("learning_rate_sgd", "learning_rate_sgd_1")] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("library", [kerax, keras])
@pytest.mark.parametrize(
    "construct",
    [
        lambda optimizers: optimizers.AdamW(weight_decay=None),
        lambda optimizers: optimizers.SGD(0.1, learning_rat=1),
        lambda optimizers: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), dynamic=False),
        lambda optimizers: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), weight_decay=0.1),
        lambda optimizers: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), foo=1),
    ],
)
def test_what_keras_refuses(library, construct):
    with pytest.raises(ValueError):
        construct(library.optimizers)


def test_an_unknown_argument_is_a_type_error_too():
    with pytest.raises(TypeError, match="Did you mean 'momentum'"):
        kerax.optimizers.SGD(0.1, momentun=0.9)


def test_nothing_is_no_optimizer():
    assert kerax.optimizers.get(None) is None


@pytest.mark.parametrize("given", [{"dynamic": True}, {"weight_decay": None, "use_ema": False, "ema_momentum": 0.99}])
def test_what_other_versions_write_into_configs_of_loss_scales(given):
    config = kerax.optimizers.LossScaleOptimizer(kerax.optimizers.SGD(0.1)).get_config()
    assert kerax.optimizers.LossScaleOptimizer.from_config(config | given).get_config() == config


class TestSteps:
    def variables(self, library):
        return [library.Variable(np.arange(6.0).reshape(2, 3) / 6, name="a"), library.Variable([1.0, 2.0], name="b")]

    @pytest.mark.parametrize("name", ["SGD", "Adam", "Muon", "Adafactor", "Lion", "Ftrl"])
    def test_one_weight_is_stepped_alone(self, name):
        found = []
        for library in (kerax, keras):
            optimizer, (a, b) = getattr(library.optimizers, name)(0.1), self.variables(library)
            optimizer.build([a, b])
            optimizer.update_step(library.ops.ones((2, 3)), a, library.ops.convert_to_tensor(0.5))
            found.append([np.asarray(a), np.asarray(b)])
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)

    def test_a_weight_that_is_not_known(self):
        optimizer = kerax.optimizers.Adam()
        with pytest.raises(ValueError, match="build"):
            optimizer.update_step(np.ones(2), kerax.Variable([1.0, 2.0]), 0.1)

    @pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad"])
    @pytest.mark.parametrize("stateless", [False, True])
    def test_sparse_gradients(self, name, stateless):
        dense = np.array([[1, 2], [0, 0], [3, 4]], "float32")
        found = []
        for gradient in (sparse.BCOO.fromdense(dense, n_dense=1), dense):
            optimizer, weight = getattr(kerax.optimizers, name)(0.1), kerax.Variable(np.ones((3, 2), "float32"))
            optimizer.build([weight])
            if stateless:
                found += optimizer.stateless_apply([v.value for v in optimizer.variables], [gradient], [weight.value])[
                    0
                ]
            else:
                optimizer.apply([gradient], [weight])
                found.append(weight.value)
        np.testing.assert_array_equal(*found)

    def test_sparse_arrays_are_converted_as_in_keras(self):
        found = [
            [type(library.ops.convert_to_tensor(array, sparse=how)) for how in (None, True, False)]
            for library, array in ((library, sparse.BCOO.fromdense(np.eye(3))) for library in (kerax, keras))
        ]
        assert found[0] == found[1]

    def test_muons_functions(self):
        x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "float32")
        found = []
        for library in (kerax, keras):
            muon, plain = library.optimizers.Muon(), library.optimizers.Muon(rms_rate=None)
            found.append([muon.zeropower_via_newtonschulz5(x, 5), muon.lr_adjust(x), plain.lr_adjust(x)])
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=1e-3)


class TestSchedules:
    @pytest.mark.medium
    def test_a_number_is_replaced_by_a_schedule(self):
        def rates(library):
            model = make(library, library.optimizers.Adam(0.1))
            model.fit(X, Y, verbose=0, shuffle=False)
            model.optimizer.learning_rate = library.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
            model.fit(X, Y, verbose=0, epochs=2, shuffle=False)
            return [len(model.optimizer.variables), float(model.optimizer.learning_rate), *model.get_weights()]

        for ours, theirs in zip(rates(kerax), rates(keras), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)

    def test_not_while_fit_runs(self):
        class Late(kerax.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                self.model.optimizer.learning_rate = lambda step: 0.1

        with pytest.raises(ValueError, match="after it"):
            make(kerax, "sgd").fit(X, Y, verbose=0, callbacks=[Late()])

    def test_boundaries_and_values_may_be_variables(self):
        numbers = [kerax.Variable(1, dtype="int32"), kerax.Variable(2, dtype="int32")]
        schedule = kerax.optimizers.schedules.PiecewiseConstantDecay(numbers, [kerax.Variable(1.0), 2.0, 3.0])
        assert [float(schedule(kerax.Variable(step, dtype="int32"))) for step in (1, 2, 3)] == [1, 2, 3]
        assert float(jax.jit(schedule)(2)) == 2


def test_variables_have_the_names_of_scopes_in_their_paths():
    for library in (kerax, keras):
        with library.name_scope("outer"), library.name_scope("inner"):
            variable = library.Variable([1.0], name="kernel")
            layer = library.layers.Dense(2, name="dense")
            layer.build((None, 3))
        assert variable.path == "outer/inner/kernel" and layer.kernel.path.endswith("dense/kernel")
        assert library.Variable([1.0], name="kernel").path == "kernel"


def test_a_path_that_several_patterns_fit():
    for library in (kerax, keras):
        optimizers = library.optimizers
        chosen = optimizers.OptimizerMap(optimizers.SGD(), {".*kernel": optimizers.Adam(), "dense.*": optimizers.SGD()})
        variable = library.Variable([1.0], name="dense_kernel")
        with pytest.raises(ValueError):
            chosen(variable)
