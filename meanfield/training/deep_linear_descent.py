r"""Gradient descent on deep linear residual networks, at many steps at once.

Initialised at $W_k = I + \frac{s}{\sqrt{L d}} N_k$ with Gaussian $N_k$ and a fixed readout of norm
one, it finds a minimiser if the step is below 2 over the sharpness of the flattest one, and cannot
settle at any above {cite}`marion2024`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .deep_linear import sharpness_bounds


class StepSweep(eqx.Module):
    r"""Where gradient descent came to with steps around the longest stable one.

    Attributes:
      depth: L.
      shares: the steps, as shares of `longest_step`, shape (k,).
      distances: $|w(W) - w|^2 / |w|^2$ after the last step, shape (k,); infinite where it diverged.
      longest_step: $2 / (2 L |w|^{2 - 2/L} a)$, from `sharpness_bounds`.
      balanced_share: the step 2 / S of the balanced minimiser as a share of it: the flattest
        minimiser loses its stability between the two.
    """

    depth: int
    shares: Float[np.ndarray, " k"]
    distances: Float[np.ndarray, " k"]
    longest_step: float
    balanced_share: float

    def threshold(self, tolerance: float = 1e-8) -> float:
        """The middle between the longest step that came within `tolerance` of least squares and
        the shortest that did not, as a share of `longest_step`.

        Raises:
          ValueError: all steps did, or none, so that the threshold lies outside of the sweep.
        """
        missed = np.min(self.shares, where=self.distances > tolerance, initial=np.inf)
        below = np.max(self.shares, where=self.shares < missed, initial=-np.inf)
        if not np.isfinite(below + missed):
            raise ValueError(
                f"`shares` must reach over the threshold; all of {self.shares} are on one side."
            )
        return float((below + missed) / 2)


def sweep_steps(
    x: Any,
    y: Any,
    depth: int,
    shares: Any,
    *,
    key: PRNGKeyArray,
    spread: float = 0.25,
    steps: int = 1000,
) -> StepSweep:
    """Gradient descent from one random residual start with each of the steps given.

    Args:
      x, y: inputs (n, d) of full column rank, and targets (n,).
      depth: the number of matrices.
      shares: the steps, as shares of the longest stable one, shape (k,).
      key: for the initial weights and the readout, which all steps share.
      spread: s, how far the initial matrices are from the identity.
      steps: how many steps are taken.

    Raises:
      ValueError: as `sharpness_bounds`.
    """
    bounds = sharpness_bounds(x, y, depth)
    best = np.linalg.lstsq(np.asarray(x), np.asarray(y))[0]
    x, y, shares = jnp.asarray(x), jnp.asarray(y), np.asarray(shares, np.float64)
    start_key, readout_key = jr.split(key)
    d = x.shape[1]
    noise = jr.normal(start_key, (depth, d, d), x.dtype)
    start = jnp.eye(d, dtype=x.dtype) + spread / jnp.sqrt(depth * d) * noise
    p = jr.normal(readout_key, (d,), x.dtype)
    rates = jnp.asarray(shares * bounds.longest_step, x.dtype)
    found = np.asarray(_descended(start, p / jnp.linalg.norm(p), x, y, rates, steps), np.float64)
    distances = np.sum((found - best) ** 2, axis=1) / np.sum(best**2)
    distances = np.where(np.isfinite(distances), distances, np.inf)
    return StepSweep(depth, shares, distances, bounds.longest_step, bounds.lower / bounds.balanced)


def residual_product(weights: Float[Array, "L d d"], p: Float[Array, " d"]) -> Float[Array, " d"]:
    r"""The map $W_1^\top \cdots W_L^\top p$ that the network computes."""
    return jax.lax.scan(lambda row, matrix: (row @ matrix, None), p, weights, reverse=True)[0]


@eqx.filter_jit
def _descended(start, p, x, y, rates, steps: int) -> Float[Array, "k d"]:
    def risk(weights):
        return jnp.mean((y - x @ residual_product(weights, p)) ** 2)

    def along(rate):
        def step(_, weights):
            return weights - rate * jax.grad(risk)(weights)

        return residual_product(jax.lax.fori_loop(0, steps, step, start), p)

    return jax.vmap(along)(rates)
