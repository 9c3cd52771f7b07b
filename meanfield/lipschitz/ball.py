"""The Wasserstein ball: all measures within a distance of a given one."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from meanfield.attention import AnyMeasure
from meanfield.measure import AbstractDomain


class WassersteinBall(AbstractDomain):
    r"""The measures $\nu$ with $W_q(\mu, \nu) \le \epsilon$: every atom of $\mu$ moves, and may be
    split on its way, by at most $\epsilon$ for $q = \infty$; for q < inf parts have a least mass m
    and move by at most $\epsilon\, m^{-1/q}$.

    Where positions matter, mass stays at its position. `radius`, `contains` and `project` speak of
    the points that such measures can have.

    Args:
      centre: the measure mu.
      size: the radius epsilon of the ball.
      order: q.
      least_mass: m, for q < inf.
    """

    centre: AnyMeasure
    size: float
    order: float | int = eqx.field(static=True, default=float("inf"))
    least_mass: float = eqx.field(static=True, default=1.0)

    @property
    def travel(self) -> float:
        """How far a part of an atom can move."""
        return self.size * self.least_mass ** (-1 / self.order)

    @property
    def radius(self) -> Float[Array, ""]:
        return self.centre.radius + self.travel

    def contains(self, x: Float[Array, "*n d"], tol: float = 1e-6) -> Bool[Array, "*n"]:
        return jnp.min(self._distances(x), axis=-1) <= self.travel * (1 + tol)

    def project(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        far = self._distances(x)
        nearest = self.centre.atoms.points[jnp.argmin(far, axis=-1)]
        reach = jnp.min(far, axis=-1)[..., None]
        shrink = self.travel / jnp.maximum(reach, 1e-30)
        return jnp.where(reach > self.travel, nearest + shrink * (x - nearest), x)

    def _distances(self, x: Float[Array, "*n d"]) -> Float[Array, "*n m"]:
        atoms = self.centre.atoms
        far = jnp.linalg.norm(x[..., None, :] - atoms.points, axis=-1)
        return jnp.where(atoms.present, far, jnp.inf)

    def __repr__(self) -> str:
        return f"WassersteinBall(size={self.size:.4g}, order={self.order:g})"
