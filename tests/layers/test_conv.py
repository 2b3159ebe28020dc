from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core.symbolic import KerasTensor
from kerax.ops import cpu


def test_causal_outputs_do_not_see_the_future(key):
    layer = layers.Conv1D(2, 3, padding="causal", dilation_rate=2)
    x = jax.random.normal(key, (1, 9, 2))
    before, after = layer(x), layer(x.at[:, 5].add(1.0))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert not np.allclose(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"filters": 0}, "`filters` must be an integer of at least 1"),
        ({"kernel_size": 0}, "`kernel_size` must be an integer of at least 1, or 2 of them"),
        ({"kernel_size": (1, 2, 3)}, "or 2 of them"),
        ({"groups": 3}, "`filters` must be a multiple of `groups`"),
        ({"padding": "causal"}, "`padding` must be one of"),
        ({"strides": 2, "dilation_rate": 2}, "cannot both be above 1"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layers.Conv2D(**({"filters": 4, "kernel_size": 3} | kwargs))


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match=r"the kernel is larger than the input.*\(None, 4, 2, 1\)"):
        layers.Conv2D(4, 3)(KerasTensor((None, 4, 2, 1)))
    with pytest.raises(ValueError, match="larger than the input"):
        layers.Conv2D(4, 3, dilation_rate=2)(jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match="number of input channels must be a multiple of `groups`=2"):
        layers.Conv2D(4, 3, groups=2)(jnp.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="expected an input with ndim=4"):
        layers.Conv2D(4, 3)(jnp.zeros((1, 4, 4)))


def test_unknown_sizes_stay_unknown():
    x = KerasTensor((None, None, None, 3))
    assert layers.Conv2D(4, 3)(x).shape == (None, None, None, 4)
    assert layers.Conv2D(4, 3, strides=2, padding="same")(x).shape == (None, None, None, 4)


@pytest.mark.medium
@pytest.mark.parametrize(
    "kwargs",
    [
        {"padding": "same", "strides": (3, 2)},
        {"padding": "same", "data_format": "channels_first"},
        pytest.param({"strides": 2}, marks=pytest.mark.slow),
        pytest.param({"strides": (4, 3)}, marks=pytest.mark.slow),
        pytest.param({"dilation_rate": (1, 2)}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "cls, arguments, channels",
    [
        (layers.Conv2D, (4, (3, 2)), 3),  # a product of windows
        (layers.Conv2D, (4, (3, 2)), 9),
        (layers.Conv2D, (4, 1), 9),
        (layers.Conv2DTranspose, (4, (3, 2)), 3),
        (layers.Conv2DTranspose, (9, (5, 4)), 2),  # too many positions for a product
        (layers.DepthwiseConv2D, ((3, 2),), 3),
        (layers.SeparableConv2D, (2, (3, 2)), 3),
    ],
)
def test_formulations_for_cpu_equal_the_native_ones(cls, arguments, channels, kwargs, key):
    x = jax.random.normal(key, (2, 12, 11, channels))
    x = jnp.moveaxis(x, -1, 1) if "data_format" in kwargs else x
    layer = cls(*arguments, **kwargs)
    variables = layer.init(key, x)

    def on(platform):
        def outputs(v, x):
            with kerax.config.compiling_for(platform):
                return jnp.sum(jnp.sin(layer.apply(v, x)[0]))

        return jax.value_and_grad(outputs, (0, 1))(variables, x), jax.jvp(outputs, (variables, x), (variables, x))

    for one, other in zip(jax.tree.leaves(on("cpu")), jax.tree.leaves(on("gpu")), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_no_layer_asks_for_a_platform():
    for path in Path(layers.__file__).parent.glob("*.py"):
        assert "target_platform" not in path.read_text() and "default_backend" not in path.read_text(), path


def test_transposed_convolution_adds_windows():
    layer = layers.Conv1DTranspose(1, 3, strides=2)
    outputs = layer(jnp.array([1.0, 10.0]).reshape(1, 2, 1))
    kernel = layer.kernel.numpy().ravel()
    expected = np.zeros(5)
    expected[:3] += kernel
    expected[2:] += 10 * kernel
    np.testing.assert_allclose(outputs.ravel(), expected, rtol=1e-6)


def test_depthwise_convolution_keeps_channels_apart(key):
    layer = layers.DepthwiseConv2D(2, depth_multiplier=3)
    x = jax.random.normal(key, (1, 4, 4, 2))
    changed = np.abs(layer(x) - layer(x.at[..., 1].add(1.0))).max((0, 1, 2))
    assert (changed[:3] == 0).all() and (changed[3:] > 0).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layers.Conv1DTranspose(2, 3, strides=2, output_padding=2), "`output_padding` must be below `strides`"),
        (lambda: layers.Conv2DTranspose(2, 3, output_padding=-1), "`output_padding` must be an integer of at least 0"),
        (lambda: layers.Conv3DTranspose(2, 3, strides=2, dilation_rate=2), "cannot both be above 1"),
        (lambda: layers.Conv2DTranspose(2, 3)(jnp.zeros((1, 4, 1))), "expected an input with ndim=4"),
        (lambda: layers.DepthwiseConv1D(3)(jnp.zeros((1, 2, 1))), "DepthwiseConv1D.*the kernel is larger"),
        (lambda: layers.SeparableConv2D(2, 3)(jnp.zeros((1, 4, 2, 1))), "SeparableConv2D.*the kernel is larger"),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), "`depth_multiplier` must be an integer of at least 1"),
        (lambda: layers.Conv3D(2, 3)(jnp.zeros((1, 4, 4, 2, 1))), "Conv3D.*the kernel is larger"),
        (lambda: layers.ConvLSTM2D(2, 3)(jnp.zeros((1, 2, 4, 2, 1))), "the kernel is larger than the input"),
        (lambda: layers.ConvLSTM1D(2, 3, strides=2, dilation_rate=2), "cannot both be above 1"),
        (lambda: layers.ConvLSTM1D(2, 3, padding="causal"), "`padding` must be one of"),
        (lambda: layers.ConvLSTM3D(2, 3)(jnp.zeros((1, 2, 4, 2, 1))), "expected an input with ndim=6"),
    ],
)
def test_bad_calls_of_other_convolutions_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "make",
    [lambda: layers.Conv2DTranspose(4, 3, 2), lambda: layers.DepthwiseConv2D(3), lambda: layers.SeparableConv2D(4, 3)],
)
def test_unknown_sizes_stay_unknown_in_other_convolutions(make):
    assert make()(KerasTensor((None, None, None, 4))).shape == (None, None, None, 4)


