import math

import numpy as np
import pytest

from kerax.tuner.spaces import Choice, Fixed, Floats, Integers, Number, Options

# Arguments of a number, the values that its draws stand for.
STEPPED = [
    ((int, 1, 20, 3, "linear"), [1, 4, 7, 10, 13, 16, 19]),
    ((int, 1, 20, 2, "log"), [1, 2, 4, 8, 16]),
    ((int, 1, 20, 2, "reverse_log"), [20, 19, 17, 13, 5]),
    ((float, 0.0, 1.0, 0.3, "linear"), [0.0, 0.3, 0.6, 0.9]),
    ((float, 0.1, 0.5, 0.1, "linear"), [0.1, 0.2, 0.3, 0.4, 0.5]),
    ((float, 1e-3, 1.0, 10, "log"), [1e-3, 1e-2, 1e-1, 1.0]),
    ((float, 1e-3, 1.0, 10, "reverse_log"), [1.0, 0.991, 0.901, 0.001]),
]


@pytest.mark.parametrize("arguments, values", STEPPED)
def test_values_with_a_step(arguments, values):
    number = Number("x", *arguments)
    draws = number.distribution()
    found = [number.value(drawn) for drawn in range(draws.low, draws.high + 1, draws.step)]
    np.testing.assert_allclose(found, values, rtol=1e-12)
    assert all(type(value) is arguments[0] for value in found) and not draws.log


def test_values_without_a_step():
    assert Number("x", int, 1, 20).distribution() == Integers(1, 20)
    assert Number("x", int, 1, 20, sampling="log").distribution() == Integers(1, 20, log=True)
    assert Number("x", float, 0, 2).distribution() == Floats(0.0, 2.0)
    mirrored = Number("x", float, 0.1, 1.0, sampling="reverse_log")
    assert mirrored.distribution() == Floats(0.1, 1.0, log=True)
    assert mirrored.value(0.1) == 1.0 and math.isclose(mirrored.value(1.0), 0.1)
    assert Number("x", int, 1, 20, sampling="reverse_log").value(1) == 20


def test_a_grid_has_ten_values_where_there_is_no_step():
    def grid(number):
        draws = number.distribution(grid=True)
        return [number.value(drawn, grid=True) for drawn in range(draws.low, draws.high + 1, draws.step)]

    # The numbers of Keras Tuner 1.4.8.
    np.testing.assert_allclose(grid(Number("x", float, 0.1, 1.0)), np.arange(10) * 0.09 + 0.145)
    expected = [1.58489e-4, 3.98107e-4, 1e-3, 2.51189e-3, 6.30957e-3, 1.58489e-2, 3.98107e-2, 0.1, 0.251189, 0.630957]
    np.testing.assert_allclose(grid(Number("x", float, 1e-4, 1.0, sampling="log")), expected, rtol=1e-5)
    assert grid(Number("x", int, 1, 20, sampling="log")) == [1, 2, 3, 4, 5, 7, 9, 13, 17]
    assert grid(Number("x", int, 1, 4)) == [1, 2, 3, 4]


def test_choices():
    assert Choice("x", ["a", "b"]).distribution() == Options(("a", "b")) and Choice("x", ["a", "b"]).value("b") == "b"
    numbers = Choice("x", [16, 8, 64])
    assert numbers.ordered and numbers.distribution() == Integers(0, 2) and numbers.value(1) == 8
    assert numbers.default == 16
    assert Choice("x", [16, 8], ordered=False).distribution() == Options((16, 8))
    assert Fixed("x", 3).distribution() is None and Fixed("x", 3).default == 3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Number("x", int, 20, 1), r"Int\('x'\): `min_value` must not be above `max_value`. Got 20 and 1"),
        (lambda: Number("x", int, 1.5, 2), r"Int\('x'\): `min_value` must be an integer. Got 1.5"),
        (lambda: Number("x", int, True, 2), "`min_value` must be an integer. Got True"),
        (lambda: Number("x", float, 0, math.inf), r"Float\('x'\): `max_value` must be a finite number"),
        (lambda: Number("x", float, 0, 1, sampling="lgo"), "`sampling` must be one of .* Got 'lgo'.*'log'"),
        (lambda: Number("x", float, 0, 1, sampling="log"), "needs a `min_value` above 0. Got 0"),
        (lambda: Number("x", int, 1, 9, 1, "log"), "`step` must be above 1 with sampling='log'. Got 1"),
        (lambda: Number("x", int, 1, 9, 0), "`step` must be above 0"),
        (lambda: Number("x", int, 1, 9, default=10), "`default` must be from 1 to 9. Got 10"),
        (lambda: Choice("x", []), r"Choice\('x'\): `values` must be a list of at least one value. Got \[\]"),
        (lambda: Choice("x", "ab"), "`values` must be a list"),
        (lambda: Choice("x", 3), "`values` must be a list"),
        (lambda: Choice("x", [1, "a"]), r"of one type among int, float, str, bool. Got \[1, 'a'\]"),
        (lambda: Choice("x", [None, None]), "of one type among"),
        (lambda: Choice("x", ["a", "a"]), "`values` must differ"),
        (lambda: Choice("x", ["a"], ordered=True), "`ordered` is for numbers"),
        (lambda: Choice("x", ["a"], default="b"), r"`default` must be one of \['a'\]. Got 'b'"),
        (lambda: Fixed("x", [1]), r"Fixed\('x'\): `value` must be an int, float, str or bool. Got \[1\]"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
