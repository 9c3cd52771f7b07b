"""How a search ended: with something found, stalled, or with numbers that are not finite."""

import math
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np

from ..attention import AnyMeasure
from ..measure import RESULTS
from .comparison import Comparison, Matching
from .objective import AbstractObjective


def stalled(
    objective: AbstractObjective,
    before: AnyMeasure,
    reached: float,
    histories: Iterable[np.ndarray],
    *,
    ratio: float,
    local: float,
) -> bool:
    """Whether a search proves little: no start made progress and the ratio is below the local
    constant; or, for a loss, it ended no higher than where nothing moves though something can."""
    if objective.vanishes_at_rest:
        return not any(map(_progressed, histories)) and ratio < 0.99 * local
    return local > 0 and not reached > _at_rest(objective, before)


def ending(stopped: bool, *found: float) -> RESULTS:
    """The word for it, with the numbers that were found."""
    if not all(map(math.isfinite, found)):
        return RESULTS.not_finite
    return RESULTS.search_stalled if stopped else RESULTS.successful


def _progressed(history: np.ndarray) -> bool:
    """Whether the best objective rose by a thousandth of what it was."""
    return bool(history[-1] > history[0] + 1e-3 * abs(history[0]))


def _at_rest(objective: AbstractObjective, image: AnyMeasure) -> float:
    own = jnp.arange(image.masses.size)
    shares = jnp.ones(own.size, image.points.dtype)
    return float(objective(Comparison(image, image, Matching(own, own, shares), 2.0)))
