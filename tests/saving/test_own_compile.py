"""Loading models whose class has its own `compile`: called where the file tells all that it takes, else a warning."""

import warnings

import numpy as np
import pytest

import kerax

X, Y = np.ones((4, 3), "float32"), np.zeros((4, 2), "float32")


class Base(kerax.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = kerax.layers.Dense(2)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)


class Adversarial(Base):
    def compile(self, d_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.loss_fn = d_optimizer, loss_fn


class Renamed(Base):
    def compile(self, my_optimizer, loss_fn):
        super().compile(optimizer=my_optimizer, loss=loss_fn)


class Fewer(Base):
    def compile(self, optimizer, loss):
        super().compile(optimizer=optimizer, loss=loss)


class More(Base):
    def compile(self, *args, temperature=3.0, **kwargs):
        super().compile(*args, **kwargs)
        self.temperature = temperature


class HandedOn(Base):
    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        self.is_mine = True


class Described(Renamed):
    def get_compile_config(self):
        return {"my_optimizer": self.optimizer, "loss_fn": "mse"}


def reloaded(model, path):
    model.save(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = kerax.saving.load_model(path, custom_objects={type(model).__name__: type(model)})
    return again, [str(warning.message) for warning in caught if "compile" in str(warning.message)]


# Keras warns of the last two as well.
@pytest.mark.parametrize(
    ("made_of", "is_compiled"),
    [(Adversarial, False), (Renamed, False), (Fewer, False), (More, False), (HandedOn, True), (Described, True)],
)
def test_a_file_is_loaded_whatever_compile_takes(made_of, is_compiled, tmp_path):
    model = made_of()
    model.compile(kerax.optimizers.Adam(0.01), "mse")
    model.fit(X, Y, verbose=0) if made_of is not Adversarial else model(X)
    again, warned = reloaded(model, tmp_path / "model.keras")
    assert again.compiled == is_compiled and len(warned) == (not is_compiled)
    if warned:
        assert "`compile` was not called" in warned[0] and repr(again) in warned[0]
    else:
        assert float(again.optimizer.learning_rate) == pytest.approx(0.01) and int(again.optimizer.iterations) == 1
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_clone_is_not_compiled_either():
    class Chain(kerax.Sequential):
        def compile(self, my_optimizer):
            super().compile(optimizer=my_optimizer, loss="mse")

    model = Chain([kerax.Input((3,)), kerax.layers.Dense(2)])
    model.compile("sgd")
    with pytest.warns(UserWarning, match="`compile` was not called"):
        assert not kerax.models.clone_model(model).compiled
