"""Models, losses and steps that compute across the rows of a batch: a last, smaller batch gives Keras's numbers."""

import keras
import numpy as np
import pytest

import kerax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(37, 6)).astype("f4")
Y = RNG.normal(size=(37, 6)).astype("f4")


def functional(module, **options):
    inputs = module.Input((6,))
    hidden = module.layers.Dense(6, kernel_initializer="ones", activation="tanh")(inputs)
    outputs = hidden - module.ops.mean(hidden, axis=0, keepdims=True)
    model = module.Model(inputs, outputs)
    model.compile("sgd", **({"loss": "mse", "metrics": ["mae"]} | options))
    return model


def attending_over_the_batch(module):
    class Attend(module.Model):
        def __init__(self):
            super().__init__()
            self.dense = module.layers.Dense(6, kernel_initializer="ones")

        def call(self, x):
            x = self.dense(x)
            return module.ops.softmax(x @ module.ops.transpose(x), axis=-1) @ x

    model = Attend()
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def batch_statistics(module):
    model = module.Sequential(
        [module.Input((6,)), module.layers.Lambda(lambda x: x / module.ops.max(module.ops.abs(x), axis=0))]
    )
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def in_batch_negatives(module):
    """A loss of scores between all rows."""

    def loss(y_true, y_pred):
        scores = y_pred @ module.ops.transpose(y_true)
        return module.losses.sparse_categorical_crossentropy(
            module.ops.arange(module.ops.shape(scores)[0]), scores, from_logits=True
        )

    model = module.Sequential([module.Input((6,)), module.layers.Dense(6, kernel_initializer="ones")])
    model.compile("sgd", loss)
    return model


def metric_of_the_batch(module):
    def spread(y_true, y_pred):
        return module.ops.max(y_pred, axis=-1) - module.ops.mean(y_pred)

    model = module.Sequential([module.Input((6,)), module.layers.Dense(6, kernel_initializer="ones")])
    model.compile("sgd", "mse", metrics=[spread])
    return model


MODELS = [functional, attending_over_the_batch, batch_statistics, in_batch_negatives, metric_of_the_batch]


@pytest.mark.medium
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("batch_size", [16, 64], ids="of {}".format)
def test_predict_and_evaluate(make, batch_size):
    ours, keras_s = make(kerax), make(keras)
    expected = keras_s.predict(X, batch_size, verbose=0)
    np.testing.assert_allclose(ours.predict(X, batch_size, verbose=0), expected, rtol=1e-4, atol=1e-5)
    expected = keras_s.evaluate(X, Y, batch_size, verbose=0, return_dict=True)
    found = ours.evaluate(X, Y, batch_size, verbose=0, return_dict=True)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)


@pytest.mark.medium
def test_validation_and_batches_of_ones_own():
    ours, keras_s = functional(kerax), functional(keras)
    histories = [
        model.fit(
            X, Y, 16, epochs=2, shuffle=False, verbose=0, validation_data=(X[:21], Y[:21]), validation_batch_size=8
        )
        for model in (ours, keras_s)
    ]
    for name, expected in histories[1].history.items():
        np.testing.assert_allclose(histories[0].history[name], expected, rtol=1e-4, err_msg=name)

    def batches():
        for start in range(0, 37, 8):
            yield X[start : start + 8], Y[start : start + 8]

    np.testing.assert_allclose(ours.evaluate(batches(), verbose=0), keras_s.evaluate(batches(), verbose=0), rtol=1e-4)
    found, expected = (model.predict(((x,) for x, _ in batches()), verbose=0) for model in (ours, keras_s))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.medium
def test_fewer_rows_than_a_batch():
    ours, keras_s = functional(kerax), functional(keras)
    for rows in (1, 5, 21):
        expected = keras_s.predict(X[:rows], verbose=0)
        np.testing.assert_allclose(ours.predict(X[:rows], verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.medium
def test_batches_of_one_row_first():
    for make in (functional, in_batch_negatives):
        ours, keras_s = make(kerax), make(keras)
        for batch_size in (1, 16):
            found, expected = (model.evaluate(X, Y, batch_size, verbose=0) for model in (ours, keras_s))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_step_of_ones_own():
    class Ranked(kerax.Sequential):
        def predict_step(self, state, data):
            outputs = super().predict_step(state, data)
            return kerax.ops.argsort(kerax.ops.argsort(outputs[:, 0]))  # places within the batch

    model = Ranked([kerax.Input((6,)), kerax.layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    sums = X.sum(1)
    ranks = [np.argsort(np.argsort(part)) for part in (sums[:16], sums[16:32], sums[32:])]
    np.testing.assert_array_equal(model.predict(X, 16, verbose=0), np.concatenate(ranks))


def test_what_keeps_rows_apart_has_one_program_for_all_batches():
    model = kerax.Sequential([kerax.Input((6,)), kerax.layers.Dense(2), kerax.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    model.predict(X, 16, verbose=0)
    model.evaluate(X, Y[:, :2], 16, verbose=0)
    assert sorted(key[0] for key in model.kerax_compilation.programs if key[0] != "initial_metrics") == [
        "predict",
        "test",
    ]
