"""Measures with a large local constant: two unbalanced Diracs, and the large radius limit."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from meanfield.attention import SelfAttention, is_softmax
from meanfield.measure import AbstractDomain, Ball, Measure, Sphere

from .bound import Bound
from .ellipsoid import Ellipsoid, Matrix, enclosing, float64
from .two_points import climbs, constant_at


Vector = Float[np.ndarray, " _"]

# The light Dirac keeps a mass that single precision can hold.
_LEAST_LOG_RATIO = math.log(1e-30)
# Where a search puts the heavy atom: 1 is the point of the recipe, 0 the light atom, 2 beyond.
_ALONG = (1.0, 0.7, 0.4, 1.5, 2.0)


class TwoDiracs(eqx.Module):
    r"""The measure $(1 - w) \delta_x + w \delta_y$, in which the light atom y is cheap to move and
    pulls at the heavy one.

    Args:
      heavy, light: the points x and y.
      log_ratio: $\log(w / (1 - w))$.
    """

    heavy: Vector
    light: Vector
    log_ratio: float

    @property
    def light_mass(self) -> float:
        return 1 / (1 + math.exp(-self.log_ratio))

    @property
    def points(self) -> Float[np.ndarray, "2 d"]:
        """The heavy point, then the light one."""
        return np.stack([self.heavy, self.light])

    def measure(self, n: int | None) -> Measure:
        """The two atoms, or n equal ones of which n - 1 are heavy together."""
        if n is None:
            weights = [1 - self.light_mass, self.light_mass]
            return Measure(jnp.asarray(self.points), jnp.asarray(weights))
        return Measure(jnp.asarray(np.stack([self.heavy] * (n - 1) + [self.light])))

    def constant(self, A: Matrix, V: Matrix, a: Vector) -> float:
        """The exact local constant in W_2."""
        weights = np.array([1 - self.light_mass, self.light_mass])
        return constant_at(A, V, a, self.points, weights)

    def log_slope(self, A: Matrix, V: Matrix, a: Vector, p: float | int) -> float:
        r"""The log of a lower bound on the local constant in $W_p$: what moving y does to x,
        $(\frac{1-w}{w})^{1/p}\, q\, \|V (I + (1-q) (y-x) b^T)\|$ with $b = Ax + a$ and the
        share $q = w e^{\langle b, y - x\rangle} / (1 - w + w e^{\langle b, y-x\rangle})$."""
        b, apart = A @ self.heavy + a, self.light - self.heavy
        logit = self.log_ratio + float(b @ apart)
        log_share = -float(np.logaddexp(0.0, -logit))
        pull = V + (1 - math.exp(log_share)) * np.outer(V @ apart, b)
        return -self.log_ratio / p + log_share + math.log(max(np.linalg.norm(pull, 2), 1e-300))


class WorstMeasure(eqx.Module):
    r"""A measure at which the local constant of a map is large, and that constant.

    Attributes:
      measure: two atoms, or n of equal mass of which n - 1 share a point.
      value: its exact local constant in $W_2$, splits allowed: the largest singular value of the
        dense derivative in float64. A lower bound on the Lipschitz constant on a ball, up to
        rounding; no upper bound on anything.
      recipe: the same at the measure of the recipe, before the search.
    """

    measure: Measure
    value: float
    recipe: float

    def __repr__(self) -> str:
        return f"WorstMeasure(value={self.value:.4g}, recipe={self.recipe:.4g})"


def worst_measure(
    f: SelfAttention, domain: AbstractDomain, *, n: int | None = None, steps: int = 200
) -> WorstMeasure:
    r"""A measure on the domain at which attention has a large local constant: two Diracs.

    The recipe makes $\langle Ax + a, y - x \rangle$ large, for any A; the mass of the light atom is
    such that it takes half of the attention of the heavy one. With `n`, one of n equal atoms is
    light. A local search then moves both points, and the masses where they are free, uphill on the
    exact constant; its result is kept if it is larger.

    Args:
      f: one head with softmax shares.
      domain: what holds the measure.
      n: None for the best masses; the number of equal atoms otherwise (n - 1 lie at one point).
      steps: of the search; 0 for the recipe alone.

    Raises:
      TypeError: if f is not a plain `SelfAttention`.
      ValueError: if n < 2 or steps < 0.
    """
    if steps < 0:
        raise ValueError(f"`steps` must be at least 0; got {steps}.")
    pair, matrices = _worst_pair(f, domain, 2, n), _matrices(f)
    recipe = value = pair.constant(*matrices)
    for found in _searched(pair, f, domain, n, steps) if steps else []:
        if (constant := found.constant(*matrices)) > value:
            pair, value = found, constant
    return WorstMeasure(pair.measure(n), value, recipe)


def two_dirac_bound(
    f: SelfAttention, domain: Ball, *, p: float | int = 2, n: int | None = None
) -> Bound:
    """A lower bound on the Lipschitz constant in W_p on a ball: the slope at two Diracs.

    Args:
      f, domain, n: see `worst_measure`; only a ball leaves room for every direction.
      p: the exponent of the distance.
    """
    if not isinstance(domain, Ball):
        raise TypeError(f"`domain` must be a Ball for a lower bound; got {type(domain).__name__}.")
    log_value = _worst_pair(f, domain, p, n).log_slope(*_matrices(f), p)
    return Bound(log_value, "lower", domain, "meanfield:two-diracs")


def hardmax_limit(f: SelfAttention, mu: Measure) -> float:
    r"""The limit of the smooth local constant (p = 2) at the measure blown up by $R \to \infty$,
    $\|V\| \max_j (\sum_{i : \arg\max_l \langle A x_i, x_l \rangle = j} w_i / w_j)^{1/2}$, where the
    maxima are strict."""
    A, V, _ = _matrices(f)
    seen = float64(mu.weights) > 0
    points, weights = float64(mu.points)[seen], float64(mu.weights)[seen]
    taken = np.argmax(points @ A.T @ points.T, axis=1)
    load = np.bincount(taken, weights=weights, minlength=weights.size) / weights
    return float(np.linalg.norm(V, 2) * math.sqrt(load.max()))


def _searched(
    pair: TwoDiracs, f: SelfAttention, domain: AbstractDomain, n: int | None, steps: int
) -> list[TwoDiracs]:
    """What the search makes of the pair, of pairs whose heavy atom lies elsewhere on its line with
    the light one, and of opposite points at which the light atom looks at both."""
    A, V, a = _matrices(f)
    heavies = [t * pair.heavy + (1 - t) * pair.light for t in _ALONG]
    around = enclosing(domain, A.shape[1])
    far = around.times(np.linalg.svd(around.times(around.times(A).T))[2])[0]
    points = np.stack(
        [[heavy, pair.light] for heavy in heavies] + [[around.centre - far, around.centre + far]]
    )
    points = float64(domain.project(jnp.asarray(points)))
    seen_by = points[:, 0].copy()
    seen_by[-1] = points[-1, 1]
    balanced = -np.sum((seen_by @ A.T + a) * (points[:, 1] - points[:, 0]), axis=1)
    log_ratios = np.clip(balanced, _LEAST_LOG_RATIO, 0.0)
    log_ratios[0] = pair.log_ratio
    if n is not None:
        log_ratios[:] = -math.log(n - 1)
    found = climbs(A, V, a, domain, points, log_ratios, free_mass=n is None, steps=steps)
    return [TwoDiracs(z[0], z[1], float(ratio)) for z, ratio in zip(*found, strict=True)]


def _worst_pair(
    f: SelfAttention, domain: AbstractDomain, p: float | int, n: int | None
) -> TwoDiracs:
    """The pair of largest slope among shrunken copies of the pair of largest exponent."""
    if n is not None and n < 2:
        raise ValueError(f"`n` must be None or at least 2; got {n}.")
    A, V, a = _matrices(f)
    around = enclosing(domain, A.shape[1])
    heavy, light = _largest_exponent(A, a, around, isinstance(domain, Sphere))
    shrinks = np.linspace(0.02, 1, 50) if isinstance(domain, Ball) else [1.0]
    pairs = [_weighted(t * heavy, t * light, A, a, around, n) for t in shrinks]
    return max(pairs, key=lambda pair: pair.log_slope(A, V, a, p))


def _weighted(
    z: Vector, u: Vector, A: Matrix, a: Vector, around: Ellipsoid, n: int | None
) -> TwoDiracs:
    """The Diracs at m + E z and m + E u, the light one with half of the attention at x."""
    axes = around.times(np.eye(around.dim))
    x, y = around.centre + axes @ z, around.centre + axes @ u
    balanced = min(max(-float((A @ x + a) @ (y - x)), _LEAST_LOG_RATIO), 0.0)
    return TwoDiracs(x, y, balanced if n is None else -math.log(n - 1))


def _largest_exponent(
    A: Matrix, a: Vector, around: Ellipsoid, on_sphere: bool
) -> tuple[Vector, Vector]:
    r"""z, u in the unit ball that make $\langle b(z), u - z \rangle$ large, b the score's slope:
    projected gradient ascent on $|b(z)| - \langle b(z), z \rangle$ from every special direction."""
    inner = around.times(around.times(A).T).T
    shift = around.times((A @ around.centre + a)[None])[0]
    directions = [np.linalg.svd(inner)[2], np.linalg.eigh(inner + inner.T)[1].T]
    starts = np.concatenate(directions + [-d for d in directions])
    z = starts if on_sphere else np.concatenate([starts, starts / 2])
    step = 1 / max(4 * np.linalg.norm(inner, 2), 1e-300)
    for _ in range(300):
        b = z @ inner.T + shift
        z = z + step * (_unit(b) @ inner - z @ (inner + inner.T) - shift)
        z = _unit(z) if on_sphere else z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1)
    b = z @ inner.T + shift
    best = np.argmax(np.linalg.norm(b, axis=1) - np.sum(b * z, axis=1))
    blind = not np.any(b[best])  # no direction is better than another: the point opposite
    return z[best], -_unit(z)[best] if blind else _unit(b)[best]


def _unit(rows: Matrix) -> Matrix:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _matrices(f: SelfAttention) -> tuple[Matrix, Matrix, Vector]:
    plain = isinstance(f, SelfAttention) and is_softmax(f.choice)
    if not plain or f.score_bias is not None or f.soft_cap is not None:
        raise TypeError(
            "`f` must be a SelfAttention with softmax shares, no score bias and no soft cap."
        )
    A = float64(f.A)
    return A, float64(f.V), np.zeros(A.shape[1]) if f.a is None else float64(f.a)
