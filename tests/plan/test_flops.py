"""Floating-point operations of programs, by layer and by model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.models.summary import format_flops
from kerax.plan.flops import count, count_flops, layer_flops, model_flops

X = jax.ShapeDtypeStruct((8, 6, 32, 4), jnp.float32)
W = jax.ShapeDtypeStruct((3, 3, 4, 5), jnp.float32)


def convolve(strides, padding, lhs=(1, 1), rhs=(1, 1)):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lambda x, w: jax.lax.conv_general_dilated(x, w, strides, padding, lhs, rhs, numbers)


@pytest.mark.parametrize(
    ("function", "specs"),
    [
        (lambda x: jax.nn.softmax(x) + jnp.mean(x**3 / 7, axis=1, keepdims=True), [X]),
        (lambda x: jax.nn.gelu(x, approximate=False) * jax.nn.silu(x) - jnp.tanh(x.astype("bfloat16")), [X]),
        (lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), [X]),
        (lambda x: jax.lax.cond(x[0, 0, 0, 0] > 0, lambda x: x @ x.mT, lambda x: (x @ x.mT) @ (x @ x.mT), x), [X]),
        (lambda x: jnp.fft.rfft(x, axis=2), [X]),
        (convolve((1, 1), "SAME"), [X, W]),
        (convolve((2, 3), [(3, 1), (0, 2)]), [X, W]),
        (convolve((1, 1), [(0, 1), (2, 0)], (2, 2)), [X, W]),
        (convolve((1, 1), "SAME", (1, 1), (2, 2)), [X, W]),
        (jax.value_and_grad(lambda w, x: jnp.sum(convolve((2, 2), "SAME")(x, w))), [W, X]),
    ],
)
def test_what_xla_counts_is_counted(function, specs):
    expected = jax.jit(function).lower(*specs).cost_analysis()["flops"]
    assert count(jax.make_jaxpr(function)(*specs).jaxpr).total == pytest.approx(expected, rel=1e-3)


def test_what_is_in_loops_counts_as_often_as_they_turn():
    def loop(x):
        return jax.lax.scan(lambda x, _: (x @ x.mT @ x + 1, None), x, None, length=7)[0]

    once = 2 * 2 * 8 * 6 * 32 * 32 * 4
    found = count(jax.make_jaxpr(loop)(X).jaxpr)
    assert found == (7 * once, 7 * 8 * 6 * 32 * 4)
    again = count(jax.make_jaxpr(jax.checkpoint(loop))(X).jaxpr)
    assert again == found
    assert count(jax.make_jaxpr(lambda x: jnp.cumsum(x, 2))(X).jaxpr).total == 8 * 6 * 32 * 4


def test_products_and_sums_are_counted_two_for_a_pair():
    layer = layers.Dense(7)
    model = kerax.Sequential([kerax.Input((5,)), layer])
    assert layer_flops(layer) == model_flops(model) == 2 * 5 * 7 + 7
    assert count_flops(layer, np.zeros((4, 5), "f")) == 4 * (2 * 5 * 7 + 7)
    assert layer.kernel._value is None  # no weight was made


def test_steps_of_a_recurrent_layer_are_counted_each():
    found = []
    for steps in (1, 20):
        model = kerax.Sequential([kerax.Input((steps, 8)), layers.LSTM(16)])
        found.append(model_flops(model))
    products = 2 * (8 + 16) * 64
    assert products < found[0] < 1.5 * products
    assert found[1] == pytest.approx(20 * found[0], rel=0.05)


def test_shared_layers_and_several_inputs():
    shared = layers.Dense(4, use_bias=False)
    first, second = kerax.Input((3,)), kerax.Input((3,))
    model = kerax.Model({"a": first, "b": second}, shared(first) + shared(second))
    assert model_flops(model) == 2 * (2 * 3 * 4) + 4
    assert layer_flops(model.layers[0]) == 0  # an input


def test_unknown_sizes_and_graphs_are_unknown():
    tokens = kerax.Input((None,), dtype="int32")
    model = kerax.Model(tokens, layers.Dense(1)(layers.Embedding(5, 3)(tokens)))
    assert model_flops(model) is None

    class Own(kerax.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    assert model_flops(model) is None
    model(np.zeros((2, 3), "f"))
    assert layer_flops(model.dense) is None and model_flops(model) == 2 * 3 * 2 + 2


def test_the_summary_shows_them_on_request():
    model = kerax.Sequential(
        [kerax.Input((5,)), layers.Dense(7), kerax.Sequential([kerax.Input((7,)), layers.Dense(1)])]
    )
    lines = []
    model.summary(print_fn=lines.append, show_flops=True, show_trainable=True, expand_nested=True)
    text = "\n".join(lines)
    counts = [line.split("│")[-2].strip() for line in text.splitlines() if "(" in line and "│" in line]
    assert "FLOPs" in text and counts.count("77") == 1 and counts.count("15") == 2
    assert text.splitlines()[-1].strip() == "FLOPs per example: 92"
    model.summary(print_fn=lines.append)
    assert "FLOPs" not in lines[-1]
    assert [format_flops(count) for count in (None, 0, 999, 1000, 2.5e9)] == ["?", "0", "999", "1.00 K", "2.50 G"]
