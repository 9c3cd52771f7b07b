"""What is said of the end of an entropic search."""

from ..measure import RESULTS
from .alternation import Alternation
from .resolution import Resolution


def word_of_ending(
    solver: Alternation, word: RESULTS, finite: bool, change: float, reached: Resolution
) -> RESULTS:
    """The first that holds: something is not finite; rounding decides; the word of a collapse; the
    transform still changes; the marginals are not met; success."""
    if not finite:
        return RESULTS.nonfinite_cost
    if reached.coarse(solver.marginal_tolerance):
        return RESULTS.epsilon_too_small
    if word != RESULTS.successful:
        return word
    if not change <= solver.tolerance:
        return RESULTS.transform_not_settled
    met = reached.error <= solver.marginal_tolerance
    return RESULTS.successful if met else RESULTS.marginals_not_reached
