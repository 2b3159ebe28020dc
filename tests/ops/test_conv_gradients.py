import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from kerax.ops import conv_gradients
from kerax.ops.conv_gradients import axis_letters, convolve, convolve_natively
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


COLUMNS = {
    "one chunk": ((2, 5, 6, 3), (2, 3, 3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "chunks": ((8, 5, 6, 3), (2, 3, 3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "some left over": ((7, 9, 8, 2), (3, 2, 2, 3), (2, 1), ((0, 0), (0, 0)), (2, 3)),
    "only the forward pass": ((5, 8, 8, 1), (6, 5, 1, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)),
}


def in_chunks(monkeypatch):
    """Makes products of windows of unpadded convolutions, with any JAX and for arrays of any size."""
    for name, value in {"_UNPADDED_IS_SLOW": True, "_LEAST_BYTES": 0, "_CHUNK_BYTES": 4000}.items():
        monkeypatch.setattr(conv_gradients, name, value)


@pytest.mark.parametrize("name", COLUMNS)
def test_products_of_windows_are_the_same(name, monkeypatch):
    in_chunks(monkeypatch)
    check_against_jax(*COLUMNS[name])
    inputs, kernel = (jnp.ones(size) for size in COLUMNS[name][:2])
    kernels = jnp.stack([kernel, 2 * kernel])
    both = jax.vmap(lambda kernel: convolve_natively(inputs, kernel, *COLUMNS[name][2:]))(kernels)
    np.testing.assert_allclose(both[1], 2 * both[0], rtol=1e-5)


def test_any_number_of_images(monkeypatch):
    in_chunks(monkeypatch)
    (count,) = export.symbolic_shape("n")
    for window in ((3, 3, 2, 4), (1, 1, 2, 4)):
        own = jax.jit(lambda inputs, kernel: convolve(inputs, kernel, (1, 1), "VALID", (1, 1)))
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
        return convolve(inputs, kernel, strides, pads, (1, 1), channels_last=channels_last)

    def theirs(inputs, kernel):
        return lax.conv_general_dilated(inputs, kernel, strides, pads, None, (1, 1), numbers)

    np.testing.assert_allclose(own(inputs, kernel), theirs(inputs, kernel), rtol=1e-5, atol=1e-5)
    for argument in (0, 1):
        found, expected = (
            jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), argument)(inputs, kernel) for f in (own, theirs)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    is_product = "conv_general_dilated" not in str(jax.make_jaxpr(own)(inputs, kernel))
    assert is_product == isinstance(pads, str)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_jax(name):
    check_against_jax(*CASES[name])


def check_against_jax(shape, window, *options):
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


@pytest.mark.parametrize("case", [CASES["strides"], COLUMNS["some left over"]])
def test_second_derivatives(case, monkeypatch):
    in_chunks(monkeypatch)
    shape, window, *options = case
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
