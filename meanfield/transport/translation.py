"""The best translation of dual potentials, which unbalanced iterations take at once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .divergence import KullbackLeibler, Side
from .entropic_problem import log_shares


Sides = tuple[Side, Side]
Weights = tuple[Float[Array, " n"], Float[Array, " m"]]
Potentials = tuple[Float[Array, " n"], Float[Array, " m"]]


def translated(sides: Sides, weights: Weights, potentials: Potentials) -> Potentials:
    r"""The potentials $(f + \lambda, g - \lambda)$ of the largest dual value.

    The coupling does not change, only what the marginals cost. For two Kullback-Leibler sides
    $\lambda$ is a formula {cite}`sejourne2022faster`; for others it is found by bisection.
    """
    f, g = potentials
    if all(isinstance(side.divergence, KullbackLeibler) for side in sides):
        shift = _closed_form(sides, weights, potentials)
    else:
        shift = _by_bisection(sides, weights, potentials)
    return f + shift, g - shift


def _closed_form(sides: Sides, weights: Weights, potentials: Potentials) -> Float[Array, ""]:
    r"""$\lambda = (\log \langle a, e^{-f / \rho_1} \rangle - \log \langle b, e^{-g / \rho_2}
    \rangle) / (1 / \rho_1 + 1 / \rho_2)$."""
    stiffness = 1 / sides[0].rho + 1 / sides[1].rho
    left, right = (
        jax.scipy.special.logsumexp(log_shares(w) - potential / side.rho)
        for side, w, potential in zip(sides, weights, potentials, strict=True)
    )
    flexible = stiffness > 0
    shift = jnp.where(flexible, (left - right) / jnp.where(flexible, stiffness, 1.0), 0.0)
    return jnp.where(jnp.isfinite(shift), shift, 0.0)


_HALVINGS = 50


def _by_bisection(sides: Sides, weights: Weights, potentials: Potentials) -> Float[Array, ""]:
    """From zero to where the dual stops rising, at the side where it still rises.

    Its slope is the mass that the first side wants to move minus that of the second; it falls.
    Potentials out of their domain want infinite mass, so they are never chosen.
    """
    (first, second), (a, b), (f, g) = sides, weights, potentials

    def slope(shift: Float[Array, ""]) -> Float[Array, ""]:
        wanted = jnp.where(a > 0, a * first.share(f + shift), 0.0)
        offered = jnp.where(b > 0, b * second.share(g - shift), 0.0)
        return jnp.sum(wanted) - jnp.sum(offered)

    uphill = jnp.sign(slope(jnp.zeros((), f.dtype)))

    def halve(_, ends):
        near, far = ends
        middle = (near + far) / 2
        rising = uphill * slope(middle) > 0
        return jnp.where(rising, middle, near), jnp.where(rising, far, middle)

    reach = uphill * _reach(sides, weights, potentials)
    near, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(reach), reach))
    return near


def _reach(sides: Sides, weights: Weights, potentials: Potentials) -> Float[Array, ""]:
    """A translation beyond the kinks of the dual, or far along its smooth parts."""
    heights = [
        jnp.max(jnp.where(w > 0, jnp.abs(potential), 0.0), initial=0.0)
        for w, potential in zip(weights, potentials, strict=True)
    ]
    scales = [jnp.where(jnp.isinf(side.rho), 0.0, side.rho) for side in sides]
    ratio = jnp.abs(jnp.log(jnp.sum(weights[0])) - jnp.log(jnp.sum(weights[1])))
    return 2 * sum(heights) + sum(scales) * (2 + ratio)
