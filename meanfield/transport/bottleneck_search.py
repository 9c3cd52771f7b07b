"""The least threshold along which one measure can be carried to another, with its certificates."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .bottleneck_flow import Carried, Supply, carry


Array = np.ndarray


class Threshold(NamedTuple):
    """The least threshold, a flow that keeps to it, and rows whose mass must go as far."""

    value: float
    source: Bool[Array, " n"]
    flow: Any


def least_threshold(costs: Float[Array, "n m"], supply: Supply) -> Threshold:
    """The least t such that pairs of cost at most t carry the mass.

    At first a little mass may stay behind, so that coarse flows decide; what they find is almost
    always the answer, which the second search confirms with one fine flow.
    """
    start = Threshold(*_nearest_neighbours(costs), flow=None)
    return _search(costs, supply, _search(costs, supply.coarse(), start))


def _search(costs: Float[Array, "n m"], supply: Supply, known: Threshold) -> Threshold:
    """The same from a lower bound on, tried first.

    The bound is always proved by the rows of `source`: the columns that they reach below it hold
    less mass than they do. A test halves the costs in question, or raises the bound to the least
    cost by which the rows that got stuck can reach further.
    """
    value, source, flow = known
    ceiling, tried = np.inf, value
    while value < ceiling:
        found = carry(costs <= tried, supply)
        if isinstance(found, Carried):
            flow = found.flow
            ceiling = float(costs[flow.nonzero()].max())
        else:
            source = found.source
            beyond = ~(costs[source] <= tried).any(axis=0)
            value = float(costs[np.ix_(source, beyond)].min())
        tried = _median(costs[(costs >= value) & (costs < ceiling)], default=value)
    return Threshold(value, source, flow)


def _median(values: Float[Array, " k"], default: float) -> float:
    half = len(values) // 2
    return float(np.partition(values, half)[half]) if len(values) else default


def _nearest_neighbours(costs: Float[Array, "n m"]) -> tuple[float, Bool[Array, " n"]]:
    """The bound that each atom must go at least to its nearest neighbour."""
    leaving, arriving = costs.min(axis=1), costs.min(axis=0)
    if leaving.max() >= arriving.max():
        return float(leaving.max()), np.arange(len(costs)) == leaving.argmax()
    return float(arriving.max()), np.ones(len(costs), bool)
