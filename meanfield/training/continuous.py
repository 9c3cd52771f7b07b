r"""The limit of infinite depth: a network whose particles are functions of s in [0, 1].

$x'(s) = \int \psi(\theta, x(s))\, d\mu(\theta | s)$ is solved by diffrax to a tolerance, and is
what the layers of a `MeanFieldResNet` approach at the rate 1 / L (docs: theory/training).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.measure import ConditionalMeasure

from .loss import Data, Loss
from .residuals.residual import AbstractResidual
from .resnet import MeanFieldResNet


class ContinuousResNet(eqx.Module):
    r"""The flow of $x'(s) = \sum_j a_j \psi(\theta_j(s), x(s))$ from s = 0 to 1.

    Args:
      residual: psi, of states that are points.
      particles: the function s -> theta(s), of shape (M, p), smooth.
      weights: a, of shape (M,).
      tolerance: relative and absolute, of the solver (Tsit5); below 1e-6 it needs float64.
    """

    residual: AbstractResidual
    particles: Callable[[Float[Array, ""]], Float[Array, "M p"]]
    weights: Float[Array, " M"]
    tolerance: float = 1e-10

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The state at s = 1 that began at x."""
        return self._solve(lambda s, x, _: self.velocity(s, x), x, [0.0, 1.0])[-1]

    def velocity(self, s: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        r"""$\sum_j a_j \psi(\theta_j(s), x)$."""
        return self.residual.drift(self.particles(s), self.weights, x)

    def gradient_field(
        self, loss: Loss, data: Data, depths: Float[Array, " S"]
    ) -> Float[Array, "S M p"]:
        r"""$g(s, \theta_j(s)) = \frac1N \sum_i D_\theta\psi(\theta_j(s), x^i(s))^T p^i(s)$ with the
        adjoint equation $p' = -D_x F_s(x)^T p$, $p(1) = \nabla \ell$.

        Args:
          loss, data: as in `risk`.
          depths: the values of s, in [0, 1] and increasing.
        """
        return jnp.mean(jax.vmap(lambda x, y: self._field(loss, x, y, depths))(*data), axis=0)

    def discretize(self, depth: int, *, offset: float = 0.0) -> MeanFieldResNet:
        """The network of L = `depth` layers with the particles at s = (k + offset) / L."""
        points = jax.vmap(self.particles)((jnp.arange(depth) + offset) / depth)
        weights = jnp.broadcast_to(self.weights, points.shape[:2])
        return MeanFieldResNet(self.residual, ConditionalMeasure(points, weights))

    def _field(self, loss: Loss, x: Any, y: Any, depths: Float[Array, " S"]):
        def back(s, at, _):  # x and p together, from s = 1 down to 0
            velocity, pull = jax.vjp(lambda z: self.velocity(s, z), at[0])
            return velocity, -pull(at[1])[0]

        end = self(x)
        turned = [1.0, *reversed(depths)]
        states, adjoint = self._solve(back, (end, jax.grad(loss)(end, y)), turned)

        def at_depth(s, x, p):
            return jax.vmap(lambda theta: jax.vjp(self.residual.psi, theta, x)[1](p)[0])(
                self.particles(s)
            )

        return jax.vmap(at_depth)(depths, states[:0:-1], adjoint[:0:-1])

    def _solve(self, field: Callable, start: Any, times: list) -> Any:
        """The solution at these times, from the first to 0 or 1, whichever is the other end."""
        import diffrax

        end = 1.0 - times[0]
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
            t0=times[0],
            t1=end,
            dt0=0.01 * (end - times[0]),
            y0=start,
            saveat=diffrax.SaveAt(ts=jnp.stack([jnp.asarray(t, float) for t in times])),
            stepsize_controller=diffrax.PIDController(rtol=self.tolerance, atol=self.tolerance),
            max_steps=16**4,
        ).ys
