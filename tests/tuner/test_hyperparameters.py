import copy

import pytest

from kerax.tuner import HyperParameters
from kerax.tuner.hyperparameters import discover


def test_defaults_outside_a_search():
    hp = HyperParameters()
    assert hp.Int("a", 1, 9) == 1 and hp.Int("b", 1, 9, default=4) == 4
    assert hp.Float("c", 0, 1) == 0.0 and type(hp.get("c")) is float
    assert hp.Choice("d", ["x", "y"]) == "x" and hp.Boolean("e") is False and hp.Boolean("f", default=True) is True
    assert hp.Fixed("g", "z") == "z"
    assert hp.values == {"a": 1, "b": 4, "c": 0.0, "d": "x", "e": False, "f": True, "g": "z"}
    assert [declaration.name for declaration in hp.space] == list("abcdefg")
    assert hp["b"] == 4 and "b" in hp and "z" not in hp


def test_asking_again_gives_the_same_value():
    hp = HyperParameters()
    hp.bind(lambda declaration: 7)
    assert hp.Int("units", 1, 9) == hp.Int("units", 1, 9) == 7


def test_two_of_one_name_must_agree():
    hp = HyperParameters()
    hp.Int("units", 1, 9)
    with pytest.raises(ValueError, match=r"Int\('units'\) is declared twice, differently: .*'max_value': 9.*99"):
        hp.Int("units", 1, 99)
    with pytest.raises(ValueError, match=r"Boolean\('units'\) is declared twice"):
        hp.Boolean("units")
    with hp.conditional_scope("units", [1]), pytest.raises(ValueError, match="declared twice"):
        hp.Float("units", 0, 1)


def test_conditional_scopes():
    hp = HyperParameters()
    hp.Choice("kind", ["cnn", "mlp"])
    with hp.conditional_scope("kind", ["cnn"]):
        assert hp.Int("layers", 2, 5) == 2
        hp.Boolean("pool", default=True)
        with hp.conditional_scope("pool", [False]):
            assert hp.Int("size", 3, 5) == 3
    with hp.conditional_scope("kind", ["mlp"]):
        assert hp.Int("layers", 1, 9) == 1  # another range under another condition
    assert hp.Int("depth", 1, 3, parent_name="kind", parent_values=["mlp"]) == 1
    assert hp.values == {"kind": "cnn", "layers": 2, "pool": True}
    with pytest.raises(ValueError, match="'depth' is not active"):
        hp.get("depth")
    with pytest.raises(KeyError, match="'layrs' is not a hyperparameter.*layers"):
        hp.get("layrs")
    with pytest.raises(ValueError, match="'kid' is not declared.*kind"), hp.conditional_scope("kid", [1]):
        pass


def test_name_scopes():
    hp = HyperParameters()
    with hp.name_scope("encoder"), hp.name_scope("first"):
        assert hp.Int("units", 1, 9) == hp.get("units") == 1
    assert hp.values == {"encoder/first/units": 1}


def test_copies_are_independent():
    hp = HyperParameters()
    hp.Int("a", 1, 9)
    for other in (hp.copy(), copy.deepcopy(hp)):
        other.values["a"] = 5
        other.Int("b", 1, 9)
        assert other.Int("a", 1, 9) == 5 and hp.values == {"a": 1} and len(hp.space) == 1
        with pytest.raises(ValueError, match="declared twice"):
            other.Int("a", 1, 10)


@pytest.mark.parametrize("name", [None, "", 3])
def test_names_are_strings(name):
    with pytest.raises(ValueError, match="name must be a string"):
        HyperParameters().Int(name, 1, 2)


def test_a_boolean_default_is_a_boolean():
    with pytest.raises(ValueError, match=r"Boolean\('x'\): `default` must be True or False. Got 1"):
        HyperParameters().Boolean("x", default=1)


class TestGiven:
    def build(self, hp):
        return hp.Int("units", 8, 64), hp.Float("rate", 0.1, 0.9)

    def test_replaces_declarations(self):
        given = HyperParameters()
        given.Int("units", 1, 4)
        hp = HyperParameters()
        hp.bind(lambda declaration: declaration.max_value, given)
        assert self.build(hp) == (4, 0.9)

    def test_new_entries_that_are_not_tuned_keep_their_defaults(self):
        given = HyperParameters()
        given.Fixed("units", 3)
        given.Int("unused", 1, 4)
        hp = HyperParameters()
        hp.bind(lambda declaration: getattr(declaration, "max_value", declaration.default), given, False)
        assert self.build(hp) == (3, 0.1)
        assert hp.values == {"units": 3, "unused": 4, "rate": 0.1}

    def test_new_entries_may_be_refused(self):
        given = HyperParameters()
        given.Int("units", 1, 4)
        hp = HyperParameters()
        hp.bind(lambda declaration: declaration.default, given, True, False)
        with pytest.raises(ValueError, match=r"Float\('rate'\) is not among the given `hyperparameters`"):
            self.build(hp)


def test_discover_opens_every_conditional_scope():
    def build(hp):
        with_cnn = hp.Choice("kind", ["mlp", "cnn"]) == "cnn"
        with hp.conditional_scope("kind", ["cnn"]):
            if with_cnn:
                deep = hp.Boolean("deep")
                with hp.conditional_scope("deep", [True]):
                    if deep:
                        hp.Int("layers", 2, 9)
            else:
                hp.Int("filters", 1, 2)

    found = discover(build)
    assert [declaration.name for declaration in found.space] == ["kind", "filters", "deep", "layers"]
    assert found.values["kind"] == "mlp"

    def nested(hp):
        kind = hp.Choice("kind", ["mlp", "cnn"])
        with hp.conditional_scope("kind", ["cnn"]):
            hp.Boolean("deep")
            with hp.conditional_scope("deep", [True]):
                hp.Int("layers", 2, 9)
        if kind == "cnn":
            hp.Float("only_seen_in_cnn", 0, 1)

    assert [d.name for d in discover(nested).space] == ["kind", "deep", "layers", "only_seen_in_cnn"]
