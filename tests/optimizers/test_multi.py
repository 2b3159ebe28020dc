"""Several optimizers: `MultiOptimizer` by part, by pattern and by function, and GANs with optimizers of their own."""

import copy
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax.core import scope as scopes
from kerax.optimizers import SGD, Adam, MultiOptimizer, OptimizerMap
from kerax.train.state import state_variables

PARAMS = {"generator": {"dense": {"kernel": jnp.ones((2, 2))}}, "discriminator": {"dense": {"kernel": jnp.ones(3)}}}


def test_each_part_is_updated_by_its_own_optimizer():
    optimizer = kerax.optimizers.get({"generator": Adam(0.5), "discriminator": "sgd"})
    assert isinstance(optimizer, MultiOptimizer) and isinstance(optimizer["discriminator"], SGD)
    state = optimizer.init(PARAMS)
    assert isinstance(state, kerax.optimizers.OptimizerState) and set(state.slots) == set(PARAMS)
    new, state = jax.jit(optimizer.update)(PARAMS, state, PARAMS)
    for name in PARAMS:
        alone, part = optimizer[name].update(PARAMS[name], optimizer[name].init(PARAMS[name]), PARAMS[name])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new[name], alone)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), optimizer.part(state, name), part)
    assert int(state.iterations) == 1


def test_the_state_of_one_part_can_be_taken_out_and_put_back():
    optimizer = MultiOptimizer({"generator": Adam(0.5), "discriminator": SGD(0.5)})
    state = optimizer.init(PARAMS)
    part = optimizer.part(state, "generator")
    _, part = optimizer["generator"].update(PARAMS["generator"], part, PARAMS["generator"])
    after = optimizer.with_part(state, "generator", part)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert int(optimizer.part(after, "generator").iterations) == 1
    assert int(optimizer.part(after, "discriminator").iterations) == 0
    for call in (lambda: optimizer["genertor"], lambda: optimizer.part(state, "genertor")):
        with pytest.raises(ValueError, match="Did you mean 'generator'"):
            call()


class Pair(kerax.Model):
    def __init__(self):
        super().__init__()
        self.generator = kerax.layers.Dense(2)
        self.discriminator = kerax.layers.Dense(1)

    def call(self, inputs):
        return self.discriminator(self.generator(inputs))


def fitted(optimizer, epochs=2, **compiling):
    kerax.utils.set_random_seed(0)
    model = Pair()
    model.compile(optimizer, "mse", **compiling)
    model.fit(np.ones((4, 3)), np.ones((4, 1)), batch_size=2, epochs=epochs, verbose=0)
    return model


@pytest.mark.medium
def test_fit_trains_every_part_and_keeps_their_states():
    model = fitted({"generator": SGD(0.0), "discriminator": Adam(0.01)})
    start = fitted(SGD(0.0))
    np.testing.assert_array_equal(model.generator.kernel.numpy(), start.generator.kernel.numpy())
    assert np.all(model.discriminator.kernel.numpy() != start.discriminator.kernel.numpy())
    state = state_variables(model).opt_state
    assert int(state.iterations) == int(model.optimizer["generator"].iterations) == 4
    assert state.slots["discriminator"].slots.velocity["kernel"].shape == (2, 1)
    assert int(copy.deepcopy(model).optimizer["discriminator"].iterations) == 4
    with pytest.raises(AttributeError, match="each of its `optimizers`"):
        model.optimizer.learning_rate  # noqa: B018


@pytest.mark.medium
def test_parts_can_have_averages_accumulation_and_scales_of_their_own():
    parts = {
        "generator": SGD(0.1, use_ema=True, ema_momentum=0.5, loss_scale_factor=8.0),
        "discriminator": SGD(0.1, gradient_accumulation_steps=2),
    }
    mixed = fitted(MultiOptimizer(parts, loss_scale_factor=4.0), epochs=1)
    plain = fitted({"generator": SGD(0.1, use_ema=True, ema_momentum=0.5), "discriminator": SGD(0.0)}, epochs=1)
    assert int(parts["discriminator"].iterations) == 1
    assert len(mixed.optimizer.averages()) == 2
    first = {"generator": SGD(0.1), "discriminator": SGD(0.0)}
    unaveraged = fitted(first, epochs=1)
    assert not np.allclose(plain.generator.kernel.numpy(), unaveraged.generator.kernel.numpy())
    np.testing.assert_allclose(mixed.generator.kernel.numpy(), plain.generator.kernel.numpy(), rtol=1e-5)


