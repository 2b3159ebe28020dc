"""The functions of `jax.numpy` under Keras's argument names: elementwise, comparisons, reductions.

Those of the neighbouring files are here too, as in `keras.ops.numpy`.
"""

import builtins
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from kerax.config import floatx
from kerax.core import operators
from kerax.core.sparse import from_dense
from kerax.ops.arrays import *  # noqa: F403
from kerax.ops.arrays import indices_spec
from kerax.ops.core import ndim as ndim
from kerax.ops.core import size as size
from kerax.ops.elementwise import *  # noqa: F403
from kerax.ops.fourier import bartlett as bartlett
from kerax.ops.fourier import blackman as blackman
from kerax.ops.fourier import hamming as hamming
from kerax.ops.fourier import hanning as hanning
from kerax.ops.fourier import kaiser as kaiser
from kerax.ops.functional import vectorize as vectorize
from kerax.ops.lifting import binary, bitwise, op, product_spec, reduction, unary
from kerax.ops.linalg import slogdet as slogdet

__all__ = (
    "abs absolute add all allclose amax amin any arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin "
    "average bincount bitwise_and bitwise_not bitwise_or bitwise_xor ceil clip conj cos cosh count_nonzero cross "
    "cumprod cumsum deg2rad divide divide_no_nan dot einsum equal exp exp2 expm1 floor floor_divide greater "
    "greater_equal hypot imag inner isclose isfinite isinf isnan kron left_shift less less_equal log log10 log1p log2 "
    "logaddexp logical_and logical_not logical_or logical_xor matmul max maximum mean median min minimum mod multiply "
    "nan_to_num negative nonzero not_equal outer power prod quantile rad2deg real reciprocal right_shift round sign "
    "sin sinc sinh sqrt square std subtract sum tan tanh tensordot true_divide trunc var vdot"
).split()

# These names hide Python's own in this file: `builtins` has them.
abs = unary(jnp.abs, "abs")
absolute = unary(jnp.absolute)


def _of_floats(rounded):
    """A rounding that gives floats for integers and booleans too, as NumPy's and Keras's do, and JAX's does not."""
    return lambda x: rounded(x if jnp.issubdtype(jnp.asarray(x).dtype, jnp.inexact) else jnp.asarray(x, floatx()))


arccos = unary(jnp.arccos)
arccosh = unary(jnp.arccosh)
arcsin = unary(jnp.arcsin)
arcsinh = unary(jnp.arcsinh)
arctan = unary(jnp.arctan)
arctanh = unary(jnp.arctanh)
bitwise_not = unary(jnp.bitwise_not, integers=["x"])
ceil = unary(_of_floats(jnp.ceil), "ceil")
conj = unary(jnp.conj, "conj")
cos = unary(jnp.cos)
cosh = unary(jnp.cosh)
deg2rad = unary(jnp.deg2rad)
exp = unary(jnp.exp)
exp2 = unary(jnp.exp2)
expm1 = unary(jnp.expm1)
floor = unary(_of_floats(jnp.floor), "floor")
imag = unary(jnp.imag)
isfinite = unary(jnp.isfinite)
isinf = unary(jnp.isinf)
isnan = unary(jnp.isnan)
log = unary(jnp.log)
log10 = unary(jnp.log10)
log1p = unary(jnp.log1p)
log2 = unary(jnp.log2)
logical_not = unary(jnp.logical_not)
negative = unary(jnp.negative)
rad2deg = unary(jnp.rad2deg)
real = unary(jnp.real)
reciprocal = unary(jnp.reciprocal)
sign = unary(jnp.sign)
sin = unary(jnp.sin)
sinc = unary(jnp.sinc)
sinh = unary(jnp.sinh)
sqrt = unary(jnp.sqrt)
square = unary(jnp.square)
tan = unary(jnp.tan)
tanh = unary(jnp.tanh)
trunc = unary(jnp.trunc)


