"""What a coupling is worth as it is returned: its marginals, and the rounding of its costs."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ..transport import EntropicCoupling


# So many roundings of the largest cost may not add up to the temperature, as in `Sinkhorn`.
_UNITS = 32


class Resolution(NamedTuple):
    """How well a coupling is told by its potentials in the precision at hand.

    Attributes:
      error: how far its marginals are from what is asked for, as a share of the mass, the larger of
        both.
      rounding: one rounding of the largest numbers in its costs, over the temperature.
    """

    error: float
    rounding: float

    def coarse(self, tolerance: float) -> bool:
        """Whether rounding, and not a lack of iterations, decides over the coupling."""
        missed = not self.error <= tolerance
        return self.rounding * _UNITS > 1 or (missed and self.rounding > tolerance)


def resolution(
    coupling: EntropicCoupling, first: Float[np.ndarray, " n"], second: Float[np.ndarray, " m"]
) -> Resolution:
    """The resolution of a coupling whose marginals should be `first` and `second`."""
    errors = [
        np.abs(np.asarray(found, np.float64) - wanted).sum() / wanted.sum()
        for found, wanted in zip(coupling.marginals, (first, second), strict=True)
    ]
    problem = coupling.problem
    seen = np.asarray(problem.a) > 0, np.asarray(problem.b) > 0
    epsilon, dtype = float(problem.epsilon), problem.epsilon.dtype
    return Resolution(
        float(np.max(errors)), float(np.finfo(dtype).eps) * _largest(problem.pairs, *seen) / epsilon
    )


def _largest(pairs: Any, first: np.ndarray, second: np.ndarray) -> float:
    """A bound on the numbers that cancel in a cost between atoms that have mass."""
    (u, alpha, table), (v, beta) = pairs.rows, pairs.cols
    u, alpha, v, beta = (np.asarray(leaf, np.float64) for leaf in (u, alpha, v, beta))
    products = np.max(np.abs(u[first]), axis=0) @ np.max(np.abs(v[second]), axis=0)
    offsets = np.max(np.abs(alpha[first])) + np.max(np.abs(beta[second]))
    entries = 0.0 if table is None else np.abs(np.asarray(table)[np.ix_(first, second)]).max()
    return float(products + offsets + entries)
