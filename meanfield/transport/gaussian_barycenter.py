"""Barycentres of Gaussians in the Wasserstein distance, by a fixed-point iteration."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..measure import RESULTS
from ..measure.wording import ending, figure
from .barycentric_weights import barycentric_weights
from .gaussian import Gaussian, squared_bures
from .square_root import polar_factor, square_root


class GaussianBarycenter(eqx.Module):
    r"""A Gaussian at the least weighted mean squared distance from some others.

    Attributes:
      gaussian: the barycentre, constant under differentiation.
      value: $\sum_k \lambda_k W_2^2(\nu, \mu_k)$ at it. It differentiates with respect to the
        means, the covariances and the weights, as the minimum does.
      steps: the iterations taken.
      result: `RESULTS.successful`, or what went wrong and what to try next.
    """

    gaussian: Gaussian
    value: Float[Array, ""]
    steps: Int[Array, ""]
    result: RESULTS

    def __repr__(self) -> str:
        return (
            f"GaussianBarycenter(value {figure(self.value)}, {figure(self.steps)} steps: "
            f"{ending(self.result)})"
        )


def gaussian_barycenter(
    gaussians: Gaussian,
    weights: Any = None,
    *,
    rtol: float = 1e-8,
    max_steps: int = 1000,
    throw: bool = True,
) -> GaussianBarycenter:
    r"""The Gaussian $\nu$ that minimises $\sum_k \lambda_k W_2^2(\nu, \mu_k)$.

    Its mean is $\sum_k \lambda_k m_k$, its covariance the fixed point of $\Sigma = \sum_k \lambda_k
    (\Sigma^{1/2} \Sigma_k \Sigma^{1/2})^{1/2}$ {cite}`agueh2011`, found by the iteration of
    {cite}`alvarez2016` in the form $M \leftarrow \sum_k \lambda_k \Sigma_k^{1/2} Q_k$, $Q_k$ the
    polar factor of $\Sigma_k^{1/2} M$ and $\Sigma = M M^\top$. No matrix is inverted and the
    objective never rises; the limit is the minimiser if one of the $\Sigma_k$ is invertible.

    Args:
      gaussians: K Gaussians as one with a leading axis, `Gaussian(means, covariances)`.
      weights: $\lambda$, shape (K,), nonnegative; scaled to sum to one; equal by default.
      rtol: the iteration ends when M moves by less, relative to its norm (but not below rounding).
      max_steps: the largest number of iterations.
      throw: whether to raise when the iteration did not settle; otherwise `.result` says it.

    Raises:
      ValueError: no leading axis, or weights that do not fit.
      RuntimeError: the iteration did not settle (with `throw=True`).
    """
    if gaussians.mean.ndim != 2:
        raise ValueError(
            "`gaussians` must hold K Gaussians, with means of shape (K, d); got "
            f"{gaussians.mean.shape}. Stack them: Gaussian(jnp.stack(means), jnp.stack(...))."
        )
    shares = barycentric_weights(weights, len(gaussians.mean), gaussians.mean.dtype)
    return _gaussian_barycenter(gaussians, shares, rtol, max_steps, throw)


class _State(NamedTuple):
    factor: Float[Array, "d d"]
    change: Float[Array, ""]
    steps: Int[Array, ""]


@eqx.filter_jit
def _gaussian_barycenter(
    gaussians: Gaussian, shares: Float[Array, " K"], rtol: Any, max_steps: int, throw: bool
) -> GaussianBarycenter:
    mean = shares @ gaussians.mean
    final = _iterate(*jax.lax.stop_gradient((gaussians.covariance, shares)), rtol, max_steps)
    covariance = final.factor @ final.factor.T
    apart = jnp.sum((gaussians.mean - mean) ** 2, axis=1)
    spread = jax.vmap(squared_bures, in_axes=(None, 0))(covariance, gaussians.covariance)
    settled = final.change <= _floor(rtol, mean.dtype)
    result = RESULTS.where(settled, RESULTS.successful, RESULTS.barycenter_not_settled)
    value = jnp.sum(shares * (apart + spread))
    if throw:
        value = result.error_if(value, ~settled)
    nu = Gaussian(jax.lax.stop_gradient(mean), covariance)
    return GaussianBarycenter(nu, value, final.steps, result)


def _iterate(
    covariances: Float[Array, "K d d"], shares: Float[Array, " K"], rtol: Any, max_steps: int
) -> _State:
    roots = jax.vmap(square_root)(covariances)
    start = square_root(jnp.einsum("k,kde->de", shares, covariances))

    def unsettled(state: _State):
        return (state.change > _floor(rtol, roots.dtype)) & (state.steps < max_steps)

    def step(state: _State) -> _State:
        aligned = roots @ jax.vmap(polar_factor)(roots @ state.factor)
        factor = jnp.einsum("k,kde->de", shares, aligned)
        size = jnp.linalg.norm(factor)
        moved = jnp.linalg.norm(factor - state.factor) / jnp.where(size > 0, size, 1.0)
        return _State(factor, moved, state.steps + 1)

    initial = _State(start, jnp.full((), jnp.inf, roots.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unsettled, step, initial)


def _floor(rtol: Any, dtype: Any) -> Any:
    return jnp.maximum(rtol, 64 * jnp.finfo(dtype).eps)