@pytest.mark.slow
def test_convolutional_lstm_masks_states_and_drops_the_same_at_every_step(key):
    x = jax.random.normal(key, (2, 3, 4, 2))
    layer = layers.ConvLSTM1D(2, 2, return_sequences=True)
    full, padded = layer(x[:, :2]), layer(x, mask=jnp.array([[True, True, False]] * 2))
    np.testing.assert_allclose(padded[:, :2], full, rtol=1e-6)
    np.testing.assert_allclose(padded[:, 2], full[:, 1], rtol=1e-6)
    stateful = layers.ConvLSTM1D(2, 2, stateful=True)
    stateful(x[:, :1])
    stateful.set_weights(layer.get_weights())
    stateful.reset_state()
    stateful(x[:, :1])
    np.testing.assert_allclose(stateful(x[:, 1:2]), full[:, 1], rtol=1e-5, atol=1e-6)
    dropping = layers.ConvLSTM1D(2, 2, dropout=0.5, recurrent_initializer="zeros", return_sequences=True)
    ones = jnp.ones((1, 3, 4, 2))
    variables = dropping.init(key, ones)
    outputs, _ = dropping.apply(variables, ones, training=True, key=key)
    assert not np.allclose(outputs, dropping.apply(variables, ones)[0])


def test_a_convolution_is_one_program_where_called_eagerly_and_no_call_where_compiled(key):
    layer = layers.Conv2D(17, 3)  # computed as a product of nine slices on CPU
    x = jnp.ones((2, 5, 6, 7))
    variables = layer.init(key, x)
    before = cpu._multiply_windows._cache_size()
    layer(x)
    assert cpu._multiply_windows._cache_size() == before + 1
    compiled = jax.jit(lambda x: layer.apply(variables, x)[0]).lower(x).compile()
    assert " call(" not in compiled.as_text().split("ENTRY")[1]
