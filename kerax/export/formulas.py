"""Primitives that formats have no operator for, as formulas of those they have."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _cumulative(combine):
    def with_parameters(axis, reverse, **others):
        return lambda x: jax.lax.associative_scan(combine, x, reverse=reverse, axis=axis)

    return with_parameters


def _log1p(x):
    # Kahan's: what rounding takes from 1 + x is given back by the quotient.
    sum_ = 1 + x
    difference = sum_ - 1
    return jnp.where(difference == 0, x, jnp.log(sum_) * (x / jnp.where(difference == 0, 1, difference)))


def _expm1(x):
    # 2 tanh(x / 2) / (1 - tanh(x / 2)): no difference of nearly equal numbers where x is small.
    half = jnp.tanh(x / 2)
    return jnp.where(jnp.abs(x) < 0.5, 2 * half / (1 - half), jnp.exp(x) - 1)


def _cbrt(x):
    guess = jnp.sign(x) * jnp.exp(jnp.log(jnp.abs(x)) / 3)
    # One step of Newton's: a logarithm of large numbers has few digits after the point.
    square = jnp.where(x == 0, 1, guess * guess)
    return jnp.where(x == 0, x, guess - (guess - x / square) / 3)


def _polynomial(x, coefficients):
    result = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


_NEAR = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04, -1.25372503e-03)
_NEAR += (-4.17768164e-03, 0.246640727, 1.50140941)
_FAR = (-2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03, -7.6224613e-03)
_FAR += (9.43887047e-03, 1.00167406, 2.83297682)


def _erf_inv(x):
    """Giles: Approximating the erfinv function (2012), single precision."""
    tail = -jnp.log((1 - x) * (1 + x))
    near, far = _polynomial(tail - 2.5, _NEAR), _polynomial(jnp.sqrt(jnp.maximum(tail, 0)) - 3, _FAR)
    inside = jnp.where(tail < 5, near, far) * x
    return jnp.where(jnp.abs(x) == 1, x * jnp.inf, inside)


_LANCZOS = (676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.61502916214059, 12.507343278686905)
_LANCZOS += (-0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7)


def _lgamma(x):
    """Lanczos's approximation (g = 7, 9 terms); below 1/2 by the reflection formula."""
    small = x < 0.5
    z = jnp.where(small, -x, x - 1)
    series = 0.9999999999998099 + sum(term / (z + index + 1) for index, term in enumerate(_LANCZOS))
    shifted = z + 7.5
    value = 0.5 * np.log(2 * np.pi) + (z + 0.5) * jnp.log(shifted) - shifted + jnp.log(series)
    reflected = np.log(np.pi) - jnp.log(jnp.abs(jnp.sin(np.pi * x))) - value
    return jnp.where(small, reflected, value).astype(x.dtype)


def _digamma(x):
    """Ten steps up of the recurrence, then the asymptotic series; below 1/2 by the reflection formula."""
    small = x < 0.5
    z = jnp.where(small, 1 - x, x)
    steps = sum(1 / (z + index) for index in range(10))
    far = z + 10
    square = 1 / (far * far)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    value = jnp.log(far) - 0.5 / far - series - steps
    return jnp.where(small, value - np.pi / jnp.tan(np.pi * x), value).astype(x.dtype)


def _atan2(y, x):
    angle = jnp.arctan(y / jnp.where(x == 0, 1, x))
    turned = jnp.where(y < 0, angle - np.pi, angle + np.pi)
    straight = jnp.sign(y) * (np.pi / 2)
    return jnp.where(x > 0, angle, jnp.where(x < 0, turned, straight)).astype(x.dtype)


