"""Variables: abstract until touched, assigned safely, readable with operators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax.core.scope import Scope
from kerax.core.variable import Variable, initial_value, path_hash


def normal(key, shape, dtype):
    return jax.random.normal(key, shape, dtype)


def test_a_variable_holds_no_array_until_it_is_read():
    variable = Variable(normal, (10**6, 10**6), name="huge")
    assert variable.shape == (10**6, 10**6) and variable._value is None
    small = Variable(normal, (3,))
    assert small._value is None
    assert small.value.shape == (3,) and small._value is not None


def test_a_weights_key_is_folded_from_its_path_alone():
    first, second = Variable(normal, (4,)), Variable(normal, (4,))
    data = jax.random.key_data(jax.random.key(1))
    key = jax.random.fold_in(jax.random.key(1), path_hash("a/kernel"))
    np.testing.assert_array_equal(initial_value(first, data, "a/kernel"), normal(key, (4,), jnp.float32))
    np.testing.assert_array_equal(initial_value(second, data, "a/kernel"), initial_value(first, data, "a/kernel"))
    assert not np.array_equal(initial_value(first, data, "b/kernel"), initial_value(first, data, "a/kernel"))


def test_drawing_works_under_jit_and_shape_inference():
    variable = Variable(kerax.initializers.GlorotUniform(), (3, 4))
    data = jax.random.key_data(jax.random.key(1))
    drawn = jax.jit(lambda data: initial_value(variable, data, "w"))(data)
    np.testing.assert_array_equal(drawn, initial_value(variable, data, "w"))
    assert jax.eval_shape(lambda data: initial_value(variable, data, "w"), data).shape == (3, 4)


@pytest.mark.parametrize(
    "initializer",
    [
        lambda key, shape, dtype: jnp.ones(shape, dtype),
        lambda shape, dtype: jnp.ones(shape, dtype),
        lambda shape, dtype=None, key=None: jnp.ones(shape, dtype),
        lambda shape, dtype: np.ones(shape),
    ],
)
def test_initializers_of_all_kinds_are_called(initializer):
    np.testing.assert_array_equal(Variable(initializer, (2, 2), "float32").value, np.ones((2, 2)))


def test_arithmetic_reads_the_value():
    variable = Variable(np.array([1.0, 2.0], np.float32))
    np.testing.assert_allclose(2 * variable + 1, [3, 5])
    np.testing.assert_allclose(jnp.ones((2,)) @ variable, 3)
    np.testing.assert_allclose(-variable, [-1, -2])
    assert float(variable[0]) == 1 and len(variable) == 2


def test_assign_checks_the_shape_and_keeps_the_dtype():
    variable = Variable(np.zeros(2, np.float32), name="weight")
    variable.assign([1, 2])
    assert variable.value.dtype == jnp.float32
    variable.assign_add(1.0)
    variable.assign_sub(0.5)
    np.testing.assert_allclose(variable.numpy(), [1.5, 2.5])
    with pytest.raises(ValueError, match=r"weight: cannot assign shape \(3,\)"):
        variable.assign(np.zeros(3))


def test_assigning_a_tracer_outside_a_scope_names_apply():
    variable = Variable(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="apply"):
        jax.jit(variable.assign)(jnp.ones(2))
    np.testing.assert_array_equal(variable.value, np.zeros(2))


def test_reading_inside_jit_leaks_no_tracer():
    variable = Variable(normal, (3,))
    with jax.checking_leaks():
        jax.jit(lambda x: x + variable.value)(jnp.ones(3))
    assert isinstance(variable._value, jax.Array) and not isinstance(variable._value, jax.core.Tracer)


def test_a_scope_takes_reads_and_writes():
    variable = Variable(np.zeros(2, np.float32))
    with Scope([(variable, jnp.ones(2))]) as scope:
        variable.assign(variable.value + 1)
        inner = variable.value
    np.testing.assert_array_equal(inner, [2, 2])
    np.testing.assert_array_equal(scope.value_of(variable), [2, 2])
    np.testing.assert_array_equal(variable.value, [0, 0])


def test_an_inner_scope_reads_what_only_the_outer_one_holds():
    first, second = Variable(np.zeros(1, np.float32)), Variable(np.zeros(1, np.float32))
    with Scope([(first, jnp.ones(1))]), Scope([(second, jnp.full(1, 2.0))]):
        assert float(first.value[0]) == 1 and float(second.value[0]) == 2


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="needs `shape`"):
        Variable(normal)
    with pytest.raises(ValueError, match="every size"):
        Variable(normal, (None, 3))


@pytest.mark.parametrize(
    "use, error",
    [
        (lambda k, v: k.Variable(1.0, name="a/b"), ValueError),
        (lambda k, v: k.Variable(1.0, name=12), ValueError),
        (lambda k, v: k.Variable(1.0, aggregation="foo"), ValueError),
        (lambda k, v: k.Variable(1.0, synchronization="foo"), ValueError),
        (lambda k, v: setattr(v, "constraint", "non_neg"), ValueError),
        (lambda k, v: setattr(v, "regularizer", 5), ValueError),
        (lambda k, v: setattr(v, "overwrite_with_gradient", "yes"), TypeError),
        (lambda k, v: bool(v), TypeError),
        (lambda k, v: bool(k.Variable(True)), TypeError),
    ],
)
def test_what_a_variable_cannot_be_is_refused_as_in_keras(use, error):
    import keras

    for module in (keras, kerax):
        with pytest.raises(error):
            use(module, module.Variable(np.ones(2)))


def test_a_variable_shows_the_value_that_it_has():
    import keras

    for module in (keras, kerax):
        variable = module.Variable(np.array([1.0, 2.0], "float32"), name="v")
        assert repr(variable) == "<Variable path=v, shape=(2,), dtype=float32, value=[1. 2.]>"
        variable.constraint = variable.regularizer = abs
        assert variable.constraint is abs and variable.regularizer is abs
    abstract = kerax.Variable("zeros", (2,))
    assert repr(abstract) == "<Variable path=variable, shape=(2,), dtype=float32>" and abstract._value is None
