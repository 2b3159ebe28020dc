"""`ops.cond` in a graph computes one of its branches."""

import jax
import numpy as np
import pytest

import kerax
from kerax import layers, ops

X = np.ones((2, 4), "float32")
ran = []


def noting(tag: str):
    """An op that notes that it ran."""

    def noted(x):
        jax.debug.callback(lambda: ran.append(tag))
        return x

    return ops.lift(noted, f"noted_{tag}")


NOTED = {tag: noting(tag) for tag in ("positive", "negative", "small", "both")}


def model_of_branches():
    x = kerax.Input((4,))
    both = NOTED["both"](ops.abs(x))
    first, second, third = (layers.Dense(3, name=name) for name in ("first", "second", "third"))

    def negative():
        return ops.cond(
            ops.sum(x) < -100, lambda: NOTED["small"](third(both)), lambda: NOTED["negative"](2 * second(both))
        )

    return kerax.Model(x, ops.cond(ops.mean(x) > 0, lambda: NOTED["positive"](first(both)), negative))


def loaded(model, tmp_path):
    model.save(tmp_path / "m.keras")
    return kerax.saving.load_model(tmp_path / "m.keras")


def cloned(model, _):
    clone = kerax.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def nested(model, _):
    x = kerax.Input((4,))
    return kerax.Model(x, model(x))


FORMS = {"made": lambda model, _: model, "loaded": loaded, "cloned": cloned, "nested": nested}
CALLS = {
    "called": lambda model, x: model(x),
    "traced": lambda model, x: jax.jit(lambda x: model(x))(x),
    "predict": lambda model, x: model.predict(x, verbose=0),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_one_branch_is_computed(form, call, tmp_path):
    made = model_of_branches()
    model = FORMS[form](made, tmp_path)
    for scale, tag, weights in ((1, "positive", "first"), (-1, "negative", "second"), (-50, "small", "third")):
        ran.clear()
        outputs = CALLS[call](model, scale * X)
        jax.effects_barrier()
        assert sorted(ran) == sorted(["both", tag])
        expected = made.get_layer(weights)(abs(scale * X)) * (2 if tag == "negative" else 1)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5)


def test_only_the_branch_that_was_taken_is_trained():
    model = model_of_branches()
    model.compile("sgd", "mse")
    before = {layer.name: layer.get_weights()[0] for layer in model.layers if layer.weights}
    model.fit(X, np.ones((2, 3)), verbose=0)
    changed = [name for name, value in before.items() if (model.get_layer(name).get_weights()[0] != value).any()]
    assert changed == ["first"]


def branch_with_state(layer):
    x = kerax.Input((4,))
    hidden = layers.Dense(3, kernel_initializer="ones")(x)
    chosen = ops.cond(ops.sum(x) > 0, lambda: layer(hidden), lambda: layers.Dropout(0.5, seed=3)(hidden))
    return kerax.Model(x, [chosen, hidden])


class AddsLoss(layers.Layer):
    def call(self, x):
        self.add_loss(ops.sum(x))
        return x


@pytest.mark.parametrize(
    "layer", [layers.BatchNormalization(), AddsLoss(), layers.Dense(3, activity_regularizer="l2")], ids=repr
)
def test_state_that_a_branch_changes_leaves_it(layer):
    model = branch_with_state(layer)
    model.compile("sgd", "mse")
    history = model.fit(X, [np.ones((2, 3))] * 2, verbose=0)
    if isinstance(layer, layers.BatchNormalization):
        assert layer.moving_mean.numpy().any()
    else:
        assert history.history["loss"][0] > sum(history.history[name][0] for name in history.history if "_" in name)


def test_an_output_of_the_model_is_computed_whatever_is_chosen():
    x = kerax.Input((4,))
    seen = NOTED["negative"](x)
    model = kerax.Model(x, [ops.cond(ops.sum(x) > 0, lambda: NOTED["positive"](x), lambda: 2 * seen), seen])
    ran.clear()
    chosen, other = model.predict(X, verbose=0)
    assert sorted(ran) == ["negative", "positive"]
    np.testing.assert_array_equal(chosen, other)
