"""Tree helpers."""

import keras
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


NESTED = {"b": [1, (2, None)], "a": {"c": 3}}
SHAPES = {"a": (2, 3), "b": [(1, None), [4, 5]]}


@pytest.mark.parametrize(
    "call",
    [
        lambda tree: tree.flatten_with_path(NESTED),
        lambda tree: tree.lists_to_tuples(NESTED),
        lambda tree: tree.map_shape_structure(lambda shape: len(shape), SHAPES),
        lambda tree: tree.map_structure_up_to([0, 0], lambda x, y: (x, y), [[1, 2], 3], [4, 5]),
        lambda tree: tree.traverse(lambda x: tree.MAP_TO_NONE if x == 2 else None, NESTED),
        lambda tree: tree.traverse(lambda x: x if isinstance(x, dict) else None, NESTED),
        lambda tree: tree.traverse(lambda x: 5 if isinstance(x, tuple) else None, NESTED, top_down=False),
    ],
)
def test_trees_are_walked_as_keras_does(call):
    assert call(tree) == call(keras.tree)


def test_same_paths():
    tree.assert_same_paths([1, {"a": 2}], (3, {"a": 4}))
    with pytest.raises(ValueError, match="Paths differ"):
        tree.assert_same_paths({"a": 1}, {"b": 1})
    with pytest.raises(ValueError, match="structure of shapes"):
        tree.map_shape_structure(len, "x")


def test_none_is_a_leaf_unless_told_otherwise():
    for module in (tree, keras.tree):
        assert module.map_structure(lambda x: 1, {"a": None, "b": 2}) == {"a": 1, "b": 1}
        assert module.map_structure(lambda x: 1, {"a": None, "b": 2}, none_is_leaf=False) == {"a": None, "b": 1}
        with pytest.raises(ValueError, match="at least one structure"):
            module.map_structure(lambda x: x)
    tree.assert_same_structure(a={"x": 1}, b={"x": 2}, check_types=False)
