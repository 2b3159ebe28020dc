"""Tree helpers."""

import pytest

from kerax import tree


def test_nest_and_unnest_are_inverse():
    nested = {"a": {"b": 1, "c": 2}, "d": 3}
    flat = tree.unnest(nested)
    assert flat == {("a", "b"): 1, ("a", "c"): 2, ("d",): 3}
    assert tree.nest(flat.items()) == nested


def test_structures_keep_none_as_a_leaf():
    structure = {"x": [1, None], "y": (2,)}
    assert tree.flatten(structure) == [1, None, 2]
    assert tree.pack_sequence_as(structure, [4, 5, 6]) == {"x": [4, 5], "y": (6,)}
    assert tree.map_structure(lambda leaf: leaf is None, structure) == {"x": [False, True], "y": (False,)}
    assert tree.is_nested([]) and not tree.is_nested(3)
    tree.assert_same_structure(structure, {"x": [0, 0], "y": (0,)})
    with pytest.raises(ValueError, match="differ"):
        tree.assert_same_structure([1], (1,))
