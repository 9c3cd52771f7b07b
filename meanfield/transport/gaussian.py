"""Optimal transport between Gaussians, in closed form (Bures, Gelbrich)."""

from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..measure import RESULTS, Measure, check_measures
from .mass import check_masses, same_mass
from .square_root import polar_factor, pseudoinverse, square_root
from .wasserstein import root


class Gaussian(eqx.Module):
    r"""The Gaussian $N(m, \Sigma)$ of mass one on $\mathbb{R}^d$.

    The covariance may be singular: a Dirac has covariance zero. A batch is a `Gaussian` whose
    arrays have a leading axis.

    Args:
      mean: shape (d,).
      covariance: shape (d, d), symmetric positive semidefinite.

    Raises:
      ValueError: the shapes do not fit, or the covariance is not symmetric (where it is known).
    """

    mean: Float[Array, "*batch d"]
    covariance: Float[Array, "*batch d d"]

    def __init__(self, mean: Any, covariance: Any):
        dtype = jnp.result_type(mean, covariance)
        dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
        self.mean, self.covariance = jnp.asarray(mean, dtype), jnp.asarray(covariance, dtype)
        shape = (*self.mean.shape, *self.mean.shape[-1:])
        if self.mean.ndim == 0 or self.covariance.shape != shape:
            raise ValueError(
                f"`covariance` must have shape {shape} to match `mean` of shape "
                f"{self.mean.shape}; got {self.covariance.shape}."
            )
        _check_symmetry(self.covariance)

    @staticmethod
    def fit(mu: Measure) -> "Gaussian":
        """The Gaussian with the mean and the covariance of a measure, normalised."""
        return Gaussian(mu.mean, mu.covariance)

    @property
    def dim(self) -> int:
        """The dimension d of the space."""
        return self.mean.shape[-1]


GaussianOrMeasure: TypeAlias = Gaussian | Measure


def _check_symmetry(covariance: Array) -> None:
    if isinstance(covariance, Tracer):
        return
    known = np.asarray(covariance)
    skew = np.max(np.abs(known - np.swapaxes(known, -1, -2)), initial=0.0)
    if skew > 1e-4 * np.max(np.abs(known), initial=0.0):
        raise ValueError(
            f"`covariance` must be symmetric; it differs from its transpose by up to {skew:.3g}. "
            "Pass (covariance + covariance.T) / 2."
        )


