"""Linear algebra: `kerax.ops.linalg`."""

import jax
import jax.numpy as jnp

from kerax.core.variable import unwrap
from kerax.ops.lifting import op, unary

__all__ = (
    "cdist cholesky cholesky_inverse det eig eigh inv jvp logdet lstsq lu_factor matrix_power matrix_rank norm pinv qr "
    "slogdet solve solve_triangular svd"
).split()

# Tuples in the place of JAX's named ones: graphs and `tree` take them apart as such.
eig = unary(lambda x: tuple(jnp.linalg.eig(x)), "eig")
lu_factor = unary(lambda x: tuple(jax.scipy.linalg.lu_factor(x)), "lu_factor")
slogdet = unary(lambda x: tuple(jnp.linalg.slogdet(x)), "slogdet")
logdet = unary(lambda x: jnp.linalg.slogdet(x)[1], "logdet")
det = unary(jnp.linalg.det)
inv = unary(jnp.linalg.inv)


def _check_matrices(name: str, x, is_square=True):
    if jnp.ndim(x) < 2 or (is_square and jnp.shape(x)[-1] != jnp.shape(x)[-2]):
        raise ValueError(f"{name}: expected {'square ' if is_square else ''}matrices (..., n, n). Got {jnp.shape(x)}.")


@op
def eigh(x):
    """The eigenvalues and eigenvectors of Hermitian matrices."""
    _check_matrices("eigh", x)
    return tuple(jnp.linalg.eigh(x))


@op
def norm(x, ord=None, axis=None, keepdims=False):
    """The norm of a vector or matrix."""
    return jnp.linalg.norm(x, ord, axis, keepdims)


@op
def cholesky(x, upper=False):
    """The triangular factor of a positive definite matrix."""
    _check_matrices("cholesky", x)
    return jnp.linalg.cholesky(x, upper=upper)


@op
def qr(x, mode="reduced"):
    """An orthogonal and a triangular factor."""
    return tuple(jnp.linalg.qr(x, mode=mode))


@op
def svd(x, full_matrices=True, compute_uv=True):
    """The singular value decomposition `u, s, vh`, or only `s`."""
    factors = jnp.linalg.svd(x, full_matrices=full_matrices, compute_uv=compute_uv)
    return tuple(factors) if compute_uv else factors


@op
def solve(a, b):
    """`x` with `a @ x = b`; a `b` of one axis fewer than `a` holds vectors."""
    if jnp.ndim(b) == jnp.ndim(a) - 1:
        return jnp.linalg.solve(a, b[..., None])[..., 0]
    return jnp.linalg.solve(a, b)


@op
def lstsq(a, b, rcond=None):
    """The `x` that makes `|a @ x - b|` smallest."""
    return jnp.linalg.lstsq(a, b, rcond)[0]


@op
def matrix_rank(x, tol=None):
    """The number of singular values above `tol`, a fraction of the largest.

    Default of `tol`: the largest size times the dtype's precision.
    """
    _check_matrices("matrix_rank", x, is_square=False)
    return jnp.linalg.matrix_rank(x, tol)


@op
def matrix_power(x, n):
    """The product of `n` times the same square matrix; of its inverse for a negative `n`."""
    return jnp.linalg.matrix_power(x, n)


@op
def pinv(x, rcond=None):
    """The pseudo-inverse; singular values below `rcond` times the largest count as 0."""
    return jnp.linalg.pinv(x, rcond)


@op
def solve_triangular(a, b, lower=False):
    """`x` with `a @ x = b` for a triangular `a`."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    _check_matrices("solve_triangular", a)
    is_vector = b.ndim == a.ndim - 1  # XLA solves for matrices only
    solution = jax.lax.linalg.triangular_solve(a, b[..., None] if is_vector else b, left_side=True, lower=lower)
    return solution[..., 0] if is_vector else solution


@op
def cholesky_inverse(x, upper=False):
    """The inverse of the matrix whose Cholesky factor is `x`."""
    x = jnp.asarray(x)
    factor = jnp.triu(x) if upper else jnp.tril(x)
    # Through the inverse of the factor, which is triangular, too.
    identity = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    inverse = jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=not upper)
    transposed = jnp.swapaxes(inverse, -1, -2)
    return inverse @ transposed if upper else transposed @ inverse


@op
def cdist(x, y):
    """The Euclidean distances `(..., n, m)` between points `x (..., n, axes)` and `y (..., m, axes)`.

    The gradient at distance 0 is 0.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"cdist: points must have the same number of axes. Got shapes {x.shape} and {y.shape}.")
    squares = jnp.sum(jnp.square(x[..., :, None, :] - y[..., None, :, :]), -1)
    # The inner choice keeps the slope of the root at 0, which is infinite, out of the gradient.
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def jvp(fun, primals, tangents, has_aux=False):
    """`fun(*primals)` and its derivative in the direction `tangents`; with `has_aux` also what `fun` returns beside."""
    as_arrays = lambda values: jax.tree.map(lambda value: jnp.asarray(unwrap(value)), tuple(values))
    return jax.jvp(fun, as_arrays(primals), as_arrays(tangents), has_aux)