@pytest.mark.medium
def test_a_part_without_weights_to_train_does_nothing():
    kerax.utils.set_random_seed(0)
    model = Pair()
    model.generator.trainable = False
    model.compile({"generator": Adam(0.1), "discriminator": Adam(0.1)}, "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    state = state_variables(model).opt_state
    assert jax.tree.leaves(state.slots["generator"].slots) == []
    model.generator.trainable = True
    velocity = model.optimizer["discriminator"].state_variables.slots.velocity["kernel"]
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    assert model.optimizer["discriminator"].state_variables.slots.velocity["kernel"] is velocity
    assert "kernel" in model.optimizer["generator"].state_variables.slots.velocity


def test_a_weight_of_the_model_itself_can_be_a_part():
    variable = kerax.Variable(np.ones((), "float32"), name="temperature")
    optimizer = MultiOptimizer({"temperature": SGD(0.5, momentum=0.9), "body": SGD(0.5)})
    params = {"temperature": variable, "body": {"kernel": kerax.Variable(np.ones(2, "float32"))}}
    optimizer.build(params)
    assert len(optimizer.variables) == 2 + 3 + 2
    for _ in range(2):
        optimizer.apply([jnp.ones(2), jnp.ones(())], [params["body"]["kernel"], variable])
    np.testing.assert_allclose(variable.numpy(), 1 - 0.5 - (0.45 + 0.5), atol=1e-6)


def test_parts_work_under_a_loss_scale():
    optimizer = kerax.optimizers.LossScaleOptimizer(MultiOptimizer({"generator": SGD(0.1), "discriminator": SGD(0.1)}))
    scaled, plain = fitted(optimizer), fitted(SGD(0.1))
    for ours, theirs in zip(scaled.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    state = scaled.get_state_tree().opt_state
    part = optimizer.part(state, "generator")
    assert int(part.iterations) == 4 and optimizer["generator"] is optimizer.inner_optimizer["generator"]
    after = optimizer.with_part(state, "generator", part._replace(iterations=jnp.array(9)))
    assert int(optimizer.part(after, "generator").iterations) == 9


@pytest.mark.parametrize("by_function", [False, True])
def test_trajectory_by_pattern_or_function_is_that_of_keras(by_function):
    def run(module):
        adam, sgd = module.optimizers.Adam(0.1), module.optimizers.SGD(0.1, momentum=0.9)
        chosen = module.optimizers.OptimizerMap(sgd, {"enc.*": adam})
        if by_function:
            chosen = lambda variable: adam if variable.path.startswith("enc") else sgd
        optimizer = module.optimizers.MultiOptimizer(chosen, loss_scale_factor=2.0)
        variables = [module.Variable(np.ones(2, "float32"), name=name) for name in ("encoder", "decoder")]
        for step in range(5):
            optimizer.apply([np.array([step - 2.0, 1.0], "float32")] * 2, variables)
        assert set(optimizer.optimizers) == {adam, sgd}
        return [*[v.numpy() for v in variables], *[v.numpy() for v in optimizer.variables]]

    def by_shape(values):  # parts of a function come in the order of the weights, those of a map in the map's
        return sorted(values, key=lambda value: (value.ndim, value.tolist()))

    ours, theirs = run(kerax), run(keras)
    assert len(ours) == len(theirs)
    for mine, other in zip(by_shape(ours), by_shape(theirs)):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_patterns_fit_whole_paths_or_places_and_equal_paths_come_first():
    first, second, rest = SGD(), SGD(), SGD()
    chosen = OptimizerMap(rest, {"enc.*": first, "encoder/kernel": second})
    assert chosen["encoder/bias"] is first and chosen["encoder/kernel"] is second and chosen["my/encoder"] is rest
    assert list(chosen) == ["enc.*", "encoder/kernel"] and len(chosen) == 2
    del chosen["enc.*"]
    assert chosen["encoder/bias"] is rest
    model = fitted(MultiOptimizer(OptimizerMap(SGD(0.0), {"discriminator/.*": Adam(0.1)})))
    adam, sgd = model.optimizer.optimizers
    assert isinstance(adam, Adam) and len(adam.variables) == 2 + 4 and int(adam.iterations) == int(sgd.iterations) == 4


def test_config_is_that_of_keras_and_makes_an_equal_optimizer():
    def make(module):
        parts = {"enc.*": module.optimizers.Adam(0.5, name="a")}
        chosen = module.optimizers.OptimizerMap(module.optimizers.SGD(0.25, name="s"), parts)
        return module.optimizers.MultiOptimizer(chosen, name="m")

    ours, theirs = make(kerax), make(keras)
    read = kerax.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(theirs))))
    assert read.get_config() == ours.get_config()
    back = keras.optimizers.deserialize(kerax.optimizers.serialize(ours))
    assert [type(o).__name__ for o in back.optimizers] == ["Adam", "SGD"]
    by_part = MultiOptimizer({"generator": Adam(0.5), "discriminator": SGD(0.25)}, name="m")
    again = kerax.optimizers.get(json.loads(json.dumps(kerax.optimizers.serialize(by_part))))
    assert again.get_config() == by_part.get_config() and isinstance(again["generator"], Adam)


