r"""Exact thresholds of sparse operators: sort where pieces begin and end, then solve one piece.

Sets of atoms are found with comparisons, which have no derivative; the level is then a smooth
formula of the scores and masses in these sets, so that automatic differentiation of every order is
exact on each piece. At a kink (an atom on the edge of a set) the derivative is that of one of the
pieces that meet there. Where atoms at their ends make up the whole total, no atom is on its slope:
their shares are constant nearby, tied or not.

Sets are told by comparison with a cut halfway between the last score inside and the first outside:
a compiler that computes a score twice may round it in two ways.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


Rows = Float[Array, "... n"]
Some = Bool[Array, "... n"]


class Pieces(NamedTuple):
    """Which entries are on their slope, which have reached their end, and how far those on their
    slope are above the level (0 elsewhere)."""

    sloped: Some
    ended: Some
    rise: Rows


def ramp_level(starts: Rows, slopes: Rows, total, heights: Rows | None = None) -> Pieces:
    r"""The $\tau$ of each row with $\sum_j \min\{m_j (b_j - \tau)_+, h_j\} = t$.

    The sum is piecewise linear and decreasing in tau. It is evaluated at every b_j and e_j from
    prefix sums in sorted order; the least of these points that lies above the level tells the sets.
    Here $e_j = b_j - h_j / m_j$ is where an entry ends. What has ended counts with its height, not
    with its slope times the difference of two rounded points.

    Args:
      starts: b. An entry of slope zero takes no part, whatever its b and h (if finite).
      slopes: m >= 0.
      total: t > 0. Where the sum cannot reach it, all entries end.
      heights: h > 0 where m > 0, or None for no end.
    """
    present = slopes > 0
    ends = None if heights is None else starts - heights / jnp.where(present, slopes, 1)
    cut = jax.lax.stop_gradient(_ramp_cut(starts, slopes, total, ends, heights))
    begun = present & (starts > cut)
    ended = jnp.zeros_like(begun) if ends is None else present & (ends > cut)
    if heights is not None:  # tied ends are points on one level: the cut keeps them on their slope
        full = _total(jnp.where(begun, heights, 0))
        ended = ended | (begun & (full <= total + _rounding(starts, total)))
    sloped = begun & ~ended
    # relative to the highest start on the slope: a short rise is then not the difference of large
    # numbers
    top = jnp.max(starts, axis=-1, keepdims=True, where=sloped, initial=-jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    below = jnp.where(sloped, starts - top, 0)
    weight = jnp.where(sloped, slopes, 0)
    reached = _total(weight * below)
    if heights is not None:
        reached = reached + _total(jnp.where(ended, heights, 0))
    mass = _total(weight)
    level = (reached - total) / jnp.where(mass > 0, mass, 1)
    return Pieces(sloped, ended, jnp.where(sloped, jnp.maximum(below - level, 0), 0))


def _ramp_cut(
    starts: Rows, slopes: Rows, total, ends: Rows | None, heights: Rows | None
) -> Float[Array, "... 1"]:
    """Below all points b_j, e_j at which the sum is less than the total, above the others."""
    starts, slopes = jnp.broadcast_arrays(starts, slopes)
    points, weights = starts, slopes
    if ends is not None:
        ends = jnp.broadcast_to(ends, starts.shape)
        points = jnp.concatenate([starts, ends], axis=-1)
        weights = jnp.concatenate([slopes, -slopes], axis=-1)
    high = jnp.max(points, axis=-1, keepdims=True)
    drops, weights = jax.lax.sort((high - points, weights), num_keys=1)
    reached = jnp.cumsum(weights, axis=-1) * drops - jnp.cumsum(weights * drops, axis=-1)
    # where the sum is flat at the total, rounding must not begin the next entry
    rounding = 4 * jnp.finfo(drops.dtype).eps * (total + jnp.cumsum(jnp.abs(weights), -1) * drops)
    if heights is not None:  # nor may it leave out a whole entry, at slopes near 1 / epsilon
        least = jnp.min(heights, axis=-1, keepdims=True, where=slopes > 0, initial=jnp.inf)
        rounding = jnp.minimum(rounding, least / 2)
    return high - _halfway(drops, reached < total - rounding)


def _rounding(like: Rows, total):
    """How far a sum of as many positive terms may be from its total by rounding alone."""
    return jnp.finfo(like.dtype).eps * (8 + like.shape[-1] ** 0.5) * total


def _halfway(drops: Rows, inside: Some) -> Float[Array, "... 1"]:
    """Between the last drop inside and the next one; beyond all drops if all are inside."""
    last = jnp.max(drops, axis=-1, keepdims=True, where=inside, initial=0)
    after = jnp.min(drops, axis=-1, keepdims=True, where=drops > last, initial=jnp.inf)
    return jnp.where(jnp.isfinite(after), (last + after) / 2, last + 1)


def square_level(scores: Rows, masses: Rows, total) -> Float[Array, "... 1"]:
    r"""The level $\tau$ with $\sum_j a_j (s_j - \tau)_+^2 = t$: sorting, then a square root."""
    scores, masses = jnp.broadcast_arrays(scores, masses)
    cut = jax.lax.stop_gradient(_square_cut(scores, masses, total))
    inside = jnp.where((scores > cut) & (masses > 0), masses, 0)
    mass = _total(inside)
    mass = jnp.where(mass > 0, mass, 1)
    mean = _total(inside * scores) / mass
    rest = (total - _total(inside * (scores - mean) ** 2)) / mass
    # positive: it is the square of the distance from the level to the mean
    return mean - jnp.sqrt(jnp.maximum(rest, jnp.finfo(scores.dtype).tiny))


def _square_cut(scores: Rows, masses: Rows, total) -> Float[Array, "... 1"]:
    high = jnp.max(scores, axis=-1, keepdims=True)
    drops, weights = jax.lax.sort((high - scores, masses), num_keys=1)
    sums = [jnp.cumsum(weights * drops**power, axis=-1) for power in (0, 1, 2)]
    reached = sums[0] * drops**2 - 2 * sums[1] * drops + sums[2]
    return high - _halfway(drops, reached < total)


def exponential_level(scores: Rows, masses: Rows, cap) -> tuple[Some, Float[Array, "... 1"]]:
    r"""Which atoms are capped, and $\tau$ with $\sum_j a_j \min(c, e^{s_j - \tau}) = 1$.

    Atom j is capped if the sum is at most one at $\tau = s_j - \log c$. In descending order of
    scores that sum is $c \sum_{i \le j} a_i + c \sum_{i > j} a_i e^{s_i - s_j}$.
    """
    scores, masses = jnp.broadcast_arrays(scores, masses)
    capped = (masses > 0) & (scores > jax.lax.stop_gradient(_capped_cut(scores, masses, cap)))
    left = 1 - cap * _total(jnp.where(capped, masses, 0))
    free = ~capped & (masses > 0)
    top = jax.lax.stop_gradient(
        jnp.max(scores, axis=-1, keepdims=True, where=free, initial=-jnp.inf)
    )
    top = jnp.where(jnp.isfinite(top), top, 0)
    likes = _total(jnp.where(free, masses * jnp.exp(jnp.where(free, scores - top, 0)), 0))
    some = (likes > 0) & (left > 0)
    level = jnp.log(jnp.where(some, likes, 1)) - jnp.log(jnp.where(some, left, 1)) + top
    return capped, jnp.where(some, level, jnp.inf)


def _capped_cut(scores: Rows, masses: Rows, cap) -> Float[Array, "... 1"]:
    high = jnp.max(scores, axis=-1, keepdims=True)
    drops, masses = jax.lax.sort((high - scores, masses), num_keys=1)
    # log sum_{i > j} a_i e^{s_i}
    seen = masses > 0
    logits = jnp.where(seen, jnp.log(jnp.where(seen, masses, 1)) - drops, -jnp.inf)
    later = jax.lax.cumlogsumexp(logits, axis=logits.ndim - 1, reverse=True)[..., 1:]
    later = jnp.concatenate([later, jnp.full_like(later[..., :1], -jnp.inf)], axis=-1)
    reached = cap * (jnp.cumsum(masses, axis=-1) + jnp.exp(later + drops))
    inside = seen & (reached <= 1 + _rounding(drops, 1))
    return jnp.where(jnp.any(inside, -1, keepdims=True), high - _halfway(drops, inside), jnp.inf)


def power_level(scores: Rows, masses: Rows, total, power: float, cap=None) -> Float[Array, "... 1"]:
    r"""The level $\tau$ with $\sum_j a_j \min(c, (s_j - \tau)_+^q) = t$ for any power q >= 1.

    For powers without a closed form: bisection to the precision of the dtype, then two Newton
    steps, which also carry derivatives up to the third order exactly. With a cap, atoms that have
    reached it may make up the whole total for an interval of levels: then its middle, a constant.
    """
    scores, masses = jnp.broadcast_arrays(scores, masses)
    slack = 0 if cap is None else _rounding(scores, total)
    sought = jax.lax.stop_gradient((scores, masses))
    high = _bisected(*sought, total - slack, power, cap)
    low = high if cap is None else _bisected(*sought, total + slack, power, cap)
    root = (low + high) / 2
    width = high - low + 4 * jnp.finfo(root.dtype).eps * (jnp.abs(high) + jnp.abs(low))
    for _ in range(2):
        reached, slope = _powers(scores, masses, root, power, cap)
        # across a slope the sum changes by twice the slack between these ends
        sloped = (slope > 0) & (slope * width >= slack)
        root = root + jnp.where(sloped, (reached - total) / jnp.where(sloped, slope, 1), 0)
    return root


def _bisected(scores: Rows, masses: Rows, total, power: float, cap) -> Float[Array, "... 1"]:
    present = masses > 0
    high = jnp.max(scores, axis=-1, keepdims=True, where=present, initial=-jnp.inf)
    low = jnp.min(scores, axis=-1, keepdims=True, where=present, initial=jnp.inf)
    high, low = (jnp.where(jnp.isfinite(x), x, 0) for x in (high, low))
    mass = _total(masses)
    # at this level even the least score gives its atom t / (total mass)
    low = low - (total / jnp.where(mass > 0, mass, 1)) ** (1 / power)
    low = low if cap is None else low - cap ** (1 / power)  # where all have reached the cap

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        enough = _powers(scores, masses, middle, power, cap)[0] >= total
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    steps = jnp.finfo(scores.dtype).nmant + 10
    return jax.lax.fori_loop(0, steps, halve, (low, high))[0]


def _powers(scores: Rows, masses: Rows, level, power: float, cap) -> tuple[Array, Array]:
    """The sum at a level, and how fast it falls as the level rises."""
    height = scores - level
    inside = (height > 0) & (masses > 0)
    safe = jnp.where(inside, height, 1)
    values, slopes = safe**power, power * safe ** (power - 1)
    if cap is not None:
        slopes = jnp.where(values < cap, slopes, 0)
        values = jnp.minimum(values, cap)
    weight = jnp.where(inside, masses, 0)
    return _total(weight * values), _total(weight * slopes)


def _total(x: Rows) -> Float[Array, "... 1"]:
    return jnp.sum(x, axis=-1, keepdims=True)
