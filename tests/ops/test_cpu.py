import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from kerax import layers
from kerax.ops import cpu
from kerax.ops.convolutions import axis_letters, conv
from kerax.ops.cpu import is_slow_in_loops

CASES = {
    "valid": ((2, 5, 6, 3), (2, 3, 3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "padded": ((2, 5, 6, 3), (3, 2, 3, 4), (1, 1), ((1, 1), (0, 1)), (1, 1)),
    "strides": ((2, 7, 6, 3), (3, 2, 3, 4), (2, 3), ((1, 0), (0, 1)), (1, 1)),
    "dilation": ((2, 7, 8, 3), (3, 2, 3, 4), (1, 1), ((2, 2), (0, 0)), (2, 3)),
    "both": ((2, 9, 8, 1), (3, 2, 1, 2), (2, 1), ((0, 3), (1, 0)), (2, 2)),
    "line": ((2, 9, 3), (4, 3, 2), (2,), ((3, 0),), (1,)),
    "volume": ((1, 4, 3, 5, 2), (2, 1, 3, 2, 3), (1, 1, 2), ((0, 0), (0, 0), (1, 1)), (1, 1, 1)),
}


def test_any_number_of_images():
    (count,) = export.symbolic_shape("n")
    for window in ((3, 3, 2, 4), (1, 1, 2, 4)):
        own = jax.jit(lambda inputs, kernel: conv(inputs, kernel))
        kernel = jnp.ones(window)
        exported = export.export(own)(jax.ShapeDtypeStruct((count, 9, 9, 2), jnp.float32), kernel)
        images = jnp.ones((5, 9, 9, 2))
        np.testing.assert_allclose(exported.call(images, kernel), own(images, kernel), rtol=1e-6)
        assert own(images[:0], kernel).shape == (0, *own(images, kernel).shape[1:])


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("strides", "pads"), [((1, 1), "VALID"), ((2, 3), "SAME"), ((2, 1), ((0, 0), (1, 0)))])
def test_windows_of_one_position(strides, pads, channels_last):
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)), "float32")
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(1, 1, 3, 4)), "float32")
    inputs = inputs if channels_last else jnp.moveaxis(inputs, -1, 1)
    numbers = axis_letters(2, channels_last)

    def own(inputs, kernel):
        return conv(inputs, kernel, strides, pads, "channels_last" if channels_last else "channels_first")

    def theirs(inputs, kernel):
        return lax.conv_general_dilated(inputs, kernel, strides, pads, None, (1, 1), numbers)

    np.testing.assert_allclose(own(inputs, kernel), theirs(inputs, kernel), rtol=1e-5, atol=1e-5)
    for argument in (0, 1):
        found, expected = (
            jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), argument)(inputs, kernel) for f in (own, theirs)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    is_product = "conv_general_dilated" not in str(jax.make_jaxpr(own)(inputs, kernel))
    assert is_product


@pytest.mark.medium
@pytest.mark.parametrize("channels", [3, 9])  # few channels: a product of windows
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_jax(name, channels):
    shape, window, *options = CASES[name]
    shape, window = (*shape[:-1], channels), (*window[:-2], channels, window[-1])
    generator = np.random.default_rng(0)
    inputs, kernel = (generator.normal(size=size).astype("float32") for size in (shape, window))

    def own(inputs, kernel):
        return jnp.sum(jnp.sin(cpu.convolve(inputs, kernel, *options)))

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


@pytest.mark.parametrize("name", ["strides", "valid"])
def test_second_derivatives(name):
    shape, window, *options = CASES[name]
    inputs, kernel = jnp.ones(shape), jnp.ones(window) / 10

    def loss(kernel):
        return jnp.sum(jnp.sin(cpu.convolve(inputs, kernel, *options)))

    tangent = jax.jvp(jax.grad(loss), (kernel,), (kernel,))[1]
    step = 1e-2
    expected = (jax.grad(loss)(kernel * (1 + step)) - jax.grad(loss)(kernel * (1 - step))) / (2 * step)
    np.testing.assert_allclose(tangent, expected, rtol=1e-2, atol=1e-2)


def test_nothing_is_computed_for_inputs_without_gradient():
    shape, window, *options = (2, 5, 6, 9), (3, 2, 9, 4), *CASES["padded"][2:]
    gradient = jax.grad(lambda kernel, inputs: jnp.sum(cpu.convolve(inputs, kernel, *options) ** 2))
    text = str(jax.make_jaxpr(gradient)(jnp.ones(window), jnp.ones(shape)))
    assert text.count("conv_general_dilated[") == 2


@pytest.mark.medium
def test_convolutions_and_their_gradients_are_fast_in_loops():
    """Those of layers, in a loop of steps, in the loop of a recurrent layer, and transposed."""
    x = jnp.ones((2, 3, 8, 8, 9))
    for layer, inputs in (
        (layers.Conv2D(10, 3, strides=2, padding="same"), x[0]),
        (layers.Conv2DTranspose(10, 5, strides=2), x[0]),
        (layers.SeparableConv2D(10, 3), x[0]),
        (layers.ConvLSTM2D(9, 3, padding="same"), x),
    ):
        variables = layer.init(jax.random.key(0), inputs)

        def steps(variables, inputs, layer=layer):
            def step(_, inputs):
                return inputs + jax.grad(lambda x: jnp.sum(layer.apply(variables, x)[0] ** 2))(inputs)

            return jnp.sum(jax.lax.fori_loop(0, 2, step, inputs))

        jaxpr = jax.make_jaxpr(steps)(variables, inputs).jaxpr
        assert "conv_general_dilated" in str(jaxpr) or isinstance(layer, layers.SeparableConv2D)
        assert not is_slow_in_loops(jaxpr)


def test_options_are_given_to_programs_that_gain_by_them(monkeypatch):
    def options(channels):
        convolve = lambda x, kernel: lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
        jaxpr = jax.make_jaxpr(convolve)(jnp.ones((1, channels, 4, 4)), jnp.ones((2, channels, 3, 3)))
        return cpu.compiler_options(jaxpr.jaxpr)

    assert cpu.compiler_options(jax.make_jaxpr(jnp.sin)(1.0).jaxpr) == {}
    assert options(3) == {}
    jax.jit(lambda x: x, compiler_options=options(16)).lower(1.0).compile()
    assert options(16)
    monkeypatch.setattr(cpu, "_OPTIONS", {"xla_cpu_no_such_option": "1"})
    cpu._has_options.cache_clear()
    try:
        assert options(16) == {}
    finally:
        cpu._has_options.cache_clear()
