"""More of `jax.numpy` under Keras's argument names: elementwise functions, NaN-skipping reductions, sets, views."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.core.lift import lift
from kerax.core.symbolic import KerasTensor
from kerax.core.variable import unwrap
from kerax.ops.lifting import binary, bitwise, op, reduction, unary

__all__ = (
    "angle argpartition array_split bitwise_invert bitwise_left_shift bitwise_right_shift cbrt conjugate corrcoef "
    "correlate diagflat dsplit dstack empty_like fabs fliplr flipud fmax fmin fmod gcd geomspace get_item heaviside "
    "histogram hsplit i0 isin isneginf isposinf isreal lcm ldexp logaddexp2 nanargmax nanargmin nancumprod nancumsum "
    "nanmax nanmean nanmedian nanmin nanpercentile nanprod nanquantile nanstd nansum nanvar nextafter percentile polar "
    "ptp saturate_cast signbit trapezoid unique unravel_index vander view view_as_complex view_as_real vsplit"
).split()

# A name is given where JAX's function has another one, as an alias has.
angle = unary(jnp.angle, "angle")
bitwise_invert = unary(jnp.bitwise_invert, "bitwise_invert", ["x"])
cbrt = unary(jnp.cbrt)
conjugate = unary(jnp.conjugate, "conjugate")
corrcoef = unary(jnp.corrcoef)
fabs = unary(jnp.fabs)
fliplr = unary(jnp.fliplr)
flipud = unary(jnp.flipud)
i0 = unary(jnp.i0)
isneginf = unary(jnp.isneginf)
isposinf = unary(jnp.isposinf)
isreal = unary(jnp.isreal)
signbit = unary(jnp.signbit)
view_as_real = unary(lambda x: jnp.stack([jnp.real(x), jnp.imag(x)], -1), "view_as_real")

fmax = binary(jnp.fmax)
fmin = binary(jnp.fmin)
fmod = binary(jnp.fmod)
gcd = binary(jnp.gcd, integers=["x1", "x2"])
heaviside = binary(jnp.heaviside)
lcm = binary(jnp.lcm, integers=["x1", "x2"])
ldexp = binary(jnp.ldexp, integers=["x2"])
logaddexp2 = binary(jnp.logaddexp2)
nextafter = binary(jnp.nextafter)

bitwise_left_shift = bitwise(jnp.left_shift, "bitwise_left_shift")
bitwise_right_shift = bitwise(jnp.right_shift, "bitwise_right_shift")

nanargmax = reduction(jnp.nanargmax)
nanargmin = reduction(jnp.nanargmin)
nanmax = reduction(jnp.nanmax)
nanmean = reduction(jnp.nanmean)
nanmedian = reduction(jnp.nanmedian)
nanmin = reduction(jnp.nanmin)
nanprod = reduction(jnp.nanprod)
nanstd = reduction(jnp.nanstd)
nansum = reduction(jnp.nansum)
nanvar = reduction(jnp.nanvar)
ptp = reduction(jnp.ptp)


@op
def view_as_complex(x):
    """The complex numbers of pairs `(..., 2)` of real and imaginary parts."""
    x = jnp.asarray(x)
    if x.ndim < 1 or x.shape[-1] != 2:
        raise ValueError(f"view_as_complex: `x` must have shape (..., 2), real and imaginary parts. Got {x.shape}.")
    # Not `real + 1j * imaginary`: infinities and signed zeros stay what they are.
    return jax.lax.complex(x[..., 0], x[..., 1])


@op
def nancumsum(x, axis=None, dtype=None):
    """`cumsum` that takes NaN for 0."""
    return jnp.nancumsum(x, axis=axis, dtype=dtype)


@op
def nancumprod(x, axis=None, dtype=None):
    """`cumprod` that takes NaN for 1."""
    return jnp.nancumprod(x, axis=axis, dtype=dtype)


@op
def percentile(x, q, axis=None, method="linear", keepdims=False):
    """The value below which `q` percent of the elements lie."""
    return jnp.percentile(x, jnp.asarray(q), axis=axis, method=method, keepdims=keepdims)


@op
def nanpercentile(x, q, axis=None, method="linear", keepdims=False):
    """`percentile` of the elements that are not NaN."""
    return jnp.nanpercentile(x, jnp.asarray(q), axis=axis, method=method, keepdims=keepdims)


@op
def nanquantile(x, q, axis=None, method="linear", keepdims=False):
    """`quantile` of the elements that are not NaN."""
    return jnp.nanquantile(x, jnp.asarray(q), axis=axis, method=method, keepdims=keepdims)


@op
def argpartition(x, kth, axis=-1):
    """Indices that put the `kth` smallest element in its place, smaller ones before it."""
    return jnp.argpartition(x, kth, axis)


@op
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """The integral along `axis` by the trapezoidal rule, at the points `x` or at the distance `dx`."""
    return jnp.trapezoid(y, x, dx, axis)


@op
def correlate(x1, x2, mode="valid"):
    """The cross-correlation of two vectors; `mode` is `"valid"`, `"same"` or `"full"`."""
    return jnp.correlate(x1, x2, mode)


@op
def histogram(x, bins=10, range=None):
    """How many elements of a vector fall into each of `bins` equal intervals of `range`, and the edges."""
    # JAX itself does not look.
    if range is not None and (len(range) != 2 or range[0] >= range[1]):
        raise ValueError(f"histogram: `range` must be (low, high) with low below high. Got range={range}.")
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"histogram: `bins` must be an integer of at least 1. Got bins={bins!r}.")
    if jnp.ndim(x) != 1:
        raise ValueError(f"histogram: `x` must have one axis. Got shape {jnp.shape(x)}.")
    counts, edges = jnp.histogram(x, bins, range)
    return counts, edges


@op
def isin(x1, x2, assume_unique=False, invert=False):
    """Whether each element of `x1` occurs in `x2`."""
    return jnp.isin(x1, x2, assume_unique, invert)


def _unique_spec(function, args, kwargs):
    """The shapes of `unique`, `None` for the number of different elements."""
    call = inspect.signature(function.function).bind(*args, **kwargs)
    call.apply_defaults()
    given = call.arguments
    x, axis, size = given["x"], given["axis"], given["size"]
    values = (size,) if axis is None else tuple(size if k == axis % x.ndim else n for k, n in enumerate(x.shape))
    inverse = x.shape if axis is None else (x.shape[axis],)
    shapes = {"return_index": (size,), "return_inverse": inverse, "return_counts": (size,)}
    more = [KerasTensor(shape, "int32") for name, shape in shapes.items() if given[name]]
    return (KerasTensor(values, x.dtype), *more) if more else KerasTensor(values, x.dtype)


@functools.partial(op, spec=_unique_spec)
def unique(
    x,
    sorted=True,
    return_index=False,
    return_inverse=False,
    return_counts=False,
    axis=None,
    size=None,
    fill_value=None,
):
    """The different elements (or slices along `axis`), always sorted. No two NaN are equal.

    Args:
        return_index: Also return where each first occurs.
        return_inverse: Also return which of them each element is.
        return_counts: Also return how often each occurs.
        size: Length of the result, cut or filled with `fill_value`; needed under `jit`.
        fill_value: Default: the smallest element.
    """
    options = {"size": size, "fill_value": fill_value, "equal_nan": False}
    return jnp.unique(jnp.asarray(x), return_index, return_inverse, return_counts, axis, **options)


@op
def unravel_index(indices, shape):
    """The tuple of coordinates, in an array of the given shape, of flat indices."""
    return tuple(jnp.unravel_index(indices, shape))


@op
def vander(x, N=None, increasing=False):
    """The matrix of the powers of a vector, `N` columns."""
    return jnp.vander(x, N, increasing)


@op
def diagflat(x, k=0):
    """A matrix with the flattened `x` on its `k`-th diagonal."""
    return jnp.diagflat(x, k)


@lift
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """`num` numbers of constant ratio from `start` to `stop`."""
    return jnp.geomspace(start, stop, num, endpoint, dtype, axis)


@op
def empty_like(x, dtype=None):
    """All 0, of the shape of `x`: JAX has no uninitialised arrays."""
    return jnp.zeros_like(x, dtype)


@lift
def dstack(xs):
    """The arrays one after the other along axis 2."""
    return jnp.dstack([jnp.asarray(x) for x in xs])


# Static to JAX, so that it must have a hash.
def _sections(value) -> Any:
    return tuple(value) if isinstance(value, list) else value


@op
def array_split(x, indices_or_sections, axis=0):
    """The list of parts, of sizes that differ by at most 1."""
    return list(jnp.array_split(x, _sections(indices_or_sections), axis))


@op
def hsplit(x, indices_or_sections):
    """`split` along axis 1 (axis 0 of a vector)."""
    return list(jnp.hsplit(x, _sections(indices_or_sections)))


@op
def vsplit(x, indices_or_sections):
    """`split` along axis 0."""
    return list(jnp.vsplit(x, _sections(indices_or_sections)))


@op
def dsplit(x, indices_or_sections):
    """`split` along axis 2."""
    return list(jnp.dsplit(x, _sections(indices_or_sections)))


def get_item(x, key):
    """`x[key]`."""
    # Not lifted: a symbolic tensor records its own indexing.
    x = unwrap(x)
    return x[key] if isinstance(x, (KerasTensor, jax.Array)) else jnp.asarray(x)[key]


@op
def polar(abs_, angle):
    """The complex numbers of these magnitudes and angles."""
    abs_, angle = jnp.asarray(abs_), jnp.asarray(angle)
    return jax.lax.complex(abs_ * jnp.cos(angle), abs_ * jnp.sin(angle))


@op
def view(x, dtype=None):
    """The same bytes as another dtype; `floatx()` by default."""
    return jnp.asarray(x).view(dtype or config.floatx())


@op
def saturate_cast(x, dtype):
    """`x` with another dtype, values beyond its range moved to its ends."""
    x, dtype = jnp.asarray(x), jnp.dtype(dtype)
    # There is nothing beyond the range of a boolean: everything but 0 is true.
    if dtype == jnp.bool_ or x.dtype == jnp.bool_:
        return x.astype(dtype)
    limits = [_limits(kind) for kind in (x.dtype, dtype)]
    # The narrower of the two ranges at either end; Python's numbers compare floats with large integers exactly.
    low, high = max(limit[0] for limit in limits), min(limit[1] for limit in limits)
    # A float cannot hold 2**31 - 1: rounded up, the bound itself would overflow in the cast.
    bounds = [np.asarray(bound).astype(x.dtype) for bound in (low, high)]
    if float(bounds[1]) > high:
        bounds[1] = np.nextafter(bounds[1], np.zeros_like(bounds[1]))
    return jnp.clip(x, *bounds).astype(dtype)


def _limits(dtype):
    info = jnp.iinfo(dtype) if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo(dtype)
    return (int(info.min), int(info.max)) if isinstance(info, jnp.iinfo) else (float(info.min), float(info.max))
