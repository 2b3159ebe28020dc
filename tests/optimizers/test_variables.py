"""The variables of optimizers: Keras's order and methods, gradients for some weights only, slots that stay."""

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax

SHAPES = {"b": (4,), "a": (3, 2), "c": (2, 5)}
ORDERED = [
    ("SGD", dict(momentum=0.9)),
    ("Adam", dict(amsgrad=True, use_ema=True, gradient_accumulation_steps=2)),
    ("RMSprop", dict(momentum=0.9, centered=True)),
    ("Nadam", {}),
    ("Ftrl", dict(learning_rate=0.5)),
    ("Adadelta", {}),
    ("ScheduleFreeAdamW", {}),
    ("Muon", {}),
    ("Lion", {}),
]


def weights(module, copies=1):
    return [
        module.Variable(np.full(shape, 1.0 + index, "float32"), name=name)
        for index, (name, shape) in enumerate(list(SHAPES.items()) * copies)
    ]


def some_gradients(seed, copies=1):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype("float32") for shape in list(SHAPES.values()) * copies]


@pytest.mark.slow
@pytest.mark.parametrize("name, arguments", ORDERED)
def test_variables_and_saved_values_are_in_the_order_of_keras(name, arguments):
    copies = 4  # more than ten weights, whose numbers do not sort as strings
    ours, theirs = (getattr(module.optimizers, name)(**arguments) for module in (kerax, keras))
    theirs.build(weights(keras, copies))
    values = [variable.value for variable in theirs.variables]
    params = [variable.value for variable in weights(keras, copies)]
    own = weights(kerax, copies)
    step = jax.jit(theirs.stateless_apply)
    for seed in range(3):
        params, values = step(values, some_gradients(seed, copies), params)
        ours.apply(some_gradients(seed, copies), own)
    store = {}
    ours.save_own_variables(store)
    assert list(store) == [str(index) for index in range(len(values))]
    for mine, other in zip(store.values(), values):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
    again = getattr(kerax.optimizers, name)(**arguments)
    again.build(own)
    again.load_own_variables({str(index): np.asarray(value) for index, value in enumerate(values)})
    assert int(again._iterations) == 3
    for mine, other in zip(again.variables, values):
        np.testing.assert_array_equal(mine.numpy(), other)


def test_values_that_do_not_fit_change_nothing():
    optimizer = kerax.optimizers.SGD(0.1, momentum=0.9)
    with pytest.raises(ValueError, match="not built"):
        optimizer.set_weights([np.zeros(()), np.zeros(()), np.zeros(2)])
    optimizer.build(weights(kerax))
    values = [variable.numpy() + 1 for variable in optimizer.variables]
    for wrong in (values[:-1], [*values[:-1], np.zeros(3)]):
        with pytest.raises(ValueError, match="expected arrays of shapes"):
            optimizer.set_weights(wrong)
    assert int(optimizer.iterations) == 0
    optimizer.set_weights(values)
    assert int(optimizer.iterations) == 1


@pytest.mark.medium
def test_iterations_count_updates_as_in_keras():
    for arguments in ({}, dict(gradient_accumulation_steps=3)):
        counts = []
        for module in (kerax, keras):
            optimizer, variables = module.optimizers.SGD(0.1, **arguments), weights(module)
            optimizer.build(variables)
            for seed in range(4):
                optimizer.apply(some_gradients(seed))
            counts.append(int(optimizer.iterations))
        assert counts[0] == counts[1] == (1 if arguments else 4)


@pytest.mark.parametrize("name", ["Adam", "Muon"])
def test_weights_without_a_gradient_stay_with_their_slots(name):
    variables = weights(kerax)
    optimizer = getattr(kerax.optimizers, name)(0.1, weight_decay=0.5)
    optimizer.build(variables)
    optimizer.apply(some_gradients(0), variables)
    before = [variable.numpy() for variable in variables]
    slots = {slot.path: slot.numpy() for slot in optimizer.variables}
    with pytest.warns(UserWarning, match="no gradient for b"):
        optimizer.apply([None, *some_gradients(1)[1:]], variables)
    optimizer.apply(some_gradients(1)[1:], variables[1:])
    np.testing.assert_array_equal(variables[0].numpy(), before[0])
    owners = optimizer.slot_owners()
    for slot in optimizer.variables[2:]:
        stays = owners[id(slot)] == id(variables[0])
        assert np.array_equal(slot.numpy(), slots[slot.path]) == stays, slot.path
    assert int(optimizer.iterations) == 3
    assert optimizer.variables[2].path == f"{optimizer.name}/b_momentum"


def test_gradients_that_do_not_fit_are_named():
    variables = weights(kerax)
    optimizer = kerax.optimizers.SGD(0.1)
    with pytest.raises(ValueError, match="no variable has a gradient"):
        optimizer.apply([None] * 3, variables)
    optimizer.build(variables)
    with pytest.raises(ValueError, match="each of 3 variables. Got 1"):
        optimizer.apply([np.ones(4)])
    with pytest.raises(ValueError, match="call `build"):
        kerax.optimizers.SGD(0.1).stateless_apply([], [], [])


def test_slots_stay_when_the_same_weights_come_in_another_form_or_with_others():
    model = kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(2), kerax.layers.Dense(1)])
    optimizer = kerax.optimizers.SGD(0.1, momentum=0.9)
    kernel, bias = model.trainable_variables[:2]
    optimizer.apply([np.ones((2, 2)), np.ones(2)], [kernel, bias])
    optimizer.apply([np.ones((2, 1))], [model.layers[1].kernel])
    assert len(optimizer.variables) == 2 + 3
    model.compile(optimizer, "mse")
    optimizer.learning_rate = 0.0
    model.fit(np.zeros((2, 2)), np.zeros((2, 1)), verbose=0)
    momentum = optimizer.state_variables.slots.momentum["dense"]["kernel"]
    np.testing.assert_allclose(momentum.numpy(), -0.1 * 0.9, rtol=1e-5)
    assert int(optimizer.iterations) == 3


