import pytest

pytest.importorskip("optuna", reason="optuna is not installed")

import optuna

from kerax.tuner.samplers import Exhausted, InOrder, Reseeded, try_again
from kerax.tuner.trials import SKIPPED


class TestReseeded:
    def study(self, seed):
        return optuna.create_study(sampler=Reseeded(optuna.samplers.RandomSampler, seed))

    def draw(self, study, skip=None):
        trial = study.ask()
        value = trial.suggest_float("x", 0, 1)
        if skip:
            trial.set_user_attr(SKIPPED, skip)
        study.tell(trial, None if skip else value, state=optuna.trial.TrialState.FAIL if skip else None)
        return value

    def test_what_was_not_done_is_drawn_again(self):
        whole, broken = self.study(1), self.study(1)
        expected = [self.draw(whole) for _ in range(4)]
        found = [self.draw(broken), self.draw(broken, "abandoned")]
        assert found == expected[:2]
        assert self.draw(broken) == expected[2]  # another worker, before it is tried again
        try_again(broken, broken.trials[1])
        assert self.draw(broken) == expected[1]
        assert self.draw(broken, "surplus") == self.draw(broken) == expected[3]

    def test_a_repeat_is_a_draw(self):
        study = self.study(1)  # from the same seed it would be drawn for ever
        assert self.draw(study, "repeat") != self.draw(study)

    def test_a_worker_of_the_same_seed_draws_something_else(self):
        storage = optuna.storages.InMemoryStorage()
        workers = [
            optuna.create_study(
                storage=storage,
                study_name="s",
                sampler=Reseeded(optuna.samplers.RandomSampler, 1),
                load_if_exists=True,
            )
            for _ in range(2)
        ]
        assert len({worker.ask().suggest_float("x", 0, 1) for worker in workers}) == 2


class TestInOrder:
    def test_running_trials_are_not_drawn_again(self):
        study = optuna.create_study(sampler=InOrder())
        drawn = []
        for _ in range(4):
            trial = study.ask()
            drawn.append((trial.suggest_categorical("a", ["u", "v"]), trial.suggest_int("b", 1, 3, step=2)))
            trial.set_user_attr("values", {"a": 1})
        assert drawn == [("u", 1), ("u", 3), ("v", 1), ("v", 3)]
        with pytest.raises(Exhausted):
            study.ask().suggest_categorical("a", ["u", "v"])
