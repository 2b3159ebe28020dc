"""Small tools."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax


def test_to_categorical_puts_a_one_at_each_label():
    np.testing.assert_array_equal(kerax.utils.to_categorical([0, 2], 3), [[1, 0, 0], [0, 0, 1]])
    assert kerax.utils.to_categorical([[1], [0]]).shape == (2, 2)
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        kerax.utils.to_categorical([2], 2)


def test_to_categorical_of_jaxs_arrays_is_one_of_them():
    labels = jnp.array([[1], [0]])
    found = kerax.utils.to_categorical(labels, 2), jax.jit(lambda x: kerax.utils.to_categorical(x, 2))(labels)
    for one in found:
        assert isinstance(one, jax.Array)
        np.testing.assert_array_equal(one, [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="labels must be in"):
        kerax.utils.to_categorical(labels, 1)


def test_set_random_seed_reproduces_everything_drawn_after_it():
    def draw():
        kerax.utils.set_random_seed(7)
        dense = kerax.layers.Dense(2)
        dense.build((None, 3))
        return np.asarray(kerax.random.normal((3,))), dense.get_weights()[0], np.random.rand()  # noqa: NPY002

    for first, second in zip(draw(), draw()):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="set_random_seed"):
        kerax.utils.set_random_seed(-1)


def test_sources_of_symbolic_tensors_are_found():
    import keras

    def names(module):
        a, b, c = (module.Input((2,), name=name) for name in "abc")
        joined = module.layers.Concatenate()([b, module.layers.Add()([a, b])])
        sources = module.utils.get_source_inputs(module.layers.Dense(1)(joined))
        assert module.utils.get_source_inputs(c) == [c]
        return [tensor.name for tensor in sources]

    assert names(kerax) == names(keras) == ["b", "a"]
    assert kerax.utils.is_keras_tensor(kerax.Input((2,))) and not kerax.utils.is_keras_tensor(1)
    assert kerax.utils.get_source_inputs(3) == 3
