r"""Certificates: upper bounds on the Lipschitz constant in a Wasserstein ball around a measure.

Nothing in the ball beats them, atoms split or not (docs: theory/certificates). They are computed
on the host in float64 and rounded upwards.
"""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from meanfield.attention import AbstractInContextMap, AnyMeasure
from meanfield.measure import Ball, ConditionalMeasure, Measure

from .ball import WassersteinBall
from .bound import Bound, smallest
from .certificates.attention import AttentionModel
from .certificates.centre import drawn_at, whole_at, with_split
from .certificates.head import Atoms
from .certificates.kinds import local_model
from .certificates.margin import outward
from .certificates.model import LocalModel
from .theorems import lipschitz_bound


_SHELLS = 8
# Fewer shells do where they cost less than this part of the whole.
_LOOSE = 2e-3
# Up to this size of a field of moves, the Jacobian of any map is formed and factorised.
_DENSE = 2048


def certify(
    f: AbstractInContextMap,
    mu: AnyMeasure,
    radius: float,
    *,
    p: float | int = 2,
    splitting: bool = True,
    order: float | int = math.inf,
    least_mass: float | None = None,
    key: PRNGKeyArray | None = None,
) -> Bound:
    r"""A certificate: an upper bound on the Lipschitz constant of $F(\nu) = G(\nu, \cdot)_\# \nu$
    in $W_p$ on the ball $\{\nu : W_\infty(\mu, \nu) \le \epsilon\}$.

    For all $\nu, \nu'$ of the ball and every coupling of them that keeps the parts of each atom of
    mu together, $\|G(\nu, y) - G(\nu', y')\|_{L^p} \le L\, \|y - y'\|_{L^p}$. So L bounds the local
    constant at every measure of the ball, and $W_p(F(\nu), F(\nu')) \le L\, W_p(\nu, \nu')$ where
    the atoms of mu are more than four radii apart, or where $\nu' = \mu$ and they are more than
    two apart.

    It is the smallest of three: the constant at mu plus the radius times the largest derivative of
    the Jacobian in the ball (`ball-bend`), the constants of all parts inflated by what the ball can
    do to them (`ball-reach`), and the bound on the smallest ball of points around the origin.

    Args:
      f: attention with softmax shares, norms, perceptrons, and what is made of them.
      mu: a `Measure`, or a `ConditionalMeasure` for maps that depend on positions; mass then stays
        at its position.
      radius: epsilon, in the units of the points.
      p: 1, 2 or inf.
      splitting: whether atoms may be split. Without, measures of the ball have mu's atoms, moved.
      order: q of the ball $\{W_q(\mu, \nu) \le \epsilon\}$. For q < inf a vanishing mass can
        travel without limit, so `least_mass` must say how small the parts of atoms may be; no part
        then moves by more than $\epsilon\, m^{-1/q}$. Without bound on parts, `lipschitz_bound` on
        a domain is what holds.
      least_mass: the least mass m of a part of an atom, for q < inf; that of the lightest atom
        where atoms are not split.
      key: for layers too large for a proved constant at mu (many heads, many atoms): with a key it
        is found by a randomised test that errs with probability at most 1e-12 over the key
        (`ball-bend-drawn`); without, a coarser deterministic bound takes its place.

    Returns:
      a `Bound`; infinite, and so it prints, where nothing finite is known.

    Raises:
      TypeError: a map without a certificate; the message says which and what is available.
      ValueError: a radius that is negative or not finite, another p, a measure of another
        dimension or with points that are not finite.
    """
    size, p = _checked_radius(radius), _checked_exponent(p)
    atoms = _checked_atoms(mu)
    model = local_model(f, atoms)
    ball = WassersteinBall(mu, size, order, _least(atoms, order, splitting, least_mass))
    size = ball.travel * (1 + 1e-12)
    drawn = _settle(model, splitting, key)
    known = model.known(size)
    centre, theorem = _centre(model, p, splitting, key, size)
    bent = _bent(model, centre, size, p)
    reach = "ball-reach-drawn" if drawn else "ball-reach"
    theorem = "ball-bend-drawn" if drawn else theorem
    bounds = [_bound(known.constant[p], model, ball, reach), _bound(bent, model, ball, theorem)]
    bounds += _everywhere(f, atoms, ball, size, p)
    return smallest(tuple(bounds))


def displacement_bound(
    f: AbstractInContextMap,
    mu: AnyMeasure,
    radius: float,
    *,
    p: float | int = math.inf,
    splitting: bool = True,
    key: PRNGKeyArray | None = None,
) -> Bound:
    r"""A bound on $\sup W_p(F(\mu), F(\nu)) / \epsilon$ over $W_\infty(\mu, \nu) \le \epsilon$: how
    far the output can be moved, per unit of the radius.

    It integrates constants along the straight path from mu, so it is below `certify` at the same
    radius. For $p = \infty$ it bounds the move of every single output, and never exceeds the radius
    of the values that an output averages (`ball-path`).

    Args, Raises: as for `certify`.
    """
    size, p = _checked_radius(radius), _checked_exponent(p)
    model = local_model(f, _checked_atoms(mu))
    ball = WassersteinBall(mu, size)
    if size == 0:
        return certify(f, mu, radius, p=p, splitting=splitting, key=key)
    if p == math.inf and isinstance(model, AttentionModel):
        rate = float(np.max(model.rates(size, splitting)))
        return _bound(rate, model, ball, "ball-path")
    settled = _settle(model, splitting, key)
    centre, theorem = _centre(model, p, splitting, key, size)
    step, moved, speed = size / _SHELLS, 0.0, centre
    for k in range(1, _SHELLS + 1):
        known = model.known(k * step)
        bend = known.bend[p] * step
        moved += min(known.constant[p], speed + bend / 2) * step
        speed += bend
    farthest = model.travel(size)
    drawn = "-drawn" if settled or theorem.endswith("drawn") else ""
    return _bound(min(moved, farthest) / size, model, ball, f"ball-path{drawn}")


