"""scikeras: scikit-learn's own checks of estimators, pickles, pipelines, searches."""

import pickle

import keras
import numpy as np
import pytest
from scikeras.wrappers import KerasClassifier, KerasRegressor
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import AdaBoostClassifier, BaggingRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks


def mlp(meta, compile_kwargs, hidden=(8,)):
    model = keras.Sequential([keras.Input((meta["n_features_in_"],))])
    for units in hidden:
        model.add(keras.layers.Dense(units, activation="relu"))
    is_multiclass = meta.get("n_classes_", 0) > 2
    if is_multiclass:
        model.add(keras.layers.Dense(meta["n_classes_"], activation="softmax"))
    elif "n_classes_" in meta:
        model.add(keras.layers.Dense(1, activation="sigmoid"))
    else:
        model.add(keras.layers.Dense(meta.get("n_outputs_", 1)))
    loss = (
        "sparse_categorical_crossentropy" if is_multiclass else "binary_crossentropy" if "n_classes_" in meta else "mse"
    )
    model.compile(loss=loss, optimizer=compile_kwargs["optimizer"])
    return model


def classifier(**kwargs):
    return KerasClassifier(mlp, **({"optimizer": "adam", "hidden": (8,), "verbose": 0, "random_state": 0} | kwargs))


def regressor(**kwargs):
    return KerasRegressor(mlp, **({"optimizer": "adam", "hidden": (8,), "verbose": 0, "random_state": 0} | kwargs))


@parametrize_with_checks(
    [classifier(epochs=30, batch_size=8, optimizer__learning_rate=0.02), regressor(epochs=30, batch_size=8)],
    legacy=False,
    # What scikit-learn asks of its newer versions' estimators, and scikeras has not, with Keras as little.
    expected_failed_checks=lambda _: dict.fromkeys(
        (
            "check_estimator_tags_renamed",
            "check_no_attributes_set_in_init",
            "check_n_features_in_after_fitting",
            "check_mixin_order",
            "check_valid_tag_types",
        ),
        "scikeras 0.13 beside a newer scikit-learn",
    ),
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_classifier_and_pickle():
    x, y = make_classification(100, 6, n_informative=4, n_classes=3, random_state=0)
    model = make_pipeline(StandardScaler(), classifier(epochs=20, optimizer__learning_rate=0.02))
    model.fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(model.predict_proba(x), again.predict_proba(x), rtol=1e-5)
    assert model.score(x, y) > 0.6
    step = model.named_steps["kerasclassifier"]
    step.partial_fit(x, y)
    assert len(step.history_["loss"]) == 21


def test_search_and_scores():
    x, y = make_regression(60, 4, random_state=0)
    search = GridSearchCV(regressor(epochs=2), {"hidden": [(4,), (8, 4)], "optimizer__learning_rate": [0.01]}, cv=2)
    search.fit(x, y)
    assert search.best_params_["hidden"] in [(4,), (8, 4)]
    assert cross_val_score(regressor(epochs=2), x, y, cv=3).shape == (3,)


@pytest.mark.parametrize("ensemble", [BaggingRegressor])
def test_ensembles(ensemble):
    x, y = make_regression(40, 3, random_state=0)
    assert ensemble(estimator=regressor(epochs=2), n_estimators=2).fit(x, y).predict(x).shape == (40,)


def test_boosting():
    x, y = make_classification(40, 5, random_state=0)
    assert AdaBoostClassifier(estimator=classifier(epochs=40, optimizer__learning_rate=0.02), n_estimators=2).fit(
        x, y
    ).predict(x).shape == (40,)


def test_random_state_repeats():
    x, y = make_regression(40, 3, random_state=0)
    first, second = (regressor(epochs=2, random_state=3).fit(x, y).predict(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_keras_models_pickle_and_copy():
    import copy

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    x = np.ones((4, 3), "float32")
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(model.predict(x, verbose=0), other.predict(x, verbose=0))
