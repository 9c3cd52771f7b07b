r"""Certificates: upper bounds on the Lipschitz constant in a Wasserstein ball around a measure.

Nothing in the ball beats them, atoms split or not (docs: theory/certificates). They are computed
on the host in float64 and rounded upwards.
"""

import math
from collections.abc import Iterable

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from meanfield.attention import AbstractInContextMap, AnyMeasure, check_dim, check_map
from meanfield.measure import Ball

from .ball import WassersteinBall
from .bound import Bound, smallest
from .certificates.arguments import checked_atoms, checked_exponent, checked_radius, least_part
from .certificates.attention import AttentionModel
from .certificates.centre import drawn_at, whole_at, with_split
from .certificates.head import Atoms
from .certificates.kinds import local_model
from .certificates.margin import outward
from .certificates.model import LocalModel
from .theorems import lipschitz_bound
from .upper import upper_at


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

    It is the smallest of all that are known: the constant at mu plus the radius times the largest
    derivative of the Jacobian in the ball (`ball-bend`), the constants of all parts inflated by
    what the ball can do to them (`ball-reach`), and the bound on the smallest ball of points around
    the origin that holds the measures. The last is all there is for norms of queries and keys, soft
    caps and choices other than the softmax.

    Args:
      f: attention, norms, perceptrons, and what is made of them.
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
        (`ball-bend-drawn`); without, coarser deterministic bounds take its place.

    Returns:
      a `Bound`; infinite, and so it prints, where nothing finite is known.

    Raises:
      TypeError: a map for which no theorem is known; the message says why.
      ValueError: a radius that is negative or not finite, another p, a measure of another
        dimension or with points that are not finite.
    """
    found = certificate_curve(
        f,
        mu,
        (radius,),
        p=p,
        splitting=splitting,
        order=order,
        least_mass=least_mass,
        key=key,
    )
    return found[0]


@np.errstate(over="ignore", invalid="ignore")  # what overflows is an infinite bound, which is one
def certificate_curve(
    f: AbstractInContextMap,
    mu: AnyMeasure,
    radii: Iterable[float],
    *,
    p: float | int = 2,
    splitting: bool = True,
    order: float | int = math.inf,
    least_mass: float | None = None,
    key: PRNGKeyArray | None = None,
) -> tuple[Bound, ...]:
    """The certificates of several radii around one measure, as `certify` gives them one by one; the
    constant at the measure, most of the work, is found once.

    Args, Raises: as for `certify`.
    """
    sizes, p = [checked_radius(radius) for radius in radii], checked_exponent(p)
    check_map(f)
    atoms = checked_atoms(mu)
    least = least_part(atoms, order, splitting, least_mass)
    balls = [WassersteinBall(mu, size, order, least) for size in sizes]
    try:
        model = local_model(f, atoms)
    except TypeError as refusal:
        return tuple(_on_points(f, atoms, ball, p, splitting, refusal) for ball in balls)
    drawn = _settle(model, splitting, key)
    nearest = min((ball.travel for ball in balls), default=0.0) * (1 + 1e-12)
    centre, theorem = _centre(model, p, splitting, key, nearest)
    coarse = math.inf
    if p == 2 and not (theorem.endswith("drawn") or model.exact):
        coarse = float(upper_at(f, mu))
    names = ("ball-reach-drawn", "ball-bend-drawn") if drawn else ("ball-reach", theorem)
    nearest_ball = min(balls, key=lambda ball: ball.size, default=None)
    far = nearest_ball and _known_everywhere(f, atoms, nearest_ball, p, splitting)
    found = []
    for ball in balls:
        near = _near(model, ball, p, min(centre, coarse), names)
        if ball.size == 0 and 0 < coarse < near.value:  # it has its own margin for rounding
            near = Bound(math.log(coarse), "upper", ball, "meanfield:local-upper")
        if far and far.log_value <= near.log_value:  # bounds on domains grow with them
            wide = _known_everywhere(f, atoms, ball, p, splitting)
            near = smallest((near, wide)) if wide else near
        found.append(near)
    return tuple(found)


def _known_everywhere(
    f: AbstractInContextMap, atoms: Atoms, ball: WassersteinBall, p: float, splitting: bool
) -> Bound | None:
    """The bound on the ball of points that holds every measure; nothing where none is known."""
    try:
        return _everywhere(f, atoms, ball, p, splitting)
    except TypeError:
        return None


def _near(
    model: LocalModel, ball: WassersteinBall, p: float, centre: float, names: tuple[str, str]
) -> Bound:
    """The smaller of what is known of a ball from within, given the constant at its centre."""
    size = ball.travel * (1 + 1e-12)
    reached, bent = model.known(size).constant[p], _bent(model, centre, size, p)
    return smallest((_bound(reached, model, ball, names[0]), _bound(bent, model, ball, names[1])))


@np.errstate(over="ignore", invalid="ignore")
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
    size, p = checked_radius(radius), checked_exponent(p)
    ball, atoms = WassersteinBall(mu, size), checked_atoms(mu)
    try:
        model = local_model(f, atoms)
    except TypeError:  # nothing is known of the path; the constant on the ball is above its mean
        model = None
    if size == 0 or model is None:
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
    if p != 2 or model.exact:
        return model.at_centre(p, splitting), "ball-bend"
    n, theorem = len(model.atoms.points), "ball-bend"
    if n * max(model.atoms.points.shape[1], model.image.shape[1]) <= _DENSE:
        smooth = whole_at(model)
    elif key is not None:
        rng = np.random.default_rng(np.asarray(jr.key_data(key)).ravel())
        smooth, theorem = drawn_at(model, rng), "ball-bend-drawn"
    else:
        return model.at_centre(p, splitting), theorem
    return with_split(model, smooth, size) if splitting else smooth, theorem


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
    f: AbstractInContextMap, atoms: Atoms, ball: WassersteinBall, p: float | int, splitting: bool
) -> Bound:
    """The bound on the ball of points that holds every measure, where it is known: for equal atoms
    that are not split, that for so many of them."""
    reach = float(np.linalg.norm(atoms.points, axis=1).max()) + ball.travel * (1 + 1e-12)
    equal = atoms.positions is None and bool(np.all(atoms.masses == atoms.masses[0]))
    n = len(atoms.masses) if equal and not splitting else None
    # the radius is kept in the default precision: not below the true one
    domain = Ball(max(reach * (1 + 2**-22), float(np.finfo(np.float32).tiny)))
    try:
        bound = lipschitz_bound(f, domain, p=p, n=n)
    except (ValueError, np.linalg.LinAlgError):  # no theorem is finite here, or its numbers are not
        return Bound(math.inf, "upper", ball, "meanfield:no-finite-bound")
    return Bound(bound.log_value, "upper", ball, bound.theorem)


def _on_points(
    f: AbstractInContextMap,
    atoms: Atoms,
    ball: WassersteinBall,
    p: float,
    splitting: bool,
    refusal: TypeError,
) -> Bound:
    """What is left where nothing is known of the neighbourhood of a measure."""
    check_dim(f, ball.centre)
    coarse = float(upper_at(f, ball.centre)) if ball.size == 0 and p == 2 else math.inf
    try:
        found = _everywhere(f, atoms, ball, p, splitting)
        at_measure = Bound(math.log(coarse or 1e-300), "upper", ball, "meanfield:local-upper")
        return smallest((found, at_measure))
    except TypeError as missing:
        raise TypeError(f"{refusal} There is no bound on a domain either: {missing}") from missing


def _bound(value: float, model: LocalModel, ball: WassersteinBall, theorem: str) -> Bound:
    value = outward(value, model.rounding, model.slack)
    log_value = math.log(value) if value > 0 else -math.inf
    return Bound(log_value, "upper", ball, f"meanfield:{theorem}")
