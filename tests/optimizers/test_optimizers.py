import inspect
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import kerax
from kerax.optimizers.optimizer import ArgumentsWithoutDecay, CommonArguments, Optimizer

STEPS = 50
SHAPES = {"a": (3, 2), "b": (4,)}


def gradients(steps=STEPS):
    draw = np.random.default_rng(1)
    return [draw.normal(size=(steps, *shape)).astype("float32") for shape in SHAPES.values()]


def start():
    draw = np.random.default_rng(2)
    return [draw.normal(size=shape).astype("float32") for shape in SHAPES.values()]


def run_kerax(optimizer, steps=STEPS):
    """The weights after each step."""
    params = dict(zip(SHAPES, map(jnp.asarray, start())))

    def body(carry, grads):
        params, state = optimizer.update(dict(zip(SHAPES, grads)), carry[1], carry[0])
        return (params, state), list(params.values())

    return jax.lax.scan(body, (params, optimizer.init(params)), gradients(steps))[1]


def run_keras(optimizer, steps=STEPS):
    variables = [keras.Variable(value, name=name) for name, value in zip(SHAPES, start())]
    optimizer.build(variables)

    def body(carry, grads):
        carry = optimizer.stateless_apply(carry[1], grads, carry[0])
        return carry, carry[0]

    initial = [v.value for v in variables], [v.value for v in optimizer.variables]
    return jax.lax.scan(body, initial, gradients(steps))[1]


PARITY = [
    ("SGD", {}),
    ("SGD", dict(learning_rate=0.1, momentum=0.9)),
    ("SGD", dict(learning_rate=0.1, momentum=0.9, nesterov=True)),
    ("Adam", {}),
    ("Adam", dict(learning_rate=0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-4)),
    ("Adam", dict(learning_rate=0.02, amsgrad=True)),
    ("AdamW", {}),
    ("AdamW", dict(learning_rate=0.05, weight_decay=0.2)),
    ("RMSprop", {}),
    ("RMSprop", dict(learning_rate=0.01, rho=0.7, momentum=0.8, centered=True, epsilon=1e-3)),
    ("Adagrad", {}),
    ("Adagrad", dict(learning_rate=0.1, initial_accumulator_value=0.5, epsilon=1e-4)),
    ("Adadelta", dict(learning_rate=1.0, rho=0.8, epsilon=1e-3)),
    ("Adafactor", {}),
    (
        "Adafactor",
        dict(learning_rate=0.1, beta_2_decay=-0.5, epsilon_1=1e-8, epsilon_2=0.1, clip_threshold=0.5),
    ),
    ("Adafactor", dict(learning_rate=0.5, relative_step=False)),
    ("Adamax", dict(learning_rate=0.1, beta_1=0.7, beta_2=0.9, epsilon=1e-3)),
    (
        "Ftrl",
        dict(
            learning_rate=0.5,
            learning_rate_power=-0.7,
            initial_accumulator_value=0.3,
            l1_regularization_strength=0.2,
            l2_regularization_strength=0.3,
            l2_shrinkage_regularization_strength=0.1,
            beta=0.4,
        ),
    ),
    ("Lamb", dict(learning_rate=0.1, beta_1=0.7, beta_2=0.9, epsilon=1e-3)),
    ("Lamb", dict(learning_rate=0.1, weight_decay=0.3)),
    ("Lion", dict(learning_rate=0.05, beta_1=0.7, beta_2=0.8)),
    ("Nadam", dict(learning_rate=0.1, beta_1=0.7, beta_2=0.9, epsilon=1e-3)),
    (
        "ScheduleFreeAdamW",
        dict(learning_rate=0.1, beta_1=0.6, beta_2=0.9, epsilon=1e-3, warmup_steps=7, weight_decay=0.1),
    ),
    ("Muon", {}),
    (
        "Muon",
        dict(
            learning_rate=0.1,
            weight_decay=0.2,
            adam_weight_decay=0.3,
            adam_lr_ratio=2.0,
            momentum=0.8,
            ns_steps=3,
            nesterov=False,
            rms_rate=None,
        ),
    ),
    (
        "Muon",
        dict(learning_rate=0.1, adam_beta_1=0.8, adam_beta_2=0.9, epsilon=1e-3, muon_a=3.0, muon_b=-4.0, muon_c=1.5),
    ),
    ("Muon", dict(learning_rate=0.1, exclude_layers=["a"])),
]
NAMES = "SGD Adam AdamW RMSprop Adagrad Adadelta Adafactor Adamax Ftrl Lamb Lion Nadam ScheduleFreeAdamW Muon".split()
COMMON = [
    dict(weight_decay=0.1),
    dict(clipnorm=0.5),
    dict(clipvalue=0.3),
    dict(global_clipnorm=0.5),
    dict(use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=7),
    dict(gradient_accumulation_steps=4),
    dict(loss_scale_factor=8.0),
    dict(gradient_accumulation_steps=3, clipnorm=0.4),
]


