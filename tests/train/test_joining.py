import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import kerax
from kerax.train import joining

BATCHES, ROWS = 3, 4
RNG = np.random.default_rng(0)
KERNEL, BIAS = RNG.normal(size=(6, 5)).astype("f"), RNG.normal(size=5).astype("f")
X = RNG.normal(size=(BATCHES, ROWS, 2, 6)).astype("f")
IDS = RNG.integers(0, 6, (BATCHES, ROWS, 2)).astype("i")
IMAGES = RNG.normal(size=(BATCHES, ROWS, 7, 7, 3)).astype("f")


def attention(kernel, x):
    q = jnp.einsum("btf,fk->btk", x, kernel)
    weights = jax.nn.softmax(jnp.einsum("btk,bsk->bts", q, q) + jnp.tri(2))
    return jnp.einsum("bts,bsk->btk", weights, q)


def recurrence(kernel, x, carry=None, reverse=False):
    def step(carry, row):
        total, shared = carry
        total = jnp.tanh(row @ kernel + total)
        return (total, shared + 1), (total, shared)

    carry = (jnp.zeros((ROWS, 5)), jnp.zeros(5))
    (total, shared), (rows, more) = lax.scan(step, carry, x.swapaxes(0, 1), reverse=reverse)
    return total, shared, rows.swapaxes(0, 1), more


def convolution(kernel, images):
    kernel = jnp.ones((3, 3, 3, 2)) * kernel[0, 0]
    outputs = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return lax.reduce_window(outputs, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


APART = {
    "dense": lambda kernel, x: jax.nn.relu(x @ kernel + BIAS),
    "product from the left": lambda kernel, x: jnp.einsum("fk,btf->kbt", kernel, x),
    "two-dimensional product": lambda kernel, x: (x.reshape(-1, 6) @ kernel).reshape(ROWS, 2, 5),
    "attention": attention,
    "embedding": lambda kernel, ids: jnp.asarray(kernel)[ids] * (ids > 2)[..., None],
    "embedding of the last axis": lambda kernel, ids: jnp.take(kernel, ids.T, axis=1),
    "recurrence": recurrence,
    "recurrence backwards": functools.partial(recurrence, reverse=True),
    "convolution and pooling": convolution,
    "layer normalization": lambda kernel, x: (x - x.mean(-1, keepdims=True)) / jnp.std(x, -1, keepdims=True),
    "argmax, cumsum, flip": lambda kernel, x: (x.argmax(-1), jnp.cumsum(x, 2), jnp.flip(x, 1)),
    "slices, joined and filled": lambda kernel, x: jnp.pad(
        jnp.concatenate([x[:, :, 1:3], x[..., ::2], jnp.ones((ROWS, 2, 1))], -1), ((0, 0), (1, 0), (0, 2))
    ),
    "split and stack": lambda kernel, x: jnp.stack(jnp.split(x, 2, axis=2)[::-1], 1),
    "tiled, the largest": lambda kernel, x: (lax.top_k(jnp.tile(x, 2), 3), jnp.unstack(x, axis=1)),
    "choice": lambda kernel, x: jnp.where(x > 0, jnp.clip(x, 0.1, 0.5), kernel[:, 0] * jnp.ones((ROWS, 1, 6))),
    "not moved by an axis of 1": lambda kernel, x: x[:, None] * x[:, :, None] + x.reshape(1, ROWS, 2, 6)[0, :, None],
    "gradient": lambda kernel, x: jax.grad(lambda x: jnp.sum(jax.nn.gelu(x @ kernel) ** 2))(x),
    "checkpoint": lambda kernel, x: jax.checkpoint(lambda x: jnp.sin(x @ kernel))(x),
    "the same for all": lambda kernel, x: (kernel * 2, x),
    "barrier": lambda kernel, x: lax.optimization_barrier((x, jnp.sum(kernel), kernel)),
}
MIXED = {
    "sums of rows": lambda kernel, x: (x - x.mean(0)) * jnp.var(x) + kernel[:, 0],
    "rows in another order": lambda kernel, x: (x[::-1], jnp.sort(x, 0), jnp.cumsum(x, 0)),
    "some rows": lambda kernel, x: (x[1:], x[:, 0][::2], lax.dynamic_slice_in_dim(x, 1, 2)),
    "rows on both sides": lambda kernel, x: jnp.einsum("btf,ctf->bc", x, x),
    "rows contracted": lambda kernel, x: jnp.einsum("btf,bk->tfk", x, jnp.ones((ROWS, 3))),
    "rows behind others": lambda kernel, x: x.swapaxes(0, 1).reshape(-1, 6) @ kernel,
    "rows of several axes": lambda kernel, x: x + x.reshape(2, ROWS, 6).swapaxes(0, 1),
    "scalars": lambda kernel, x: (x.sum() * x, x.max() + 1, kernel * x.sum()),
    "one row for all": lambda kernel, x: jnp.broadcast_to(x[:1], (5, 2, 6)) * 2,
    "rows along the loop": lambda kernel, x: lax.scan(lambda c, row: (c + row, c.sum()), jnp.zeros((2, 6)), x),
    "a loop with scalars": lambda kernel, x: lax.scan(lambda c, v: (c + v.sum(), v * c), 0.0, x.swapaxes(0, 1)),
    "a loop that moves the axis": lambda kernel, x: lax.scan(
        lambda c, v: (c.swapaxes(0, 1), c), x[:, 0] @ jnp.ones((6, ROWS)), None, length=3
    ),
    "while": lambda kernel, x: lax.while_loop(lambda x: jnp.sum(x) < 50, lambda x: x + 1, x),
    "cond": lambda kernel, x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "random numbers": lambda kernel, x: jax.random.normal(jax.random.fold_in(jax.random.key(0), 3), x.shape) + x,
    "rows joined to others": lambda kernel, x: jnp.concatenate([x, jnp.zeros((2, 2, 6)), x], 0),
    "windows of two arrays": lambda kernel, x: lax.reduce_window(
        (x, jnp.ones((ROWS, 2, 6))),
        (0.0, 0.0),
        lambda one, other: (one[0] + other[0], one[1] * other[1]),
        (1, 2, 1),
        (1, 1, 1),
        "VALID",
    ),
    "empty": lambda kernel, x: jnp.concatenate([jnp.zeros((0, 2, 6)), x[:0].reshape(0, 2, 6), x], 0),
}


def given_to(name):
    return IDS if "embedding" in name else IMAGES if "convolution" in name else X


def mapped(function, x):
    """The function's results by `joining.vmap` and by `jax.vmap`."""
    program = jax.make_jaxpr(lambda kernel, x: jax.tree.leaves(function(kernel, x)))(KERNEL, x[0])
    wanted = jax.vmap(lambda x: jax.tree.leaves(function(KERNEL, x)))(x)
    return jax.jit(joining.vmap(program, 1))(KERNEL, x), wanted


@pytest.mark.parametrize("name", [*APART, *MIXED])
def test_results_are_those_of_vmap(name, monkeypatch):
    separately, left = joining._separately, []
    monkeypatch.setattr(joining, "_separately", lambda e, *rest: left.append(e.primitive.name) or separately(e, *rest))
    found, wanted = mapped((APART | MIXED)[name], given_to(name))
    assert [(value.shape, value.dtype) for value in found] == [(value.shape, value.dtype) for value in wanted]
    for value, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-5)
    if name in APART:  # then no operation has an axis more
        assert left == []


