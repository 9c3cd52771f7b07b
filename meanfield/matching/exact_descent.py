r"""Alternation between transforms and vertices: a descent that ends after finitely many steps.

With $M_\pi$ the best transform for a coupling and $L(M, \pi)$ the objective, the next coupling is a
vertex that minimises $L(M_\pi, \cdot)$. Unless $\pi$ minimises it itself, $\min_M L(M, \pi^+) \le
L(M_\pi, \pi^+) < L(M_\pi, \pi)$.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .moments import Cloud
from .regularizer import inner
from .task import Task
from .vertices import Products, Vertex, best_vertex, potentials


# A step that lowers the linear objective by less than this share of its terms is no step.
_ROUNDING = 1e-13


class Problem(NamedTuple):
    """A task on the host, in float64.

    Attributes:
      task: the task.
      x, y: the points of all atoms.
      rows, cols: the atoms that have mass left to match.
      a, b: their masses, as shares.
      u, v: the features of the fixed costs that no transform changes; the costs are minus their
        products, plus `alpha`, `beta` and the table.
    """

    task: Task
    x: Float[np.ndarray, "n p"]
    y: Float[np.ndarray, "m q"]
    rows: Int[np.ndarray, " r"]
    cols: Int[np.ndarray, " c"]
    a: Float[np.ndarray, " r"]
    b: Float[np.ndarray, " c"]
    u: Float[np.ndarray, "n k"]
    v: Float[np.ndarray, "m k"]
    alpha: Float[np.ndarray, " n"]
    beta: Float[np.ndarray, " m"]
    table: Float[np.ndarray, "n m"] | None

    def products(self, transform: Float[np.ndarray, "q p"] | None) -> Products:
        """The costs of a transform between the atoms that have mass left, functions of one side
        left out; with None those of the fixed part."""
        u, v = self.u[self.rows], self.v[self.cols]
        if transform is not None:
            u = np.hstack([self.task.weight * self.x[self.rows] @ transform.T, u])
            v = np.hstack([self.y[self.cols], v])
        table = None if self.table is None else self.table[np.ix_(self.rows, self.cols)]
        return Products(u, v, table, self.a, self.b)


class Coupled(NamedTuple):
    """A coupling of all mass, known pairs included, and what follows from it.

    Attributes:
      rows, cols, masses: its entries.
      cross: its cross-moment.
      transform: the best transform for it.
      fixed: what it pays whatever the transform is.
      objective: at both.
    """

    rows: Int[np.ndarray, " e"]
    cols: Int[np.ndarray, " e"]
    masses: Float[np.ndarray, " e"]
    cross: Float[np.ndarray, "q p"]
    transform: Float[np.ndarray, "q p"]
    fixed: float
    objective: float


class Ended(NamedTuple):
    """Where a start came to, at which vertex, after how many steps, and whether it is its own best
    answer."""

    coupled: Coupled
    vertex: Vertex
    steps: int
    settled: bool


def problem_of(task: Task, clouds: tuple[Cloud, Cloud]) -> Problem:
    """The task on the host. The weights that are left are those of the clouds less known pairs."""
    data, pinned = task.data, task.pinned
    x, y = (cloud.points for cloud in clouds)
    a, b = (cloud.shares.copy() for cloud in clouds)
    a[pinned.rows] -= pinned.masses
    b[pinned.cols] -= pinned.masses
    rows, cols = np.nonzero(a > 0)[0], np.nonzero(b > 0)[0]
    u, v, alpha, beta = (
        np.asarray(part, np.float64) for part in (data.rows, data.cols, data.alpha, data.beta)
    )
    if task.norms:
        u = np.column_stack([task.norms * np.sum(x**2, axis=1), u])
        v = np.column_stack([np.sum(y**2, axis=1), v])
    table = None if data.table is None else np.asarray(data.table, np.float64)
    return Problem(task, x, y, rows, cols, a[rows], b[cols], u, v, alpha, beta, table)


def descend_exactly(
    problem: Problem,
    transform: Float[np.ndarray, "q p"],
    max_steps: int,
    potential: Float[np.ndarray, " c"] | None = None,
    enough: float = -np.inf,
) -> Ended:
    """Vertices from a transform on, until one is its own best answer or its objective `enough`."""
    vertex = best_vertex(problem.products(transform), potential)
    now = _coupled(problem, vertex, transform)
    for step in range(1, max_steps):
        if now.objective <= enough:
            return Ended(now, vertex, step, True)
        new = best_vertex(problem.products(now.transform), vertex.potential)
        if new.same_as(vertex):
            return Ended(now, new, step, True)
        moved = _coupled(problem, new, now.transform)
        slack = _ROUNDING * (abs(now.objective) + abs(problem.task.constant))
        if not _linear(problem, now.transform, moved) < now.objective - slack:
            return Ended(now, vertex, step, True)
        now, vertex = moved, new
    return Ended(now, vertex, max_steps, False)


def potentials_of(problem: Problem, ended: Ended) -> tuple[np.ndarray, np.ndarray]:
    """Potentials of all atoms for the costs of the last transform; zero where none is left."""
    task, f, g = problem.task, np.zeros(len(problem.x)), np.zeros(len(problem.y))
    costs = problem.products(ended.coupled.transform)
    f[problem.rows], g[problem.cols] = potentials(costs, ended.vertex)
    images = problem.x @ ended.coupled.transform.T
    half = task.squared * task.weight / 2
    return (
        f + problem.alpha + half * np.sum(images**2, axis=1),
        g + problem.beta + half * np.sum(problem.y**2, axis=1),
    )


def fixed_part(problem: Problem) -> float:
    """The least that a coupling pays of what no transform changes."""
    vertex = best_vertex(problem.products(None))
    return _fixed(problem, *_entries(problem, vertex))


def _coupled(problem: Problem, vertex: Vertex, last: Float[np.ndarray, "q p"]) -> Coupled:
    task = problem.task
    rows, cols, masses = _entries(problem, vertex)
    cross = (problem.y[cols].T * masses) @ problem.x[rows]
    transform = best_transform(task, cross, last)
    fixed = _fixed(problem, rows, cols, masses)
    coupled = Coupled(rows, cols, masses, cross, transform, fixed, np.inf)
    return coupled._replace(objective=_linear(problem, transform, coupled))


def best_transform(
    task: Task, cross: Float[np.ndarray, "q p"], last: Float[np.ndarray, "q p"]
) -> Float[np.ndarray, "q p"]:
    """The best transform for the cross-moment of a coupling of all mass."""
    free = cross - task.pinned.cross, task.moments.x - task.pinned.second
    found = task.transform_for(free[0][None], free[1][None], last[None], 1.0)
    return np.asarray(found)[0]


def _entries(problem: Problem, vertex: Vertex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the vertex and of the known pairs."""
    rows, cols = problem.rows[vertex.rows], problem.cols[vertex.cols]
    pinned = problem.task.pinned
    if not len(pinned.rows):
        return rows, cols, vertex.masses
    return (
        np.concatenate([rows, pinned.rows]),
        np.concatenate([cols, pinned.cols]),
        np.concatenate([vertex.masses, pinned.masses]),
    )


def _fixed(problem: Problem, rows, cols, masses) -> float:
    costs = problem.alpha[rows] + problem.beta[cols]
    costs = costs - np.sum(problem.u[rows] * problem.v[cols], axis=1)
    if problem.table is not None:
        costs = costs + problem.table[rows, cols]
    return float(masses @ costs)


def _linear(problem: Problem, transform: Float[np.ndarray, "q p"], coupled: Coupled) -> float:
    """The objective of a transform and a coupling."""
    task = problem.task
    value = task.regularizer.value(transform) - inner(transform, coupled.cross)
    if task.squared:
        value += inner(transform @ task.moments.x, transform) / 2 + np.trace(task.moments.y) / 2
    return float(task.weight * value + coupled.fixed + task.constant)
