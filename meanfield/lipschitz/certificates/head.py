r"""One head at a measure in float64: shares, centred values and keys, slopes of scores.

Scores are $\langle q_i, k_j \rangle - \lambda |k_j|^2$ with $q_i = R_i (Q x_i + \cdot)$,
$k_j = R_j (K x_j + \cdot)$, values are $V x_j + \cdot$; $R_j$ turns features by position and is the
identity without rotary, $\lambda$ is zero but for scores that are distances, which do not turn.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from meanfield.attention import (
    AnyMeasure,
)

from ..ellipsoid import float64, product_norm, spectral_norm
from .margin import longest
from .norms import EPS


Array = np.ndarray


class Atoms(eqx.Module):
    """The atoms that have mass, in float64: points, masses, positions (None without an order)."""

    points: Float[Array, "n d"]
    masses: Float[Array, " n"]
    positions: Int[Array, " n"] | None

    @classmethod
    def of(cls, mu: AnyMeasure) -> "Atoms":
        masses = float64(mu.atoms.weights)
        seen = masses > 0
        where = None if mu.positions is None else np.asarray(mu.positions)[seen]
        return cls(float64(mu.atoms.points)[seen], masses[seen], where)

    def at(self, points: Float[Array, "n d"]) -> "Atoms":
        """The same masses at other points."""
        return Atoms(points, self.masses, self.positions)


class Head(eqx.Module):
    """One head at a measure.

    Args:
      query, key, value: Q (k, d) with the scale of the scores, K (k, d), V (v, d).
      q, k, v: features of the n atoms; q and k turned by their positions.
      turned: R_j^T q_i - 2 lambda k_j, shape (n, n, k), or (n, 1, k) where j does not matter.
      shares: P, shape (n, n).
      seen: which pairs no mask hides, shape (n, n); their shares can round to zero, and grow.
      output: O, shape (e, v).
      angles: cosines and sines of each position, or None without rotary.
      far: the largest |x_i|; offset: the largest part of a logit beside the score.
      lost: a bound on an error of V in norm, besides that of its features.
      bowl: lambda.
    """

    query: Float[Array, "k d"]
    key: Float[Array, "k d"]
    value: Float[Array, "v d"]
    q: Float[Array, "n k"]
    k: Float[Array, "n k"]
    v: Float[Array, "n v"]
    turned: Float[Array, "n m k"]
    shares: Float[Array, "n n"]
    seen: Bool[Array, "n n"]
    output: Float[Array, "e v"]
    angles: tuple[Array, Array] | None
    far: float
    offset: float
    lost: float = 0.0
    bowl: float = 0.0

    @property
    def rounding(self) -> float:
        """The relative error of shares and of what is summed from them; features err by less than
        that relative to `sizes`."""
        n, k = self.q.shape
        d = self.query.shape[1]
        q, key = longest(self.q), longest(self.k)
        # what a score is a sum of: products of features, each of them a sum of d products
        query_sum, key_sum = (self.far * _frobenius(x) for x in (self.query, self.key))
        parts = query_sum * key + q * key_sum + q * key + abs(self.bowl) * key * (2 * key_sum + key)
        shares = (d + k + 8) * (parts + self.offset)
        return EPS * (4 * shares + 2 * n * max(k, self.v.shape[1], 8) + d + 64)

    @property
    def sizes(self) -> tuple[float, float, float]:
        """What `turned`, and the features of keys and values, are sums of at most."""
        q = longest(self.q) + self.far * _frobenius(self.query)
        k = longest(self.k) + self.far * _frobenius(self.key)
        return q + 2 * abs(self.bowl) * k, k, longest(self.v) + self.far * self.value_size

    @property
    def value_size(self) -> float:
        """What the errors of V are relative to, in units of `rounding`."""
        return _frobenius(self.value) + self.lost / self.rounding

    def slack(self, masses: Float[Array, " n"]) -> float:
        """The rounding error of the constants at the measure, before the output projection.

        A block P_ij (V + xi b^T) errs by its size through its share, by |b| times the error of a
        value and |xi| times that of a slope; D_i likewise.
        """
        q, k, v = self.sizes
        query, key, value = _frobenius(self.query), _frobenius(self.key), self.value_size
        apart = np.linalg.norm(self.v - self.means[:, None], axis=-1)
        apart_key = np.linalg.norm(self.k - (self.shares @ self.k)[:, None], axis=-1)
        slope = np.linalg.norm(self.turned @ self.key, axis=-1)
        block = self.shares * (value + 5 * (apart + v) * slope + apart * q * key)
        ratio = masses[:, None] / masses
        context = max(
            float(np.sqrt(np.sum(ratio * block**2))),
            float((ratio * block).sum(0).max()),
            float(block.sum(1).max()),
        )
        local = self.shares * 5 * ((apart + v) * apart_key + apart * k) * query
        return self.rounding * (context + float(np.sqrt(np.sum(local.sum(1) ** 2))))

    @property
    def aligned(self) -> bool:
        """Whether the slope of a row of scores along a key is the same for all keys, of parts of
        atoms too."""
        return self.turned.shape[1] == 1 and not self.bowl

    @property
    def turns(self) -> bool:
        """Whether positions turn features apart."""
        return self.angles is not None and len(self.q) > 1

    @property
    def means(self) -> Float[Array, "n v"]:
        """The mean value that each atom sees."""
        return self.shares @ self.v

    def slopes(self) -> Float[Array, "n m"]:
        """|b_ij|: how fast an atom changes the score it is given."""
        return np.linalg.norm(self.turned @ self.key, axis=-1)

    def cross(self) -> tuple[float, float, float, float]:
        r"""Bounds on $\\|V\\|$, on the products of a query's and a key's move, on the query, and on
        the second derivative of a score in its key, $2 |\lambda| \\|K\\|^2$."""
        query, key = spectral_norm(self.query), spectral_norm(self.key)
        across = query * key if self.turns else product_norm(self.query.T, self.key)
        return spectral_norm(self.value), across, query, 2 * abs(self.bowl) * key**2

    def local(self, i: int) -> Float[Array, "v d"]:
        """D_i before the output projection."""
        share = self.shares[i]
        centred = self.k - share @ self.k
        moment = ((self.v - share @ self.v).T * share) @ centred
        return self._back(moment, i) @ self.query

    def context(self, i: int) -> Float[Array, "n v d"]:
        r"""$V + \xi_{ij} b_{ij}^T$ before the output projection; times P_ij it is B_ij."""
        centred = self.v - self.shares[i] @ self.v
        return self.value + centred[:, :, None] * (self.turned[i] @ self.key)[:, None, :]

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n v"]:
        """J applied to some moves of the atoms, before the output projection."""
        keys = self._turn(moves @ self.key.T)
        scores = self.q @ np.swapaxes(keys, 1, 2) + self._turn(moves @ self.query.T) @ self.k.T
        if self.bowl:
            scores -= 2 * self.bowl * np.sum(keys * self.k, axis=-1)[:, None]
        weight = self.shares * scores
        centred = weight @ self.v - weight.sum(-1, keepdims=True) * self.means
        return centred + self.shares @ (moves @ self.value.T)

    def backward(self, pulls: Float[Array, "r n v"]) -> Float[Array, "r n d"]:
        """The transpose of `forward`."""
        level = np.sum(pulls * self.means, axis=-1, keepdims=True)
        weight = self.shares * (pulls @ self.v.T - level)
        along = np.swapaxes(weight, 1, 2) @ self.q
        if self.bowl:
            along -= 2 * self.bowl * weight.sum(1)[..., None] * self.k
        moves = self._turn(along, -1) @ self.key
        moves += self._turn(weight @ self.k, -1) @ self.query
        return moves + (self.shares.T @ pulls) @ self.value

    def _turn(self, features: Float[Array, "r n k"], sign: int = 1) -> Float[Array, "r n k"]:
        if self.angles is None:
            return features
        cos, sin = self.angles
        return rotated(features, cos, sign * sin)

    def _back(self, moment: Float[Array, "v k"], i: int) -> Float[Array, "v k"]:
        """C_i R_i."""
        if self.angles is None:
            return moment
        cos, sin = self.angles
        return rotated(moment, cos[i], -sin[i])


def rotated(features: Array, cos: Array, sin: Array) -> Array:
    """Features (..., k) turned in the pairs (i, i + r) of coordinates, r the number of angles."""
    half = cos.shape[-1]
    features = np.broadcast_to(
        features, (*np.broadcast_shapes(features.shape[:-1], cos.shape[:-1]), features.shape[-1])
    )
    first, second, rest = np.split(features, [half, 2 * half], axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return np.concatenate(turned, axis=-1)


def _frobenius(matrix: Array) -> float:
    return float(np.linalg.norm(matrix))