@jax.custom_jvp
def squared_bures(first: Float[Array, "d d"], second: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""The square of the Bures distance, $\mathrm{tr} A + \mathrm{tr} B - 2\, \mathrm{tr}
    (A^{1/2} B A^{1/2})^{1/2}$.

    Computed as $\min_Q |A^{1/2} - B^{1/2} Q|^2$ over orthogonal Q, which keeps its digits when A
    and B are close; a distance below rounding is zero. Its gradient is $(I - T_{AB}, I - T_{BA})$
    with T the optimal linear maps. Where A is singular the slope is $-\infty$ in directions in
    which only B has mass; zero stands there.
    """
    one, other = square_root(first), square_root(second)
    value = jnp.sum((one - other @ polar_factor(other @ one)) ** 2)
    rounding = len(one) * jnp.finfo(value.dtype).eps * jnp.linalg.norm(one)
    return jnp.where(value > rounding**2, value, 0.0)


@squared_bures.defjvp
def _(primals, tangents):
    (first, second), (d_first, d_second) = primals, tangents
    identity = jnp.eye(len(first), dtype=first.dtype)
    slopes = identity - _linear_map(first, second), identity - _linear_map(second, first)
    tangent = jnp.sum(slopes[0] * d_first) + jnp.sum(slopes[1] * d_second)
    return squared_bures(first, second), tangent


def _linear_map(first: Float[Array, "d d"], second: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""The positive semidefinite T with $T A T = B$, by the formula of `gaussian_map`."""
    half = square_root(first)
    inverse = pseudoinverse(half)
    return inverse @ square_root(half @ second @ half) @ inverse


@eqx.filter_jit
def bures(first: Float[Array, "d d"], second: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""The Bures distance between covariances, $W_2(N(0, A), N(0, B))$.

    $$B(A, B)^2 = \mathrm{tr} A + \mathrm{tr} B - 2\, \mathrm{tr} (A^{1/2} B A^{1/2})^{1/2}$$

    {cite}`peyre2019computational`, Remark 2.31. Matrices are decomposed on the host; works under
    `jax.jit`, `jax.vmap` and `jax.grad`; the gradient is zero where the distance is.

    Args:
      first, second: A and B, shape (d, d), symmetric positive semidefinite, singular or not.

    Raises:
      RuntimeError: a matrix is not positive semidefinite, or not finite.
    """
    return root(squared_bures(first, second), 2.0)


def gaussian_wasserstein(mu: GaussianOrMeasure, nu: GaussianOrMeasure) -> Float[Array, ""]:
    r"""The distance $W_2$ between Gaussians, $\sqrt{|m_1 - m_2|^2 + B(\Sigma_1, \Sigma_2)^2}$.

    For a measure, the Gaussian of its mean and covariance stands in; the result is then never
    more than $W_2(\mu, \nu)$ {cite}`gelbrich1990` (proof on the theory page), and equal to it when
    nu is the image of mu under a map $x \mapsto m + A x$ with A positive semidefinite. Measures of
    mass M count with it, as in `wasserstein`.

    Args:
      mu, nu: Gaussians or measures, of equal mass (a Gaussian has mass one).

    Raises:
      ValueError: different dimensions or masses.
      RuntimeError: a covariance is not positive semidefinite, or not finite.
    """
    _check_spaces(mu, nu)
    if isinstance(mu, Measure) and isinstance(nu, Measure):
        check_masses(mu, nu)
    return _gaussian_wasserstein(mu, nu)


@eqx.filter_jit
def _gaussian_wasserstein(mu: GaussianOrMeasure, nu: GaussianOrMeasure) -> Float[Array, ""]:
    masses = [m.mass if isinstance(m, Measure) else jnp.ones((), m.mean.dtype) for m in (mu, nu)]
    one, other = (Gaussian.fit(m) if isinstance(m, Measure) else m for m in (mu, nu))
    mass = eqx.error_if(
        sum(masses) / 2, ~same_mass(*masses, *masses), RESULTS[RESULTS.unequal_masses]
    )
    moved = jnp.sum((one.mean - other.mean) ** 2)
    return root(mass * (moved + squared_bures(one.covariance, other.covariance)), 2.0)


class AffineMap(eqx.Module):
    r"""The map $T(x) = m + A (x - x_0)$ of points of shape (d,); a measure goes by `pushforward`.

    Attributes:
      matrix: A, shape (d, d).
      source, target: the points $x_0$ and m, shape (d,).
    """

    matrix: Float[Array, "d d"]
    source: Float[Array, " d"]
    target: Float[Array, " d"]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.target + self.matrix @ (x - self.source)


def gaussian_map(mu: GaussianOrMeasure, nu: GaussianOrMeasure) -> AffineMap:
    r"""The optimal map between Gaussians, $T(x) = m_2 + A (x - m_1)$ with

    $$A = \Sigma_1^{-1/2} (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2} \Sigma_1^{-1/2}.$$

    The map carries one to the other if $\Sigma_1$ is invertible. Otherwise inverses are taken on
    its range, and T reaches what part of the target it can.

    Args:
      mu, nu: Gaussians, or measures in whose place their Gaussians stand.
    """
    _check_spaces(mu, nu)
    return _gaussian_map(mu, nu)


@eqx.filter_jit
def _gaussian_map(mu: GaussianOrMeasure, nu: GaussianOrMeasure) -> AffineMap:
    one, other = (Gaussian.fit(m) if isinstance(m, Measure) else m for m in (mu, nu))
    return AffineMap(_linear_map(one.covariance, other.covariance), one.mean, other.mean)


def _check_spaces(mu: Any, nu: Any) -> None:
    for name, given in (("mu", mu), ("nu", nu)):
        if not isinstance(given, Gaussian):
            check_measures(**{name: given})
    if mu.dim != nu.dim:
        raise ValueError(f"`nu` must have the dimension {mu.dim} of `mu`; got {nu.dim}.")
