"""Square roots of positive semidefinite matrices, differentiable, decomposed on the host."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def square_root(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""The positive semidefinite X with $X X = A$.

    It differentiates to every order where A is positive definite, by the equation
    $X\,dX + dX\,X = dA$. Where A is singular the root has no derivative in directions that leave
    its range; those are given the slope zero, the others the right one.

    Args:
      matrix: A, symmetric positive semidefinite; it is decomposed on the host.

    Raises:
      RuntimeError: A has an eigenvalue below zero by more than rounding, or is not finite.
    """
    return _square_root((matrix + matrix.T) / 2)


@jax.custom_jvp
def _square_root(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    values, vectors = _eigen(matrix)
    return (vectors * jnp.sqrt(values)) @ vectors.T


@_square_root.defjvp
def _(primals, tangents):
    root = _square_root(*primals)
    return root, _lyapunov(root, *tangents)


@jax.custom_jvp
def _lyapunov(root: Float[Array, "d d"], right: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The solution Y of X Y + Y X = D, zero where both eigenvalues of X vanish."""
    values, vectors = _eigen(root)
    sums = values[:, None] + values[None, :]
    turned = vectors.T @ right @ vectors
    solved = jnp.where(sums > 0, turned / jnp.where(sums > 0, sums, 1.0), 0.0)
    return vectors @ solved @ vectors.T


@_lyapunov.defjvp
def _(primals, tangents):
    (root, _), (d_root, d_right) = primals, tangents
    solution = _lyapunov(*primals)
    return solution, _lyapunov(root, d_right - d_root @ solution - solution @ d_root)


@jax.custom_jvp
def pseudoinverse(root: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""The inverse $X^+$ of a symmetric X on its range, zero on its kernel.

    Its derivative $-X^+\,dX\,X^+$ is right where X is invertible.
    """
    values, vectors = _eigen(root)
    seen = values > 0
    inverse = jnp.where(seen, 1 / jnp.where(seen, values, 1.0), 0.0)
    return (vectors * inverse) @ vectors.T


@pseudoinverse.defjvp
def _(primals, tangents):
    inverse = pseudoinverse(*primals)
    return inverse, -inverse @ tangents[0] @ inverse


def polar_factor(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""The orthogonal $Q = U V^\top$ of $A = U S V^\top$, the best aligned: $\max_Q \langle A, Q
    \rangle$. Constant under differentiation."""
    fixed = jax.lax.stop_gradient(matrix)
    shape = jax.ShapeDtypeStruct(fixed.shape, fixed.dtype)
    return jax.pure_callback(_polar_on_host, shape, fixed, vmap_method="broadcast_all")


def _polar_on_host(matrix):
    matrix = np.asarray(matrix)
    if not np.all(np.isfinite(matrix)):
        return np.full_like(matrix, np.nan)
    left, _, right = np.linalg.svd(matrix.astype(np.float64))
    return (left @ right).astype(matrix.dtype)


def _eigen(matrix: Float[Array, "d d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Eigenvalues, those below rounding set to zero, and eigenvectors, from the host."""
    fixed = jax.lax.stop_gradient(matrix)
    shapes = [jax.ShapeDtypeStruct(shape, fixed.dtype) for shape in (fixed.shape[:1], fixed.shape)]
    values, vectors = jax.pure_callback(
        _eigen_on_host, tuple(shapes), fixed, vmap_method="broadcast_all"
    )
    rounding = len(values) * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values), initial=0.0)
    values = eqx.error_if(
        values,
        ~jnp.all(values >= -(rounding + jnp.sqrt(jnp.finfo(values.dtype).eps) * values[-1])),
        "`covariance` must be finite and positive semidefinite. Symmetrise it, or add a multiple "
        "of the identity above its most negative eigenvalue.",
    )
    return jnp.where(values > rounding, values, 0.0), vectors


def _eigen_on_host(matrix):
    matrix = np.asarray(matrix)
    if not np.all(np.isfinite(matrix)):
        return np.full(matrix.shape[:-1], np.nan, matrix.dtype), np.full_like(matrix, np.nan)
    values, vectors = np.linalg.eigh(matrix.astype(np.float64))
    return values.astype(matrix.dtype), vectors.astype(matrix.dtype)