def _rows_by_columns(x1, x2):
    if not ndim(x1) or not ndim(x2):
        return []
    # The axes before are aligned from the last; one of size 1 is repeated, whatever the other is.
    batch = [-k for k in range(3, builtins.min(ndim(x1), ndim(x2)) + 1) if 1 not in (x1.shape[-k], x2.shape[-k])]
    return [((0, -1), (1, -2 if ndim(x2) > 1 else -1)), *(((0, axis), (1, axis)) for axis in batch)]


add = binary(jnp.add)
arctan2 = binary(jnp.arctan2)
divide = binary(jnp.divide, "divide")
dot = binary(jnp.dot, spec=product_spec(lambda x1, x2: _rows_by_columns(x1, x2)[:1]))  # no axes before are shared
equal = binary(jnp.equal)
floor_divide = binary(jnp.floor_divide)
greater = binary(jnp.greater)
greater_equal = binary(jnp.greater_equal)
hypot = binary(jnp.hypot)
inner = binary(jnp.inner, spec=product_spec(lambda x1, x2: [((0, -1), (1, -1))] if ndim(x1) and ndim(x2) else []))
kron = binary(jnp.kron)
less = binary(jnp.less)
less_equal = binary(jnp.less_equal)
logaddexp = binary(jnp.logaddexp)
logical_and = binary(jnp.logical_and)
logical_or = binary(jnp.logical_or)
logical_xor = binary(jnp.logical_xor)
matmul = binary(operators.matmul, spec=product_spec(_rows_by_columns))
maximum = binary(jnp.maximum)
minimum = binary(jnp.minimum)
mod = binary(jnp.mod, "mod")
multiply = binary(jnp.multiply)
not_equal = binary(jnp.not_equal)
outer = binary(jnp.outer)
power = binary(jnp.power)
subtract = binary(jnp.subtract)
true_divide = binary(jnp.true_divide)
vdot = binary(jnp.vdot)

bitwise_and = bitwise(jnp.bitwise_and)
bitwise_or = bitwise(jnp.bitwise_or)
bitwise_xor = bitwise(jnp.bitwise_xor)
left_shift = bitwise(jnp.left_shift)
right_shift = bitwise(jnp.right_shift)

all = reduction(jnp.all)
amax = reduction(jnp.amax, "amax")
amin = reduction(jnp.amin, "amin")
any = reduction(jnp.any)


