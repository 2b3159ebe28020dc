"""Subclasses of the library's optimizers with an `update_step` or `apply` that calls its base's, as in Keras."""

import keras
import numpy as np
import pytest

import kerax

X = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
Y = X @ np.array([[1.0], [-2.0]], "float32")
NAMES = "SGD Adam AdamW RMSprop Adagrad Adadelta Adamax Nadam Ftrl Lion Lamb Adafactor Muon".split()


def doubled(library, name):
    base = getattr(library.optimizers, name)

    class Doubled(base):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient * 2, variable, learning_rate * 0.5)

    return Doubled(0.1)


def momentum(library):
    class Momentum(library.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(library.ops.sign(gradient), variable, learning_rate)
            self.assign(variable, variable * 0.9)

    return Momentum(0.1, momentum=0.9, weight_decay=0.01, clipnorm=1.0)


def with_own_slots(library):
    class Smoothed(library.optimizers.Adam):
        def build(self, variables):
            super().build(variables)
            self.mean = [self.add_variable_from_reference(variable, "mean") for variable in variables]

        def update_step(self, gradient, variable, learning_rate):
            mean = self.mean[self._get_variable_index(variable)]
            self.assign(mean, mean * 0.5 + gradient)
            super().update_step(mean, variable, learning_rate)

    return Smoothed(0.1)


def own_apply(library):
    class Apply(library.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            return super().apply([grad * 2 for grad in grads], trainable_variables)

    return Apply(0.1, momentum=0.5)


def set_on_the_object(library):
    optimizer = library.optimizers.SGD(0.1)
    update_step = optimizer.update_step
    optimizer.update_step = lambda gradient, variable, rate: update_step(gradient * 3, variable, rate)
    return optimizer


def trained(library, optimizer):
    inputs = library.Input((2,))
    x = library.layers.Dense(2, kernel_initializer="ones")(inputs)
    model = library.Model(inputs, library.layers.Dense(1, kernel_initializer="ones")(x))
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model


CASES = {name: lambda library, name=name: doubled(library, name) for name in NAMES} | {
    made.__name__: made for made in (momentum, with_own_slots, own_apply, set_on_the_object)
}


@pytest.mark.medium
@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_keras(name):
    found, expected = (trained(library, CASES[name](library)) for library in (kerax, keras))
    for ours, theirs in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)
    assert int(found.optimizer.iterations) == 4
    if name != "Adafactor":  # where Keras has scalars for what is not there
        assert len(found.optimizer.variables) == len(expected.optimizer.variables)


@pytest.mark.parametrize("name", ["SGD", "Adam", "with_own_slots", "own_apply"])
def test_single_variables_are_updated_as_in_keras(name):
    values = []
    for library in (kerax, keras):
        variable = library.Variable(np.ones(3, "float32"))
        optimizer = CASES[name](library)
        optimizer.build([variable])
        for gradient in (1.0, -0.5, 2.0):
            optimizer.apply_gradients([(np.full(3, gradient, "float32"), variable)])
        values.append(np.asarray(variable.value))
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.medium
def test_accumulated_gradients_and_loss_scales_meet_an_own_step():
    for options in ({"gradient_accumulation_steps": 2}, {"loss_scale_factor": 4.0}, {"use_ema": True}):
        models = []
        for library in (kerax, keras):

            class Doubled(library.optimizers.Adam):
                def update_step(self, gradient, variable, learning_rate):
                    super().update_step(gradient * 2, variable, learning_rate)

            models.append(trained(library, Doubled(0.1, **options)))
        for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)
