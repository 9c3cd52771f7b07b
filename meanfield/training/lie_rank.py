r"""How many quantities a gradient flow conserves, counted exactly (marcotte2023).

A network whose output depends on its parameters through polynomials phi only has a gradient flow
in the span of the fields grad phi_i. A function is conserved whatever the data if its gradient is
orthogonal to all of them, and then to all their iterated brackets. Where the span of these has
constant dimension, Frobenius' theorem says that there are exactly D - dim of them.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx

from .factorization import AbstractFactorization
from .polynomial import Field, RowSpace, bracket, evaluate, gradient, random_point


def count_laws(network: AbstractFactorization | Callable[..., Any], *, seed: int = 0) -> int:
    """The number of independent conservation laws of gradient flow, for generic data.

    Exact rank modulo 2^31 - 1 at a random point: a wrong count has a probability below one in a
    million for the sizes that can be run. See `lie_rank` for what is computed.

    Args:
      network: `LinearNetwork(widths)`, `ReLUNetwork(widths, bias=...)` or `MonomialMap(...)`.
      seed: of the point.

    Raises:
      TypeError: for a network that is not told by polynomials.
    """
    if not isinstance(network, AbstractFactorization):
        raise TypeError(
            "`network` must be told by the polynomials of its parameters (LinearNetwork, "
            f"ReLUNetwork, MonomialMap) to be counted exactly; got {type(network).__name__}. For "
            "any other, `find_quadratic_laws` finds laws from gradients alone, and `layer_laws` "
            "knows those of attention, perceptrons and norms."
        )
    return network.size - lie_rank(network, seed=seed).rank


class LieRank(eqx.Module):
    """The dimension of the Lie algebra of a factorization at a generic point.

    Attributes:
      rank: the dimension found.
      closed: whether it was reached because further brackets added nothing, or because it met the
        upper bound that the known laws give. One of the two always holds.
      brackets: how many brackets were evaluated.
    """

    rank: int
    closed: str
    brackets: int


def lie_rank(network: AbstractFactorization, *, seed: int = 0) -> LieRank:
    r"""The dimension of $\mathrm{Lie}(\nabla\phi_1, \nabla\phi_2, \dots)$ at a random point.

    Fields that add nothing to the rank are dropped: at a generic point they are combinations
    $\sum_i c_i(\theta) X_i$ of those kept, and $[\sum c_i X_i, Y] = \sum c_i [X_i, Y] - \sum Y(c_i)
    X_i$ adds nothing that the brackets of the kept do not. So the search ends when a level of
    brackets with the generators adds nothing, or when the rank is D less the rank of the known
    laws, which no Lie algebra can exceed.
    """
    point = random_point(network.size, seed)
    most = network.size - _rank_of_known_laws(network, point)
    space, count = RowSpace(), 0
    generators = [gradient(phi) for phi in network.terms()]
    level = [X for X in generators if space.add(evaluate(X, point))]
    generators = list(level)
    while level and space.rank < most:
        found: list[Field] = []
        for X in level:
            for Y in generators:
                count += 1
                Z = bracket(X, Y)
                if space.add(evaluate(Z, point)):
                    found.append(Z)
                if space.rank == most:
                    return LieRank(space.rank, "met the known laws", count)
        level = found
    reason = "met the known laws" if space.rank == most else "brackets add nothing"
    return LieRank(space.rank, reason, count)


def _rank_of_known_laws(network: AbstractFactorization, point: list[int]) -> int:
    space = RowSpace()
    for law in network.known_laws():
        space.add(evaluate(gradient(law), point))
    return space.rank
