"""What training leaves is always loadable: a table of what may happen to a model before it is saved, both ways."""

import warnings

import keras
import numpy as np
import pytest

import kerax

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)).astype(np.float32), RNG.normal(size=(8, 2)).astype(np.float32)


def make(k, dtype=None):
    return k.Sequential(
        [k.Input((4,)), k.layers.Dense(3, name="a", dtype=dtype), k.layers.Dense(2, name="b", dtype=dtype)]
    )


def compiled(k, optimizer=None, **kwargs):
    model = make(k, **kwargs)
    model.compile(optimizer or k.optimizers.Adam(0.01), "mse")
    return model


def trained(k, optimizer=None, **kwargs):
    model = compiled(k, optimizer, **kwargs)
    model.fit(X, Y, verbose=0)
    return model


def evaluated(k):
    model = compiled(k)
    model.evaluate(X, Y, verbose=0)
    return model


def compiled_anew(k):
    model = trained(k)
    model.compile(k.optimizers.SGD(0.1, momentum=0.9), "mae")
    return model


def frozen(k):
    model = trained(k)
    model.layers[0].trainable = False
    return model


def frozen_as_a_whole(k):
    model = trained(k)
    model.trainable = False
    return model


def unfrozen(k):
    model = compiled(k)
    model.layers[0].trainable = False
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable = True
    return model


def frozen_and_compiled_anew(k):
    model = frozen(k)
    model.compile("adam", "mse")
    return model


def lora_after_training(k):
    model = trained(k)
    model.layers[0].enable_lora(2)
    return model


def lora_trained(k):
    model = make(k)
    model.layers[0].enable_lora(2)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    return model


def int8(k):
    model = trained(k)
    model.quantize("int8")
    return model


def of_float8(k):
    model = make(k)
    model.quantize("float8")
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    return model


def grown(k):
    model = trained(k)
    model.add(k.layers.Dense(2, name="c"))
    return model


def loss_scaled(k):
    return trained(k, k.optimizers.LossScaleOptimizer(k.optimizers.Adam(0.01)))


def averaged(k):
    return trained(k, k.optimizers.Adam(0.01, use_ema=True))


def accumulated(k):
    return trained(k, k.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=2))


slow = pytest.mark.slow
BOTH_WAYS = [(kerax, kerax), pytest.param(kerax, keras, marks=slow), pytest.param(keras, kerax, marks=slow)]
CASES = {
    "not compiled": make,
    "compiled": compiled,
    "evaluated": evaluated,
    "trained": trained,
    "compiled anew": compiled_anew,
    "frozen": frozen,
    "frozen as a whole": frozen_as_a_whole,
    "unfrozen": unfrozen,
    "frozen and compiled anew": frozen_and_compiled_anew,
    "lora after training": lora_after_training,
    "lora trained": lora_trained,
    "int8": int8,
    "float8": of_float8,
    "a layer more": grown,
    "loss scaled": loss_scaled,
    "loss scaled, untrained": lambda k: compiled(k, k.optimizers.LossScaleOptimizer(k.optimizers.SGD(0.1))),
    "averaged": averaged,
    "accumulated": accumulated,
    "mixed float16": lambda k: trained(k, dtype="mixed_float16"),
    "bfloat16": lambda k: trained(k, dtype="bfloat16"),
    "a schedule": lambda k: trained(k, k.optimizers.SGD(k.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9), 0.9)),
    "one slot": lambda k: trained(k, k.optimizers.RMSprop(0.01)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("first, second", BOTH_WAYS)
def test_what_was_saved_is_loaded(first, second, case, tmp_path):
    model = CASES[case](first)
    path = str(tmp_path / "model.keras")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.save(path)
        again = second.saving.load_model(path)
    ours = [str(w.message) for w in said if "optimizer's state" in str(w.message)]
    # One warning, and only where a slot has lost its weight.
    assert len(ours) <= 1
    if case in ("not compiled", "compiled", "evaluated", "trained", "compiled anew", "averaged", "loss scaled"):
        assert not ours
    tolerance = 3e-2 if case in ("mixed float16", "bfloat16", "int8", "float8") else 1e-5
    expected = np.asarray(model.predict(X, verbose=0), np.float32)
    np.testing.assert_allclose(np.asarray(again.predict(X, verbose=0), np.float32), expected, tolerance, tolerance)
    if second is kerax and again.compiled and case not in ("int8", "frozen as a whole"):
        again.fit(X, Y, verbose=0)
        # Into a model of the same making.
        path = str(tmp_path / "model.weights.h5")
        again.save_weights(path)
        again.load_weights(path)


def slots(model):
    return {variable.path.split("/")[-1]: np.asarray(variable.value) for variable in model.optimizer.variables}


@pytest.mark.parametrize("change", [frozen, unfrozen, lora_after_training, grown])
def test_slots_that_fit_are_kept(change, tmp_path):
    model = change(kerax)
    before = slots(model)
    path = tmp_path / "model.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
        after = slots(kerax.saving.load_model(path))
    shared = before.keys() & after.keys()
    assert {"iteration", "b_kernel_momentum"} <= {name.removeprefix("sequential_") for name in shared}
    for name in shared:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_swapped_optimizer_takes_nothing_of_the_old_one(tmp_path):
    model = trained(kerax)
    model.save_weights(tmp_path / "model.weights.h5")
    other = trained(kerax, kerax.optimizers.SGD(0.1, momentum=0.9))
    before = slots(other)
    with pytest.warns(UserWarning, match="fit nothing in"):
        other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    assert all(np.array_equal(value, before[name]) for name, value in slots(other).items() if "momentum" in name)


def unbuilt_sequential():
    return kerax.Sequential([kerax.layers.Dense(2), kerax.layers.Dropout(0.1)])


class Net(kerax.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units, self.inner = units, kerax.layers.Dense(units)

    def call(self, inputs):
        return self.inner(inputs)


@pytest.mark.parametrize("make", [unbuilt_sequential, Net, lambda: kerax.layers.Dense(2), lambda: kerax.layers.LSTM(2)])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_what_is_not_built_comes_back_so(make, is_compiled, tmp_path):
    model = make()
    if is_compiled and hasattr(model, "compile"):
        model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="not built"):
        kerax.saving.save_model(model, tmp_path / "model.keras")
    again = kerax.saving.load_model(tmp_path / "model.keras", custom_objects={"Net": Net})
    assert type(again) is type(model) and not again.built
    assert getattr(again, "compiled", False) == getattr(model, "compiled", False)


def test_unbuilt_models_go_both_ways(tmp_path):
    keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "theirs.keras")
    assert not kerax.saving.load_model(tmp_path / "theirs.keras").built
    with pytest.warns(UserWarning, match="not built"):
        unbuilt_sequential().save(tmp_path / "ours.keras")
    assert not keras.saving.load_model(tmp_path / "ours.keras").built