def shared():
    sgd = SGD()
    return {"generator": sgd, "discriminator": sgd}


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: MultiOptimizer(SGD()), TypeError, "dict of optimizers"),
        (lambda: MultiOptimizer({"generator": 3}), TypeError, "'generator' must have an optimizer"),
        (lambda: MultiOptimizer(shared()), ValueError, "of its own"),
        (lambda: kerax.optimizers.get({"generator": "adm"}), ValueError, "Did you mean 'adam'"),
        (lambda: MultiOptimizer({"generator": SGD()}).init(PARAMS), ValueError, "'discriminator', for which"),
        (lambda: MultiOptimizer(lambda variable: "sgd").init(PARAMS), TypeError, "The function returned 'sgd'"),
        (lambda: OptimizerMap("sgd"), TypeError, "default_optimizer"),
        (lambda: OptimizerMap(SGD(), 3), TypeError, "must be a dict"),
        (lambda: OptimizerMap(SGD(), {"a": 3}), TypeError, "'a' must have an optimizer"),
        (lambda: OptimizerMap(SGD(), {"(": SGD()}), ValueError, "no regular expression"),
        (lambda: OptimizerMap(SGD(), {"a": SGD()}).__setitem__("a", SGD()), ValueError, "there already"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


class GAN(kerax.Model):
    """A GAN as Keras users write it: optimizers in attributes, applied in `train_step`."""

    def __init__(self):
        super().__init__()
        self.generator = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(2)])
        self.discriminator = kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(1)])

    def compile(self, d_optimizer, g_optimizer, **kwargs):
        super().compile(**kwargs)
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    def call(self, inputs):
        return self.discriminator(inputs)

    def train_step(self, state, data):
        noise = jnp.ones((data.shape[0], 3))

        def descend(optimizer, layer, loss):
            def loss_of(values):
                with scopes.Scope(zip(layer.trainable_variables, values, strict=True)):
                    return loss()

            value, grads = jax.value_and_grad(loss_of)([v.value for v in layer.trainable_variables])
            optimizer.apply(grads, layer.trainable_variables)
            return value

        judge = lambda images, label: jnp.mean((self.discriminator(images) - label) ** 2)
        both = lambda: judge(data, 1.0) + judge(self.generator(noise), 0.0)
        return {
            "d_loss": descend(self.d_optimizer, self.discriminator, both),
            "g_loss": descend(self.g_optimizer, self.generator, lambda: judge(self.generator(noise), 1.0)),
        }, state