@pytest.mark.parametrize(
    "name, arguments", PARITY + [("SGD", dict(learning_rate=0.1, momentum=0.5, **c)) for c in COMMON]
)
def test_trajectory_is_that_of_keras(name, arguments):
    ours = run_kerax(getattr(kerax.optimizers, name)(**arguments))
    theirs = run_keras(getattr(keras.optimizers, name)(**arguments))
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_defaults_give_the_trajectory_of_keras(name):
    test_trajectory_is_that_of_keras(name, {})


@pytest.mark.slow
@pytest.mark.parametrize("common", COMMON)
@pytest.mark.parametrize("name", NAMES[1:])
def test_common_arguments_act_alike_on_every_optimizer(name, common):
    test_trajectory_is_that_of_keras(name, dict(learning_rate=0.01, **common))


def test_sgd_by_hand():
    optimizer = kerax.optimizers.SGD(0.1, momentum=0.5)
    params = {"w": jnp.array([1.0])}
    state = optimizer.init(params)
    for expected in (1.0 - 0.1 * 2, 0.8 - (0.5 * 0.2 + 0.1 * 2)):
        params, state = optimizer.update({"w": jnp.array([2.0])}, state, params)
        np.testing.assert_allclose(params["w"], [expected], rtol=1e-6)
    assert int(state.iterations) == 2


@pytest.mark.medium
def test_the_average_replaces_the_weights_only_at_the_end_without_a_frequency():
    def model_of(module, **arguments):
        module.utils.set_random_seed(0)
        model = module.Sequential([module.Input((2,)), module.layers.Dense(1, kernel_initializer="ones")])
        model.compile(module.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9, **arguments), "mse")
        model.fit(np.ones((8, 2)), np.zeros((8, 1)), batch_size=2, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    for arguments in ({}, {"ema_overwrite_frequency": 3}):
        for ours, theirs in zip(model_of(kerax, **arguments), model_of(keras, **arguments)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.medium
def test_excluded_weights_do_not_decay():
    def weights_after(module, exclude):
        model = module.Sequential(
            [module.Input((2,)), module.layers.Dense(3, name="first"), module.layers.Dense(1, name="last")]
        )
        model.set_weights([np.full(w.shape, 2.0) for w in model.get_weights()])
        optimizer = module.optimizers.AdamW(0.1, weight_decay=0.5)
        exclude(optimizer, model)
        optimizer.build(model.trainable_variables)
        optimizer.apply([np.zeros(w.shape, "float32") for w in model.get_weights()], model.trainable_variables)
        return model.get_weights()

    for exclude in (
        lambda optimizer, model: optimizer.exclude_from_weight_decay(var_names=["bias"]),
        lambda optimizer, model: optimizer.exclude_from_weight_decay(var_list=[model.layers[1].kernel]),
    ):
        for ours, theirs in zip(weights_after(kerax, exclude), weights_after(keras, exclude)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_excluded_weights_do_not_decay_in_fit():
    model = kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(3), kerax.layers.Dense(1)])
    optimizer = kerax.optimizers.SGD(0.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel], var_names=["bias"])
    model.compile(optimizer, "mse")
    optimizer.learning_rate = 0.5
    first, last = model.layers[0].kernel.numpy(), model.layers[1].kernel.numpy()
    model.fit(np.zeros((2, 2)), np.zeros((2, 1)), verbose=0)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), first)
    np.testing.assert_allclose(model.layers[1].kernel.numpy(), last * 0.75, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_config_has_the_keys_of_keras_and_makes_an_equal_optimizer(name):
    optimizer = getattr(kerax.optimizers, name)(learning_rate=0.03, clipnorm=1.0, name="mine")
    theirs = getattr(keras.optimizers, name)(learning_rate=0.03, clipnorm=1.0, name="mine")
    config = optimizer.get_config()
    assert set(theirs.get_config()) == set(config)
    json.dumps(config)
    for key, value in theirs.get_config().items():
        assert config[key] == pytest.approx(value) if isinstance(value, float) else config[key] == value, key
    copy = type(optimizer).from_config(config)
    assert copy.get_config() == config
    read = kerax.optimizers.deserialize(keras.optimizers.serialize(theirs))
    assert read.get_config() == config
    back = keras.saving.deserialize_keras_object(kerax.optimizers.serialize(optimizer))
    assert back.get_config() == theirs.get_config()


def test_config_holds_the_current_learning_rate_or_the_schedule():
    optimizer = kerax.optimizers.Adam(0.5)
    optimizer.learning_rate = 0.25
    assert optimizer.get_config()["learning_rate"] == 0.25
    scheduled = kerax.optimizers.Adam(kerax.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5))
    copy = kerax.optimizers.deserialize(json.loads(json.dumps(kerax.optimizers.serialize(scheduled))))
    assert float(copy.learning_rate) == pytest.approx(0.1)
    assert copy.get_config() == scheduled.get_config()
    read = keras.optimizers.deserialize(kerax.optimizers.serialize(scheduled))
    assert float(read.learning_rate) == pytest.approx(0.1)


