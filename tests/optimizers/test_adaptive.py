"""Update rules by hand, and what of Adafactor and Muon depends on the form of a weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax.optimizers.muon_rule import orthogonal


def one_step(optimizer, weight, grad, num_steps=1):
    params = {"w": jnp.asarray(weight)}
    state = optimizer.init(params)
    for _ in range(num_steps):
        params, state = optimizer.update({"w": jnp.asarray(grad)}, state, params)
    return np.asarray(params["w"]), state


def test_lion_moves_by_the_learning_rate():
    new, state = one_step(kerax.optimizers.Lion(0.1, beta_2=0.9), [1.0, 1.0, 1.0], [5.0, -0.01, 0.0])
    np.testing.assert_allclose(new, [0.9, 1.1, 1.0], rtol=1e-6)
    np.testing.assert_allclose(state.slots.momentum["w"], [0.5, -0.001, 0.0], rtol=1e-5)


def test_lamb_moves_by_the_learning_rate_times_the_norm_of_the_weight():
    new, _ = one_step(kerax.optimizers.Lamb(0.1), [3.0, 4.0], [1.0, -2.0])
    np.testing.assert_allclose(np.linalg.norm(new - np.array([3.0, 4.0])), 0.1 * 5, rtol=1e-5)
    np.testing.assert_allclose(one_step(kerax.optimizers.Lamb(0.1), [0.0], [2.0])[0], [-0.1], rtol=1e-5)


def test_ftrl_with_a_large_l1_penalty_sets_weights_to_zero():
    new, _ = one_step(kerax.optimizers.Ftrl(0.1, l1_regularization_strength=100.0), [0.0, 0.0], [1.0, -2.0], 5)
    np.testing.assert_array_equal(new, [0.0, 0.0])
    assert np.all(one_step(kerax.optimizers.Ftrl(0.1), [0.0, 0.0], [1.0, -2.0])[0] * [1.0, -2.0] < 0)


def test_adamax_divides_by_the_largest_gradient():
    new, _ = one_step(kerax.optimizers.Adamax(0.1), [0.0, 0.0], [4.0, -0.5])
    np.testing.assert_allclose(new, [-0.1, 0.1], rtol=1e-5)


def test_adafactor_keeps_rows_and_columns_of_matrices_only():
    params = {"matrix": jnp.ones((3, 5)), "kernel": jnp.ones((2, 2, 4, 6)), "bias": jnp.ones(7)}
    optimizer = kerax.optimizers.Adafactor(0.1)
    state = optimizer.init(params)
    assert jax.tree.map(jnp.shape, state.slots.row) == {"matrix": (3,), "kernel": (2, 2, 4), "bias": ()}
    assert jax.tree.map(jnp.shape, state.slots.column) == {"matrix": (5,), "kernel": (2, 2, 6), "bias": ()}
    assert sum(leaf.size for leaf in jax.tree.leaves(state.slots)) == 3 + 5 + 16 + 24 + 7
    new, after = jax.jit(optimizer.update)(params, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    np.testing.assert_allclose(new["bias"], 0.9, rtol=1e-4)


def test_schedule_free_weights_lie_between_the_iterate_and_its_mean():
    optimizer = kerax.optimizers.ScheduleFreeAdamW(0.1, beta_1=0.75, epsilon=0.0)
    params, z = {"w": jnp.array([1.0])}, [1.0]
    state = optimizer.init(params)
    for _ in range(4):
        params, state = optimizer.update({"w": jnp.array([2.0])}, state, params)
        z.append(z[-1] - 0.1)
        np.testing.assert_allclose(state.slots.momentum["w"], [z[-1]], rtol=1e-5)
        np.testing.assert_allclose(params["w"], [0.25 * z[-1] + 0.75 * np.mean(z[1:])], rtol=1e-5)


def test_schedule_free_starts_from_the_weights_when_built_on_variables():
    variable = kerax.Variable(np.array([5.0], "float32"))
    optimizer = kerax.optimizers.ScheduleFreeAdamW(0.1, epsilon=0.0)
    optimizer.apply([np.array([1.0], "float32")], [variable])
    np.testing.assert_allclose(variable.numpy(), [4.9], rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (4, 4)])
def test_newton_schulz_brings_singular_values_near_one(shape, key):
    matrix = jax.random.normal(key, shape)
    values = np.linalg.svd(orthogonal(matrix, 10, (3.4445, -4.775, 2.0315)), compute_uv=False)
    assert values.min() > 0.6 and values.max() < 1.3
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    exact = orthogonal(matrix, 30, (1.5, -0.5, 0.0))  # the cubic iteration, which converges to 1
    np.testing.assert_allclose(exact, left @ right, atol=1e-4)


def test_muon_takes_matrices_and_leaves_the_rest_to_adam():
    model = kerax.Sequential(
        [
            kerax.Input((3,), dtype="int32"),
            kerax.layers.Embedding(5, 4),
            kerax.layers.Conv1D(4, 2),
            kerax.layers.Flatten(),
            kerax.layers.Dense(4, name="hidden"),
            kerax.layers.Dense(2, name="last"),
        ]
    )
    model.compile(kerax.optimizers.Muon(0.01, exclude_layers=["last"]), "mse")
    model.fit(np.zeros((4, 3), "int32"), np.ones((4, 2)), verbose=0)
    velocity = jax.tree.map(lambda v: v.shape, model.optimizer.state_variables.slots.velocity)
    assert velocity["hidden"] == {"bias": (4,), "kernel": ()}
    assert set(velocity["last"]) == {"bias", "kernel"} and velocity["last"]["kernel"] == (4, 2)
    assert velocity["conv1d"]["kernel"] == (2, 4, 4)
    assert velocity["embedding"] == {"embeddings": (5, 4)}
