import math

import pytest

from kerax.callbacks import History
from kerax.tuner import HyperModel, Objective
from kerax.tuner.hypermodel import EndsSearch, as_hypermodel, as_objective, best_numbers


def history(**columns):
    made = History()
    made.history = columns
    return made


def test_objectives():
    assert as_objective("val_accuracy", "T") == Objective("val_accuracy", "max")
    assert as_objective("val_loss", "T") == ("val_loss", "min")
    assert as_objective(Objective("speed", "max"), "T").worst == -math.inf
    assert as_objective(None, "T") == ("default_objective", "min")
    with pytest.raises(ValueError, match=r"T: it is not known whether 'speed'.*Objective\('speed', 'min'\)"):
        as_objective("speed", "T")
    for wrong in (Objective("loss", "less"), ["loss", "accuracy"]):
        with pytest.raises(ValueError, match="T: `objective` must be a name or"):
            as_objective(wrong, "T")


def test_the_best_epoch_counts():
    least = Objective("val_loss", "min")
    result = history(loss=[3.0, 2.0, 1.0], val_loss=[math.nan, 1.0, 5.0], late=[1.0])
    assert best_numbers(result, least, "T") == {"loss": 2.0, "val_loss": 1.0}
    assert best_numbers(result, Objective("loss", "max"), "T")["loss"] == 3.0
    assert math.isnan(best_numbers(history(val_loss=[math.nan] * 2), least, "T")["val_loss"])
    assert best_numbers({"val_loss": 2, "text": "a"}, least, "T") == {"val_loss": 2.0}
    assert best_numbers(3, least, "T") == {"val_loss": 3.0}


def test_a_missing_objective_ends_the_search():
    with pytest.raises(EndsSearch, match=r"T: the objective 'val_loss' is not among .*\['loss'\].*validation_data"):
        best_numbers(history(loss=[1.0]), Objective("val_loss", "min"), "T")
    with pytest.raises(EndsSearch, match="T: training must return a History, a number, or a dict with 'a'. Got None"):
        best_numbers(None, Objective("a", "min"), "T")
    with pytest.raises(EndsSearch, match=r"T: pass `objective`, one of \['loss'\]"):
        best_numbers(history(loss=[1.0]), as_objective(None, "T"), "T")


def test_hypermodels():
    hypermodel = as_hypermodel(lambda hp: hp, "T")
    assert isinstance(hypermodel, HyperModel) and hypermodel.build(3) == 3
    assert as_hypermodel(hypermodel, "T") is hypermodel
    for wrong in (HyperModel, 3):
        with pytest.raises(TypeError, match="T: `hypermodel` must be a HyperModel or a function"):
            as_hypermodel(wrong, "T")
    with pytest.raises(NotImplementedError, match="HyperModel: write `build"):
        HyperModel().build(None)
