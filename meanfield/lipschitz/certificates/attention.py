"""Attention around a measure: its heads joined behind their output projections."""

import math
from functools import cached_property

import numpy as np
from jaxtyping import Float

from meanfield.attention import AbstractAttention
from meanfield.attention.attending import AbstractMask

from ..ellipsoid import spectral_norm
from ..heads import value_maps
from .centre import columns_at, rows_at, smooth_at, split_at
from .features import heads_at
from .head import Atoms
from .joint import JointRows
from .model import EXPONENTS, INFINITY, Exponents, Known, LocalModel, times
from .reach import Reach, reach


Array = np.ndarray
# A Gram matrix of one head is factorised up to this size; its entries then take 134 MB.
_DENSE = 4096
_STEPS = 8


class AttentionModel(LocalModel):
    """Attention at the atoms of a measure."""

    def __init__(self, f: AbstractAttention, atoms: Atoms, mask: AbstractMask | None = None):
        self.atoms = atoms
        self.heads = heads_at(f, atoms, mask)
        self.each = np.array([spectral_norm(head.output) for head in self.heads])
        self.stacked = np.concatenate([head.output for head in self.heads], axis=1)
        self.whole = spectral_norm(self.stacked)
        mixed = np.concatenate([head.means for head in self.heads], axis=1)
        self.image = mixed @ self.stacked.T + value_maps(f).constant
        self.rounding = max(head.rounding for head in self.heads)
        pairs = list(zip(self.each, self.heads, strict=True))
        self.slack = sum(float(o) * head.slack(atoms.masses) for o, head in pairs)
        self.drift = self.rounding * sum(float(o) * head.sizes[2] for o, head in pairs)
        size = len(atoms.points) * self.heads[0].v.shape[1]
        self.exact = len(self.heads) == 1 and size <= _DENSE
        self.settled: dict[float | int, float] = {}
        self._cross = [head.cross() for head in self.heads]
        self._kept: dict[float, list[Reach]] = {}
        self._rows: dict[bool, Array] = {}

    def reach(self, t: float) -> list[Reach]:
        """The sizes of all heads in the ball of radius t."""
        if t not in self._kept:
            pairs = zip(self.heads, self._cross, strict=True)
            self._kept[t] = [reach(head, t, cross) for head, cross in pairs]
        return self._kept[t]

    def known(self, t: float | Float[Array, " n"]) -> "AttentionKnown":
        return AttentionKnown(self, float(np.max(t)))

    @property
    def parts(self) -> list[LocalModel]:
        return [self]

    def local_bounds(self, t: float) -> Float[Array, " n"]:
        bounds = self.join([part.query for part in self.reach(t)])
        return np.where(np.isfinite(bounds), bounds, np.inf) * (1 + 64 * self.rounding)

    def at_centre(self, p: float | int, splitting: bool) -> float:
        if p == 2:
            head = self.heads[0]
            if not self.exact:
                return self.known(0.0).reached(2)
            smooth = smooth_at(head, self.atoms.masses)
            return self.whole * (max(smooth, split_at(head)) if splitting else smooth)
        if p == math.inf:
            return float(np.max(self.rows(splitting)))
        columns = [columns_at(head, self.atoms.masses, splitting) for head in self.heads]
        summed = np.tensordot(self.each, columns, 1)
        return float(np.max(np.minimum(summed, self.whole * np.sum(columns, axis=0))))

    def rows(self, splitting: bool) -> Float[Array, " n"]:
        """Bounds on the norm of every row of J from L^inf."""
        if splitting not in self._rows:
            rows = self.join([rows_at(head, splitting) for head in self.heads])
            if len(self.heads) > 1 and all(head.aligned for head in self.heads):
                joint = JointRows(self.heads, self.stacked)
                rows = np.minimum(rows, [joint.bound(i) for i in range(len(rows))])
            self._rows[splitting] = rows
        return self._rows[splitting]

    def rates(self, t: float, splitting: bool) -> Float[Array, " n"]:
        r"""The mean rate, over a straight move of length t, at which each output can move."""
        moved, speed = np.zeros(len(self.atoms.points)), self.rows(splitting)
        step = t / _STEPS
        for k in range(1, _STEPS + 1):
            parts = self.reach(k * step)
            bend = self.join([part.bend for part in parts])
            direct = self.join([part.query + part.row for part in parts])
            moved += np.fmin(direct, speed + bend * step / 2) * step
            speed = speed + bend * step
        spread = self.join([part.spread for part in self.reach(t)])
        return np.fmin(moved, spread) / t

    def travels(self, t: float | Float[Array, " n"]) -> Float[Array, " n"]:
        size = float(np.max(t))
        if size == 0:
            return np.zeros(len(self.atoms.points))
        whole = self.join([part.spread for part in self.reach(size)])
        return np.fmin(whole, size * self.known(size).rows)

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

    def join(self, sizes: list[Array]) -> Array:
        """Sizes of what heads put out, joined: summed, or stacked and projected."""
        summed = sum(o * size for o, size in zip(self.each, sizes, strict=True))
        square = sum(size**2 for size in sizes)
        return np.fmin(summed, self.whole * np.sqrt(square))

    def columns(self, columns: list[Array], weights: Array) -> float:
        """max_j sum_i w_i (a_i / a_j) c_ij."""
        masses = self.atoms.masses
        return _largest((masses * weights) @ self.join(columns) / masses)

    def square(self, rows: list[Array], shares: list[Array], weights: Array) -> float:
        """A bound on an operator whose heads have rows of these norms in L^2 of their shares, and
        whose outputs are weighted."""
        masses = self.atoms.masses * weights**2
        total = sum(o * row for o, row in zip(self.each, rows, strict=True))
        first, second = 0.0, 0.0
        for o, row, share in zip(self.each, rows, shares, strict=True):
            first = first + (masses * total * o * row) @ share
            second = second + (masses * row**2) @ share
        atoms = self.atoms.masses
        summed, stacked = _largest(first / atoms), _largest(second / atoms)
        return math.sqrt(min(summed, self.whole**2 * stacked))


