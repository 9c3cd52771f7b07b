"""Clouds of parameter particles: squared distances in coordinates that no gauge can change.

A particle is a head or a neuron of a layer. Its coordinates may be products of thin matrices, which
are compared through small Gram matrices and never formed.
"""

import abc
import functools

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int


# below this share of the squared norms, a difference of inner products has lost half its digits
_NEAR = 1e-6


class AbstractCloud(eqx.Module):
    """n particles of a layer, on the host in float64."""

    @property
    @abc.abstractmethod
    def squared_norms(self) -> Float[np.ndarray, " n"]:
        """The squared norm of each particle: its squared distance from a particle that is zero."""

    @abc.abstractmethod
    def overlaps(self, other: "AbstractCloud") -> Float[np.ndarray, "n m"]:
        """The inner products of all pairs, each the largest over the symmetries of a particle."""

    @abc.abstractmethod
    def squared_gaps(
        self, other: "AbstractCloud", rows: Int[np.ndarray, " k"], cols: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        """The squared distances of some pairs, from differences: near particles keep digits."""


def squared_distances(a: AbstractCloud, b: AbstractCloud) -> Float[np.ndarray, "n m"]:
    r"""The squared distances $|a_i|^2 + |b_j|^2 - 2 \langle a_i, b_j \rangle$ of all pairs.

    Where that sum cancels, the distance is found again from the difference of the two particles.
    """
    norms = a.squared_norms[:, None] + b.squared_norms
    squared = norms - 2 * a.overlaps(b)
    rows, cols = np.nonzero(squared < _NEAR * norms)
    squared[rows, cols] = a.squared_gaps(b, rows, cols)
    return squared


class Together(AbstractCloud):
    """Particles with several parts: squared distances of the parts add up."""

    parts: tuple[AbstractCloud, ...]

    @property
    def squared_norms(self) -> Float[np.ndarray, " n"]:
        return np.sum([part.squared_norms for part in self.parts], axis=0)

    def overlaps(self, other: AbstractCloud) -> Float[np.ndarray, "n m"]:
        return np.sum([one.overlaps(two) for one, two in self._pairs(other)], axis=0)

    def squared_gaps(
        self, other: AbstractCloud, rows: Int[np.ndarray, " k"], cols: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        gaps = [one.squared_gaps(two, rows, cols) for one, two in self._pairs(other)]
        return np.sum(gaps, axis=0)

    def _pairs(self, other: AbstractCloud):
        assert isinstance(other, Together)
        return zip(self.parts, other.parts, strict=True)


class Products(AbstractCloud):
    r"""Particles that are products $(L_b^T R_b)_{b = 1, \dots, B}$ of thin factors, with Frobenius
    distances $|P - P'|^2 = \sum_b |L_b^T R_b - L_b'^T R_b'|^2$.

    Inner products come from r x r Gram matrices,
    $\langle L^T R, L'^T R' \rangle = \sum_{st} (L L'^T)_{st} (R R'^T)_{st}$. Distances of near
    particles come from triangular factors: $L^T R - L'^T R' = \mathbf{L}^T \mathbf{R}$ with
    $\mathbf L = (L; L')$, $\mathbf R = (R; -R')$; if $\mathbf L^T = U S$ and $\mathbf R^T = W T$
    with orthonormal columns in U and W, its norm is $|S T^T|$.

    Args:
      left: L, shape (n, b, r, d).
      right: R, shape (n, b, r, e).
    """

    left: Float[np.ndarray, "n b r d"]
    right: Float[np.ndarray, "n b r e"]

    @property
    def squared_norms(self) -> Float[np.ndarray, " n"]:
        left, right = (x @ x.swapaxes(-1, -2) for x in (self.left, self.right))
        return np.maximum(np.sum(left * right, axis=(1, 2, 3)), 0.0)

    def overlaps(self, other: AbstractCloud) -> Float[np.ndarray, "n m"]:
        assert isinstance(other, Products)
        n, _, r, _ = self.left.shape
        grams = _grams(self.left, other.left) * _grams(self.right, other.right)
        return grams.sum(axis=0).reshape(n, r, len(other.left), -1).sum(axis=(1, 3))

    def squared_gaps(
        self, other: AbstractCloud, rows: Int[np.ndarray, " k"], cols: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        assert isinstance(other, Products)
        pairs = zip(rows.tolist(), cols.tolist(), strict=True)
        return np.array([self._squared_gap(other, i, j) for i, j in pairs], float)

    def _squared_gap(self, other: "Products", i: int, j: int) -> float:
        left = np.concatenate([self.left[i], other.left[j]], axis=1)
        right = np.concatenate([self.right[i], -other.right[j]], axis=1)
        S, T = _triangle(left), _triangle(right)
        return float(np.sum((S @ T.swapaxes(-1, -2)) ** 2))


def _triangle(factor: Float[np.ndarray, "b r d"]) -> Float[np.ndarray, "b k r"]:
    """S in the decompositions L^T = U S."""
    return np.asarray(np.linalg.qr(factor.swapaxes(-1, -2), mode="r"))


def _grams(
    x: Float[np.ndarray, "n b r d"], y: Float[np.ndarray, "m b s d"]
) -> Float[np.ndarray, "b nr ms"]:
    """The inner products of all factors of a block, particles side by side."""
    x, y = (np.moveaxis(z, 1, 0).reshape(z.shape[1], -1, z.shape[3]) for z in (x, y))
    return x @ y.swapaxes(-1, -2)


class Points(AbstractCloud):
    r"""Particles that are vectors $(a_1, \dots, a_B)$ up to signs: the distance to $a'$ is
    $\min_s (\sum_b |a_b - s_b a'_b|^2)^{1/2}$ over a group of sign patterns s.

    Args:
      blocks: the $a_b$, shapes (n, d_b).
      signs: the patterns, a group under multiplication; the one of pluses by default.
    """

    blocks: tuple[Float[np.ndarray, "n _"], ...]
    signs: tuple[tuple[int, ...], ...]

    def __init__(self, *blocks: np.ndarray, signs: tuple[tuple[int, ...], ...] | None = None):
        self.blocks = blocks
        self.signs = (len(blocks) * (1,),) if signs is None else signs

    @property
    def squared_norms(self) -> Float[np.ndarray, " n"]:
        return np.sum([np.sum(block**2, axis=1) for block in self.blocks], axis=0)

    def overlaps(self, other: AbstractCloud) -> Float[np.ndarray, "n m"]:
        assert isinstance(other, Points)
        inner = [a @ b.T for a, b in zip(self.blocks, other.blocks, strict=True)]
        return _greatest(sum(s * x for s, x in zip(p, inner, strict=True)) for p in self.signs)

    def squared_gaps(
        self, other: AbstractCloud, rows: Int[np.ndarray, " k"], cols: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        assert isinstance(other, Points)
        blocks = list(zip(self.blocks, other.blocks, strict=True))
        return -_greatest(
            -sum(_squares(a, s * b, rows, cols) for s, (a, b) in zip(p, blocks, strict=True))
            for p in self.signs
        )


def _squares(a, b, rows, cols) -> Float[np.ndarray, " k"]:
    """Squared distances of pairs of rows, a few thousand at a time."""
    parts = range(0, len(rows), 4096)
    found = [np.sum((a[rows[k : k + 4096]] - b[cols[k : k + 4096]]) ** 2, 1) for k in parts]
    return np.concatenate([np.zeros(0), *found])


def _greatest(arrays) -> np.ndarray:
    return functools.reduce(np.maximum, arrays)
