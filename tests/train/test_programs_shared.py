"""A model built anew from the same parts compiles nothing, and only what is the same is shared."""

import gc
import weakref

import jax
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core import executable

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(48, 5)).astype("float32"), RNG.integers(0, 3, 48)
compiles: list[str] = []


@pytest.fixture(autouse=True, scope="module")
def counted():
    def note(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiles.append(event)

    executable.forget()
    jax.monitoring.register_event_duration_secs_listener(note)


def sequential():
    return kerax.Sequential([kerax.Input((5,)), layers.Dense(7, "relu"), layers.Dropout(0.3), layers.Dense(3)])


def functional():
    inputs = layers.Input((5,))
    hidden = layers.BatchNormalization()(layers.Dense(6)(inputs))
    return kerax.Model(inputs, layers.Dense(3)(hidden))


class Subclass(kerax.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(4, "tanh"), layers.Dense(3)

    def call(self, x):
        return self.last(self.first(x))


def use(model, learning_rate=0.01, **arguments):
    model.compile(
        kerax.optimizers.Adam(learning_rate),
        kerax.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(X, Y, batch_size=8, validation_split=0.25, verbose=0, **arguments).history
    return history, model.predict(X, batch_size=8, verbose=0), model.evaluate(X, Y, batch_size=8, verbose=0)


@pytest.mark.medium
@pytest.mark.parametrize("make", [sequential, functional, Subclass])
def test_a_model_made_anew_compiles_nothing(make):
    kerax.utils.set_random_seed(1)
    first = use(make())
    compiles.clear()
    kerax.utils.set_random_seed(1)
    again = use(make())
    assert not compiles
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.medium
@pytest.mark.parametrize("change", ["seed", "learning rate", "compiled anew", "cloned", "rows"])
def test_what_is_an_argument_of_the_program_may_differ(change):
    model = sequential()
    use(model)
    # The seed of a dropout layer of one's own or of `random.seed` is in the state, not in the program.
    kerax.utils.set_random_seed(7)
    compiles.clear()
    if change == "compiled anew":
        use(model, 0.1)
    elif change == "cloned":
        use(kerax.models.clone_model(model))
    elif change == "rows":
        model = sequential()
        model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        model.fit(X[:32], Y[:32], batch_size=8, verbose=0)
    else:
        use(sequential(), 0.1 if change == "learning rate" else 0.01)
    assert not compiles


@pytest.mark.parametrize("number", [2.0, 3.0])
@pytest.mark.parametrize("where", ["lambda", "array", "argument"])
def test_numbers_in_the_program_are_not_confused(where, number):
    scale = np.full(5, number, "float32")
    parts = {
        "lambda": lambda: layers.Lambda(lambda x: x * number),
        "array": lambda: layers.Lambda(lambda x: x * scale),
        "argument": lambda: layers.Rescaling(number),
    }
    model = kerax.Sequential([kerax.Input((5,)), parts[where]()])
    np.testing.assert_allclose(model.predict(X, verbose=0), X * number, rtol=1e-6)


@pytest.mark.parametrize("kind", ["pure_callback", "debug"])
def test_functions_of_the_host_are_the_models_own(kind):
    seen: list[str] = []

    def model(name):
        def call(x):
            if kind == "debug":
                jax.debug.callback(lambda: seen.append(name))
                return x

            def on_host(a):
                seen.append(name)
                return np.asarray(a)

            return jax.pure_callback(on_host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

        return kerax.Sequential([kerax.Input((5,)), layers.Lambda(call)])

    for name in ("first", "second"):
        model(name).predict(X, batch_size=48, verbose=0)
        jax.effects_barrier()
        assert seen and set(seen) == {name}
        seen.clear()


@pytest.mark.medium
def test_programs_hold_no_model_and_are_let_go():
    model = functional()
    use(model)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    kerax.utils.clear_session()
    compiles.clear()
    use(functional())
    assert compiles


def test_only_the_latest_are_kept(monkeypatch):
    monkeypatch.setattr(executable, "_MOST", 2)
    for units in range(3, 6):
        kerax.Sequential([kerax.Input((5,)), layers.Dense(units)]).predict(X, verbose=0)
    assert len(executable._compiled) == 2
