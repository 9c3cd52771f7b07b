r"""Starts from a coarse problem: clusters of both measures, matched exactly from many transforms.

A coupling that is a product within every pair of clusters has the cross-moment, and the fixed
costs, of the coupling P of the clusters. So the problem among such couplings is the one between
centroids; without entropy and regularizer its best transforms are $M = \Gamma (s S_x + r)^+$, and
with $W W^\top = (s S_x + r)^+$ what is left is

$$\min_P\ -\tfrac{w}{2} |\Gamma(P) W|^2 + \langle D, P \rangle, \qquad \Gamma(P) = \sum_{kl} P_{kl}
y_l x_k^\top.$$

It is concave, so it has as many local optima as the large one, but a step takes microseconds.
"""

import itertools
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from .optima import grouped
from .starts import systematic_sample
from .task import Task


# The coarse problem is begun from so many random transforms and left after so many reflections
# that lead nowhere; so many of its optima are starts.
_RUNS = 8
_PATIENCE = 60
_STARTS = 4
# Centres are chosen among so many atoms, and moved at most so often.
_CANDIDATES = 400
_ROUNDS = 50
# An objective is lower when it is so by this share of its size.
_LOWER = 1e-9


class Coarse(NamedTuple):
    """The problem between clusters.

    Attributes:
      x, y: the centroids, those of x times W.
      a, b: the shares of the clusters.
      fixed: D, per unit of mass.
      known: the cross-moment of what is known beforehand, times W.
      mass: what is left to couple.
      weight: w.
    """

    x: Float[np.ndarray, "k p"]
    y: Float[np.ndarray, "l q"]
    a: Float[np.ndarray, " k"]
    b: Float[np.ndarray, " l"]
    fixed: Float[np.ndarray, "k l"]
    known: Float[np.ndarray, "q p"]
    mass: float
    weight: float

    @property
    def size(self) -> float:
        """About that of the entries of a large cross-moment."""
        squares = np.mean(self.a @ self.x**2) * np.mean(self.b @ self.y**2)
        return self.mass * float(np.sqrt(squares))

    def cross(self, plan: Float[np.ndarray, "k l"]) -> Float[np.ndarray, "q p"]:
        return self.known + self.mass * self.y.T @ plan.T @ self.x

    def value(self, plan: Float[np.ndarray, "k l"]) -> float:
        energy = -self.weight / 2 * np.sum(self.cross(plan) ** 2)
        return float(energy + self.mass * np.sum(self.fixed * plan))

    def costs(self, cross: Float[np.ndarray, "q p"]) -> Float[np.ndarray, "k l"]:
        """The costs of the best transform for a cross-moment: the gradient, divided by the mass."""
        return self.fixed - self.weight * (self.x @ cross.T) @ self.y.T


class Vertex(NamedTuple):
    """A coupling of clusters, and its objective."""

    value: float
    plan: Float[np.ndarray, "k l"]


def cluster_starts(task: Task, count: int, key: PRNGKeyArray) -> Float[np.ndarray, "s q p"]:
    """The transforms of the lowest optima between so many clusters of either measure."""
    root = _root(task)
    coarse = coarsened(task, count, root, key)
    rng = np.random.default_rng(int(jr.bits(key)))
    found = []
    for _ in range(_RUNS):
        cross = coarse.size * rng.normal(size=coarse.known.shape)
        found.append(reflected(coarse, lowered(coarse, coarse.costs(cross)), rng))
    transforms = np.stack([coarse.cross(vertex.plan) @ root.T for vertex in found])
    optimum = grouped(transforms, np.array([vertex.value for vertex in found]), 0.0)
    first = [int(np.argmax(optimum == number)) for number in range(optimum.max() + 1)]
    return transforms[first[:_STARTS]]