class AttentionKnown(Known):
    """The constants of `ball-reach` and `ball-bend`."""

    def __init__(self, model: AttentionModel, t: float):
        self.model, self.t, self.parts = model, t, model.reach(t)
        self.queries = model.join([part.query for part in self.parts])

    @cached_property
    def constant(self) -> Exponents:  # pyright: ignore
        settled, bend = self.model.settled, None
        found = {p: self.reached(p) for p in EXPONENTS}
        for p, centre in settled.items():
            bend = bend or self.bend
            found[p] = min(found[p], centre + times(self.t, bend[p]))
        found[math.inf] = _largest(self.rows)
        return found

    def reached(self, p: float | int) -> float:
        """The constant of the ball, everything inflated by what the ball can do to it."""
        query, one = _largest(self.queries), np.ones_like(self.queries)
        if p == math.inf:
            return _largest(self.direct)
        if p == 1:
            return query + self.model.columns([part.column for part in self.parts], one)
        shares = [part.weight for part in self.parts]
        return query + self.model.square([part.row for part in self.parts], shares, one)

    @cached_property
    def direct(self) -> Float[Array, " n"]:
        return self.model.join([part.query + part.row for part in self.parts])

    @cached_property
    def bent_rows(self) -> Float[Array, " n"]:
        return self.model.join([part.query_bend + part.row_bend for part in self.parts])

    @cached_property
    def rows(self) -> Float[Array, " n"]:  # pyright: ignore
        if not self.model.settled:
            return self.direct
        centre = self.model.rows(True) + 4 * self.model.slack
        return _finite(np.fmin(self.direct, centre + times(self.t, self.bent_rows)))

    def bends(self, weights: Float[Array, " n"], moves: Float[Array, " n"]) -> Exponents:
        model, parts = self.model, self.parts
        query = _largest(weights * model.join([part.query_bend for part in parts]))
        shares, rows = [part.weight for part in parts], [part.row_bend for part in parts]
        size = float(moves.max())
        bend = {
            1: query + model.columns([part.column_bend for part in parts], weights),
            2: query + model.square(rows, shares, weights),
            math.inf: _largest(weights * self.bent_rows),
        }
        return {p: times(size, value) for p, value in bend.items()}

    @property
    def bend(self) -> Exponents:
        one = np.ones_like(self.queries)
        return self.bends(one, one)

    def pulled(self, weights: Float[Array, " n"]) -> tuple[Float[Array, " n"], Exponents]:
        most = float(weights.max())
        return np.ones_like(weights), {p: most * self.constant[p] for p in EXPONENTS}

    def carried(self, moves: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.rows * float(moves.max())


def _largest(sizes: Array) -> float:
    """The maximum; inf where a number overflowed."""
    return float(np.max(_finite(sizes)))


def _finite(sizes: Array) -> Array:
    return np.where(np.isfinite(sizes), sizes, INFINITY)
