"""Symbolic tensors: shapes inferred through layers and ops, unknown sizes kept unknown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers, ops


def test_unknown_sizes_travel_through_layers():
    x = kerax.Input((None, 8))
    assert layers.Dense(3)(x).shape == (None, None, 3)
    assert layers.LSTM(4, return_sequences=True)(x).shape == (None, None, 4)
    assert layers.LSTM(4)(x).shape == (None, 4)
    image = kerax.Input((None, None, 3))
    assert layers.Conv2D(5, 3, strides=2, padding="same")(image).shape == (None, None, None, 5)
    assert layers.GlobalAveragePooling2D()(image).shape == (None, 3)


def test_operators_and_ops_are_recorded():
    x, y = kerax.Input((4,)), kerax.Input((4,))
    for tensor, shape in [
        (x + y, (None, 4)),
        (2.0 - x, (None, 4)),
        (x[:, :2], (None, 2)),
        (-x, (None, 4)),
        (ops.concatenate([x, y], axis=-1), (None, 8)),
        (ops.mean(x, axis=-1), (None,)),
        (x @ ops.transpose(y), (None, None)),
    ]:
        assert tensor.shape == shape
    assert (x > 0).dtype == "bool"


def test_lift_makes_any_function_symbolic():
    swish = ops.lift(lambda x: x * jnp.tanh(x), name="my_swish")
    x = kerax.Input((3,))
    model = kerax.Model(x, swish(x))
    assert model.output_shape == (None, 3)
    assert float(model(jnp.full((1, 3), 0.5))[0, 0]) == pytest.approx(0.5 * float(jnp.tanh(0.5)))


def test_a_symbolic_tensor_has_no_values():
    with pytest.raises(TypeError, match="KerasTensor"):
        jnp.sin(kerax.Input((3,)))
    with pytest.raises(ValueError, match=r"kerax.ops.lift\(function\)"):
        np.sin(kerax.Input((3,)))
    with pytest.raises(ValueError, match="symbolic"):
        bool(kerax.Input((3,)))


def test_inconclusive_symbols_fall_back_to_probes():
    class Shorter(kerax.Layer):
        def call(self, inputs):
            return inputs[:, :10] if inputs.shape[1] > 10 else inputs  # a symbol cannot answer

    assert Shorter()(kerax.Input((None, 3))).shape == (None, 10, 3)


def test_a_padding_that_needs_to_know_the_length_falls_back_to_probes():
    class Spectrum(kerax.Layer):
        def call(self, inputs):
            return ops.stft(inputs, 16, 4, 16)[0]  # padded by reflection, which a symbol cannot do

    assert Spectrum()(kerax.Input((None,))).shape == (None, None, 9)


@pytest.mark.parametrize("probed", [False, True])
def test_unknown_lengths_of_several_inputs_may_be_one(probed):
    class Scores(kerax.Layer):
        def call(self, inputs, mask):
            length = inputs.shape[1]
            bias = ops.arange(length)[None, :] - ops.arange(length)[:, None]  # (query, key)
            if probed and length > 10:  # a symbol cannot answer
                bias = bias + 1
            return ops.matmul(inputs, ops.swapaxes(inputs, 1, 2)) + bias[None] * ops.cast(mask, "int32")

    tokens, mask = kerax.Input((None, 3)), kerax.Input((None,), dtype="bool")
    for given in (mask[:, None, :], mask[:, :, None]):
        assert Scores()(tokens, mask=given).shape == (None, None, None)
    with pytest.raises(ValueError, match="shape"):
        Scores()(tokens, mask=kerax.Input((7, 5, 2)))


def test_a_mean_over_an_unknown_axis_falls_back_to_probes():
    class Centred(layers.Layer):
        def call(self, inputs):
            self.add_loss(jnp.mean(inputs))
            return inputs - jnp.mean(inputs, axis=0)

    assert Centred()(kerax.Input((3,))).shape == (None, 3)
    assert Centred()(kerax.Input((None, 3))).shape == (None, None, 3)


def test_compute_output_shape_is_derived():
    assert layers.Dense(5).compute_output_shape((None, 7)) == (None, 5)
    assert layers.Conv2D(4, 3).compute_output_shape((2, 8, 8, 1)) == (2, 6, 6, 4)
    assert layers.Concatenate().compute_output_shape([(None, 2), (None, 3)]) == (None, 5)


SHAPES = {"half": (2.5,), "whole float": (4 / 2,), "text": ("a",), "negative": (2, -1), "nested": ((2, 3),)}
MAKERS = {
    "tensor": kerax.KerasTensor,
    "input": kerax.Input,
    "variable": lambda shape: kerax.Variable(initializer="zeros", shape=shape),
    "weight": lambda shape: kerax.layers.Layer().add_weight(shape=shape),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_integers(maker, shape):
    with pytest.raises(ValueError, match="[Ss]izes? |shape"):
        MAKERS[maker](SHAPES[shape])
    assert MAKERS[maker]([np.int64(2), True + 1]).shape[-2:] == (2, 2)


def test_symbols_of_jax_stay_sizes():
    (size,) = jax.export.symbolic_shape("n")
    assert kerax.KerasTensor((size, 2 * size, 3)).shape == (size, 2 * size, 3)
