r"""A number that no coupling goes below, from moments alone: how far from the global optimum a
match can be.

Every coupling has $\Gamma = S_y^{1/2} K S_x^{1/2}$ with singular values of K of at most one, so
that by von Neumann's inequality $\operatorname{tr} \Gamma h(S_x) \Gamma^\top \le \sum_i
\lambda_i(S_y) \lambda_i h(\lambda_i)$ with the eigenvalues $\lambda_i$ of $S_x$ (theory page).
"""

import numpy as np
from jaxtyping import Float

from .entrywise import L1, ElasticNet, Nonnegative, Ridge, Support
from .groups import ColumnGroups, RowGroups
from .moments import Cloud, Moments
from .spectral import Nuclear, Orthogonal, Rank
from .task import Task


_OF_ENTRIES = (L1, ElasticNet, Nonnegative, Ridge, Support, ColumnGroups, RowGroups)
_OF_SINGULAR_VALUES = (Nuclear, Rank, Orthogonal)


def lower_bound(task: Task, clouds: tuple[Cloud, Cloud], fixed: float | None = None) -> float:
    """A bound on the objective of every coupling and transform, without entropy and with it.

    Minus infinity where none is known: with free marginals, signed distances, a regularizer from
    elsewhere, or a second cost unless `fixed` tells the least that a coupling pays of what no
    transform changes.
    """
    known = isinstance(task.regularizer.regularizer, _OF_ENTRIES + _OF_SINGULAR_VALUES)
    if not known or not task.balanced or task.signs is not None:
        return -np.inf
    if fixed is None:
        fixed = -np.inf if has_data(task) else -task.norms * _largest_norms(clouds)
    bound = task.constant + fixed - task.weight * _largest_gain(task)
    if task.squared:
        bound += task.weight / 2 * np.trace(task.moments.y)
    return float(bound)


def has_data(task: Task) -> bool:
    """Whether a part of the cost is given and not made from the points."""
    data = task.data
    if data.table is not None or data.rows.shape[1]:
        return True
    return bool(np.asarray(data.alpha).any() or np.asarray(data.beta).any())


def _largest_norms(clouds: tuple[Cloud, Cloud]) -> float:
    squares = [np.sum(c.points**2, axis=1) for c in clouds]
    return largest_product(squares[0], clouds[0].shares, squares[1], clouds[1].shares)


def largest_product(
    u: Float[np.ndarray, " n"],
    a: Float[np.ndarray, " n"],
    v: Float[np.ndarray, " m"],
    b: Float[np.ndarray, " m"],
) -> float:
    r"""The largest $\int u v\, d\pi$ over couplings of two measures on the line, which the monotone
    one has: $\int_0^1 F_u^{-1}(t) F_v^{-1}(t)\, dt$."""
    i, j = np.argsort(u), np.argsort(v)
    if len(a) == len(b) and np.ptp(a) == 0 and np.ptp(b) == 0:
        return float(u[i] @ v[j] * a[0])
    first, second = np.cumsum(a[i]), np.cumsum(b[j])
    levels = np.sort(np.concatenate([first, second]))
    widths = np.diff(levels, prepend=0.0)
    middles = levels - widths / 2
    k = np.minimum(np.searchsorted(first, middles), len(a) - 1)
    l = np.minimum(np.searchsorted(second, middles), len(b) - 1)
    return float(np.sum(widths * u[i[k]] * v[j[l]]))


def _largest_gain(task: Task) -> float:
    r"""A bound on $\max_M \langle M, \Gamma \rangle - \frac{s}{2} \operatorname{tr} M S_x M^\top -
    R(M)$ over all couplings."""
    x, y = (np.clip(np.linalg.eigvalsh(moment)[::-1], 0, None) for moment in task.moments)
    k, ridge = min(len(x), len(y)), task.regularizer.ridge
    x, y = x[:k], y[:k]
    softened = task.squared * x + ridge
    gain = float(np.sum(y * x / np.where(softened > 0, softened, np.inf)) / 2)
    if task.squared or ridge == 0:
        return gain
    return min(gain, float(task.regularizer.conjugate(_largest_moment(task, np.sqrt(x * y)))))


def _largest_moment(task: Task, values: Float[np.ndarray, " k"]) -> Float[np.ndarray, "q p"]:
    """A matrix at which the conjugate is at least that at every cross-moment."""
    moments: Moments = task.moments
    if isinstance(task.regularizer.regularizer, _OF_ENTRIES):
        return np.sqrt(np.outer(np.diag(moments.y), np.diag(moments.x)))
    largest = np.zeros((len(moments.y), len(moments.x)))
    np.fill_diagonal(largest, values)
    return largest
