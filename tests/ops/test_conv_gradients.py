import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kerax.ops.conv_gradients import axis_letters, convolve_natively
from kerax.train.engine import is_slow_in_loops

CASES = {
    "valid": ((2, 5, 6, 3), (2, 3, 3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "padded": ((2, 5, 6, 3), (3, 2, 3, 4), (1, 1), ((1, 1), (0, 1)), (1, 1)),
    "strides": ((2, 7, 6, 3), (3, 2, 3, 4), (2, 3), ((1, 0), (0, 1)), (1, 1)),
    "dilation": ((2, 7, 8, 3), (3, 2, 3, 4), (1, 1), ((2, 2), (0, 0)), (2, 3)),
    "both": ((2, 9, 8, 1), (3, 2, 1, 2), (2, 1), ((0, 3), (1, 0)), (2, 2)),
    "line": ((2, 9, 3), (4, 3, 2), (2,), ((3, 0),), (1,)),
    "volume": ((1, 4, 3, 5, 2), (2, 1, 3, 2, 3), (1, 1, 2), ((0, 0), (0, 0), (1, 1)), (1, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_jax(name):
    shape, window, *options = CASES[name]
    generator = np.random.default_rng(0)
    inputs, kernel = (generator.normal(size=size).astype("float32") for size in (shape, window))

    def own(inputs, kernel):
        return jnp.sum(jnp.sin(convolve_natively(inputs, kernel, *options)))

    def theirs(inputs, kernel):
        strides, pads, dilation = options
        numbers = axis_letters(len(strides), channels_last=True)
        outputs = lax.conv_general_dilated(inputs, kernel, strides, pads, None, dilation, numbers)
        return jnp.sum(jnp.sin(outputs))

    for transform in (
        lambda f: jax.value_and_grad(f, (0, 1))(inputs, kernel),
        lambda f: jax.jvp(f, (inputs, kernel), (inputs, kernel)),
        lambda f: jax.vmap(jax.grad(f, (0, 1)), (0, None))(inputs[:, None], kernel),
    ):
        for found, expected in zip(jax.tree.leaves(transform(own)), jax.tree.leaves(transform(theirs)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert is_slow_in_loops(jax.make_jaxpr(jax.grad(theirs, 1))(inputs, kernel).jaxpr)
    gradients = jax.make_jaxpr(jax.grad(own, (0, 1)))(inputs, kernel)
    assert not is_slow_in_loops(gradients.jaxpr)


def test_second_derivatives():
    shape, window, *options = CASES["strides"]
    inputs, kernel = jnp.ones(shape), jnp.ones(window) / 10

    def loss(kernel):
        return jnp.sum(jnp.sin(convolve_natively(inputs, kernel, *options)))

    tangent = jax.jvp(jax.grad(loss), (kernel,), (kernel,))[1]
    step = 1e-2
    expected = (jax.grad(loss)(kernel * (1 + step)) - jax.grad(loss)(kernel * (1 - step))) / (2 * step)
    np.testing.assert_allclose(tangent, expected, rtol=1e-2, atol=1e-2)


def test_nothing_is_computed_for_inputs_without_gradient():
    shape, window, *options = CASES["padded"]
    gradient = jax.grad(lambda kernel, inputs: jnp.sum(convolve_natively(inputs, kernel, *options) ** 2))
    text = str(jax.make_jaxpr(gradient)(jnp.ones(window), jnp.ones(shape)))
    assert text.count("conv_general_dilated[") == 2