def coarsened(task: Task, count: int, root: np.ndarray, key: PRNGKeyArray) -> Coarse:
    """The problem between clusters of both measures."""
    x, y = (np.asarray(points, np.float64) for points in (task.x, task.y))
    a, b = (np.asarray(weights, np.float64) for weights in (task.a, task.b))
    a, b = a / a.sum(), b / b.sum()
    left, right = (
        _memberships(clusters(points, shares, count, one), shares)
        for points, shares, one in zip((x, y), (a, b), jr.split(key), strict=True)
    )
    mean_left, mean_right = (part / part.sum(axis=0) for part in (left, right))
    squares = [np.sum(points**2, axis=1) for points in (x, y)]
    fixed = -task.norms * np.outer(mean_left.T @ squares[0], mean_right.T @ squares[1])
    rows, cols = (np.asarray(part, np.float64) for part in (task.data.rows, task.data.cols))
    fixed -= (mean_left.T @ rows) @ (mean_right.T @ cols).T
    if task.data.table is not None:
        fixed += mean_left.T @ np.asarray(task.data.table, np.float64) @ mean_right
    return Coarse(
        x=mean_left.T @ x @ root,
        y=mean_right.T @ y,
        a=left.sum(axis=0),
        b=right.sum(axis=0),
        fixed=fixed,
        known=task.pinned.cross @ root,
        mass=task.free_mass,
        weight=task.weight,
    )


def clusters(
    points: Float[np.ndarray, "n d"], shares: Float[np.ndarray, " n"], count: int, key: PRNGKeyArray
) -> Int[np.ndarray, " n"]:
    """The cluster of each atom: centres are added where they lower the sum of squared distances
    most, then moved to the means of their clusters until none changes (k-means)."""
    present = np.unique(systematic_sample(shares, min(len(shares), _CANDIDATES), key))
    between = _squared_distances(points, points[present])
    nearest, centres = np.full(len(points), np.inf), []
    while len(centres) < count:
        sums = shares @ np.minimum(nearest[:, None], between)
        best = int(np.argmin(sums))
        if centres and sums[best] >= shares @ nearest:
            break
        centres.append(points[present[best]])
        nearest = np.minimum(nearest, between[:, best])
    centres, labels = np.stack(centres), np.full(len(points), -1)
    for _ in range(_ROUNDS):
        new = np.argmin(_squared_distances(points, centres), axis=1)
        if (new == labels).all():
            break
        labels = new
        parts = _memberships(labels, shares, len(centres))
        masses = parts.sum(axis=0)
        means = parts.T @ points / np.where(masses > 0, masses, 1.0)[:, None]
        centres = np.where(masses[:, None] > 0, means, centres)
    return labels


def lowered(coarse: Coarse, costs: Float[np.ndarray, "k l"]) -> Vertex:
    """Exact transport and the best transform in turn, from the coupling that is best for costs."""
    now = _vertex(coarse, costs)
    while True:
        new = _vertex(coarse, coarse.costs(coarse.cross(now.plan)))
        if not _lower(new, now):
            return now
        now = new


def reflected(coarse: Coarse, now: Vertex, rng: np.random.Generator) -> Vertex:
    """Reflections that put two centroids of x in each other's place, and what they go down to, as
    long as one of some random pairs ends lower."""
    pairs = np.array(list(itertools.combinations(range(len(coarse.a)), 2)))
    improved = True
    while improved and len(pairs):
        improved = False
        for i, j in rng.permutation(pairs)[:_PATIENCE]:
            axis = coarse.x[i] - coarse.x[j]
            cross = coarse.cross(now.plan)
            mirrored = cross - 2 * np.outer(cross @ axis, axis) / max(axis @ axis, 1e-300)
            new = lowered(coarse, coarse.costs(mirrored))
            if _lower(new, now):
                now, improved = new, True
                break
    return now


def _lower(new: Vertex, old: Vertex) -> bool:
    return new.value < old.value - _LOWER * abs(old.value)


def _vertex(coarse: Coarse, costs: np.ndarray) -> Vertex:
    import ot

    size = np.abs(costs).max() or 1.0  # POT's tolerances are absolute
    plan = np.asarray(ot.emd(coarse.a, coarse.b, costs / size))
    return Vertex(coarse.value(plan), plan)


def _root(task: Task) -> Float[np.ndarray, "p r"]:
    r"""W with $W W^\top = (s S_x + r)^+$."""
    values, vectors = np.linalg.eigh(task.moments.x)
    values = task.squared * values + task.regularizer.ridge
    seen = values > 1e-10 * values[-1]
    return vectors[:, seen] / np.sqrt(values[seen])


def _memberships(labels: np.ndarray, shares: np.ndarray, count: int | None = None) -> np.ndarray:
    """The share of each atom in the column of its cluster; empty clusters left out, unless they
    are counted."""
    names = np.unique(labels[shares > 0]) if count is None else np.arange(count)
    return shares[:, None] * (labels[:, None] == names)


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Any:
    return np.maximum(np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * x @ y.T, 0.0)