def test_apply_updates_variables_and_counts():
    variable = kerax.Variable(np.array([1.0, 2.0], "float32"))
    optimizer = kerax.optimizers.SGD(0.5)
    optimizer.apply([np.array([1.0, 1.0], "float32")], [variable])
    optimizer.apply_gradients([(np.array([1.0, 1.0], "float32"), variable)])
    np.testing.assert_allclose(variable.numpy(), [0.0, 1.0])
    assert int(optimizer.iterations) == 2
    optimizer.apply([np.array([1.0, 1.0], "float32")])
    np.testing.assert_allclose(variable.numpy(), [-0.5, 0.5])


def test_stateless_apply_is_pure_and_takes_lists():
    variables = [kerax.Variable(value) for value in start()]
    before = [variable.numpy() for variable in variables]
    optimizer = kerax.optimizers.Adam(0.1)
    optimizer.build(variables)
    state = [variable.value for variable in optimizer.variables]
    grads = [grad[0] for grad in gradients(1)]
    new, new_state = jax.jit(optimizer.stateless_apply)(state, grads, [variable.value for variable in variables])
    assert len(new_state) == len(state)
    for value, fresh, old in zip(variables, new, before):
        np.testing.assert_array_equal(value.numpy(), old)
        np.testing.assert_allclose(fresh, old - 0.1 * np.sign(fresh * 0 + (old - fresh)), atol=1e-5)
    assert int(optimizer.iterations) == 0


def test_stateless_apply_agrees_with_apply():
    variables = [kerax.Variable(value) for value in start()]
    optimizer = kerax.optimizers.RMSprop(0.1)
    optimizer.build(variables)
    grads = [grad[0] for grad in gradients(1)]
    new, _ = optimizer.stateless_apply(
        [variable.value for variable in optimizer.variables], grads, [variable.value for variable in variables]
    )
    optimizer.apply(grads, variables)
    for value, variable in zip(new, variables):
        np.testing.assert_allclose(value, variable.numpy(), rtol=1e-6)