@functools.partial(jax.jit, inline=True)  # one program where called eagerly
def _ordered(x):
    """`x` with -0 below 0, as Keras orders them."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    # By division: exported files have no way to read the sign's bit.
    return jnp.where((x == 0) & (1 / x < 0), -jnp.finfo(x.dtype).tiny, x)


@op
def argmax(x, axis=None, keepdims=False):
    """The index of the largest element, the first of several; `keepdims` keeps `axis` with size 1."""
    return jnp.argmax(_ordered(jnp.asarray(x)), axis, keepdims=keepdims)


@op
def argmin(x, axis=None, keepdims=False):
    """The index of the smallest element, the first of several; `keepdims` keeps `axis` with size 1."""
    return jnp.argmin(_ordered(jnp.asarray(x)), axis, keepdims=keepdims)


mean = reduction(jnp.mean)
median = reduction(jnp.median)
std = reduction(jnp.std)
sum = reduction(jnp.sum)
var = reduction(jnp.var)


def _nonzero_spec(function, args, kwargs):
    return indices_spec(*args, *kwargs.values())


@functools.partial(op, spec=_nonzero_spec)
def nonzero(x):
    """The indices of the elements that are not 0, an array for each axis. Not under `jit`, which knows no values."""
    return jnp.nonzero(x)


@op
def max(x, axis=None, keepdims=False, initial=None):
    """The largest element over `axis`, at least `initial`."""
    return jnp.max(x, axis=axis, keepdims=keepdims, initial=initial)


@op
def min(x, axis=None, keepdims=False, initial=None):
    """The smallest element over `axis`, at most `initial`."""
    return jnp.min(x, axis=axis, keepdims=keepdims, initial=initial)


@op
def prod(x, axis=None, keepdims=False, dtype=None):
    """The product over `axis`."""
    return jnp.prod(x, axis=axis, keepdims=keepdims, dtype=dtype)


@op
def quantile(x, q, axis=None, method="linear", keepdims=False):
    """The value below which a fraction `q` of the elements lies."""
    return jnp.quantile(x, jnp.asarray(q), axis=axis, method=method, keepdims=keepdims)


@op
def average(x, axis=None, weights=None):
    """The mean over `axis`, weighted."""
    return jnp.average(x, axis=axis, weights=weights)


@op
def count_nonzero(x, axis=None):
    """How many elements over `axis` are not 0."""
    return jnp.count_nonzero(x, axis=axis)


@op
def cumsum(x, axis=None, dtype=None):
    """The sums of the elements up to each one along `axis`; `None` takes all elements in order."""
    return jnp.cumsum(x, axis=axis, dtype=dtype)


@op
def cumprod(x, axis=None, dtype=None):
    """The products of the elements up to each one along `axis`; `None` takes all elements in order."""
    return jnp.cumprod(x, axis=axis, dtype=dtype)


@op
def bincount(x, weights=None, minlength=0, sparse=False):
    """How often each integer from 0 occurs in each row, or the sum of its weights.

    Under `jit` give `minlength`: larger integers are then left out. Sparse as JAX's `BCOO`.
    """
    # `length` makes the size of the result a number of the program; without it JAX needs the values.
    counts = lambda x, weights: jnp.bincount(x, weights, minlength=length, length=length)
    x = jnp.asarray(x)
    is_traced = isinstance(x, Tracer)
    length = minlength if is_traced or not x.size else builtins.max(minlength, int(jnp.max(x)) + 1)
    if x.ndim == 1:
        counted = counts(x, weights)
    else:
        counted = jax.vmap(counts, in_axes=(0, None if weights is None else 0))(x, weights)
    return from_dense(counted, x.size) if sparse else counted


@op
def divide_no_nan(x1, x2):
    """`x1 / x2`, 0 where `x2` is 0."""
    is_zero = jnp.asarray(x2) == 0
    # 1 in the place of 0: dividing by 0 and choosing afterwards would make the gradient NaN.
    return jnp.where(is_zero, 0, jnp.divide(x1, jnp.where(is_zero, 1, x2)))


@op
def round(x, decimals=0):
    """The nearest number of `decimals` decimal places, halves to even."""
    return jnp.round(x, decimals)


@op
def clip(x, x_min, x_max):
    """`x` moved into `[x_min, x_max]`."""
    return jnp.clip(x, x_min, x_max)


@op
def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    """`x` with NaN and infinities replaced; `None` takes the largest finite numbers."""
    return jnp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@op
def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether each pair of elements differs by at most `atol + rtol * |x2|`."""
    return jnp.isclose(x1, x2, rtol, atol, equal_nan)


@op
def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether all pairs of elements are close."""
    return jnp.allclose(x1, x2, rtol, atol, equal_nan)


@op
def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """The vector product."""
    return jnp.cross(x1, x2, axisa, axisb, axisc, axis)


def _summed_axes(x1, x2, axes: Any = 2):
    if not isinstance(axes, int):
        first, second = ([part] if isinstance(part, int) else part for part in axes)
        return [((0, i), (1, k)) for i, k in zip(first, second, strict=True)]
    return [((0, axis - axes), (1, axis)) for axis in range(axes)]


@functools.partial(op, spec=product_spec(_summed_axes))
def tensordot(x1, x2, axes=2):
    """The sum of products over `axes`: a count of axes, or a pair of lists of axes."""
    return jnp.tensordot(x1, x2, axes)


def _axes_by_letter(subscripts, *operands, **_):
    places: dict[str, list] = {}
    if isinstance(subscripts, str) and "." not in subscripts:
        for position, letters in enumerate(subscripts.replace(" ", "").split("->")[0].split(","), start=1):
            for axis, letter in enumerate(letters):
                places.setdefault(letter, []).append((position, axis))
    return places.values()


@functools.partial(op, spec=product_spec(_axes_by_letter))
def einsum(subscripts, *operands, **kwargs):
    """The sum of products that the Einstein notation `subscripts` describes."""
    sums = {"preferred_element_type": operators.dtype_of_sums(*operands)}
    return jnp.einsum(subscripts, *operands, **sums | kwargs)