def test_weights_can_be_assigned_through_the_optimizer():
    variable = kerax.Variable(np.ones(2, "float32"))
    optimizer = kerax.optimizers.SGD(0.1)
    optimizer.assign(variable, [2.0, 3.0])
    optimizer.assign_add(variable, np.array([1.0, 1.0]))
    optimizer.assign_sub(variable, np.array([0.5, 0.0]))
    np.testing.assert_array_equal(variable.numpy(), [2.5, 4.0])


def test_averages_are_put_in_place_for_the_variables_asked_for():
    variables = weights(kerax)
    optimizer = kerax.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    starts = [variable.numpy() for variable in variables]
    for _ in range(2):
        optimizer.apply([np.ones(shape, "float32") for shape in SHAPES.values()], variables)
    optimizer.finalize_variable_values(variables[:1])
    np.testing.assert_allclose(variables[0].numpy(), starts[0] - 1.5)
    np.testing.assert_allclose(variables[1].numpy(), starts[1] - 2)


def test_patterns_of_undecayed_weights_fit_paths_and_places():
    variable = kerax.Variable(np.ones(2, "float32"), name="scale")
    variable.path = "model/norm/scale"
    for pattern in ("^model/norm", "scale$", "^weight$"):
        optimizer = kerax.optimizers.SGD(0.5, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=[pattern])
        optimizer.build({"weight": variable})
        params = {"weight": jnp.ones(2)}
        new, _ = optimizer.update({"weight": jnp.zeros(2)}, optimizer.init(params), params)
        np.testing.assert_array_equal(new["weight"], 1.0)


def test_every_optimizer_of_keras_is_there_with_its_arguments_and_methods():
    for name in dir(keras.optimizers):
        theirs = getattr(keras.optimizers, name)
        if inspect.isclass(theirs):
            ours = inspect.signature(getattr(kerax.optimizers, name).__init__).parameters
            expected = inspect.signature(theirs.__init__).parameters
            for mine, other in zip(ours.values(), expected.values(), strict=True):
                assert (mine.name, mine.default) == (other.name, other.default), name
    methods = {name for name in dir(keras.optimizers.Optimizer) if not name.startswith("_")}
    assert methods - set(dir(kerax.optimizers.Optimizer)) == set()


@pytest.mark.parametrize("name", ["SGD", "LossScaleOptimizer"])
def test_weights_are_overwritten_with_their_gradients_as_in_keras(name):
    import keras

    found = []
    for module in (kerax, keras):
        optimizer = module.optimizers.SGD(1.0, clipnorm=1.0, weight_decay=0.1)
        if name == "LossScaleOptimizer":
            optimizer = module.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0)
        variables = [module.Variable(np.float32([1, 2, 3, 4]), name=part) for part in ("scale", "weight")]
        variables[0].overwrite_with_gradient = True
        if name == "SGD":  # Keras's LossScaleOptimizer leaks here
            optimizer.apply_gradients([(np.float32([5, 6, 7, 8]), v) for v in variables])
        else:
            optimizer.build(variables)
        lists = optimizer.variables, [np.float32([1, 1, 1, 1])] * 2, variables
        values = [np.asarray(v) for v in variables]
        new, state = optimizer.stateless_apply(*[[np.asarray(v) for v in items] for items in lists])
        found.append([*values, *map(np.asarray, new), len(state), len(optimizer.variables)])
    for own, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-6)
    assert (name != "SGD" or found[0][0].tolist() == [5, 6, 7, 8]) and found[0][2].tolist() == [1, 1, 1, 1]


def test_a_gradient_that_is_not_finite_overwrites_nothing():
    scale, weight = kerax.Variable(np.float32([1, 2])), kerax.Variable(np.float32([1, 2]))
    scale.overwrite_with_gradient = True
    optimizer = kerax.optimizers.SGD(1.0)
    optimizer.build({"scale": scale, "weight": weight})
    params = {"scale": scale.value, "weight": weight.value}
    grads = {"scale": np.float32([np.inf, 5]), "weight": np.float32([1, 1])}
    new, _ = optimizer.update(grads, jax.tree.map(lambda v: v.value, optimizer.state_variables), params)
    assert new["scale"].tolist() == [1, 5] and new["weight"].tolist() == [0, 1]


@pytest.mark.parametrize("way", ["apply", "stateless_apply"])
def test_what_overwrites_is_held_back_while_gradients_accumulate(way):
    import keras

    found = []
    for module in (kerax, keras):
        optimizer = module.optimizers.SGD(1.0, momentum=0.9, gradient_accumulation_steps=2)
        variables = [module.Variable(np.float32([1, 2]), name=part) for part in ("scale", "weight")]
        variables[0].overwrite_with_gradient = True
        optimizer.build(variables)
        values = [[np.asarray(v) for v in part] for part in (variables, optimizer.variables)]
        for gradient in ([5, 9], [6, 8], [4, 4]):
            gradients = [np.float32(gradient)] * 2
            if way == "apply":
                optimizer.apply(gradients, variables)
                found.append([*map(np.asarray, variables), *map(np.asarray, optimizer.variables)])
            else:
                values = optimizer.stateless_apply(values[1], gradients, values[0])
                found.append([np.asarray(value) for part in values for value in part])
    for ours, theirs in zip(found[:3], found[3:], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    assert [step[0].tolist() for step in found[:3]] == [[1, 2], [6, 9], [6, 9]]
