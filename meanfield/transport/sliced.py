"""The sliced Wasserstein distance: transport on random lines, with a confidence interval."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..measure import RESULTS, Measure
from ..measure.wording import figure
from .cost import PowerCost
from .line import Line
from .mass import check_masses
from .wasserstein import check_spaces, power_of_two_above, root


class Sliced(eqx.Module):
    """How a sliced distance is estimated.

    Args:
      directions: the number L of random directions, at least 2.
      p: the exponent, a number with 1 <= p < inf.
      confidence: the level of the interval, between 0 and 1.

    Raises:
      ValueError: a setting is out of its range.
    """

    directions: int = eqx.field(default=128, static=True)
    p: float | int = eqx.field(default=2, static=True)
    confidence: float | int = eqx.field(default=0.95, static=True)

    def __check_init__(self):
        PowerCost(self.p)  # checks the exponent
        if self.directions < 2:
            raise ValueError(
                f"`directions` must be at least 2, to estimate an error; got {self.directions}."
            )
        if not 0 < self.confidence < 1:
            raise ValueError(f"`confidence` must be between 0 and 1; got {self.confidence}.")

    @property
    def quantile(self) -> float:
        """How many standard errors the interval reaches to each side (Student, L - 1)."""
        import scipy.stats

        return float(scipy.stats.t.ppf((1 + self.confidence) / 2, self.directions - 1))


class SlicedDistance(eqx.Module):
    r"""An estimate of the sliced distance $SW_p$.

    Attributes:
      value: $(\frac1L \sum_l W_p^p(\theta_l))^{1/p}$ over the directions drawn; differentiable.
      lower, upper: a confidence interval for $SW_p$, asymptotic in L.
      standard_error: of the value, by the delta method: that of the mean of $W_p^p$ over
        $p\,\mathrm{value}^{p-1}$.
      powers: $W_p^p$ between the images on each line, shape (L,), in the units of the p-th power.
    """

    value: Float[Array, "*batch"]
    lower: Float[Array, "*batch"]
    upper: Float[Array, "*batch"]
    standard_error: Float[Array, "*batch"]
    powers: Float[Array, "*batch L"]

    def __repr__(self) -> str:
        return (
            f"SlicedDistance({figure(self.value)} in [{figure(self.lower)}, {figure(self.upper)}], "
            f"{self.powers.shape[-1]} directions)"
        )


def sliced_wasserstein(
    mu: Measure, nu: Measure, method: Sliced = Sliced(), *, key: PRNGKeyArray
) -> SlicedDistance:
    r"""The sliced distance $SW_p(\mu, \nu)^p = \int W_p^p(\theta_\# \mu, \theta_\# \nu)\,
    d\sigma(\theta)$, estimated.

    $\sigma$ is the uniform measure on the unit sphere and $\theta_\#$ the image under $x \mapsto
    \langle \theta, x \rangle$ {cite}`bonneel2015sliced`. Directions are drawn independently, so
    the mean of $W_p^p$ over them is unbiased and, by the central limit theorem, asymptotically
    normal: the interval is that mean plus and minus Student's quantile times its standard error,
    then the p-th root. $SW_p \le W_p$, and $\sqrt{d}\, SW_2 \le W_2$ (theory page). The same key
    gives the same directions. O(L (n + m) log(n + m)); works under `jax.jit`, `jax.vmap` and
    `jax.grad`.

    Args:
      mu, nu: measures of equal mass on the same space, of any sizes.
      method: the number of directions, the exponent, the level of confidence.
      key: for the directions.

    Raises:
      ValueError: different dimensions; different masses (under `jax.jit`, a RuntimeError).
    """
    check_spaces(mu, nu, PowerCost(method.p))
    check_masses(mu, nu)
    return _sliced_wasserstein(mu, nu, method, method.quantile, key)


@eqx.filter_jit
def _sliced_wasserstein(
    mu: Measure, nu: Measure, method: Sliced, quantile: float, key: PRNGKeyArray
) -> SlicedDistance:
    p = float(method.p)
    scale = power_of_two_above(mu.radius, nu.radius)
    near_mu, near_nu = (
        Measure(jnp.where(m.present[:, None], m.points / scale, 0.0), m.weights) for m in (mu, nu)
    )
    dtype = jnp.result_type(mu.points, nu.points)
    normals = jax.random.normal(key, (method.directions, mu.dim), dtype)
    directions = normals / jnp.linalg.norm(normals, axis=1, keepdims=True)
    powers = _powers(near_mu, near_nu, directions, p)
    mean = jnp.mean(powers)
    error = jnp.std(powers, ddof=1) / method.directions**0.5
    value = root(mean, p)
    reach = quantile * error
    slope = p * value ** (p - 1)
    lower, upper, error = jax.lax.stop_gradient(
        (
            root(jnp.maximum(mean - reach, 0.0), p),
            root(mean + reach, p),
            jnp.where(slope > 0, error / jnp.where(slope > 0, slope, 1.0), 0.0),
        )
    )
    return SlicedDistance(
        value=scale * value,
        lower=scale * lower,
        upper=scale * upper,
        standard_error=scale * error,
        powers=scale**p * powers,
    )


def _powers(
    mu: Measure, nu: Measure, directions: Float[Array, "L d"], p: float
) -> Float[Array, " L"]:
    """$W_p^p$ on each line, a few lines at a time to bound the memory."""

    def on_line(direction: Float[Array, " d"]) -> Float[Array, ""]:
        one, other = (m.with_points(m.points @ direction[:, None]) for m in (mu, nu))
        sol = Line().solve(one, other, PowerCost(p))
        return sol.result.error_if(sol.value, sol.result != RESULTS.successful)

    return jax.lax.map(on_line, directions, batch_size=16)
