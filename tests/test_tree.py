"""Tree helpers."""

from collections import OrderedDict, defaultdict, deque, namedtuple

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
    with pytest.raises(ValueError, match="different"):
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
    with pytest.raises(TypeError, match="must be a function"):
        tree.map_shape_structure(3, (1, 2))


def test_none_is_a_leaf_unless_told_otherwise():
    for module in (tree, keras.tree):
        assert module.map_structure(lambda x: 1, {"a": None, "b": 2}) == {"a": 1, "b": 1}
        assert module.map_structure(lambda x: 1, {"a": None, "b": 2}, none_is_leaf=False) == {"a": None, "b": 1}
        with pytest.raises(ValueError, match="at least one structure"):
            module.map_structure(lambda x: x)
    tree.assert_same_structure(a={"x": 1}, b={"x": 2}, check_types=False)


Pair = namedtuple("Pair", "first second")
Other = namedtuple("Other", "first second")
STRUCTURES = [
    *(None, 1, [], (), {}, deque(), [None, [deque()]], Pair([1], 2), deque([1, [2]], maxlen=3)),
    *(OrderedDict(b=1, a=(2,)), defaultdict(list, {"b": 1, "a": [2]}), {1: 2, "a": 3}, {"b": (1,), 1: 2}),
]
PAIRS = [
    *(([1], (1,)), ({"a": 1}, OrderedDict(a=2)), ({"a": 1}, defaultdict(int, a=2)), (Pair(1, 2), Other(1, 2))),
    *((OrderedDict(a=1, b=2), OrderedDict(b=3, a=4)), (OrderedDict(a=1, b=2), {"b": 3, "a": 4}), (Pair(1, 2), (1, 2))),
    *((deque([1]), [1]), (deque([1], maxlen=3), deque([2])), ([None], [[1]]), (1, [1]), ([1, 2], [1]), ([], [1])),
    *(({"a": 1}, {"b": 1}), ({"a": 1}, {"a": [1], "b": 2}), (Pair(1, 2), Pair(3, [4])), ([1, [2]], [1, 2])),
]


def outcome(function, *args, **kwargs):
    """What a call returns, with the types of its containers, or the class of what it raises."""
    try:
        return repr(function(*args, **kwargs))
    except Exception as error:
        return type(error)


def results(module, structure):
    """What the functions of one structure return, raise and come to."""
    found = [outcome(getattr(module, name), structure) for name in ONE_STRUCTURE]
    found.append(outcome(module.map_structure, lambda leaf: [leaf], structure))
    found.append(outcome(module.map_structure, lambda leaf: [leaf], structure, none_is_leaf=False))
    found += [outcome(module.pack_sequence_as, structure, leaves) for leaves in ([], [7], [7, 8], "abc", 7)]
    for top_down in (True, False):
        nodes = []  # every node, in the order in which it is come to
        module.traverse(lambda node, nodes=nodes: nodes.append(repr(node)), structure, top_down=top_down)
        found.append(nodes)
    return found


ONE_STRUCTURE = ("flatten", "flatten_with_path", "is_nested", "lists_to_tuples")


@pytest.mark.parametrize("structure", STRUCTURES, ids=repr)
def test_containers_of_all_kinds_are_those_of_keras(structure):
    assert results(tree, structure) == results(keras.tree, structure)


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=repr)
def test_forms_are_compared_as_keras_does(first, second):
    for name in ("assert_same_structure", "assert_same_paths"):
        assert outcome(getattr(tree, name), first, second) == outcome(getattr(keras.tree, name), first, second)
    for name, arguments in (("map_structure", ()), ("map_structure_up_to", (first,))):
        calls = [
            outcome(getattr(module, name), *arguments, lambda *leaves: leaves, first, second)
            for module in (tree, keras.tree)
        ]
        if None not in tree.flatten(first):  # a leaf of the shallow structure too, which Keras raises for
            assert calls[0] == calls[1]


def test_mixed_nones_are_no_leaves_together():
    with pytest.raises(ValueError, match="no leaf here"):
        tree.map_structure(lambda *leaves: leaves, [1, None], [2, 3], none_is_leaf=False)
    assert tree.map_structure_up_to([1, None], lambda leaf: [leaf], [3, 4]) == [[3], [4]]
