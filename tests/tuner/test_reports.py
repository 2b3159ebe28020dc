import sys

import pytest

pytest.importorskip("optuna", reason="optuna is not installed")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")

import optuna  # noqa: E402

from kerax import tuner  # noqa: E402


class Formula(tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        x, _ = trial.hyperparameters.Float("x", 0.0, 1.0), trial.hyperparameters.Float("y", 0.0, 1.0)
        if trial.number == 3:
            raise OSError("broken")
        if trial.number == 5:
            return {"score": float("nan")}
        return {"score": x}


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    made = Formula(None, tuner.Objective("score", "min"), 20, seed=0, directory=tmp_path_factory.mktemp("plots"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kerax.tuner.tuner.clear_session", lambda: None)
        made.search(verbose=0)
    return made


def test_history(search):
    figure = search.plot_history()
    (axes,) = figure.axes
    points, lost = axes.collections
    assert len(points.get_offsets()) == 18 and lost.get_offsets()[:, 0].tolist() == [3, 5]
    (line,) = axes.lines
    best = [min(t.score for t in search.trials[: n + 1] if t.score is not None) for n in range(20) if n not in (3, 5)]
    assert line.get_ydata().tolist() == [*best, best[-1]]
    assert axes.get_ylabel() == "score"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["completed", "best so far", "failed or NaN"]
    plt.close(figure)


def test_importance(search):
    figure = search.plot_importance()
    (axes,) = figure.axes
    shares = {label.get_text(): bar.get_width() for label, bar in zip(axes.get_yticklabels(), axes.patches)}
    assert list(shares) == ["y", "x"] and shares["x"] > 0.7 > shares["y"]  # the most important one is on top
    plt.close(figure)


def test_too_few_trials(tmp_path):
    empty = Formula(None, tuner.Objective("score", "min"), directory=tmp_path)
    with pytest.raises(ValueError, match="at least 2 completed trials are needed. There are 0"):
        empty.plot_importance()
    plt.close(empty.plot_history())


def test_matplotlib_is_asked_for_by_name(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"plot_history needs matplotlib: pip install 'kerax\[notebook\]'"):
        search.plot_history()
    assert optuna.logging.get_verbosity() == optuna.logging.INFO  # the search has put it back
