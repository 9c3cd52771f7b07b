"""Whether a coupling says nothing, and what is said of it then."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ..measure import RESULTS


# Correlations up to this one count as none.
_NONE = 1e-3
# Above the critical temperature so do those up to this one: where the product coupling is not
# exactly stationary, because means are not zero, what remains is next to it.
_HOT = 0.05


def correlation_size(covariance: Float[np.ndarray, "q p"], spreads: Sequence[float]) -> float:
    """The size of a covariance as a share of the largest that marginals with these mean squared
    distances from their means allow: between zero and one."""
    return float(np.linalg.norm(covariance) / max(np.sqrt(np.prod(spreads)), 1e-300))


def is_collapsed(correlation: float, epsilon: float, critical: float, *, bare: bool) -> bool:
    """Whether a coupling is (nearly) the product of its marginals.

    Args:
      correlation: the size of its covariance, between zero and one.
      epsilon, critical: the temperature, and the one above which the product attracts the measures
        about their means.
      bare: whether the transform is all that the coupling depends on. With a second cost or known
        pairs a coupling without correlation need not be a product, and only none counts.
    """
    return not correlation > (_HOT if bare and _is_hot(epsilon, critical) else _NONE)


def word_of_collapse(collapsed: bool, epsilon: float, critical: float) -> RESULTS:
    """What is said: nothing, that the temperature is too high, or that it has another cause."""
    if not collapsed:
        return RESULTS.successful
    if _is_hot(epsilon, critical):
        return RESULTS.epsilon_above_critical
    return RESULTS.match_collapsed


def _is_hot(epsilon: float, critical: float) -> bool:
    return epsilon > 0 and epsilon >= critical
