"""Polynomials with coefficients modulo a prime, and vector fields made of them.

Integers modulo a prime know no rounding: a rank computed with them at a random point is the
generic rank, except with probability below degree / prime (Schwartz and Zippel).
"""

import random
from collections.abc import Iterable


PRIME = 2**31 - 1

Monomial = tuple[int, ...]  # indices of variables, sorted, repeated for powers
Polynomial = dict[Monomial, int]
Field = dict[int, Polynomial]  # the components that are not zero


def gradient(f: Polynomial) -> Field:
    """The vector field of the partial derivatives of f."""
    variables = {v for monomial in f for v in monomial}
    return _without_zeros({v: derivative(f, v) for v in variables})


def derivative(f: Polynomial, variable: int) -> Polynomial:
    """The partial derivative of f."""
    result: Polynomial = {}
    for monomial, coefficient in f.items():
        power = monomial.count(variable)
        if power:
            place = monomial.index(variable)
            _add(result, monomial[:place] + monomial[place + 1 :], coefficient * power)
    return result


def bracket(X: Field, Y: Field) -> Field:
    r"""The Lie bracket $[X, Y] = \partial X \cdot Y - \partial Y \cdot X$."""
    result: Field = {}
    for first, second, sign in ((X, Y, 1), (Y, X, -1)):
        for component, f in first.items():
            slot = result.setdefault(component, {})
            for v in {v for monomial in f for v in monomial} & second.keys():
                _add_product(slot, derivative(f, v), second[v], sign)
    return _without_zeros(result)


def evaluate(field: Field, point: list[int]) -> list[int]:
    """The values of the components at a point, as integers modulo the prime."""
    values = [0] * len(point)
    for component, f in field.items():
        values[component] = sum(c * _value(monomial, point) for monomial, c in f.items()) % PRIME
    return values


def random_point(size: int, seed: int) -> list[int]:
    """Coordinates drawn uniformly among the nonzero integers modulo the prime."""
    draw = random.Random(seed)
    return [draw.randrange(1, PRIME) for _ in range(size)]


class RowSpace:
    """Vectors modulo the prime, reduced as they come: the rank is the number kept."""

    def __init__(self) -> None:
        self._rows: dict[int, list[int]] = {}  # by the place of the leading one

    @property
    def rank(self) -> int:
        return len(self._rows)

    def add(self, vector: Iterable[int]) -> bool:
        """Whether the vector is independent of those before; it is kept if it is."""
        rest = list(vector)
        for place in range(len(rest)):
            if not rest[place]:
                continue
            row = self._rows.get(place)
            if row is None:
                inverse = pow(rest[place], -1, PRIME)
                self._rows[place] = [x * inverse % PRIME for x in rest]
                return True
            head = rest[place]
            rest = [(x - head * y) % PRIME for x, y in zip(rest, row, strict=True)]
        return False


def _value(monomial: Monomial, point: list[int]) -> int:
    product = 1
    for v in monomial:
        product = product * point[v] % PRIME
    return product


def _add(f: Polynomial, monomial: Monomial, coefficient: int) -> None:
    f[monomial] = (f.get(monomial, 0) + coefficient) % PRIME


def _add_product(f: Polynomial, g: Polynomial, h: Polynomial, sign: int) -> None:
    for one, a in g.items():
        for other, b in h.items():
            _add(f, tuple(sorted(one + other)), sign * a * b)


def _without_zeros(field: Field) -> Field:
    cleaned = {i: {m: c for m, c in f.items() if c} for i, f in field.items()}
    return {i: f for i, f in cleaned.items() if f}
