"""Networks by the polynomials of their parameters that the output depends on.

Each says which laws are known for it; whether there are more is for `count_laws` to find out.
"""

import abc
import itertools
from collections.abc import Iterator

import equinox as eqx

from .polynomial import Polynomial


class AbstractFactorization(eqx.Module):
    """The polynomials phi_i(theta) through which a network depends on its D parameters."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The number D of parameters."""

    @abc.abstractmethod
    def terms(self) -> Iterator[Polynomial]:
        """The polynomials phi_i."""

    @abc.abstractmethod
    def known_laws(self) -> Iterator[Polynomial]:
        """Conserved polynomials that are known, independent or not."""


class LinearNetwork(AbstractFactorization):
    r"""The deep linear network $x \mapsto W_L \cdots W_1 x$, which depends on the product alone.

    The known laws are the entries of $W_k W_k^\top - W_{k+1}^\top W_{k+1}$ {cite}`marcotte2023`.

    Args:
      widths: from the input to the output, at least two of them.

    Raises:
      ValueError: fewer than two widths, or one that is not positive.
    """

    widths: tuple[int, ...] = eqx.field(converter=tuple, static=True)

    def __check_init__(self):
        _check_widths(self.widths)

    @property
    def size(self) -> int:
        return sum(a * b for a, b in itertools.pairwise(self.widths))

    def terms(self) -> Iterator[Polynomial]:
        layers = _numbered(self.widths)
        inner = [range(width) for width in self.widths[1:-1]]
        for i, j in itertools.product(range(self.widths[0]), range(self.widths[-1])):
            paths = ((i, *middle, j) for middle in itertools.product(*inner))
            yield {_path(layers, path): 1 for path in paths}

    def known_laws(self) -> Iterator[Polynomial]:
        layers = _numbered(self.widths)
        for k, (before, after) in enumerate(itertools.pairwise(layers)):
            for i, j in itertools.combinations_with_replacement(range(self.widths[k + 1]), 2):
                law: Polynomial = {}
                for x in range(self.widths[k]):
                    _accumulate(law, (before[x, i], before[x, j]), 1)
                for y in range(self.widths[k + 2]):
                    _accumulate(law, (after[i, y], after[j, y]), -1)
                yield law


class ReLUNetwork(AbstractFactorization):
    r"""A fully connected ReLU network, by the products of weights along its paths.

    Where the pattern of active neurons does not change, the output depends on the parameters
    through these products, from an input or from a bias to an output. The known laws are one for
    each hidden neuron, $|\text{row in}|^2 (+ b^2) - |\text{column out}|^2$ {cite}`marcotte2023`.

    Args:
      widths: from the input to the output.
      bias: whether hidden and output neurons have biases.

    Raises:
      ValueError: fewer than two widths, or one that is not positive.
    """

    widths: tuple[int, ...] = eqx.field(converter=tuple, static=True)
    bias: bool = eqx.field(default=False, static=True)

    def __check_init__(self):
        _check_widths(self.widths)

    @property
    def size(self) -> int:
        return LinearNetwork(self.widths).size + self.bias * sum(self.widths[1:])

    def terms(self) -> Iterator[Polynomial]:
        layers = _numbered(self.widths)
        for start in range(len(layers)):
            later = [range(width) for width in self.widths[start + 1 :]]
            for path in itertools.product(*later):
                heads = [(b,) for b in self._biases(start, path[0])]
                if start == 0:
                    heads += [(layers[0][i, path[0]],) for i in range(self.widths[0])]
                for head in heads:
                    yield {tuple(sorted(head + _path(layers[start + 1 :], path))): 1}

    def known_laws(self) -> Iterator[Polynomial]:
        layers = _numbered(self.widths)
        for k, (before, after) in enumerate(itertools.pairwise(layers)):
            for i in range(self.widths[k + 1]):
                entering = [before[x, i] for x in range(self.widths[k])] + self._biases(k, i)
                leaving = [after[i, y] for y in range(self.widths[k + 2])]
                yield {(v, v): 1 for v in entering} | {(v, v): -1 for v in leaving}

    def _biases(self, layer: int, neuron: int) -> list[int]:
        """The variable of the bias that enters a neuron of the layer, if there is one."""
        before = sum(self.widths[1 : layer + 1])
        return [LinearNetwork(self.widths).size + before + neuron] if self.bias else []


class MonomialMap(AbstractFactorization):
    r"""A function of the single product $x_1 x_2 \cdots x_D$: the laws are $x_i^2 - x_{i+1}^2$.

    Args:
      variables: the number D.
    """

    variables: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        return self.variables

    def terms(self) -> Iterator[Polynomial]:
        yield {tuple(range(self.variables)): 1}

    def known_laws(self) -> Iterator[Polynomial]:
        for i in range(self.variables - 1):
            yield {(i, i): 1, (i + 1, i + 1): -1}


def _numbered(widths: tuple[int, ...]) -> list[dict[tuple[int, int], int]]:
    """For each layer, the number of the variable that leads from neuron i to neuron j."""
    count = itertools.count()
    return [
        {(i, j): next(count) for i in range(a) for j in range(b)}
        for a, b in itertools.pairwise(widths)
    ]


def _path(layers: list[dict[tuple[int, int], int]], path: tuple[int, ...]) -> tuple[int, ...]:
    steps = zip(layers, itertools.pairwise(path), strict=True)
    return tuple(sorted(layer[step] for layer, step in steps))


def _accumulate(law: Polynomial, pair: tuple[int, int], coefficient: int) -> None:
    monomial = tuple(sorted(pair))
    law[monomial] = law.get(monomial, 0) + coefficient


def _check_widths(widths: tuple[int, ...]) -> None:
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"`widths` must be at least two positive numbers; got {widths}.")
