import pytest

pytest.importorskip("optuna", reason="optuna is not installed")

import optuna

from kerax.tuner import Objective
from kerax.tuner.hypermodel import EndsSearch
from kerax.tuner.watch import Watch


class Model:
    """What a watch needs of a model."""

    stop_training = False

    def save_weights(self, path, overwrite):
        with open(path, "a") as file:
            file.write("saved ")


class Always(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return trial.last_step >= 2


def watch(path, pruner=None, objective=("loss", "min"), may_prune=True):
    trial = optuna.create_study(pruner=pruner or optuna.pruners.NopPruner()).ask()
    made = Watch(trial, Objective(*objective), str(path / "trial" / "w.weights.h5"))
    made.set_model(Model())
    made.begin(made.model, may_prune)
    return made


def test_better_weights_are_saved_over_all_executions(tmp_path):
    made = watch(tmp_path)
    saved = []
    for index, value in enumerate([3.0, float("nan"), 2.0, 2.0, 4.0, float("-inf"), 1.0]):
        if index == 4:
            made.finish(2.0)  # an epoch has saved
            made.begin(made.model, may_prune=False)
        made.on_epoch_end(index, {"loss": value})
        saved.append((tmp_path / "trial" / "w.weights.h5").read_text().count("saved"))
    assert saved == [1, 1, 2, 2, 2, 2, 3]
    assert list(made.trial.study.trials[0].intermediate_values) == [1, 2, 3, 4]  # of the first execution


def test_without_epochs_the_last_weights_are_saved(tmp_path):
    made = watch(tmp_path)
    made.finish(5.0)
    assert (tmp_path / "trial" / "w.weights.h5").exists()


def test_pruning_stops_the_training(tmp_path):
    made = watch(tmp_path, Always())
    made.on_epoch_end(0, {"loss": 1.0})
    assert not made.is_pruned and not made.model.stop_training
    made.on_epoch_end(1, {"loss": 1.0})
    assert made.is_pruned and made.model.stop_training
    other = watch(tmp_path, Always(), may_prune=False)
    for epoch in range(3):
        other.on_epoch_end(epoch, {"loss": 1.0})
    assert not other.is_pruned


def test_a_missing_number_ends_the_search(tmp_path):
    made = watch(tmp_path, objective=("val_loss", "min"))
    with pytest.raises(EndsSearch, match=r"'val_loss' is not among the logs \['loss'\]. Pass `validation_data`"):
        made.on_epoch_end(0, {"loss": 1.0})
