"""Which tokens may follow, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax.ops import sampling

LOGITS = np.random.default_rng(0).normal(size=(4, 50)).astype("float32") * 3
CHANCES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def options(**given):
    return {name: jnp.full((4,), value) for name, value in ({"temperature": 1.0} | given).items()}


def kept(**given):
    return np.isfinite(sampling.filtered(jnp.asarray(LOGITS), options(**given)))


@pytest.mark.parametrize("k", [1, 5, 50, 0])
def test_top_k(k):
    order = np.argsort(-LOGITS, axis=1).argsort(axis=1)
    np.testing.assert_array_equal(kept(top_k=k), order < (k or 50))


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
def test_top_p(p):
    found = kept(top_p=p)
    for chances, row in zip(CHANCES, found, strict=True):
        order = np.argsort(-chances)
        before = np.cumsum(chances[order]) - chances[order]  # of the likelier ones
        expected = np.zeros(50, bool)
        expected[order[(before < p) | (np.arange(50) == 0)]] = True
        np.testing.assert_array_equal(row, expected)


def test_min_p():
    np.testing.assert_array_equal(kept(min_p=0.1), CHANCES >= 0.1 * CHANCES.max(1, keepdims=True))


def test_filters_act_one_after_the_other():
    first = kept(top_k=5)
    left = np.where(first, CHANCES, 0)
    left /= left.sum(1, keepdims=True)
    for chances, row in zip(left, kept(top_k=5, top_p=0.6), strict=True):
        order = np.argsort(-chances)
        expected = np.zeros(50, bool)
        expected[order[np.cumsum(chances[order]) - chances[order] < 0.6]] = True
        np.testing.assert_array_equal(row, expected)


def test_temperature():
    found = sampling.filtered(jnp.asarray(LOGITS), options(temperature=0.5))
    np.testing.assert_allclose(found, LOGITS / 0.5, rtol=1e-6)
    greedy = sampling.filtered(jnp.zeros((4, 3)), options(temperature=0.0))
    np.testing.assert_array_equal(np.isfinite(greedy), [[True, False, False]] * 4)  # the first of equals


def test_rows_have_numbers_of_their_own():
    given = {"temperature": jnp.ones(4), "top_k": jnp.array([1, 2, 3, 0])}
    found = np.isfinite(sampling.filtered(jnp.asarray(LOGITS), given)).sum(1)
    np.testing.assert_array_equal(found, [1, 2, 3, 50])


def test_penalty_of_repetition():
    seen = np.zeros((4, 50), bool)
    seen[:, ::2] = True
    found = sampling.penalized(jnp.asarray(LOGITS), seen, jnp.full(4, 1.3))
    expected = np.where(seen, np.where(LOGITS > 0, LOGITS / 1.3, LOGITS * 1.3), LOGITS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.medium
def test_draws_have_the_distribution():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2, 0.0]]))
    keys = jax.random.split(jax.random.key(0), 3000)
    found = np.bincount(sampling.draw(jnp.repeat(logits, 3000, 0), keys), minlength=4) / 3000
    np.testing.assert_allclose(found, [0.5, 0.3, 0.2, 0], atol=0.03)
    np.testing.assert_allclose(sampling.log_probability(logits, jnp.array([1])), np.log(0.3), rtol=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize("size", [1, 2, 5, 50, 997])
def test_draws_reach_every_token_that_may_follow_and_no_other(size):
    chances = np.random.default_rng(size).random(size) * (np.arange(size) % 3 == 0)  # the first may, the last may not
    logits = jnp.log(jnp.asarray(chances / chances.sum()))
    keys = jax.random.split(jax.random.key(size), 20_000)
    found = np.bincount(sampling.draw(jnp.broadcast_to(logits, (20_000, size)), keys), minlength=size) / 20_000
    expected = np.exp(logits)
    assert (found[expected == 0] == 0).all()
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(expected.max() / 20_000))


def test_a_number_beyond_all_sums_draws_the_last_token_that_may_follow():
    chances = jnp.array([[0.5, 0.25, 0.0]])
    assert sampling._place(jnp.cumsum(chances, -1), chances, jnp.array([0.75])).tolist() == [1]
