"""Python's operators on symbolic tensors and variables, on both sides, against Keras."""

import operator

import keras
import numpy as np
import pytest

import kerax

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
LOGICAL = [operator.and_, operator.or_, operator.xor]
COMPARISONS = [operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
DTYPES = ["bool", "int8", "int32", "uint8", "float16", "bfloat16", "float32"]


def dtypes(library, function, dtype):
    """The dtypes of a function of a variable and of a symbolic tensor with numbers and with each other."""
    variable, tensor = library.Variable(np.ones((2, 2)), dtype=dtype), library.Input(batch_shape=(2, 2), dtype=dtype)
    pairs = [(variable, 2), (variable, variable), (tensor, 2), (tensor, tensor), (tensor, variable)]
    if library is kerax:  # Keras has no operators for a variable on the left
        assert function(variable, tensor).shape == (2, 2)
    return [str(np.dtype(getattr(function(*pair).dtype, "name", function(*pair).dtype))) for pair in pairs]


@pytest.mark.medium
@pytest.mark.parametrize("function", ARITHMETIC + LOGICAL + COMPARISONS)
def test_dtypes_are_those_of_keras(function):
    for dtype in DTYPES:
        # Keras itself says bool for arithmetic of bools, which its arrays are not.
        if dtype != "bool" or function not in ARITHMETIC:
            assert dtypes(kerax, function, dtype) == dtypes(keras, function, dtype), dtype


@pytest.mark.parametrize("function", ARITHMETIC + LOGICAL + COMPARISONS + [operator.matmul])
def test_numpy_and_jax_on_the_left_leave_the_operation_to_the_graph(function):
    x = np.asarray([[1.0, 0.0], [2.0, 3.0]], "float32")
    inputs = kerax.Input(batch_shape=(2, 2))
    left = [x, kerax.ops.convert_to_tensor(x)] + ([] if function is operator.matmul else [np.float32(2)])
    if function in LOGICAL:  # on arrays these are bitwise
        left = [True]
    for other in left:
        outputs = kerax.ops.cast(function(other, inputs), "float32")
        expected = function(np.asarray(other, bool), x.astype(bool)) if function in LOGICAL else function(other, x)
        np.testing.assert_allclose(kerax.Model(inputs, outputs)(x), np.asarray(expected, "float32"), rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x != 0,
        lambda x: x == 1,
        lambda x: divmod(x, 2.0)[1] + 5 // x,
        lambda x: round(x, 1) + abs(-x) + (+x) ** 2,
        lambda x: x % 2 + 7 % x,
    ],
)
def test_operators_compute_what_they_say(function):
    x = np.asarray([[1.25, 3.5], [2.0, 1.0]], "float32")
    inputs = kerax.Input((2,))
    found = kerax.Model(inputs, kerax.ops.cast(function(inputs), "float32"))(x)
    np.testing.assert_allclose(found, np.asarray(function(kerax.ops.convert_to_tensor(x)), "float32"), rtol=1e-6)
    np.testing.assert_allclose(found, np.asarray(function(kerax.Variable(x)), "float32"), rtol=1e-6)


def test_logical_and_shifting_operators():
    x = np.asarray([[1, 0], [2, 3]], "int32")
    inputs = kerax.Input((2,), dtype="int32")
    outputs = [inputs << 2, 1 << inputs, inputs >> 1, ~(inputs > 0), (inputs > 0) & (inputs < 3) | (inputs == 0)]
    found = kerax.Model(inputs, outputs)(x)
    for values, expected in zip(found, [x << 2, 1 << x, x >> 1, ~(x > 0), x < 3], strict=True):
        np.testing.assert_array_equal(values, expected)


def test_the_complement_of_a_variable_is_that_of_its_array():
    for values in ([1, -2, 3], [True, False]):
        np.testing.assert_array_equal(~kerax.Variable(np.array(values)), ~np.array(values))
    with pytest.raises(TypeError):
        ~kerax.Variable(1.0)


def test_variables_are_iterated_over_by_rows():
    first, second = kerax.Variable(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(first, [0, 1, 2])
    np.testing.assert_array_equal(second, [3, 4, 5])
    assert [float(x) for x in kerax.Variable([1.0, 2.0])] == [1, 2]
    with pytest.raises(TypeError):
        list(kerax.Variable(1.0))


def test_what_symbolic_tensors_refuse_has_the_errors_of_keras():
    tensor = kerax.KerasTensor((2, 3))
    for ask, kind in ((bool, TypeError), (float, ValueError), (np.asarray, ValueError), (iter, NotImplementedError)):
        with pytest.raises(kind, match="symbolic"):
            ask(tensor)
    with pytest.raises(TypeError):  # what Python code asks for that tries whether something has items
        iter(tensor)
    with pytest.raises(ValueError, match="exclude each other"):
        kerax.KerasTensor((2,), sparse=True, ragged=True)


def test_symbolic_tensors_stay_members_of_lists_and_dicts():
    one, two = kerax.Input((2,)), kerax.Input((2,))
    assert one in [two, one] and one not in [two] and {one: 1}[one] == 1 and one != None  # noqa: E711


@pytest.mark.parametrize("other", [[1, 2], (1.5, 2.5), [[1.0], [2.0]]], ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "lt", "eq"])
def test_lists_beside_variables_count_as_arrays(name, other):
    function = getattr(operator, name)
    value = np.array([3.0, 5.0], "float32")
    variable = kerax.Variable(value)
    expected = np.asarray(other, "float32")
    np.testing.assert_array_equal(function(variable, other), function(value, expected))
    if name not in ("lt", "eq"):
        np.testing.assert_array_equal(function(other, variable), function(expected, value))


def test_lists_are_added_to_variables():
    variable = kerax.Variable([1.0, 2.0])
    variable.assign_add([1, 1])
    variable.assign_sub((0.5, 0.0))
    np.testing.assert_array_equal(variable.numpy(), [1.5, 3.0])
