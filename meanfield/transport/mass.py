"""When two masses count as equal, and the error when they do not."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..measure import Measure


def same_mass(first, second, *weights):
    """Whether two masses agree up to the rounding of the weights they are sums of.

    The tolerance is relative, the square root of the coarsest machine epsilon.
    """
    tolerance = max(float(jnp.finfo(w.dtype).eps) for w in weights) ** 0.5
    return abs(first - second) <= tolerance * (first + second) / 2


def check_masses(mu: Measure, nu: Measure, remedy: str = "`solver=Unbalanced(rho)`") -> None:
    """Raise unless the masses agree, where they are known; `remedy` names what takes others."""
    if isinstance(mu.weights, Tracer) or isinstance(nu.weights, Tracer):
        return
    first, second = (np.asarray(measure.weights, np.float64).sum() for measure in (mu, nu))
    if not same_mass(first, second, mu.weights, nu.weights):
        raise ValueError(
            f"`nu` must have the total mass {first:.9g} of `mu`; got {second:.9g}. Divide each by "
            "its own with `.normalize()`, or let mass appear and vanish with "
            f"{remedy}."
        )
