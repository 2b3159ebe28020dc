import json
import os
import subprocess
import sys

import numpy as np
import pytest

import kerax

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

from kerax import tuner  # noqa: E402

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(32, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
DATA = dict(x=X, y=Y, batch_size=32, epochs=2, verbose=0)


def build(hp):
    """A model with two hyperparameters."""
    model = kerax.Sequential(
        [kerax.Input((4,)), kerax.layers.Dense(hp.Choice("units", [1, 2, 4])), kerax.layers.Dense(1)]
    )
    model.compile(kerax.optimizers.SGD(hp.Float("rate", 1e-4, 1e-1, sampling="log")), "mse")
    return model


@pytest.fixture
def keep_programs(monkeypatch):
    """For searches that compile nothing: to forget nothing takes 0.1 seconds."""
    monkeypatch.setattr("kerax.tuner.tuner.clear_session", lambda: None)


class Formula(tuner.RandomSearch):
    """A search over a formula instead of a model; `fails` are the numbers of trials that fail."""

    fails: tuple = ()

    def run_trial(self, trial, *args, **kwargs):
        x = trial.hyperparameters.Float("x", -1.0, 1.0)
        kind = trial.hyperparameters.Choice("kind", ["a", "b"])
        if trial.number in self.fails:
            raise self.fails[trial.number]
        return {"score": x**2 + (kind == "b")}


def formula(folder, fails=None, **arguments):
    arguments = dict(objective=tuner.Objective("score", "min"), seed=3, directory=folder, project_name="f") | arguments
    made = Formula(**arguments)
    made.fails = fails or {}
    return made


def values_of(search):
    return [trial.hyperparameters.values for trial in search.trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    search = tuner.RandomSearch(build, "loss", 3, seed=1, directory=folder, project_name="p", max_models_to_keep=2)
    search.search(**DATA)
    return search


class TestSearch:
    @pytest.mark.medium
    def test_trials_are_ranked_by_the_best_epoch(self, searched):
        trials, best = searched.trials, searched.get_best_trials(10)
        assert [trial.status for trial in trials] == ["COMPLETED"] * 3
        assert [trial.score for trial in best] == sorted(trial.score for trial in trials)
        assert best[0].metrics["loss"] == best[0].score
        assert trials[0].hyperparameters.values.keys() == {"units", "rate"}

    def test_best_hyperparameters_build_the_model(self, searched):
        first, second = searched.get_best_hyperparameters(2)
        assert first.values == searched.get_best_trials()[0].hyperparameters.values != second.values
        assert build(first).layers[0].units == first.get("units") == first.values["units"]

    def test_best_models_have_the_weights_of_the_best_epoch(self, searched):
        models = searched.get_best_models(2)
        for model, trial in zip(models, searched.get_best_trials(2)):
            assert model.layers[0].units == trial.hyperparameters.get("units")
        # The loss of an epoch of one batch is that before its update: that of the final weights is lower.
        assert models[0].evaluate(X, Y, verbose=0) < searched.get_best_trials()[0].score * 1.05
        with pytest.raises(ValueError, match="no weights of trial .*`max_models_to_keep`=2"):
            searched.get_best_models(3)

    def test_only_weights_of_the_best_are_kept(self, searched):
        kept = {name for name in os.listdir(searched.project_dir) if name.startswith("trial_")}
        assert kept == {f"trial_{trial.trial_id}" for trial in searched.get_best_trials(2)}

    def test_summaries(self, searched, capsys):
        searched.search_space_summary()
        shown = capsys.readouterr().out
        assert "Search space: 2 hyperparameters" in shown
        assert "Choice('units'): values=[1, 2, 4], ordered=True, default=1" in shown
        searched.results_summary(1)
        shown = capsys.readouterr().out
        best = searched.get_best_trials()[0]
        assert "3 completed" in shown and "Objective: loss (min)" in shown
        assert f"Trial {best.trial_id}" in shown and f"score: {best.score:.6g}" in shown
        assert shown.count("score:") == 1

    def test_a_search_that_is_done_is_done(self, searched):
        searched.search(**DATA)
        assert len(searched.trials) == 3


class Scripted(tuner.HyperModel):
    """Trains in a loop of its own that compiles nothing: `losses(hp, epoch)` are the numbers, and the weight is set to
    the number of the epoch."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.seen = losses, []

    def build(self, hp):
        hp.Choice("slope", [1, 2, 3, 4])
        model = kerax.Sequential([kerax.Input((1,)), kerax.layers.Dense(1, use_bias=False)])
        model.compile("sgd", "mse")
        return model

    def fit(self, hp, model, *args, epochs=1, callbacks=(), **kwargs):
        running = kerax.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=epochs)
        running.on_train_begin()
        self.seen.append([])
        for epoch in range(epochs):
            model.set_weights([np.full((1, 1), epoch, "float32")])
            loss = self.losses(hp, epoch)
            self.seen[-1].append(loss)
            running.on_epoch_end(epoch, {"val_loss": loss})
            if model.stop_training:
                break
        return running.callbacks[-1]


@pytest.mark.usefixtures("keep_programs")
def test_weights_are_those_of_the_best_epoch(tmp_path):
    hypermodel = Scripted(lambda hp, epoch: [3.0, 1.0, float("nan"), 2.0][epoch] * hp.get("slope"))
    search = tuner.RandomSearch(hypermodel, "val_loss", directory=tmp_path, seed=0)
    search.search(epochs=4, verbose=0)
    assert len(search.trials) == 4  # there are no more combinations
    assert [trial.score for trial in search.get_best_trials(4)] == [1.0, 2.0, 3.0, 4.0]
    (model,) = search.get_best_models()
    assert model.get_weights()[0].item() == 1.0


@pytest.mark.usefixtures("keep_programs")
def test_executions_are_averaged(tmp_path):
    hypermodel = Scripted(lambda hp, epoch: float(len(hypermodel.seen) + epoch))
    search = tuner.RandomSearch(hypermodel, "val_loss", 1, executions_per_trial=3, directory=tmp_path)
    search.search(epochs=2, verbose=0)
    assert hypermodel.seen == [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]
    assert search.trials[0].score == 2.0 and search.trials[0].metrics == {"val_loss": 2.0}


@pytest.mark.medium
def test_hyperparameters_in_fit_and_a_model_without_input(tmp_path):
    class Own(tuner.HyperModel):
        def build(self, hp):
            model = kerax.Sequential([kerax.layers.Dense(1)])
            model.compile("sgd", "mse")
            return model

        def fit(self, hp, model, *args, **kwargs):
            history = model.fit(*args, batch_size=hp.Choice("batch_size", [8, 32]), **kwargs)
            return history.history["loss"][-1]

    search = tuner.RandomSearch(Own(), max_trials=2, seed=0, directory=tmp_path)
    search.search(X, Y, verbose=0)
    assert all(trial.hyperparameters.values["batch_size"] in (8, 32) for trial in search.trials)
    assert search.get_best_models()[0].predict(X, verbose=0).shape == (32, 1)


@pytest.mark.medium
def test_callbacks_are_copied_and_tensorboard_gets_folders(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    stop = kerax.callbacks.EarlyStopping("loss", patience=5)
    board = kerax.callbacks.TensorBoard(tmp_path / "logs", write_graph=False)
    search = tuner.RandomSearch(build, "loss", 1, directory=tmp_path)
    search.search(X, Y, verbose=0, callbacks=[stop, board])
    assert stop.model is None and board.log_dir == str(tmp_path / "logs")
    assert os.listdir(tmp_path / "logs" / "0000" / "execution0" / "train")


@pytest.mark.usefixtures("keep_programs")
class TestFormula:
    def test_a_resumed_search_draws_what_it_would_have_drawn(self, tmp_path):
        whole = formula(tmp_path / "a", max_trials=6)
        whole.search()
        formula(tmp_path / "b", max_trials=2).search()
        resumed = formula(tmp_path / "b", max_trials=6)
        assert len(resumed.trials) == 2
        resumed.search()
        assert values_of(resumed) == values_of(whole) and len(whole.trials) == 6
        assert values_of(formula(tmp_path / "b", overwrite=True)) == []

    def test_an_interrupted_trial_is_tried_again(self, tmp_path):
        whole = formula(tmp_path / "a", max_trials=3)
        whole.search()
        with pytest.raises(KeyboardInterrupt):
            formula(tmp_path / "b", {1: KeyboardInterrupt()}, max_trials=3).search()
        resumed = formula(tmp_path / "b", max_trials=3)
        resumed.search()
        assert values_of(resumed)[:2] == values_of(whole)[:2] and len(resumed.trials) == 3

    def test_a_trial_of_a_killed_worker_is_tried_again(self, tmp_path):
        search = formula(tmp_path, max_trials=2)
        lost = search.study.ask()
        x = lost.suggest_float("x", -1.0, 1.0)
        lost.set_user_attr("worker", "killed")
        os.makedirs(tmp_path / "f" / "workers")
        (tmp_path / "f" / "workers" / "killed").touch()  # its mark, which nobody locks
        held = search.study.ask()
        held.set_user_attr("worker", "elsewhere")  # without a mark here: it may be alive on another machine
        search.max_trials = 3
        search.search()
        states = {trial.number: trial.status for trial in search.trials}
        assert states[held.number] == "RUNNING" and lost.number not in states
        done = [trial for trial in search.trials if trial.status == "COMPLETED"]
        assert len(done) == 2 and done[0].hyperparameters.values["x"] == x

    @pytest.mark.medium
    def test_sqlite(self, tmp_path):
        pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
        url = f"sqlite:///{tmp_path}/search.db"
        formula(tmp_path, storage=url, max_trials=2).search()
        search = formula(tmp_path, storage=url, max_trials=3)
        search.search()
        assert len(search.trials) == 3 and not os.path.exists(tmp_path / "f" / "journal.log")
        assert formula(tmp_path, storage=url, overwrite=True).trials == []

    def test_a_failed_trial_does_not_end_the_search(self, tmp_path, capsys):
        fails = {number: RuntimeError(f"no {number}") for number in (0, 1, 3)}
        search = formula(tmp_path, fails, max_trials=5)
        search.search()
        assert [trial.status for trial in search.trials] == ["FAILED"] * 2 + ["COMPLETED", "FAILED", "COMPLETED"]
        assert "RuntimeError: no 1" in search.trials[1].message
        assert "Trial 2 of 5: failed: RuntimeError: no 1" in capsys.readouterr().out
        search.results_summary()
        assert "error: RuntimeError: no 3" in capsys.readouterr().out
        assert len(search.get_best_trials(9)) == 2

    def test_three_failures_in_a_row_end_it(self, tmp_path):
        search = formula(tmp_path, dict.fromkeys(range(9), OSError("broken")), max_trials=9)
        with pytest.raises(RuntimeError, match="3 trials failed in a row, the last with OSError: broken") as caught:
            search.search(verbose=0)
        assert isinstance(caught.value.__cause__, OSError) and len(search.trials) == 3

    def test_retries(self, tmp_path):
        class Once(Formula):
            tries = 0

            def run_trial(self, trial, *args, **kwargs):
                self.tries += 1
                if self.tries == 1:
                    raise OSError("once")
                return super().run_trial(trial)

        search = Once(
            objective=tuner.Objective("score", "min"), max_trials=1, directory=tmp_path, max_retries_per_trial=1
        )
        search.search(verbose=0)
        assert [trial.status for trial in search.trials] == ["COMPLETED"] and search.tries == 2

    def test_another_objective_is_refused(self, tmp_path):
        formula(tmp_path)
        with pytest.raises(
            ValueError, match=r"'f' improves \('score', 'min'\), not \('score', 'max'\).*overwrite=True"
        ):
            formula(tmp_path, objective=tuner.Objective("score", "max"))

    def test_the_best_of_a_maximised_number(self, tmp_path):
        search = formula(tmp_path, objective=tuner.Objective("score", "max"), max_trials=4)
        search.search(verbose=0)
        scores = [trial.score for trial in search.trials]
        assert search.get_best_trials()[0].score == max(scores)


@pytest.mark.usefixtures("keep_programs")
def test_a_training_that_came_to_nan_is_the_worst(tmp_path):
    class Diverges(Formula):
        def run_trial(self, trial, *args, **kwargs):
            return {"score": float("nan") if trial.number < 4 else super().run_trial(trial)["score"]}

    search = Diverges(objective=tuner.Objective("score", "min"), max_trials=5, directory=tmp_path)
    search.search(verbose=0)  # four in a row are no failures
    assert [trial.score == np.inf for trial in search.get_best_trials(5)] == [False] + [True] * 4


@pytest.mark.usefixtures("keep_programs")
def test_pruning(tmp_path):
    class Worse(optuna.pruners.BasePruner):
        """Ends trials that are worse than the first at the same epoch."""

        def prune(self, study, trial):
            first = study.get_trials(deepcopy=False)[0]
            step = trial.last_step
            return trial.number > 0 and trial.intermediate_values[step] > first.intermediate_values[step]

    hypermodel = Scripted(lambda hp, epoch: 1.0 + hp.get("slope") * epoch)
    search = tuner.RandomSearch(hypermodel, "val_loss", seed=0, directory=tmp_path, pruner=Worse())
    search.search(epochs=3, verbose=0)
    slopes = [trial.hyperparameters.get("slope") for trial in search.trials]
    assert sorted(slopes) == [1, 2, 3, 4] and len(hypermodel.seen[0]) == 3
    for slope, seen, trial in zip(slopes[1:], hypermodel.seen[1:], search.trials[1:]):
        # At the second epoch a steeper one has fallen behind.
        assert (trial.status, len(seen)) == (("PRUNED", 2) if slope > slopes[0] else ("COMPLETED", 3))
    order = [trial.status for trial in search.get_best_trials(4)]
    assert order == sorted(order) and set(order) == {"COMPLETED", "PRUNED"}


class TestMistakes:
    @pytest.mark.medium
    def test_a_missing_objective_ends_the_search(self, tmp_path):
        search = tuner.RandomSearch(build, "val_loss", directory=tmp_path)
        with pytest.raises(ValueError, match=r"'val_loss' is not among the logs \['loss'\]. Pass `validation_data`"):
            search.search(**DATA)
        assert search.trials == []

    def test_disagreeing_hyperparameters_are_told_at_once(self, tmp_path):
        def twice(hp):
            return hp.Int("a", 1, 2), hp.Int("a", 1, 3)

        with pytest.raises(ValueError, match=r"Int\('a'\) is declared twice"):
            tuner.RandomSearch(twice, "loss", directory=tmp_path)

    def test_build_returns_a_model(self, tmp_path):
        with pytest.raises(ValueError, match="RandomSearch: `build` must return a kerax model. Got None"):
            tuner.RandomSearch(lambda hp: None, "loss", directory=tmp_path)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (dict(max_trials=0), "RandomSearch: `max_trials` must be an integer of at least 1. Got 0"),
            (dict(executions_per_trial=1.5), "`executions_per_trial` must be .* Got 1.5"),
            (dict(hyperparameters={}), "`hyperparameters` must be a HyperParameters"),
            (dict(tune_new_entries=False), "without `hyperparameters` all entries are new"),
            (dict(pruner="median"), "`pruner` must be a pruner of Optuna's. Got 'median'"),
            (dict(hypermodel=None), "pass `hypermodel`, or override `run_trial`"),
        ],
    )
    def test_arguments(self, arguments, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            tuner.RandomSearch(**dict(hypermodel=build, objective="loss", directory=tmp_path) | arguments)

    def test_optuna_is_asked_for_by_name(self, monkeypatch):
        monkeypatch.delattr(tuner, "RandomSearch")  # which an earlier test has loaded
        for module in [name for name in sys.modules if name.startswith(("kerax.tuner.tun", "kerax.tuner.trials"))]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, "optuna", None)
        with pytest.raises(ImportError, match=r"RandomSearch needs Optuna: pip install 'kerax\[tune\]'"):
            tuner.RandomSearch  # noqa: B018
        with pytest.raises(AttributeError, match="no attribute 'RandomSerch'.*RandomSearch"):
            tuner.RandomSerch  # noqa: B018


WORKER = """
import os, sys, time
from kerax import tuner

class Slow(tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        x = trial.hyperparameters.Float("x", 0.0, 1.0)
        if sys.argv[2] == "dies":
            os._exit(1)
        time.sleep(0.3)
        return {"score": x}

search = Slow(objective=tuner.Objective("score", "min"), max_trials=12, seed=0, directory=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
search.search()
"""


@pytest.mark.slow
def test_two_processes_share_a_search(tmp_path):
    def start(how):
        command = [sys.executable, "-c", WORKER, str(tmp_path), how]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    dead = start("dies")
    dead.communicate("\n", timeout=60)
    assert dead.returncode == 1
    workers = [start("works"), start("works")]
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    done = [worker.communicate(timeout=60)[0].count(" done: ") for worker in workers]
    search = Formula(objective=tuner.Objective("score", "min"), max_trials=12, directory=tmp_path)
    drawn = [values["x"] for values in values_of(search)]
    assert [trial.status for trial in search.trials] == ["COMPLETED"] * 12  # the lost one was tried again
    assert len(set(drawn)) == 12  # nothing twice
    assert sum(done) == 12 and min(done) >= 3
    assert len(os.listdir(tmp_path / "untitled_project" / "workers")) == 0


@pytest.mark.slow
def test_memory_stays_flat_over_50_trials(tmp_path):
    """In a process of its own: the resident memory after trial 10 and after trial 50."""
    code = f"""
import json, os, sys

import jax
jax.config.update("jax_disable_most_optimizations", True)
import numpy as np, kerax
from kerax import tuner

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

class Measured(tuner.RandomSearch):
    seen = []
    def run_trial(self, trial, *args, **kwargs):
        self.seen.append(resident())
        return super().run_trial(trial, *args, **kwargs)

def build(hp):
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(hp.Int("units", 1, 500)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

x = np.ones((8, 4), "float32")
search = Measured(build, "loss", 50, seed=0, directory={str(tmp_path)!r})
search.search(x, x[:, :1], verbose=0)
print(json.dumps(search.seen))
"""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("resident memory is read from /proc")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    seen = json.loads(shown.stdout.splitlines()[-1])
    print([round(value) for value in seen])
    assert len(seen) == 50
    assert seen[-1] - seen[10] < 40, f"grew from {seen[10]:.0f} to {seen[-1]:.0f} MiB"
