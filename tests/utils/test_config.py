"""`Config` against Keras's."""

import json

import keras
import pytest

from kerax.utils import Config


def test_values_read_as_in_keras():
    ours, theirs = Config(b=1, a="x"), keras.utils.Config(b=1, a="x")
    for config in (ours, theirs):
        config.c = [1]
        config["d"] = 2
        del config["d"]
        config.update({"e": 3}, f=4)
        assert config.pop("f") == 4 and config.pop("g", 5) == 5
        assert config.get("z", 9) == 9 and config.get("b") == 1
    assert ours.as_dict() == theirs.as_dict() == {"b": 1, "a": "x", "c": [1], "e": 3}
    assert list(ours) == list(theirs) == ["a", "b", "c", "e"]
    assert (len(ours), "a" in ours, ours.a, ours["b"]) == (4, True, "x", 1)
    assert list(ours.keys()) == list(theirs.keys()) and list(ours.items()) == list(theirs.items())
    assert json.loads(ours.to_json()) == json.loads(theirs.to_json()) and repr(ours) == repr(theirs)


def test_frozen_configs_refuse_changes():
    config = Config(a=1)
    config.freeze()
    assert config.frozen
    for change in (lambda: setattr(config, "a", 2), lambda: config.pop("a"), lambda: config.update(a=2)):
        with pytest.raises(ValueError, match="is frozen"):
            change()
    config.unfreeze()
    config.a = 2
    assert config.a == 2
    with pytest.raises(AttributeError, match="Did you mean 'learning_rate'"):
        _ = Config(learning_rate=1).learnin_rate