SCHEDULES = [
    ("ExponentialDecay", (0.1, 7, 0.5), {}),
    ("ExponentialDecay", (0.1, 7, 0.5, True), {}),
    ("InverseTimeDecay", (0.1, 7, 0.5), {}),
    ("InverseTimeDecay", (0.1, 7, 0.5, True), {}),
    ("PiecewiseConstantDecay", ([3, 10], [1.0, 0.5, 0.1]), {}),
    ("PolynomialDecay", (0.1, 9, 0.01, 2.0), {}),
    ("PolynomialDecay", (0.1, 9, 0.01, 0.5), dict(cycle=True)),
    ("CosineDecay", (0.1, 20), dict(alpha=0.1)),
    ("CosineDecay", (0.0, 20), dict(warmup_target=0.3, warmup_steps=6)),
    ("CosineDecayRestarts", (0.1, 6), dict(t_mul=2.0, m_mul=0.8, alpha=0.1)),
    ("CosineDecayRestarts", (0.1, 6), dict(t_mul=1.0)),
]


@pytest.mark.slow
@pytest.mark.parametrize("name, args, kwargs", SCHEDULES)
def test_schedule_is_that_of_keras(name, args, kwargs):
    ours = getattr(kerax.optimizers.schedules, name)(*args, **kwargs)
    theirs = getattr(keras.optimizers.schedules, name)(*args, **kwargs)
    steps = np.arange(40)
    np.testing.assert_allclose(jax.vmap(ours)(steps), jax.vmap(theirs)(steps), rtol=2e-4, atol=1e-6)
    config = ours.get_config()
    assert config == theirs.get_config()
    assert kerax.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(theirs)).get_config() == config


def test_learning_rate_may_be_any_function_of_the_step():
    for schedule in (lambda step: 0.5 / (step + 1), optax.piecewise_constant_schedule(0.5, {1: 0.5, 2: 2 / 3})):
        optimizer = kerax.optimizers.SGD(schedule)
        params = {"w": jnp.array(0.0)}
        state = optimizer.init(params)
        for expected in (-0.5, -0.75, -0.75 - 0.5 / 3):
            params, state = optimizer.update({"w": jnp.array(1.0)}, state, params)
            np.testing.assert_allclose(params["w"], expected, rtol=1e-5)


def test_a_schedule_counts_updates_and_not_steps():
    """Keras's counts steps: with accumulated gradients it would end that many times too early."""
    schedule = kerax.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)
    found = run_kerax(kerax.optimizers.SGD(schedule, gradient_accumulation_steps=3), 12)
    for weights, first, grads in zip(found, start(), gradients(12), strict=True):
        means = np.asarray(grads).reshape(4, 3, *first.shape).mean(1)
        rates = 0.5 * 0.5 ** (np.arange(4) / 2)
        moved = np.cumsum(rates.reshape(-1, *(1,) * first.ndim) * means, axis=0)
        np.testing.assert_allclose(weights[2::3], first - moved, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "transformation",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.chain(optax.clip_by_global_norm(1.0), optax.lamb(1e-2)),
        optax.inject_hyperparams(optax.adamw)(learning_rate=0.01),
        optax.MultiSteps(optax.adam(1e-2), 2),
    ],
)
def test_any_optax_transformation_is_an_optimizer(transformation):
    optimizer = kerax.optimizers.get(transformation)
    ours = run_kerax(optimizer, 5)
    params = dict(zip(SHAPES, map(jnp.asarray, start())))
    state = transformation.init(params)
    for step in range(5):
        grads = dict(zip(SHAPES, (grad[step] for grad in gradients(5))))
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    for mine, other in zip(ours, params.values()):
        np.testing.assert_allclose(mine[-1], other, rtol=1e-5, atol=1e-6)