def _bessel_i0e(x):
    """Abramowitz and Stegun, 9.8.1 and 9.8.2."""
    size = jnp.abs(x)
    near = _polynomial((size / 3.75) ** 2, (0.0045813, 0.0360768, 0.2659732, 1.2067492, 3.0899424, 3.5156229, 1.0))
    terms = (0.00392377, -0.01647633, 0.02635537, -0.02057706, 0.00916281, -0.00157565, 0.00225319, 0.01328592)
    far = _polynomial(3.75 / jnp.maximum(size, 3.75), (*terms, 0.39894228)) / jnp.sqrt(jnp.maximum(size, 3.75))
    return jnp.where(size < 3.75, near * jnp.exp(-size), far)


# Matrices, row by row or column by column.


def _batched(function, ndims):
    """A function of matrices for stacks of them."""

    def call(*arrays):
        for _ in range(arrays[0].ndim - ndims):
            nonlocal function
            function = jax.vmap(function)
        return function(*arrays)

    return call


def _cholesky(**_):
    def one(a):
        rows = jnp.arange(a.shape[0])

        def column(j, lower):
            rest = a[:, j] - lower @ lower[j]
            return lower.at[:, j].set(jnp.where(rows >= j, rest / jnp.sqrt(rest[j]), 0))

        return jax.lax.fori_loop(0, a.shape[0], column, jnp.zeros_like(a))

    return _batched(one, 2)


def _triangular_solve(left_side, lower, transpose_a, conjugate_a, unit_diagonal, **_):
    def one(a, b):
        is_lower = lower
        if transpose_a:
            a, is_lower = a.T, not is_lower
        if not left_side:  # x a = b is a' x' = b'
            a, b, is_lower = a.T, b.T, not is_lower
        if not is_lower:
            a, b = a[::-1, ::-1], b[::-1]

        def row(i, x):
            rest = b[i] - a[i] @ x
            return x.at[i].set(rest if unit_diagonal else rest / a[i, i])

        x = jax.lax.fori_loop(0, a.shape[0], row, jnp.zeros_like(b))
        x = x if is_lower else x[::-1]
        return x if left_side else x.T

    return _batched(one, 2)


def _lu(**_):
    def one(a):
        num_rows, num_steps = a.shape[0], min(a.shape)
        rows, columns = jnp.arange(num_rows), jnp.arange(a.shape[1])

        def step(k, state):
            a, pivots, order = state
            best = jnp.argmax(jnp.where(rows >= k, jnp.abs(a[:, k]), -1)).astype(jnp.int32)
            swapped = jnp.where(rows == k, best, jnp.where(rows == best, k, rows))
            a, order = a[swapped], order[swapped]
            factors = jnp.where(rows > k, a[:, k] / a[k, k], 0)
            below = a - factors[:, None] * jnp.where(columns > k, a[k], 0)
            below = below.at[:, k].set(jnp.where(rows > k, factors, a[:, k]))
            return below, pivots.at[k].set(best), order

        start = a, jnp.zeros(num_steps, jnp.int32), rows.astype(jnp.int32)
        return jax.lax.fori_loop(0, num_steps, step, start)

    return _batched(one, 2)


FORMULAS: dict[str, Callable[..., Any]] = dict(
    # Primitives since JAX 0.12. A polynomial's coefficients begin with the constant.
    log2=lambda **_: lambda x: jnp.log(x) / np.log(2).astype(x.dtype),
    polynomial=lambda **_: lambda x, *coefficients: _polynomial(x, coefficients[::-1]),
    bessel_i0e=lambda **_: _bessel_i0e,
    cholesky=_cholesky,
    triangular_solve=_triangular_solve,
    lu=_lu,
    cummax=_cumulative(jnp.maximum),
    cummin=_cumulative(jnp.minimum),
    cumprod=_cumulative(jnp.multiply),
    cumlogsumexp=_cumulative(jnp.logaddexp),
    log1p=lambda **_: _log1p,
    expm1=lambda **_: _expm1,
    cbrt=lambda **_: _cbrt,
    erf_inv=lambda **_: _erf_inv,
    lgamma=lambda **_: _lgamma,
    digamma=lambda **_: _digamma,
    atan2=lambda **_: _atan2,
)
"""By the primitive's name: from its parameters to a function in JAX."""
