"""What is said of the end of an entropic search."""

from ..measure import RESULTS
from .alternation import Alternation


def word_of_ending(
    solver: Alternation, word: RESULTS, finite: bool, change: float, error: float
) -> RESULTS:
    """The first that holds: something is not finite; the word of a collapse; the transform still
    changes; the marginals are not met; success."""
    if not finite:
        return RESULTS.nonfinite_cost
    if word != RESULTS.successful:
        return word
    if not change <= solver.tolerance:
        return RESULTS.transform_not_settled
    met = error <= solver.marginal_tolerance
    return RESULTS.successful if met else RESULTS.marginals_not_reached
