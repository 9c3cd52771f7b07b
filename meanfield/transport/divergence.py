r"""What it costs that the marginals of a coupling are not the measures: entropy functions.

A side of an unbalanced problem pays $\sum_i a_i\, \rho\, \varphi(r_i)$, where $r_i$ is the share of
the mass $a_i$ that the coupling moves. Proofs: the theory page on unbalanced transport.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


Rho = Float[Array, ""]


class AbstractDivergence(eqx.Module):
    r"""A convex function $\varphi$ of the share $r \ge 0$ of mass that is moved, times $\rho$."""

    @abc.abstractmethod
    def penalty(self, share: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        r"""$\rho \varphi(r)$, without what is infinite: `bounds` says where that is."""

    @abc.abstractmethod
    def bounds(self, rho: Rho) -> tuple[Float[Array, ""], Float[Array, ""]]:
        r"""The least and the largest share at a finite penalty."""

    @abc.abstractmethod
    def conjugate(self, slope: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        r"""$(\rho \varphi)^*(q) = \sup_{r \ge 0} q r - \rho \varphi(r)$."""

    @abc.abstractmethod
    def share(self, potential: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        r"""The share that is best at a potential f: a slope of the conjugate at $-f$."""

    @abc.abstractmethod
    def proximal(
        self, soft: Float[Array, " n"], rho: Rho, epsilon: Float[Array, ""]
    ) -> Float[Array, " n"]:
        r"""The best potential, $\arg\max_f -(\rho \varphi)^*(-f) - \varepsilon e^{(f - s) /
        \varepsilon}$, at a soft minimum s: a proximal map for the Kullback-Leibler divergence."""


class KullbackLeibler(AbstractDivergence):
    r"""$\varphi(r) = r \log r - r + 1$: shares $e^{-f / \rho}$, all of the mass as
    $\rho \to \infty$."""

    def penalty(self, share: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        finite = jnp.where(jnp.isinf(rho), 0.0, rho)
        excess = share - 1  # rounding at shares near one is then relative to it
        near = share > 0.5
        by_excess = jax.scipy.special.xlog1py(share, jnp.where(near, excess, 0.0))
        by_share = jax.scipy.special.xlogy(share, jnp.where(near | (share <= 0), 1.0, share))
        return finite * (jnp.where(near, by_excess, by_share) - excess)

    def bounds(self, rho: Rho) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return _all_or_any(rho)

    def conjugate(self, slope: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        balanced = jnp.isinf(rho)
        finite = jnp.where(balanced, 1.0, rho)
        return jnp.where(balanced, slope, finite * jnp.expm1(slope / finite))

    def share(self, potential: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        return jnp.exp(-potential / rho)

    def proximal(
        self, soft: Float[Array, " n"], rho: Rho, epsilon: Float[Array, ""]
    ) -> Float[Array, " n"]:
        return soft / (1 + epsilon / rho)


class TotalVariation(AbstractDivergence):
    r"""$\varphi(r) = |r - 1|$: mass moves whole, unless its potential reaches $\pm \rho$."""

    def penalty(self, share: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        return jnp.where(jnp.isinf(rho), 0.0, rho) * jnp.abs(share - 1)

    def bounds(self, rho: Rho) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return _all_or_any(rho)

    def conjugate(self, slope: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        return jnp.where(slope > rho, jnp.inf, jnp.maximum(slope, -rho))

    def share(self, potential: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        return jnp.where(potential < -rho, jnp.inf, jnp.where(potential < rho, 1.0, 0.0))

    def proximal(
        self, soft: Float[Array, " n"], rho: Rho, epsilon: Float[Array, ""]
    ) -> Float[Array, " n"]:
        return jnp.clip(soft, -rho, rho)


class Range(AbstractDivergence):
    r"""$\varphi(r) = 0$ for $\alpha \le r \le \beta$ and infinite elsewhere; $\rho$ does not count.

    Args:
      low, high: $\alpha$ and $\beta$, with $0 \le \alpha \le \beta$ and $0 < \beta < \infty$.

    Raises:
      ValueError: they are not such numbers.
    """

    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __init__(self, low: Any, high: Any):
        self.low, self.high = float(low), float(high)
        if not 0 <= self.low <= self.high < float("inf") or self.high == 0:
            raise ValueError(
                "`low` and `high` must be shares of mass with 0 <= low <= high < inf and "
                f"high > 0; got {low} and {high}."
            )

    def penalty(self, share: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        return jnp.zeros_like(share)

    def bounds(self, rho: Rho) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return jnp.full_like(rho, self.low), jnp.full_like(rho, self.high)

    def conjugate(self, slope: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        return jnp.maximum(self.low * slope, self.high * slope)

    def share(self, potential: Float[Array, " n"], rho: Rho) -> Float[Array, " n"]:
        return jnp.where(potential > 0, self.low, self.high) + jnp.zeros_like(potential)

    def proximal(
        self, soft: Float[Array, " n"], rho: Rho, epsilon: Float[Array, ""]
    ) -> Float[Array, " n"]:
        least, most = (epsilon * jnp.log(jnp.asarray(r, soft.dtype)) for r in (self.low, self.high))
        return jnp.where(soft + least > 0, soft + least, jnp.minimum(soft + most, 0.0))


def _all_or_any(rho: Rho) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """All of the mass if rho is infinite, any share of it otherwise."""
    balanced = jnp.isinf(rho)
    return jnp.where(balanced, 1.0, 0.0), jnp.where(balanced, 1.0, jnp.inf)


class Side(eqx.Module):
    """A side of an unbalanced problem: its divergence and its rho, as functions of its atoms."""

    divergence: AbstractDivergence
    rho: Rho

    def penalty(self, share: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.divergence.penalty(share, self.rho)

    @property
    def bounds(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return self.divergence.bounds(self.rho)

    def conjugate(self, slope: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.divergence.conjugate(slope, self.rho)

    def share(self, potential: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.divergence.share(potential, self.rho)

    def proximal(self, soft: Float[Array, " n"], epsilon: Float[Array, ""]) -> Float[Array, " n"]:
        return self.divergence.proximal(soft, self.rho, epsilon)
