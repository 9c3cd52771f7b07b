"""The Wasserstein ball: all measures within a distance of a given one."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from meanfield.attention import AnyMeasure
from meanfield.measure import AbstractDomain


class WassersteinBall(AbstractDomain):
    r"""The measures $\nu$ with $W_q(\mu, \nu) \le \epsilon$: every atom of $\mu$ moves, and may be
    split on its way, by at most $\epsilon$ for $q = \infty$, on average for $q = 2$.

    Where positions matter, mass stays at its position. `contains` and `project` speak of the points
    that such measures can have.

    Args:
      centre: the measure mu.
      size: the radius epsilon of the ball.
      order: q.
      carrier: the domain that carries the measures for q < inf; None where the ball says it all.
    """

    centre: AnyMeasure
    size: float
    order: float = eqx.field(static=True, default=float("inf"))
    carrier: AbstractDomain | None = None

    @property
    def radius(self) -> Float[Array, ""]:
        """A radius R with |x| <= R for every point that a measure of the ball can have."""
        if self.carrier is not None:
            return self.carrier.radius
        return self.centre.radius + self.size

    def contains(self, x: Float[Array, "*n d"], tol: float = 1e-6) -> Bool[Array, "*n"]:
        if self.carrier is not None:
            return self.carrier.contains(x, tol)
        return jnp.min(self._distances(x), axis=-1) <= self.size * (1 + tol)

    def project(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        if self.carrier is not None:
            return self.carrier.project(x)
        far = self._distances(x)
        nearest = self.centre.atoms.points[jnp.argmin(far, axis=-1)]
        reach = jnp.min(far, axis=-1)[..., None]
        shrink = self.size / jnp.maximum(reach, 1e-30)
        return jnp.where(reach > self.size, nearest + shrink * (x - nearest), x)

    def _distances(self, x: Float[Array, "*n d"]) -> Float[Array, "*n m"]:
        atoms = self.centre.atoms
        far = jnp.linalg.norm(x[..., None, :] - atoms.points, axis=-1)
        return jnp.where(atoms.present, far, jnp.inf)

    def __repr__(self) -> str:
        return f"WassersteinBall(size={self.size:.4g}, order={self.order:g})"
