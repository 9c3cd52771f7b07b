"""The solver of matching problems without entropy, and its settings."""

import equinox as eqx

from .alternation import Alternation


class ExactAlternation(eqx.Module):
    r"""Alternation between transforms and exact couplings, without entropy: $\varepsilon = 0$.

    The objective is concave in the coupling, so every step takes the whole way to an optimal
    vertex for the best transform, and lowers it; after finitely many steps a vertex is its own best
    answer (theory page). The first start pairs all principal axes, each with the sign that
    transport on the line prefers. Where its end meets `Match.lower_bound` it is a global optimum,
    and nothing else is run: so end isometric measures, in one or two steps. Otherwise the optimum
    that `search` finds with entropy is carried on exactly too, or all sign starts if there is no
    search, and the lowest objective wins.

    Equal numbers of equal atoms are solved as assignments, other measures by POT's network simplex.
    Unless nearest neighbours are a coupling, a step takes n m numbers of memory.

    Args:
      search: the entropic search for further starts; None runs all sign starts.
      axes: without a search, starts pair so many leading axes in all signs (the first start aside).
      max_steps: the largest number of steps from a start.
      tolerance: how far above the lower bound an optimum counts as global, as a share of the
        distance between the bound and the product coupling.

    Raises:
      ValueError: a setting out of range.
    """

    search: Alternation | None
    axes: int
    max_steps: int
    tolerance: float

    def __init__(
        self,
        search: Alternation | None = Alternation(),
        *,
        axes: int = 3,
        max_steps: int = 500,
        tolerance: float = 1e-9,
    ):
        for name, count in (("axes", axes), ("max_steps", max_steps)):
            if count < 1:
                raise ValueError(f"`{name}` must be at least 1; got {count}.")
        if not tolerance >= 0:
            raise ValueError(f"`tolerance` must be nonnegative; got {tolerance}.")
        self.search, self.axes = search, int(axes)
        self.max_steps, self.tolerance = int(max_steps), float(tolerance)
