"""Attention around a measure: its heads joined behind their output projections."""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Float

from meanfield.attention import AbstractAttention
from meanfield.attention.attending import AbstractMask

from ..ellipsoid import spectral_norm
from ..heads import value_maps
from .centre import columns_at, rows_at, smooth_at, split_at
from .features import heads_at
from .head import Atoms, Head
from .model import Known, LocalModel
from .reach import Reach, reach


Array = np.ndarray
# A Gram matrix of one head is factorised up to this size; its entries then take 134 MB.
_DENSE = 4096
_STEPS = 8


class AttentionModel(LocalModel):
    """Attention at the atoms of a measure."""

    def __init__(self, f: AbstractAttention, atoms: Atoms, mask: AbstractMask | None = None):
        self.atoms = atoms
        heads = heads_at(f, atoms, mask)
        self.heads = (_folded(heads[0]),) if len(heads) == 1 else heads
        self.each = np.array([spectral_norm(head.output) for head in self.heads])
        self.stacked = np.concatenate([head.output for head in self.heads], axis=1)
        self.whole = spectral_norm(self.stacked)
        mixed = np.concatenate([head.means for head in heads], axis=1)
        outputs = np.concatenate([head.output for head in heads], axis=1)
        self.image = mixed @ outputs.T + value_maps(f).constant
        self.rounding = max(head.rounding for head in self.heads)
        pairs = list(zip(self.each, self.heads, strict=True))
        self.slack = sum(float(o) * head.slack(atoms.masses) for o, head in pairs)
        self.drift = self.rounding * sum(float(o) * head.sizes[2] for o, head in pairs)
        size = len(heads[0].q) * self.heads[0].v.shape[1]
        self.exact = len(heads) == 1 and size <= _DENSE
        self.settled: dict[float | int, float] = {}
        self._cross = [head.cross() for head in self.heads]
        self._kept: dict[float, list[Reach]] = {}

    def reach(self, t: float) -> list[Reach]:
        """The sizes of all heads in the ball of radius t."""
        if t not in self._kept:
            pairs = zip(self.heads, self._cross, strict=True)
            self._kept[t] = [reach(head, t, cross) for head, cross in pairs]
        return self._kept[t]

    def known(self, t: float) -> Known:
        parts = self.reach(t)
        query = self._most([part.query for part in parts])
        bent = self._most([part.query_bend for part in parts])
        rows = self._most([part.query + part.row for part in parts])
        bent_rows = self._most([part.query_bend + part.row_bend for part in parts])
        weights = [part.weight for part in parts]
        constant = {
            1: query + self._columns([part.column for part in parts]),
            2: query + self._square([part.row for part in parts], weights),
            math.inf: rows,
        }
        bend = {
            1: bent + self._columns([part.column_bend for part in parts]),
            2: bent + self._square([part.row_bend for part in parts], weights),
            math.inf: bent_rows,
        }
        for p, centre in self.settled.items():
            constant[p] = min(constant[p], centre + t * bend[p])
        return Known(constant, bend)

    @property
    def parts(self) -> list[LocalModel]:
        return [self]

    def local_bounds(self, t: float) -> Float[Array, " n"]:
        bounds = self._join([part.query for part in self.reach(t)])
        return np.where(np.isfinite(bounds), bounds, np.inf) * (1 + 64 * self.rounding)

    def at_centre(self, p: float | int, splitting: bool) -> float:
        if p == 2:
            head = self.heads[0]
            if not self.exact:
                return self.known(0.0).constant[2]
            smooth = smooth_at(head, self.atoms.masses)
            return self.whole * (max(smooth, split_at(head)) if splitting else smooth)
        if p == math.inf:
            return float(np.max(self.rows(splitting)))
        columns = [columns_at(head, self.atoms.masses, splitting) for head in self.heads]
        summed = np.tensordot(self.each, columns, 1)
        return float(np.max(np.minimum(summed, self.whole * np.sum(columns, axis=0))))

    def rows(self, splitting: bool) -> Float[Array, " n"]:
        """Bounds on the norm of every row of J from L^inf."""
        return self._join([rows_at(head, splitting) for head in self.heads])

    def rates(self, t: float, splitting: bool) -> Float[Array, " n"]:
        r"""The mean rate, over a straight move of length t, at which each output can move."""
        moved, speed = np.zeros(len(self.atoms.points)), self.rows(splitting)
        step = t / _STEPS
        for k in range(1, _STEPS + 1):
            parts = self.reach(k * step)
            bend = self._join([part.bend for part in parts])
            direct = self._join([part.query + part.row for part in parts])
            moved += np.fmin(direct, speed + bend * step / 2) * step
            speed = speed + bend * step
        spread = self._join([part.spread for part in self.reach(t)])
        return np.fmin(moved, spread) / t

    def travel(self, t: float) -> float:
        if t == 0:
            return 0.0
        whole = self._join([part.spread for part in self.reach(t)])
        return float(min(np.max(whole), t * self.known(t).constant[math.inf]))

    def local(self, i: int) -> Float[Array, "e d"]:
        return self.stacked @ np.concatenate([head.local(i) for head in self.heads])

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        inner = np.concatenate([head.forward(moves) for head in self.heads], axis=-1)
        return inner @ self.stacked.T

    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        cuts = np.cumsum([head.v.shape[1] for head in self.heads])[:-1]
        parts = np.split(pulls @ self.stacked, cuts, axis=-1)
        total = np.zeros((*pulls.shape[:2], self.heads[0].query.shape[1]))
        for head, part in zip(self.heads, parts, strict=True):
            total += head.backward(part)
        return total

    def _join(self, sizes: list[Array]) -> Array:
        """Sizes of what heads put out, joined: summed, or stacked and projected."""
        summed = sum(o * size for o, size in zip(self.each, sizes, strict=True))
        square = sum(size**2 for size in sizes)
        return np.fmin(summed, self.whole * np.sqrt(square))

    def _most(self, sizes: list[Array]) -> float:
        return _largest(self._join(sizes))

    def _columns(self, columns: list[Array]) -> float:
        """max_j sum_i (a_i / a_j) c_ij."""
        masses = self.atoms.masses
        return _largest(masses @ self._join(columns) / masses)

    def _square(self, rows: list[Array], weights: list[Array]) -> float:
        """A bound on an operator whose heads have rows of these norms in L^2 of their shares."""
        masses = self.atoms.masses
        total = sum(o * row for o, row in zip(self.each, rows, strict=True))
        first, second = 0.0, 0.0
        for o, row, weight in zip(self.each, rows, weights, strict=True):
            first = first + (masses * total * o * row) @ weight
            second = second + (masses * row**2) @ weight
        summed, stacked = _largest(first / masses), _largest(second / masses)
        return math.sqrt(min(summed, self.whole**2 * stacked))


def _largest(sizes: Array) -> float:
    """The maximum; inf where a number overflowed."""
    return float(np.max(np.where(np.isfinite(sizes), sizes, np.inf)))


def _folded(head: Head) -> Head:
    """The same head with the output projection in its values: what is left is orthogonal."""
    basis, inner = np.linalg.qr(head.output)
    return eqx.tree_at(
        lambda h: (h.value, h.v, h.output), head, (inner @ head.value, head.v @ inner.T, basis)
    )