def test_products_have_two_axes():
    program = jax.make_jaxpr(lambda kernel, x: jnp.tanh(x @ kernel + BIAS) @ kernel.T)(KERNEL, X[0, :, 0])
    text = str(jax.make_jaxpr(joining.vmap(program, 1))(KERNEL, X[:, :, 0]))
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 2
    assert all(f"f32[{BATCHES * ROWS},{size}]" in line for line, size in zip(products, (5, 6), strict=True))


def test_every_batch_has_its_own_key():
    def noisy(number, x):
        key = jax.random.fold_in(jax.random.key(1), number)
        return x * jax.random.bernoulli(key, 0.5, x.shape)

    numbers = np.arange(BATCHES)
    program = jax.make_jaxpr(noisy)(0, X[0])
    found = jax.jit(joining.vmap(program, 0))(numbers, X)[0]
    np.testing.assert_array_equal(found, jax.vmap(noisy)(numbers, X))


def test_names_of_layers_stay():
    layer = kerax.layers.Dense(3, name="a_layer")
    layer.build((None, 6))
    variables = layer.init(0)
    program = jax.make_jaxpr(lambda x: layer.apply(variables, x)[0])(X[0, :, 0])
    text = jax.jit(joining.vmap(program, 0)).lower(X[:, :, 0]).as_text(debug_info=True)
    assert "a_layer/dot_general" in text
