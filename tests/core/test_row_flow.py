"""Rows are followed through every kind of primitive; what meets other rows is found."""

import inspect

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from kerax.core.row_flow import function_keeps_rows_apart
from tests.cases import CASES
from tests.test_cases import arguments, built, traced_call

N = 6
INDEX = np.asarray([2, 0, 1])


def scanned(x, step):
    return jax.lax.scan(step, jnp.zeros(x.shape[::2]), jnp.swapaxes(x, 0, 1))


APART = {
    "elementwise": lambda x: jnp.where(x > 0, jnp.exp(x) * 2, x**2),
    "reduce": lambda x: x.mean(1) + x.max(-2),
    "merged": lambda x: jnp.reshape(jnp.reshape(x, (N * 4, 3)) @ jnp.ones((3, 5)), (N, 4, 5)),
    "merged_as_minor": lambda x: jnp.reshape(jnp.reshape(jnp.swapaxes(x, 0, 1), (4 * N, 3)), (4, N, 3)).sum(0),
    "split_axis": lambda x: jnp.reshape(x, (N, 2, 2, 3)).transpose(0, 2, 1, 3),
    "batched_product": lambda x: jnp.einsum("btc,bsc->bts", x, x),
    "product_from_the_right": lambda x: jnp.einsum("dc,btc->bdt", jnp.ones((2, 3)), x),
    "convolution": lambda x: jax.lax.conv_general_dilated(x, jnp.ones((4, 4, 1)), (1,), "VALID"),
    "window": lambda x: jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 1), (1, 2, 1), "VALID"),
    "sorted": lambda x: jnp.sort(x, axis=1)[:, ::-1],
    "top_k": lambda x: jax.lax.top_k(x, 2)[0],
    "cumulated": lambda x: jnp.cumsum(x, axis=1),
    "padded": lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 0)))[:, 1:],
    "joined": lambda x: jnp.concatenate([x, x], axis=2),
    "stacked": lambda x: jnp.stack([x, x], axis=1),
    "taken": lambda x: jnp.take(x, INDEX, axis=1),
    "looked_up": lambda x: jnp.take(jnp.ones((7, 2)), x.astype(int), axis=0),
    "taken_along": lambda x: jnp.take_along_axis(x, jnp.argmax(x, axis=1, keepdims=True), axis=1),
    "written": lambda x: jnp.asarray(x).at[:, 1].set(0.0) + jnp.asarray(x).at[:, 0, 1].add(x[:, 1, 1]),
    "recurrent": lambda x: scanned(x, lambda c, y: (jnp.tanh(c + y), y))[0],
    "recurrent_outputs": lambda x: jnp.swapaxes(scanned(x, lambda c, y: (c + y, c * y))[1], 0, 1),
    "while": lambda x: jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 2), (0, x))[1],
    "cond": lambda x: jax.lax.cond(jnp.zeros(()) > 1, lambda x: x, jnp.sin, x),
    "solved": lambda x: jnp.linalg.cholesky(jnp.einsum("bsc,btc->bst", x, x) + jnp.eye(4)) @ x,
    "spectrum": lambda x: jnp.abs(jnp.fft.rfft(x, axis=-1)),
    "called": jax.jit(jax.checkpoint(jax.nn.gelu)),
    "scaled": lambda x: x * jnp.ones((1, 1, 3)) + 2,
    "each": jax.vmap(lambda row: row @ row.T),
}
MIXED = {
    "centred": lambda x: x - x.mean(0),
    "scores": lambda x: x[:, 0] @ x[:, 0].T,
    "cumulated": lambda x: jnp.cumsum(x, axis=0),
    "sorted": lambda x: jnp.sort(x, axis=0),
    "turned_round": lambda x: x[::-1],
    "shifted": lambda x: jnp.roll(x, 1, axis=0),
    "picked": lambda x: x[jnp.arange(N)[::-1]],
    "turned_on_its_side": lambda x: jnp.reshape(jnp.swapaxes(x, 0, 1), (N, 4, 3)),
    "window": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (2, 1, 1), (1, 1, 1), "SAME"),
    "as_channels": lambda x: jax.lax.conv_general_dilated(
        x.transpose(1, 0, 2), jnp.ones((N, N, 1)), (1,), "SAME"
    ).transpose(1, 0, 2),
    "over_the_batch": lambda x: jax.lax.scan(lambda c, y: (c + y, c + y), jnp.zeros((4, 3)), x)[1],
    "until_all_are_done": lambda x: jax.lax.while_loop(lambda y: jnp.max(y) < 9, lambda y: y + 1, x),
    "if_any": lambda x: jax.lax.cond(jnp.any(x > 1), jnp.sin, jnp.cos, x),
    "one_for_all": lambda x: jnp.broadcast_to(x[:1], x.shape),
    "called": jax.jit(jax.checkpoint(lambda x: x - x.max(0))),
    "on_the_host": lambda x: jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
    "bits": lambda x: jax.lax.bitcast_convert_type(
        jnp.asarray(x[:, 0, 0] > 0, "uint16").reshape(3, 2), "uint32"
    ).repeat(2),
    "not_of_rows": lambda x: x.sum(0),
}


