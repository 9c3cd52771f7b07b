"""The likeliest partners of atoms, in whatever form their coupling is kept."""

import numpy as np
from jaxtyping import Float, Int

from ..transport import AbstractCoupling, EntropicCoupling, SparseCoupling
from ..transport.entropic_problem import EntropicProblem, log_shares
from .bilinear import BilinearPairs
from .combined import SumCoupling
from .conditional_mean import likeliest


_BLOCK = 1024
Partners = tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]


def partners(coupling: AbstractCoupling, count: int) -> Partners:
    """The columns of the largest entries of each row, and their shares of the row's mass (zero for
    atoms that send nothing). Where many are equal, the first ones."""
    if isinstance(coupling, EntropicCoupling):
        return _of_entropic(coupling, count)
    if isinstance(coupling, SumCoupling) and isinstance(coupling.second, EntropicCoupling):
        return _of_sum(coupling.first, coupling.second, count)
    n = coupling.shape[0]
    places = [np.arange(k, min(k + _BLOCK, n)) for k in range(0, n, _BLOCK)]
    found = [_largest(_rows(coupling, rows), count) for rows in places]
    columns, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return columns, shares


def _of_entropic(coupling: EntropicCoupling, count: int) -> Partners:
    problem, pairs = coupling.problem, _bilinear(coupling)
    found = likeliest(pairs, coupling.g, log_shares(problem.b), problem.epsilon, count)
    columns, shares = (np.array(leaf) for leaf in found)
    return columns, shares


def _of_sum(known: AbstractCoupling, free: EntropicCoupling, count: int) -> Partners:
    """Only rows with known partners differ from those of what is free."""
    columns, shares = _of_entropic(free, count)
    whole = np.nonzero(np.asarray(known.marginals[0]) > 0)[0]
    for rows in np.array_split(whole, max(len(whole) // _BLOCK, 1)):
        both = _rows(known, rows) + _entropic_rows(free, rows)
        columns[rows], shares[rows] = _largest(both, count)
    return columns, shares


def _rows(coupling: AbstractCoupling, rows: np.ndarray) -> Float[np.ndarray, "r m"]:
    """Some rows of the matrix."""
    if not isinstance(coupling, SparseCoupling):
        return np.asarray(coupling.matrix[rows], np.float64)
    places = np.full(coupling.shape[0], -1)
    places[rows] = np.arange(len(rows))
    at, cols = places[np.asarray(coupling.rows)], np.asarray(coupling.cols)
    matrix = np.zeros((len(rows), coupling.shape[1]))
    np.add.at(matrix, (at[at >= 0], cols[at >= 0]), np.asarray(coupling.masses)[at >= 0])
    return matrix


def _entropic_rows(coupling: EntropicCoupling, rows: np.ndarray) -> Float[np.ndarray, "r m"]:
    problem, (u, alpha, table) = coupling.problem, _bilinear(coupling).rows
    chosen = u[rows], alpha[rows], None if table is None else table[rows]
    pairs = BilinearPairs(rows=chosen, cols=_bilinear(coupling).cols)
    some = EntropicProblem(pairs, problem.a[rows], problem.b, problem.epsilon)
    return np.asarray(coupling.total * some.plan(coupling.f[rows], coupling.g), np.float64)


def _bilinear(coupling: EntropicCoupling) -> BilinearPairs:
    assert isinstance(coupling.problem.pairs, BilinearPairs)
    return coupling.problem.pairs


def _largest(matrix: Float[np.ndarray, "r m"], count: int) -> Partners:
    columns = np.argsort(-matrix, axis=1, kind="stable")[:, :count]
    sums = matrix.sum(axis=1, keepdims=True)
    shares = np.take_along_axis(matrix, columns, axis=1) / np.where(sums > 0, sums, 1.0)
    return columns, shares
