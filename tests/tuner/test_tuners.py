import itertools

import numpy as np
import pytest

import kerax

pytest.importorskip("optuna", reason="optuna is not installed")

from kerax import tuner

SCORE = tuner.Objective("score", "min")


@pytest.fixture(autouse=True)
def _keep_programs(monkeypatch):
    """Nothing is compiled here, and to forget nothing takes 0.1 seconds."""
    monkeypatch.setattr("kerax.tuner.tuner.clear_session", lambda: None)


def over(base, function):
    """A tuner over a function of the hyperparameters."""

    class Search(base):
        def run_trial(self, trial, *args, **kwargs):
            return {"score": function(trial.hyperparameters)}

    return Search


def bowl(hp):
    kind = hp.Choice("kind", ["up", "down"])
    x, y = hp.Float("x", -2.0, 2.0), hp.Float("y", 1e-4, 1.0, sampling="log")
    with hp.conditional_scope("kind", ["down"]):
        depth = hp.Float("depth", 0.0, 1.0)
    return (x - 1) ** 2 + (np.log10(y) + 2) ** 2 - (depth if kind == "down" else 0)


def values_of(search):
    return [trial.hyperparameters.values for trial in search.trials]


def test_a_seed_gives_the_same_trials(tmp_path):
    found = []
    for project, seed in enumerate([5, 5, 6]):
        search = over(tuner.RandomSearch, bowl)(None, SCORE, 6, seed, directory=tmp_path, project_name=str(project))
        search.search(verbose=0)
        found.append(values_of(search))
    assert found[0] == found[1] != found[2]
    x = [values["x"] for values in found[0]]
    assert len(set(x)) == 6 and all(-2 <= value <= 2 for value in x)
    assert all(("depth" in values) == (values["kind"] == "down") for values in found[0])


@pytest.mark.slow
def test_bayesian_optimization_beats_random_search(tmp_path):
    best = {}
    for base in (tuner.RandomSearch, tuner.BayesianOptimization):
        scores = []
        for seed in range(2):
            name = f"{base.__name__}{seed}"
            search = over(base, bowl)(None, SCORE, 30, seed=seed, directory=tmp_path, project_name=name)
            search.search(verbose=0)
            scores.append(search.get_best_trials()[0].score)
        best[base] = np.mean(scores)
    assert best[tuner.BayesianOptimization] < best[tuner.RandomSearch] - 0.05


def test_initial_points_are_random(tmp_path):
    arguments = dict(objective=SCORE, max_trials=4, seed=1, directory=tmp_path)
    first = over(tuner.RandomSearch, bowl)(project_name="a", **arguments)
    second = over(tuner.BayesianOptimization, bowl)(project_name="b", num_initial_points=4, **arguments)
    first.search(verbose=0)
    second.search(verbose=0)
    assert values_of(first) == values_of(second)
    with pytest.raises(ValueError, match="`num_initial_points` must be at least 1. Got 0"):
        tuner.BayesianOptimization(bowl, SCORE, num_initial_points=0)


def test_grid_search_tries_every_combination_once(tmp_path):
    def score(hp):
        kind = hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["b"]):
            inner = hp.Int("inner", 1, 3)
        return hp.Float("rate", 1e-3, 1e-1, step=10, sampling="log") * inner * (kind == "a")

    search = over(tuner.GridSearch, score)(None, SCORE, seed=0, directory=tmp_path)
    search.search(verbose=0)
    rates = [1e-3, 1e-2, 1e-1]
    expected = [dict(kind="a", rate=rate) for rate in rates]
    expected += [dict(kind="b", inner=inner, rate=rate) for inner, rate in itertools.product([1, 2, 3], rates)]
    rounded = [values | {"rate": round(values["rate"], 9)} for values in values_of(search)]
    assert rounded == expected  # the last changes fastest
    search.search(verbose=0)
    assert len(search.trials) == 12


def test_grid_search_goes_on_after_failures(tmp_path):
    def score(hp):
        if hp.Choice("kind", ["a", "b", "c"]) == "b":
            raise OSError("broken before the rest is drawn")
        return hp.Int("inner", 1, 2) * 1.0

    search = over(tuner.GridSearch, score)(None, SCORE, directory=tmp_path)
    search.search(verbose=0)
    assert [trial.status for trial in search.trials] == ["COMPLETED"] * 2 + ["FAILED"] + ["COMPLETED"] * 2


def test_grid_search_with_nothing_to_search_is_one_trial(tmp_path):
    search = over(tuner.GridSearch, lambda hp: hp.Fixed("a", 1.0))(None, SCORE, directory=tmp_path)
    search.search(verbose=0)
    assert [trial.score for trial in search.trials] == [1.0]


def test_grid_search_stops_at_max_trials_and_goes_on(tmp_path):
    score = lambda hp: float(hp.Int("a", 1, 2) * hp.Float("b", 0.0, 1.0))
    arguments = dict(objective=SCORE, seed=0, directory=tmp_path)
    first = over(tuner.GridSearch, score)(max_trials=5, **arguments)
    first.search(verbose=0)
    assert len(first.trials) == 5
    rest = over(tuner.GridSearch, score)(**arguments)
    rest.search(verbose=0)
    tried = {(values["a"], values["b"]) for values in values_of(rest)}
    assert len(rest.trials) == len(tried) == 20  # two integers, ten numbers


class TestHyperband:
    def hypermodel(self):
        seen = []

        class Scripted(tuner.HyperModel):
            def build(self, hp):
                hp.Float("level", 0.0, 1.0)
                model = kerax.Sequential([kerax.Input((1,)), kerax.layers.Dense(1)])
                model.compile("sgd", "mse")
                return model

            def fit(self, hp, model, *, epochs, callbacks, verbose):
                running = kerax.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=epochs)
                for epoch in range(epochs):
                    running.on_epoch_end(epoch, {"val_loss": hp.get("level") + 1 / (1 + epoch)})
                    if model.stop_training:
                        break
                seen.append((hp.get("level"), epoch + 1))
                return running.callbacks[-1]

        return Scripted(), seen

    @pytest.mark.medium
    def test_trials_that_fall_behind_end_early(self, tmp_path):
        hypermodel, seen = self.hypermodel()
        search = tuner.Hyperband(hypermodel, "val_loss", max_epochs=9, seed=0, directory=tmp_path, max_models_to_keep=1)
        search.search(verbose=0, epochs=1)
        # Brackets of 9, 5 and 3 trials, as in Keras Tuner.
        assert len(search.trials) == len(seen) == 17
        assert {epochs for _, epochs in seen} <= {1, 3, 9} and sum(epochs for _, epochs in seen) < 17 * 9 * 0.7
        full = [level for level, epochs in seen if epochs == 9]
        early = [level for level, epochs in seen if epochs == 1]
        assert early and np.mean(full) < np.mean(early)
        assert {trial.status for trial in search.trials} == {"COMPLETED", "PRUNED"}
        assert search.get_best_trials()[0].hyperparameters.get("level") == min(full)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (dict(max_epochs=0), "`max_epochs` must be an integer of at least 1. Got 0"),
            (dict(factor=1), "`factor` must be an integer of at least 2. Got 1"),
            (dict(hyperband_iterations=0.5), "`hyperband_iterations` must be"),
            (dict(objective=None), "Hyperband: pass `objective`"),
        ],
    )
    def test_wrong_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            tuner.Hyperband(bowl, **dict(objective=SCORE) | arguments)
        with pytest.raises(TypeError, match="`max_trials` follows from"):
            tuner.Hyperband(bowl, SCORE, max_trials=3)
