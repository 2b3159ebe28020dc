"""Keras Tuner: search, the best model, results that are read again."""

import keras
import keras_tuner
import numpy as np
import pytest


def build(hp):
    model = keras.Sequential([keras.Input((4,))])
    for index in range(hp.Int("layers", 1, 2)):
        model.add(
            keras.layers.Dense(hp.Choice(f"units_{index}", [4, 8]), activation=hp.Choice("act", ["relu", "tanh"]))
        )
    if hp.Boolean("dropout"):
        model.add(keras.layers.Dropout(0.1))
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-4, 1e-2, sampling="log")), "mse", metrics=["mae"])
    return model


X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", ["RandomSearch", "GridSearch", "BayesianOptimization", "Hyperband"])
def test_search(name, tmp_path):
    options = {"max_epochs": 3, "hyperband_iterations": 1} if name == "Hyperband" else {"max_trials": 3}
    tuner = getattr(keras_tuner, name)(
        build, "val_loss", directory=tmp_path, project_name="p", overwrite=True, **options
    )
    stop = keras.callbacks.EarlyStopping(patience=1)
    tuner.search(X, Y, validation_data=(X, Y), epochs=2, verbose=0, callbacks=[stop])
    best = tuner.get_best_models(1)[0]
    loss = best.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    assert np.isfinite(loss)
    assert tuner.get_best_hyperparameters(1)[0].get("layers") in (1, 2)
    again = getattr(keras_tuner, name)(build, "val_loss", directory=tmp_path, project_name="p", **options)
    again.reload()
    assert len(again.oracle.trials) == len(tuner.oracle.trials)


def test_hypermodel_with_its_own_fit(tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, batch_size=hp.Choice("batch", [8, 16]), **kwargs)

    tuner = keras_tuner.RandomSearch(Own(), "loss", max_trials=2, directory=tmp_path)
    tuner.search(X, Y, epochs=1, verbose=0)
    tuner.results_summary()
    assert tuner.get_best_hyperparameters()[0].get("batch") in (8, 16)


def test_sklearn_tuner(tmp_path):
    from sklearn import linear_model

    tuner = keras_tuner.SklearnTuner(
        keras_tuner.oracles.RandomSearchOracle(keras_tuner.Objective("score", "max"), max_trials=2),
        lambda hp: linear_model.Ridge(alpha=hp.Float("alpha", 0.1, 1.0)),
        directory=tmp_path,
    )
    tuner.search(X, Y[:, 0])
    assert tuner.get_best_models(1)[0].predict(X).shape == (32,)


@pytest.mark.parametrize("name", ["HyperResNet", "HyperXception"])
def test_applications(name):
    cls = getattr(keras_tuner.applications, name)
    model = cls(input_shape=(32, 32, 3), classes=4).build(keras_tuner.HyperParameters())
    assert model.output_shape == (None, 4)


def test_augmentation():
    model = keras_tuner.applications.HyperImageAugment(input_shape=(32, 32, 3)).build(keras_tuner.HyperParameters())
    assert np.asarray(model(np.ones((2, 32, 32, 3), "float32"))).shape == (2, 32, 32, 3)
