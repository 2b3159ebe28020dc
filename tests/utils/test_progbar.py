"""The progress bar for loops of one's own."""

import keras
import pytest

from kerax.utils import Progbar


def numbers_of(bar):
    return {name: total / steps for name, (total, steps) in bar._totals.items()}


@pytest.mark.parametrize("options", [{}, {"stateful_metrics": ["a"]}, {"stateless_metrics": ["a"]}])
def test_averages_are_those_of_keras(options, capsys):
    ours, theirs = Progbar(10, interval=0, **options), keras.utils.Progbar(10, interval=0, verbose=0, **options)
    for bar in (ours, theirs):
        bar.update(2, [("a", 1.0), ("b", 4.0)])
        bar.add(3, [("a", 2.0), ("b", 1.0)])
    assert numbers_of(ours) == pytest.approx({name: total / steps for name, (total, steps) in theirs._values.items()})
    for bar in (ours, theirs):
        bar.update(10, [("a", 7.0), ("b", 8.0)])
    assert numbers_of(ours) == {"a": 7.0, "b": 8.0}
    text = capsys.readouterr().out
    assert " 2/10 ━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌" in text and "10/10 " + "━" * 20 in text
    assert "a: 7.0000 - b: 8.0000\n" in text


def test_bars_keep_to_their_interval_and_verbosity(capsys):
    bar = Progbar(100, interval=1000)
    for step in range(1, 101):
        bar.update(step)
    assert len(capsys.readouterr().out.splitlines()) == 2  # the first and the last
    Progbar(1, verbose=0).update(1)
    assert capsys.readouterr().out == ""
    quiet = Progbar(2, verbose=2, unit_name="sample")
    quiet.add(1, [("a", 1.0)])
    quiet.add(1, [("a", 3.0)])
    assert capsys.readouterr().out.startswith("2/2 - 0s") and len(capsys.readouterr().out) == 0
    Progbar(None).update(3, [("a", 0.00001)])
    assert "3/? " in (text := capsys.readouterr().out) and "a: 1.0000e-05" in text


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`stateless_metrics`"):
        Progbar(1, stateful_metrics=[], stateless_metrics=[])
    with pytest.raises(ValueError, match="`verbose`"):
        Progbar(1, verbose=3)
