import os
import subprocess
import sys

import pytest

pytest.importorskip("optuna", reason="optuna is not installed")

import optuna

from kerax.tuner.spaces import Choice, Fixed, Number
from kerax.tuner.trials import Trial, Worker, draw


def test_draw_names_conditions():
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    condition = (("kind", ("a", "b")),)
    plain = Number("x", int, 1, 9)
    other = Number("x", float, 0.5, 0.9, conditions=condition)
    assert draw(trial, plain, False) in range(1, 10) and 0.5 <= draw(trial, other, False) <= 0.9
    assert draw(trial, Choice("c", ["u", "v"]), False) in ("u", "v") and draw(trial, Choice("n", [5, 3]), True) in (
        5,
        3,
    )
    assert draw(trial, Fixed("f", 2), False) == 2
    assert list(trial.params) == ["x", "x [kind=a|b]", "c", "n"]


def test_a_trial_tells_what_is_kept(capsys):
    study = optuna.create_study()
    asked = study.ask()
    for name, value in dict(values={"x": 1}, score=0.5, metrics={"loss": 0.5}).items():
        asked.set_user_attr(name, value)
    study.tell(asked, 0.5)
    trial = Trial(study.trials[0])
    assert (trial.trial_id, trial.status, trial.score, trial.metrics) == ("0000", "COMPLETED", 0.5, {"loss": 0.5})
    assert trial.hyperparameters.get("x") == 1 and "score=0.5" in repr(trial)
    trial.summary()
    assert capsys.readouterr().out == "Trial 0000: completed\n  x: 1\n  score: 0.5\n"


def test_a_worker_is_dead_when_its_process_is(tmp_path):
    pytest.importorskip("fcntl", reason="needs file locks")
    watcher = Worker(str(tmp_path))
    code = (
        f"import fcntl; f = open({str(tmp_path)!r} + '/workers/other', 'w'); fcntl.flock(f, 2); "
        "print('held', flush=True); input()"
    )
    os.makedirs(tmp_path / "workers")
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    assert not watcher.is_dead("other") and not watcher.is_dead("unknown")
    process.kill()
    process.communicate()
    assert watcher.is_dead("other")
    watcher.forget("other")
    with watcher:
        assert os.listdir(tmp_path / "workers") == [watcher.name] and not Worker(str(tmp_path)).is_dead(watcher.name)
    assert os.listdir(tmp_path / "workers") == []