def test_an_injected_optax_learning_rate_can_be_read_and_set():
    optimizer = kerax.optimizers.get(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5))
    variable = kerax.Variable(np.zeros(1, "float32"))
    optimizer.build([variable])
    assert float(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = 0.25
    optimizer.apply([np.ones(1, "float32")], [variable])
    np.testing.assert_allclose(variable.numpy(), [-0.25])
    with pytest.raises(AttributeError, match="inject_hyperparams"):
        kerax.optimizers.get(optax.sgd(0.1)).learning_rate  # noqa: B018


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kerax.optimizers.get("adm"), "Did you mean 'adam'"),
        (lambda: kerax.optimizers.get(3), "Expected an optimizer"),
        (lambda: kerax.optimizers.get(print), "Expected an optimizer"),
        (lambda: kerax.optimizers.Adam(lerning_rate=1.0), "Did you mean 'learning_rate'"),
        (lambda: kerax.optimizers.SGD(-1.0), "at least 0"),
        (lambda: kerax.optimizers.SGD("fast"), "learning_rate"),
        (lambda: kerax.optimizers.SGD(momentum=1.5), "momentum"),
        (lambda: kerax.optimizers.SGD(clipnorm=1.0, clipvalue=1.0), "only one"),
        (lambda: kerax.optimizers.SGD(use_ema=True, ema_momentum=2.0), "ema_momentum"),
        (lambda: kerax.optimizers.SGD(gradient_accumulation_steps=1), "at least 2"),
        (lambda: kerax.optimizers.SGD(ema_overwrite_frequency=0, use_ema=True), "ema_overwrite_frequency"),
        (lambda: kerax.optimizers.SGD(clipnorm=-1.0), "clipnorm"),
        (lambda: kerax.optimizers.Lion(beta_1=0.0), r"`beta_1` must be in \(0, 1\]"),
        (lambda: kerax.optimizers.ScheduleFreeAdamW(beta_1=0.0), r"`beta_1` must be in \(0, 1\]"),
        (lambda: kerax.optimizers.Ftrl(learning_rate_power=0.5), "at most 0"),
        (lambda: kerax.optimizers.Ftrl(l1_regularization_strength=-1.0), "l1_regularization_strength"),
        (lambda: kerax.optimizers.schedules.ExponentialDecay(0.1, 0, 0.5), "positive"),
        (lambda: kerax.optimizers.schedules.PiecewiseConstantDecay([1], [1.0]), "one more"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_learning_rate_under_a_schedule_cannot_be_set():
    optimizer = kerax.optimizers.SGD(kerax.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5))
    with pytest.raises(TypeError, match="follows"):
        optimizer.learning_rate = 0.5


def test_a_subclass_returns_an_optax_transformation():
    class Sign(kerax.optimizers.Optimizer):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate, **kwargs)

        def transformation(self):
            def update(grads, state, params=None, *, learning_rate, step, **_):
                return jax.tree.map(lambda grad: -learning_rate * jnp.sign(grad), grads), state

            return optax.GradientTransformationExtraArgs(lambda params: (), update)

    model = kerax.Sequential([kerax.Input((1,)), kerax.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(Sign(0.5), "mse")
    model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=1, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], [[0.5]])


def test_common_arguments_are_declared_as_the_base_class_takes_them():
    names = list(inspect.signature(Optimizer.__init__).parameters)[2:-1]
    assert sorted(CommonArguments.__annotations__) == sorted(names)
    assert sorted(ArgumentsWithoutDecay.__annotations__) == sorted(set(names) - {"weight_decay"})


def test_common_arguments_can_be_given_by_position():
    optimizer = kerax.optimizers.Adam(0.1, 0.8, 0.9, 1e-6, True, 0.01, 1.0)
    assert (optimizer.amsgrad, optimizer.weight_decay, optimizer.clipnorm) == (True, 0.01, 1.0)
    with pytest.raises(TypeError, match="too many positional arguments"):
        kerax.optimizers.SGD(*[None] * 20)


@pytest.mark.parametrize("cls", [kerax.optimizers.SGD, kerax.optimizers.Adam, kerax.optimizers.AdamW])
def test_decay_of_old_code_is_left_out_with_a_warning(cls):
    with pytest.warns(UserWarning, match=f"{cls.__name__}: `decay` has no effect"):
        assert "decay" not in cls(0.1, decay=1e-6).get_config()


def test_decay_of_a_subclass_is_its_own():
    class Fading(kerax.optimizers.SGD):
        def __init__(self, learning_rate=0.1, decay=0.5, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.decay = decay

    assert Fading.from_config(Fading(decay=0.25).get_config()).decay == 0.25
