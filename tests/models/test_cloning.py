"""`clone_model`: which layers a clone has, with functions of the user's and models within models."""

import pytest

import kerax
from kerax import layers


def inner_graph():
    inputs = kerax.Input((3,))
    return kerax.Model(inputs, layers.Dense(2)(layers.Dense(2)(inputs)), name="inner")


def inner_stack():
    return kerax.Sequential([kerax.Input((3,)), layers.Dense(2), layers.Dense(2)], name="inner")


def nested(inner):
    inputs = kerax.Input((4,))
    return kerax.Model(inputs, layers.Dense(2)(inner(layers.Dense(3)(inputs))))


def dense_then_dropout(layer, *args, **kwargs):
    outputs = layer(*args, **kwargs)
    return layers.Dropout(0.5)(outputs) if isinstance(layer, layers.Dense) else outputs


def kinds(model):
    return [type(layer).__name__ for layer in model.layers if not isinstance(layer, layers.InputLayer)]


# Seen in Keras 3.15: a `Sequential` inside does without the function.
@pytest.mark.parametrize(
    ("inner", "recursive", "expected"),
    [
        (inner_graph, True, ["Dense", "Dropout", "Dense", "Dropout"]),
        (inner_graph, False, ["Dense", "Dense"]),
        (inner_stack, True, ["Dense", "Dense"]),
    ],
)
def test_call_function_reaches_functional_models_inside_if_recursive(inner, recursive, expected):
    clone = kerax.models.clone_model(nested(inner()), call_function=dense_then_dropout, recursive=recursive)
    assert kinds(clone)[:2] == ["Dense", "Dropout"]
    assert kinds(clone.get_layer("inner")) == expected


@pytest.mark.parametrize("inner", [inner_graph, inner_stack])
def test_without_recursive_the_clone_function_gets_models_inside_whole(inner):
    model, seen = nested(inner()), []

    def note(layer):
        seen.append(type(layer).__name__)
        return layer

    clone = kerax.models.clone_model(model, clone_function=note)
    assert seen == ["Dense", type(model.get_layer("inner")).__name__, "Dense"]
    assert clone.get_layer("inner") is model.get_layer("inner")
    seen.clear()
    clone = kerax.models.clone_model(model, clone_function=note, recursive=True)
    assert seen == ["Dense"] * 4
    assert clone.get_layer("inner") is not model.get_layer("inner")


def test_a_subclass_of_sequential_takes_functions_and_inputs_too():
    class Stack(kerax.Sequential):
        pass

    model = Stack([kerax.Input((3,)), layers.Dense(2)])
    assert type(kerax.models.clone_model(model)) is Stack
    clone = kerax.models.clone_model(model, clone_function=lambda layer: layers.Dense(2, name="other"))
    assert [layer.name for layer in clone.layers] == ["other"]


def test_a_frozen_sequential_has_a_frozen_clone():
    model = kerax.Sequential([kerax.Input((3,)), layers.Dense(2)])
    model.trainable = False
    clone = kerax.models.clone_model(model)
    assert (clone.trainable, clone.trainable_weights) == (False, [])


class Own(kerax.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    "argument", [{"clone_function": lambda layer: layer}, {"call_function": dense_then_dropout}, {"input_tensors": [1]}]
)
def test_what_no_clone_can_follow_is_refused(argument):
    with pytest.raises(ValueError, match="whose layers are known"):
        kerax.models.clone_model(Own(), **argument)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: [kerax.Input((3,)), kerax.Input((3,))], "one input|of the form"),
        (lambda: [1.0], "must be symbolic tensors"),
    ],
)
@pytest.mark.parametrize("make", [inner_graph, inner_stack])
def test_inputs_that_do_not_fit_are_refused(make, given, message):
    with pytest.raises(ValueError, match=message):
        kerax.models.clone_model(make(), input_tensors=given())


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="recursiv"):
        kerax.models.clone_model(inner_graph(), **{"recursiv": True})
