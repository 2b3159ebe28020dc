"""Ops that take functions, and random numbers, in graphs: run, saved and loaded; functions may refer to tensors."""

import copy

import numpy as np
import pytest

import kerax
from kerax import layers, ops

X = np.arange(12.0, dtype="float32").reshape(4, 3)
SUM = X.sum(1, keepdims=True)


@kerax.saving.register_keras_serializable("functions_in_graphs")
def doubled(v):
    return v * 2


def row_sum(x):
    return ops.sum(x, axis=1, keepdims=True)


CASES = {
    "vectorized_map": (lambda x: ops.vectorized_map(lambda v: v * 2, x), X * 2),
    "registered": (lambda x: ops.vectorized_map(doubled, x), X * 2),
    "map of two": (lambda x: ops.map(lambda v: v[0] * v[1], (x, x)), X * X),
    "scan": (lambda x: ops.scan(lambda c, v: (c + v, c + v), ops.zeros((3,)), x)[1], np.cumsum(X, 0)),
    "while": (lambda x: ops.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (0, x))[1], X * 8),
    "fori": (lambda x: ops.fori_loop(0, 3, lambda i, v: v * 2, x), X * 8),
    "fori around a tensor": (lambda x: ops.fori_loop(0, 3, lambda i, v: v + x, x), X * 4),
    "vectorized_map around a tensor": (
        lambda x: (lambda first: ops.vectorized_map(lambda v: v + first, x))(x[0]),
        X + X[0],
    ),
    "a function in the function": (
        lambda x: (lambda inner: ops.map(lambda v: inner(v) + 1, x))(lambda v: v * x[0, 2]),
        X * 2 + 1,
    ),
    "switch": (lambda x: ops.switch(ops.cast(x[0, 2], "int32") - 1, [lambda v: v, lambda v: v * 5], x), X * 5),
    "associative_scan": (lambda x: ops.associative_scan(lambda a, b: a + b, x), np.cumsum(X, 0)),
    "cond": (lambda x: ops.cond(x[0, 2] > 1, lambda: x * 2 + row_sum(x), lambda: x), X * 2 + SUM),
    "cond in cond": (
        lambda x: ops.cond(x[0, 2] > 1, lambda: ops.cond(x[0, 2] > 9, lambda: x, lambda: x + 1), lambda: x),
        X + 1,
    ),
    "cond of a number": (lambda x: ops.cond(False, lambda: x * 2, lambda: -x), -X),
}


@pytest.mark.parametrize("name", CASES)
def test_a_graph_runs_and_comes_back_from_a_file(name, tmp_path):
    function, expected = CASES[name]
    inputs = kerax.Input((3,))
    model = kerax.Model(inputs, function(inputs))
    np.testing.assert_allclose(model(X), expected, rtol=1e-6)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-6)
    np.testing.assert_allclose(copy.deepcopy(model)(X), expected, rtol=1e-6)
    model.save(tmp_path / "m.keras")
    if name != "registered" and not name.startswith("cond"):
        with pytest.raises(ValueError, match="safe_mode=False"):
            kerax.saving.load_model(tmp_path / "m.keras")
    loaded = kerax.saving.load_model(tmp_path / "m.keras", safe_mode=False)
    np.testing.assert_allclose(loaded(X), expected, rtol=1e-6)


def test_layers_in_branches_are_trained():
    inputs = kerax.Input((3,))
    outputs = ops.cond(inputs[0, 2] > 1, lambda: layers.Dense(1)(inputs), lambda: layers.Dense(1)(inputs * 2))
    model = kerax.Model(inputs, outputs)
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.train_on_batch(X, np.ones((4, 1)))
    assert [bool((old != new).any()) for old, new in zip(before, model.get_weights(), strict=True)].count(True) == 2


def test_the_branches_of_cond_stay_apart_outside_of_graphs():
    assert ops.cond(True, lambda: 1.0, lambda: 2.0) == 1 and ops.cond(np.bool_(False), lambda: 1, lambda: 2) == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda x, seed: kerax.random.normal(ops.shape(x), seed=seed),
        lambda x, seed: kerax.random.uniform((ops.shape(x)[0], 3), seed=seed),
        lambda x, seed: kerax.random.dropout(x + 1, 0.5, seed=seed),
        lambda x, seed: kerax.random.shuffle(x, axis=1, seed=seed),
        lambda x, seed: ops.cast(kerax.random.randint(ops.shape(x), 0, 9, seed=seed), "float32"),
        lambda x, seed: ops.cast(kerax.random.categorical(x, 3, seed=seed), "float32"),
    ],
)
def test_random_numbers_in_graphs(draw, tmp_path):
    inputs = kerax.Input((3,))
    drawn = draw(inputs, None)
    assert drawn.shape == (None, 3)
    assert kerax.Model(inputs, drawn).predict(X, verbose=0).shape == (4, 3)
    fixed = kerax.Model(inputs, draw(inputs, 7))
    np.testing.assert_array_equal(fixed(X), fixed(X))
    fixed.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(kerax.saving.load_model(tmp_path / "m.keras")(X), fixed(X))


def test_a_stream_in_a_graph_moves_on():
    generator = kerax.random.SeedGenerator(3)
    inputs = kerax.Input((3,))
    model = kerax.Model(inputs, kerax.random.normal(ops.shape(inputs), seed=generator) + inputs)
    assert not np.allclose(model(X), model(X))
    model.compile("sgd", "mse")
    before = generator.state.numpy()
    model.fit(X, X, verbose=0)
    assert generator.state.numpy()[1] == before[1] + 1
