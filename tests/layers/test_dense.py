import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core.symbolic import KerasTensor


def test_dense_is_an_affine_map(key):
    layer = layers.Dense(2)
    layer.build((None, 3))
    kernel, bias = np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0])
    layer.set_weights([kernel, bias])
    x = jax.random.normal(key, (4, 5, 3))
    np.testing.assert_allclose(layer(x), np.asarray(x) @ kernel + bias, rtol=1e-5, atol=1e-5)


def test_dense_takes_an_empty_batch():
    assert layers.Dense(2)(jnp.zeros((0, 3))).shape == (0, 2)


@pytest.mark.parametrize("units", [0, -1, 2.5, True])
def test_dense_refuses_bad_units(units):
    with pytest.raises(ValueError, match="`units` must be an integer of at least 1"):
        layers.Dense(units)


def test_dense_refuses_other_inputs():
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="at least 2 axes"):
        layer(jnp.zeros(3))
    layer(jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"expected axis -1 of the input to have size 3.*\(1, 4\)"):
        layer(jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match="'kernel' needs a known shape"):
        layers.Dense(2)(KerasTensor((2, None)))


def test_dense_regularizers_give_losses():
    layer = layers.Dense(
        1, use_bias=False, kernel_initializer="ones", kernel_regularizer="l2", activity_regularizer="l1"
    )
    layer(jnp.ones((1, 3)))
    assert len(layer.losses) == 2
    np.testing.assert_allclose(sum(layer.losses), 0.03 + 0.03, rtol=1e-5)


@pytest.mark.parametrize(
    "equation, output_shape, bias_axes, message",
    [
        ("ab->ab", 3, None, "must have the form"),
        ("...b,bc->ac", 3, None, "must stand in the input and the output"),
        ("ab,bc->ac", (3, 4), None, "must have 1 entries"),
        ("ab,bc->ac", 3, "x", "bias axis 'x' is not in the output"),
        ("ab,bx->ac", 3, None, "axis 'x' has no size"),
        ("abcd,de->abce", (2, 2, 3), None, "asks for an input with 4 axes"),
    ],
)
def test_einsum_dense_refuses_bad_equations(equation, output_shape, bias_axes, message):
    with pytest.raises(ValueError, match=message):
        layers.EinsumDense(equation, output_shape, bias_axes=bias_axes)(jnp.zeros((2, 4)))


def test_einsum_dense_with_equal_sizes_contracts_the_axes_of_its_equation(key):
    x = jax.random.normal(key, (2, 5, 2, 2))
    layer = layers.EinsumDense("abcd,cde->abe", (None, 7))
    outputs = layer(x)
    np.testing.assert_allclose(outputs, jnp.einsum("abcd,cde->abe", x, layer.kernel.value), rtol=1e-5, atol=1e-5)


def test_einsum_dense_initial_values_have_the_variance_of_the_contracted_axes():
    layer = layers.EinsumDense("abc,cde->abde", (None, 20, 30))
    layer.build((None, 5, 40))
    limit = (6 / (40 + 20 * 30)) ** 0.5
    assert limit * 0.95 < abs(layer.kernel.numpy()).max() <= limit


def test_a_kernel_shared_with_another_layer_is_the_one_that_is_multiplied_by(tmp_path):
    inputs = kerax.Input((4,))
    first, second = layers.Dense(4, name="first"), layers.Dense(4, name="second")
    model = kerax.Model(inputs, second(first(inputs)))
    second.kernel = first.kernel
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    first.kernel.assign(2 * np.eye(4))
    np.testing.assert_allclose(np.asarray(model(x)), 4 * x, rtol=1e-6)
    assert [id(v) for v in model.weights] == [id(v) for v in (first.kernel, first.bias, second.bias)]
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)
    assert second.kernel is first.kernel
    trained = np.asarray(first.kernel.value)
    np.testing.assert_allclose(np.asarray(second(x) - second.bias.value), x @ trained, rtol=1e-5, atol=1e-6)
    model.save_weights(tmp_path / "tied.weights.h5")
    before = np.asarray(model(x))
    first.kernel.assign(np.zeros((4, 4)))
    model.load_weights(tmp_path / "tied.weights.h5")
    np.testing.assert_array_equal(np.asarray(model(x)), before)


def test_a_shared_kernel_is_quantized_apart():
    first, second = layers.Dense(4), layers.Dense(4)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    first(x), second(x)
    second.kernel = first.kernel
    before = np.asarray(first(x))
    second.quantize("int8")
    np.testing.assert_array_equal(np.asarray(first(x)), before)
    assert second.kernel is not first.kernel
    np.testing.assert_allclose(np.asarray(second(x)), before, atol=0.05)


@kerax.saving.register_keras_serializable("tests")
class OwnKernel(layers.Dense):
    """A dense layer whose `build` makes the kernel itself."""

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), "ones", name="own")


def test_a_kernel_of_a_subclass_is_multiplied_by_saved_and_loaded(tmp_path):
    model = kerax.Sequential([kerax.Input((3,)), OwnKernel(2)])
    x = np.arange(6, dtype="float32").reshape(2, 3)
    np.testing.assert_array_equal(np.asarray(model(x)), x.sum(1, keepdims=True).repeat(2, 1))
    model.layers[-1].kernel.assign(np.full((3, 2), 2.0))
    model.save(tmp_path / "own.keras")
    loaded = kerax.saving.load_model(tmp_path / "own.keras")
    np.testing.assert_array_equal(np.asarray(loaded(x)), 2 * x.sum(1, keepdims=True).repeat(2, 1))
    assert [variable.path for variable in loaded.weights] == [variable.path for variable in model.weights]
    loaded.layers[-1].quantize("int8", type_check=False)
    np.testing.assert_allclose(np.asarray(loaded(x)), np.asarray(model(x)), rtol=0.01)


@pytest.mark.parametrize("output_shape", [2, (2,), ()])
def test_an_equation_that_leaves_the_batch_alone_takes_any_output_shape(output_shape):
    x = np.arange(8, dtype="f4").reshape(2, 4)
    ours, theirs = (package.layers.EinsumDense("ab,ab->a", output_shape) for package in (kerax, keras))
    assert ours(x).shape == theirs(x).shape == (2,)
    assert ours.kernel.shape == (2, 4)