def depends_on_the_last(function, x):
    """Whether the first rows of the results change with the last row of the inputs."""
    changed = x.copy()
    changed[-1] = 3 * x[-1] + 2
    first, second = (jax.tree.map(lambda out: np.asarray(out)[: N - 1], function(given)) for given in (x, changed))
    same = jax.tree.map(lambda a, b: a.shape == b.shape and np.allclose(a, b, equal_nan=True), first, second)
    return not all(jax.tree.leaves(same))


X = np.random.default_rng(0).normal(size=(N, 4, 3)).astype("float32")


@pytest.mark.parametrize("name", APART)
def test_is_apart(name):
    assert function_keeps_rows_apart(APART[name], X)
    assert not depends_on_the_last(APART[name], X)


@pytest.mark.parametrize("name", MIXED)
def test_is_mixed(name):
    assert not function_keeps_rows_apart(MIXED[name], X)


def test_cudnns_attention_keeps_rows_apart():
    """Which cannot be traced here: a primitive of its name stands for it."""
    kernel = jax.extend.core.Primitive("dot_product_attention_fwd_wrapper")
    kernel.def_abstract_eval(lambda query, *_: query)
    heads, bias = np.ones((N, 4, 2, 8)), np.ones((N, 1, 4, 4))
    assert function_keeps_rows_apart(lambda q, bias: kernel.bind(q, q, q, bias, np.zeros((0,))), heads, bias)
    assert not function_keeps_rows_apart(lambda q: kernel.bind(q, q.swapaxes(0, 1), q, np.zeros((0,))), heads)


def test_a_batch_of_one_row_is_asked_about_as_one_of_several():
    assert function_keeps_rows_apart(lambda x: x.mean(1), X[:1])
    assert not function_keeps_rows_apart(lambda x: x - x.mean(0), X[:1])


def test_two_batches_of_rows():
    assert function_keeps_rows_apart(lambda x, y: (x * y, jnp.einsum("bd,bd->b", x[:, 0], y[:, 1])), X, X)
    assert not function_keeps_rows_apart(lambda x, y: x + jnp.swapaxes(y, 0, 1), X[:4], X[:4, :4])
    assert not function_keeps_rows_apart(lambda x, y: x[:, 0] @ y[:, 0].T, X, X)


@pytest.mark.parametrize("name", CASES)
def test_every_layer_keeps_rows_apart_when_it_infers(name):
    """So that no layer of kerax costs a program for a last, smaller batch."""
    inputs, call = arguments(CASES[name])
    if np.shape(jax.tree.leaves(inputs)[0])[:1] < (2,):
        pytest.skip("one row")
    layer, variables = built(name)
    fixed = {key: value for key, value in call.items() if isinstance(value, bool)}
    if "training" in inspect.signature(layer.call).parameters:
        fixed["training"] = False

    def infer(inputs, call):
        outputs = layer.apply(variables, *inputs, key=jax.random.key(0), **call, **fixed)[0]
        # What is the same for all rows is added to something that is not.
        return inputs[0] + outputs if name in ("PositionEmbedding", "SinePositionEncoding") else outputs

    assert function_keeps_rows_apart(infer, inputs, traced_call(call))