def _centre(
    model: LocalModel, p: float | int, splitting: bool, key: PRNGKeyArray | None, size: float
) -> tuple[float, str]:
    """The constant at the measure, and the theorem that rests on it."""
    known = model.at_centre(p, splitting)
    if p != 2 or model.exact:
        return known, "ball-bend"
    n = len(model.atoms.points)
    if n * max(model.atoms.points.shape[1], model.image.shape[1]) <= _DENSE:
        smooth, theorem = whole_at(model), "ball-bend"
    elif key is not None:
        rng = np.random.default_rng(np.asarray(jr.key_data(key)).ravel())
        smooth, theorem = drawn_at(model, rng), "ball-bend-drawn"
    else:
        return known, "ball-bend"
    found = with_split(model, smooth, size) if splitting else smooth
    return (found, theorem) if found < known else (known, "ball-bend")


def _settle(model: LocalModel, splitting: bool, key: PRNGKeyArray | None) -> bool:
    """Tell the parts of a composition their constants at the measure; whether any was drawn."""
    drawn = False
    for part in model.parts:
        if part is not model:
            value, theorem = _centre(part, 2, splitting, key, 0.0)
            part.settled |= {2: value + 4 * part.slack}
            drawn |= theorem.endswith("drawn")
    return drawn


def _bent(model: LocalModel, centre: float, size: float, p: float | int) -> float:
    """The constant at the measure plus the integral of the bend up to the radius: sums over right
    ends of shells, of more shells until they differ little from sums over left ends."""
    last = size * model.known(size).bend[p] if size else 0.0
    if last <= centre / 20 or not math.isfinite(last):
        return centre + last
    first, shells, total = size * model.known(0.0).bend[p], 1, centre + last
    while shells < _SHELLS and last - first > _LOOSE * shells * total:
        shells *= 2
        step = size / shells
        total = centre + sum(step * model.known(k * step).bend[p] for k in range(1, shells + 1))
    return total


def _everywhere(
    f: AbstractInContextMap, atoms: Atoms, ball: WassersteinBall, size: float, p: float | int
) -> list[Bound]:
    """The bound on the ball of points that holds every measure, where it is known."""
    reach = float(np.linalg.norm(atoms.points, axis=1).max()) + size
    if reach <= 0:
        return []
    try:
        # the radius is kept in the default precision: not below the true one
        bound = lipschitz_bound(f, Ball(reach * (1 + 2**-22)), p=p)
    except (TypeError, ValueError):
        return []
    return [Bound(bound.log_value, "upper", ball, bound.theorem)]


def _bound(value: float, model: LocalModel, ball: WassersteinBall, theorem: str) -> Bound:
    value = outward(value, model.rounding, model.slack)
    log_value = math.log(value) if value > 0 else -math.inf
    return Bound(log_value, "upper", ball, f"meanfield:{theorem}")


def _checked_radius(radius) -> float:
    size = float(radius)
    if not (size >= 0 and math.isfinite(size)):
        raise ValueError(f"`radius` must be nonnegative and finite; got {radius}.")
    return size


def _checked_exponent(p) -> float:
    if p not in (1, 2, math.inf):
        raise ValueError(f"`p` must be 1, 2 or jnp.inf for a certificate; got {p}.")
    return float(p)


def _least(atoms: Atoms, order: float | int, splitting: bool, least_mass: float | None) -> float:
    """The least mass of a part of an atom; one where it does not matter."""
    if order == math.inf:
        return 1.0
    if not order >= 1:
        raise ValueError(f"`order` must be at least 1; got {order}.")
    lightest = float(atoms.masses.min())
    least = least_mass if splitting else lightest
    if least is None:
        raise ValueError(
            "`least_mass` must say how small the parts of atoms may be, because in a W_q ball with "
            "q < inf a vanishing mass travels without limit. Give it, or splitting=False, or use "
            "lipschitz_bound on a domain."
        )
    if not 0 < least <= lightest * (1 + 1e-6):
        raise ValueError(
            f"`least_mass` must be positive and at most that of the lightest atom, {lightest:.6g}; "
            f"got {least}."
        )
    return min(least, lightest)


def _checked_atoms(mu: AnyMeasure) -> Atoms:
    if not isinstance(mu, Measure | ConditionalMeasure):
        raise TypeError(
            f"`mu` must be a Measure or a ConditionalMeasure; got {type(mu).__name__}. Wrap points "
            "with mf.Measure(points)."
        )
    if mu.masses.ndim != jnp.ndim(mu.atoms.weights) + isinstance(mu, ConditionalMeasure):
        raise ValueError("`mu` must be one measure, not a batch.")
    atoms = Atoms.of(mu)
    if not len(atoms.points):
        raise ValueError("`mu` must have an atom with mass; got none.")
    if not np.all(np.isfinite(atoms.points)):
        raise ValueError("`mu` must have finite points; got NaN or infinity in an atom with mass.")
    return atoms
