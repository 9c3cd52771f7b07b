"""Whether a domain holds a measure: what attacks and slopes ask before they search it."""

import numpy as np
from jax.core import Tracer

from .conditional import ConditionalMeasure
from .domain import AbstractDomain, LayerNormRange
from .measure import Measure


def check_inside(mu: Measure | ConditionalMeasure, domain: AbstractDomain | None) -> None:
    """Nothing, if every atom that has mass lies in the domain, or there is none; or if the atoms
    are traced and cannot be known.

    Raises:
      TypeError: no domain.
      ValueError: a domain of another dimension, or one that does not contain the measure.
    """
    if domain is None:
        return
    if not isinstance(domain, AbstractDomain):
        raise TypeError(
            f"`domain` must be a Ball, a Sphere or a LayerNormRange; got {type(domain).__name__}."
        )
    if isinstance(domain, LayerNormRange) and domain.gamma.shape[-1] != mu.dim:
        raise ValueError(
            f"`domain` must live in the {mu.dim} dimensions of the measure; got a LayerNormRange "
            f"in {domain.gamma.shape[-1]}."
        )
    outside = ~domain.contains(mu.points, 1e-4) & (mu.masses > 0)
    if isinstance(outside, Tracer):
        return
    outside = np.asarray(outside)
    if np.any(outside):
        point = np.asarray(mu.points)[outside][0]
        raise ValueError(
            f"`domain` must contain the measure; {outside.sum()} of its atoms lie outside "
            f"{type(domain).__name__}(radius={float(domain.radius):.4g}), one with norm "
            f"{np.linalg.norm(point):.4g}. Take a larger domain."
        )
