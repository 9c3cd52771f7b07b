"""Any Gromov-Wasserstein problem as two matrices, with the axes that its starts pair."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ..measure import Measure
from .cost import InnerProduct, SignedDistance
from .dissimilarities import Compared, Dissimilarities, SquareLoss, matrix_of
from .gromov import AbstractDistortion
from .moments import cloud, equal_masses
from .task import Data


class Axes(NamedTuple):
    r"""The spectra of the centred matrices $h_1(C)$ and $h_2(C')$: $\sum_k \lambda_k z_k z_k^\top$.

    Attributes:
      points: $\sqrt{|\lambda_k|} z_k$, shapes (n, n) and (m, m), the largest $|\lambda_k|$ first.
      values: the eigenvalues.
    """

    points: tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "m m"]]
    values: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]

    def cross(self, plan: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "m n"]:
        """The cross-moment of the axes."""
        return self.points[1].T @ plan.T @ self.points[0]

    def pairs(self, count: int) -> list[tuple[float, int, int]]:
        """The pairs of axes of one sign with the largest products, the k-th with the k-th."""
        found = []
        for sign in (1, -1):
            first, second = (np.nonzero(np.sign(v) == sign)[0] for v in self.values)
            found += [
                (float(np.sqrt(np.abs(self.values[0][i] * self.values[1][j]))), int(i), int(j))
                for i, j in zip(first, second, strict=False)
            ]
        found.sort(key=lambda pair: -pair[0])
        return [pair for pair in found[:count] if pair[0] > 1e-10 * found[0][0]]


def compared(problem: AbstractDistortion, mu: Measure, nu: Measure) -> Compared:
    """The matrices of a problem.

    Raises:
      ValueError: masses that differ, matrices that do not fit, known pairs, free marginals.
    """
    if not np.isinf(problem.rho).all():
        raise ValueError("A finite `rho` is taken by Alternation() alone; leave it out.")
    equal_masses(mu, nu)
    if problem.known is not None:
        raise ValueError("`known` pairs are taken by Alternation() alone; leave them out.")
    weights = [np.asarray(measure.weights, np.float64) for measure in (mu, nu)]
    if not all(w.any() for w in weights):
        raise ValueError("`mu` and `nu` must have mass.")
    present = [np.nonzero(w > 0)[0] for w in weights]
    shared = problem.shared
    table = np.zeros((mu.size, nu.size))
    if shared is not None:
        table = _written_out(shared.data(mu, nu, np.float64, 1 - problem.alpha))
    cost = problem.cost
    return Compared(
        c=_matrices(problem, mu, nu, present),
        shares=(
            weights[0][present[0]] / weights[0].sum(),
            weights[1][present[1]] / weights[1].sum(),
        ),
        present=(present[0], present[1]),
        loss=cost.loss if isinstance(cost, Dissimilarities) else SquareLoss(),
        weight=problem.alpha,
        table=table[np.ix_(*present)],
    )


def axes_of(task: Compared) -> Axes:
    """The axes of both matrices, centred by mass."""
    sides = (task.loss.first(task.c[0])[1], task.loss.second(task.c[1])[1])
    (z, v), (w, u) = (_spectrum(h, a) for h, a in zip(sides, task.shares, strict=True))
    return Axes((z, w), (v, u))


def starts(axes: Axes, count: int) -> list[np.ndarray]:
    """Transforms that pair leading axes of one sign, in all signs; shapes (m, n)."""
    pairs = axes.pairs(count)
    found = []
    for signs in itertools.product([1.0, -1.0], repeat=len(pairs)):
        transform = np.zeros((len(axes.values[1]), len(axes.values[0])))
        for sign, (size, i, j) in zip(signs, pairs, strict=True):
            transform[j, i] = sign * size
        found.append(transform)
    return found


def _matrices(problem: AbstractDistortion, mu: Measure, nu: Measure, present: Any):
    cost = problem.cost
    if isinstance(cost, Dissimilarities):
        return (
            matrix_of("first", cost.first, mu, present[0]),
            matrix_of("second", cost.second, nu, present[1]),
        )
    x, y = (
        cloud(name, measure, problem.center).points[rows]
        for name, measure, rows in (("mu", mu, present[0]), ("nu", nu, present[1]))
    )
    if isinstance(cost, InnerProduct):
        return x @ x.T, y @ y.T
    signs = (cost.x, cost.y) if isinstance(cost, SignedDistance) else (1.0, 1.0)
    return tuple(
        np.sum((z[:, None] - z) ** 2 * s, axis=-1) for z, s in zip((x, y), signs, strict=True)
    )


def _shares(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return weights[rows] / weights.sum()


def _written_out(data: Data) -> Float[np.ndarray, "n m"]:
    rows, cols, alpha, beta = (
        np.asarray(leaf) for leaf in (data.rows, data.cols, data.alpha, data.beta)
    )
    table = alpha[:, None] + beta - rows @ cols.T
    return table if data.table is None else table + np.asarray(data.table)


def _spectrum(h: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means = h @ a
    centred, root = h - means[:, None] - means + a @ means, np.sqrt(a)
    values, vectors = np.linalg.eigh(root[:, None] * centred * root)
    order = np.argsort(-np.abs(values), kind="stable")
    values = values[order]
    return vectors[:, order] / root[:, None] * np.sqrt(np.abs(values)), values
