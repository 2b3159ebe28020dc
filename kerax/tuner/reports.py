"""Figures and texts of a search."""

import itertools
import math
import warnings
from collections import Counter

import optuna

from kerax.callbacks.history import new_figure


def history(trials, objective):
    """The score of each trial in order, completed, pruned and failed ones apart, and the best of those so far."""
    figure, axes = new_figure("plot_history", figsize=(7, 4))
    done = [trial for trial in trials if trial.score is not None and math.isfinite(trial.score)]
    for status, marker, color in (("COMPLETED", "o", "C0"), ("PRUNED", "x", "0.6")):
        chosen = [trial for trial in done if trial.status == status]
        if chosen:
            points = [trial.number for trial in chosen], [trial.score for trial in chosen]
            axes.scatter(*points, marker=marker, color=color, label=status.lower(), zorder=3)
    completed = [trial for trial in done if trial.status == "COMPLETED"]
    if completed:
        better = lambda best, score: score if objective.is_better(score, best) else best
        line = list(itertools.accumulate((trial.score for trial in completed), better))
        # To the last trial, also where that one was pruned.
        at = [trial.number for trial in completed] + [trials[-1].number]
        axes.plot(at, [*line, line[-1]], color="C1", drawstyle="steps-post", label="best so far")
    lost = [trial.number for trial in trials if trial.status == "FAILED" or trial.score in (math.inf, -math.inf)]
    if lost:
        # In fractions of the height, for a trial without a score has no place on the axis.
        bottom = [0.02] * len(lost)
        transform = axes.get_xaxis_transform()
        axes.scatter(lost, bottom, marker="v", color="C3", label="failed or NaN", transform=transform, clip_on=False)
    axes.set(xlabel="trial", ylabel=objective.name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return figure


def importance(study, objective):
    """The share of each hyperparameter in what makes the good trials good.

    Raises:
        ValueError: with fewer than two completed trials.
    """
    finished = [t for t in study.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.COMPLETE]
    if len(finished) < 2:
        raise ValueError(f"plot_importance: at least 2 completed trials are needed. There are {len(finished)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = optuna.importance.get_param_importances(study)
    names = list(shares)[::-1]
    width = 4.5 + 0.08 * max(map(len, names), default=0)  # inches: bars beside the longest name
    figure, axes = new_figure("plot_importance", figsize=(width, 0.8 + 0.4 * max(len(shares), 2)))
    bars = axes.barh(names, [shares[name] for name in names], color="C0")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.2)
    axes.set(xlabel=f"importance for {objective.name}")
    return figure


def print_space(declarations):
    """Prints what is searched."""
    print(f"Search space: {len(declarations)} hyperparameters")
    for declaration in declarations:
        config = declaration.get_config()
        conditions = config.pop("conditions")
        arguments = ", ".join(f"{key}={value!r}" for key, value in config.items() if key != "name")
        when = "".join(f", if {parent} in {list(allowed)}" for parent, allowed in conditions)
        print(f"  {declaration.who}: {arguments}{when}")


def print_results(where: str, objective, trials, ranked, num_trials: int):
    """Prints how many trials ended how, and the best; failed ones after all others."""
    counts = Counter(trial.status for trial in trials)
    told = ", ".join(f"{count} {status.lower()}" for status, count in counts.items()) or "none yet"
    print(f"Results in {where}: {told}")
    print(f"Objective: {objective.name} ({objective.direction})")
    failed = [trial for trial in trials if trial.status == "FAILED"]
    for trial in [*ranked, *failed][:num_trials]:
        trial.summary()