@pytest.mark.medium
@pytest.mark.parametrize("run_eagerly", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_optimizers_in_attributes_of_a_gan_keep_their_slots_between_steps_and_epochs(run_eagerly):
    def trained(runs):
        kerax.utils.set_random_seed(0)
        model = GAN()
        model.compile(Adam(0.01), SGD(0.01, momentum=0.9), run_eagerly=run_eagerly)
        for epochs in runs:
            model.fit(np.ones((8, 2), "float32"), batch_size=4, epochs=epochs, shuffle=False, verbose=0)
        return model

    model = trained([3])
    assert int(model.d_optimizer.iterations) == int(model.g_optimizer.iterations) == 6
    state = state_variables(model).opt_state
    assert set(state) == {"optimizer", "d_optimizer", "g_optimizer"}
    assert [v.shape for v in jax.tree.leaves(state["d_optimizer"].slots)] == [(2, 1), (1,)] * 2
    for slot in jax.tree.leaves((state["d_optimizer"].slots, state["g_optimizer"].slots)):
        assert np.any(slot.numpy() != 0)
    in_two = trained([1, 2])  # slots that were lost would give other weights
    for ours, theirs in zip(in_two.get_weights(), model.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    by_hand = copy.deepcopy(model)
    assert int(by_hand.d_optimizer.iterations) == 6


def test_the_compiled_optimizer_can_be_applied_to_some_weights_in_a_step_of_ones_own():
    kerax.utils.set_random_seed(0)
    optimizer = SGD(0.1, momentum=0.9)
    model = GAN()
    model.compile(optimizer, optimizer, optimizer=optimizer)
    model.fit(np.ones((8, 2), "float32"), batch_size=4, verbose=0)
    assert int(optimizer.iterations) == 4
    momentum = optimizer.state_variables.slots.momentum
    assert set(momentum) == {"generator", "discriminator"}
    assert all(np.any(slot.numpy() != 0) for slot in jax.tree.leaves(momentum))


def test_a_gan_trains_by_the_parts_of_one_compiled_optimizer():
    class ByPart(GAN):
        def compile(self, optimizer):
            kerax.Model.compile(self, optimizer)

        def train_step(self, state, data):
            params, opt_state, logs = state.params, state.opt_state, {}
            for name in ("discriminator", "generator"):

                def loss_of(weights, name=name, params=params):
                    with self.bind_state(state._replace(params=params | {name: weights})):
                        fake = self.discriminator(self.generator(jnp.ones((data.shape[0], 3))))
                        real = self.discriminator(data)
                    judged = jnp.mean(fake**2) + jnp.mean((real - 1) ** 2)
                    return judged if name == "discriminator" else jnp.mean((fake - 1) ** 2)

                logs[name], grads = jax.value_and_grad(loss_of)(params[name])
                part = self.optimizer.part(opt_state, name)
                weights, part = self.optimizer[name].update(grads, part, params[name])
                params, opt_state = params | {name: weights}, self.optimizer.with_part(opt_state, name, part)
            return logs, state._replace(params=params, opt_state=opt_state)

    model = ByPart()
    model.compile({"generator": Adam(1e-4), "discriminator": SGD(0.1)})
    logs = model.fit(np.ones((8, 2), "float32"), batch_size=4, epochs=10, verbose=0).history
    assert int(model.optimizer["generator"].iterations) == int(model.optimizer["discriminator"].iterations) == 20
    assert logs["discriminator"][-1] < logs["discriminator"][0]


def test_a_map_of_optimizers_is_a_mapping():
    first, second = kerax.optimizers.SGD(), kerax.optimizers.Adam()
    patterns = kerax.optimizers.OptimizerMap(first, {"a.*": second})
    assert "a.*" in patterns and "b" not in patterns and len(patterns) == 1
    assert list(patterns.items()) == [("a.*", second)] and patterns["b"] is first
    patterns.update({"c": first})
    assert patterns.pop("a.*") is second and list(patterns.keys()) == ["c"]
    assert {patterns: 1}[patterns] == 1


def test_optimizers_around_others_are_no_parts():
    parts = kerax.optimizers.OptimizerMap(SGD(0.1))
    for wrapped in (kerax.optimizers.LossScaleOptimizer(SGD(0.1)), MultiOptimizer({"generator": SGD(0.1)})):
        with pytest.raises(ValueError, match="goes around the `MultiOptimizer`"):
            parts[".*"] = wrapped


def test_an_optimizer_without_weights_counts_no_steps():
    first, rest = SGD(0.1), SGD(0.1)
    optimizer = MultiOptimizer(kerax.optimizers.OptimizerMap(rest, {".*": first}))
    variable = kerax.Variable(np.ones(2, "float32"))
    optimizer.apply([np.ones(2, "float32")], [variable])
    assert [int(counted.iterations) for counted in (optimizer, first, rest)] == [1, 1, 0]
    np.testing.assert_allclose(variable.numpy(), 0.9)


def test_a_scaled_loss_has_one_scale():
    parts = [SGD(0.1, loss_scale_factor=3.0), SGD(0.1, loss_scale_factor=5.0)]
    optimizer = kerax.optimizers.LossScaleOptimizer(
        MultiOptimizer(dict(zip("ab", parts, strict=True)), loss_scale_factor=7.0), initial_scale=10.0
    )
    assert all(part.loss_scale_factor is None for part in (optimizer.inner_optimizer, *parts))
    assert float(optimizer.scale_loss(2.0)) == 20.0
