"""Models as scikit-learn estimators."""

import contextlib
import pickle
import unittest
import warnings

import numpy as np
import pytest

import kerax
from kerax import layers

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import estimator_checks_generator  # noqa: E402

from kerax.wrappers import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
LABELS = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
NUMBERS = X @ np.array([1.0, 2.0, 0.0, -1.0])


def make(X, y, loss="mse", rate=0.05, units=None):
    outputs = y.shape[1]
    stack = [] if units is None else [layers.Dense(units, "relu")]
    head = layers.Dense(outputs, "softmax" if loss == "categorical_crossentropy" else None)
    model = kerax.Sequential([kerax.Input((X.shape[1],)), *stack, head])
    model.compile(kerax.optimizers.Adam(rate), loss)
    return model


def classifier(**options):
    kwargs = {"loss": "categorical_crossentropy"} | options
    return SKLearnClassifier(make, model_kwargs=kwargs, fit_kwargs={"epochs": 60})


def regressor():
    return SKLearnRegressor(make, fit_kwargs={"epochs": 150})


# Without those that fail in Keras too: no two fits start from the same weights, and the scores of two classes are two
# columns. All others pass; these are the ones that try what is special about a wrapped model.
CHECKS = """check_estimator_cloneable check_estimators_pickle check_dict_unchanged check_n_features_in
    check_estimators_nan_inf check_supervised_y_no_nan check_estimators_unfitted check_fit2d_1sample check_fit1d
    check_dont_overwrite_attributes check_estimators_empty_data_messages check_classifiers_one_label
    check_transformer_data_not_an_array check_estimator_tags_renamed check_do_not_raise_errors_in_init_or_set_param
    check_parameters_default_constructible check_no_attributes_set_in_init""".split()


@pytest.mark.slow
@pytest.mark.parametrize("cls", [SKLearnClassifier, SKLearnRegressor, SKLearnTransformer])
def test_scikit_learns_own_checks_pass(cls):
    loss = "categorical_crossentropy" if cls is SKLearnClassifier else "mse"
    estimator = cls(make, model_kwargs={"loss": loss}, fit_kwargs={"epochs": 1, "batch_size": 1000})
    passed = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for own, check in estimator_checks_generator(estimator, legacy=True):
            name = getattr(check, "func", check).__name__
            if name in CHECKS:
                with contextlib.suppress(unittest.SkipTest):
                    check(own)
                    passed.add(name)
    assert len(passed) >= 12


@pytest.mark.medium
def test_a_classifier_learns_names():
    model = classifier().fit(X, LABELS)
    assert model.score(X, LABELS) > 0.9 and set(model.predict(X)) == {"yes", "no"}
    np.testing.assert_array_equal(model.classes_, ["no", "yes"])
    scores = model.decision_function(X)
    np.testing.assert_array_equal(model.classes_[scores.argmax(1)], model.predict(X))
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    assert model.epoch_ == 60


@pytest.mark.medium
def test_a_regressor_keeps_the_form_of_its_targets():
    model = regressor().fit(X, NUMBERS)
    assert model.predict(X).shape == (60,) and model.score(X, NUMBERS) > 0.9
    both = regressor().fit(X, np.stack([NUMBERS, -NUMBERS], 1))
    assert both.predict(X).shape == (60, 2)


@pytest.mark.medium
def test_a_transformer_gives_the_models_outputs():
    model = SKLearnTransformer(make).fit(X, NUMBERS[:, None] * np.ones(3))
    np.testing.assert_allclose(model.transform(X), model.model_.predict(X, verbose=0))
    assert make_pipeline(StandardScaler(), model).fit_transform(X, np.ones((60, 3))).shape == (60, 3)


@pytest.mark.medium
def test_pipelines_searches_and_clones():
    search = GridSearchCV(classifier(), {"model_kwargs": [{"loss": "categorical_crossentropy", "rate": r} for r in (0, 0.1)]}, cv=2)  # fmt: skip # noqa: E501
    assert search.fit(X, LABELS).best_params_["model_kwargs"]["rate"] == 0.1
    template = make(X, np.zeros((60, 2)), "categorical_crossentropy")
    copy = clone(SKLearnClassifier(template, fit_kwargs={"epochs": 40}))
    assert copy.fit_kwargs == {"epochs": 40} and not hasattr(copy, "model_")
    before = template.get_weights()
    assert copy.fit(X, LABELS).score(X, LABELS) > 0.8
    np.testing.assert_array_equal(template.get_weights()[0], before[0])


@pytest.mark.medium
def test_pickles_predict_the_same():
    for estimator, y in ((classifier(units=3), LABELS), (regressor(), NUMBERS)):
        estimator.set_params(fit_kwargs={"epochs": 1}).fit(X, y)
        copy = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(copy.predict(X), estimator.predict(X))
        copy.fit(X, y)


def test_a_warm_start_goes_on():
    model = regressor().set_params(warm_start=True, fit_kwargs={"epochs": 20}).fit(X, NUMBERS)
    first, kept = model.score(X, NUMBERS), model.model_
    assert model.fit(X, NUMBERS).model_ is kept and model.score(X, NUMBERS) > first
    assert model.set_params(warm_start=False).fit(X, NUMBERS).model_ is not kept


@pytest.mark.medium
def test_arguments_of_fit_are_handed_on():
    model = regressor().fit(X, NUMBERS, epochs=2, sample_weight=np.ones(60))
    assert model.epoch_ == 2
    with sklearn.config_context(enable_metadata_routing=True):
        assert regressor().set_fit_request(sample_weight=True).get_metadata_routing() is not None
    with pytest.raises(RuntimeError, match="enable_metadata_routing"):
        regressor().set_fit_request(sample_weight=True)


def test_wrong_uses_are_named():
    with pytest.raises(RuntimeError, match="must be compiled"):
        SKLearnRegressor(lambda X, y: kerax.Sequential([kerax.Input((4,)), layers.Dense(1)])).fit(X, NUMBERS)
    with pytest.raises(ValueError, match="only one class"):
        classifier().fit(X, ["a"] * 60)
    with pytest.raises(ValueError, match="Unknown label type"):
        classifier().fit(X, NUMBERS)


def test_a_missing_scikit_learn_is_asked_for_by_name(monkeypatch):
    import sys

    monkeypatch.delattr(kerax.wrappers, "SKLearnClassifier")  # which an earlier test has loaded
    for name in ("sklearn", "kerax.wrappers.estimators"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"kerax\[sklearn\]"):
        _ = kerax.wrappers.SKLearnClassifier
