r"""The exact constant of attention at two weighted points, and a search for where it is large.

With $\mu = (1-w)\delta_x + w\delta_y$ the derivative is a matrix of 2 x 2 blocks. The search climbs
$|Jt|_\mu / |t|_\mu$ in the points, in $\log(w/(1-w))$ and, by power iteration, in the tangent t:
each value that it sees is a lower bound on the constant of its measure.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..measure import AbstractDomain
from .ellipsoid import Matrix


Vector = Float[np.ndarray, " _"]

# The light point keeps a mass that single precision can hold.
_LEAST_LOG_RATIO = -69.0


def constant_at(
    A: Matrix, V: Matrix, a: Vector, points: Float[np.ndarray, "m d"], weights: Vector
) -> float:
    r"""$\max(\|J\|_{L^2(\mu)}, \max_i \|D_i\|)$ by singular values of dense blocks in float64."""
    b = points @ A.T + a
    logits = b @ points.T + np.log(weights)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    root, m, queries, rows = np.sqrt(weights), len(weights), [], []
    for i in range(m):
        apart = points - shares[i] @ points
        query = V @ (apart.T * shares[i]) @ apart @ A
        context = [
            shares[i, j] * (V + np.outer(V @ apart[j], b[i])) + (query if i == j else 0)
            for j in range(m)
        ]
        queries.append(query)
        rows.append([root[i] / root[j] * block for j, block in enumerate(context)])
    norms = [np.linalg.norm(query, 2) for query in queries]
    return float(max(np.linalg.norm(np.block(rows), 2), *norms))


class _Pair(eqx.Module):
    """Two points and the log ratio of their masses, heavy first."""

    points: Float[Array, "*starts 2 d"]
    log_ratio: Float[Array, "*starts"]

    @property
    def log_masses(self) -> Float[Array, " 2"]:
        return jnp.stack(
            [-jnp.logaddexp(0.0, self.log_ratio), -jnp.logaddexp(0.0, -self.log_ratio)]
        )


class _Search(eqx.Module):
    """The map, the domain, and whether the masses may change."""

    A: Float[Array, "d d"]
    V: Float[Array, "e d"]
    a: Float[Array, " d"]
    domain: AbstractDomain
    free_mass: Float[Array, ""]

    def image(self, pair: _Pair, points: Float[Array, "2 d"]) -> Float[Array, "2 e"]:
        """The images of the two points."""
        logits = (points @ self.A.T + self.a) @ points.T + pair.log_masses
        return jax.nn.softmax(logits, axis=-1) @ (points @ self.V.T)

    def log_quotient(self, pair: _Pair, tangent: Float[Array, "2 d"]) -> Float[Array, ""]:
        r"""$\log |J t|_\mu - \log |t|_\mu$."""
        _, out = jax.jvp(lambda x: self.image(pair, x), (pair.points,), (tangent,))
        return (_log_square(out, pair.log_masses) - _log_square(tangent, pair.log_masses)) / 2

    def turned(self, pair: _Pair, tangent: Float[Array, "2 d"]) -> Float[Array, "2 d"]:
        """One power step, in the metric of the masses: M^{-1} J^T M J t."""
        _, move = jax.linearize(lambda x: self.image(pair, x), pair.points)
        back = jax.linear_transpose(move, tangent)
        mass = jnp.exp(pair.log_masses)[:, None]
        (pulled,) = back(mass * move(tangent))
        return pulled / mass / jnp.maximum(jnp.max(jnp.abs(pulled / mass)), 1e-300)

    def stepped(self, pair: _Pair, ascent: _Pair, rate: Float[Array, ""]) -> _Pair:
        """A step of `rate` in units of the radius, and of three for the log ratio."""
        points = pair.points + rate * self.domain.radius * ascent.points
        change = 3 * rate * self.free_mass * ascent.log_ratio
        return _Pair(
            self.domain.project(points), jnp.clip(pair.log_ratio + change, _LEAST_LOG_RATIO, 0.0)
        )


def climbs(
    A: Matrix,
    V: Matrix,
    a: Vector,
    domain: AbstractDomain,
    points: Float[np.ndarray, "starts 2 d"],
    log_ratios: Float[np.ndarray, " starts"],
    *,
    free_mass: bool,
    steps: int,
) -> tuple[Float[np.ndarray, "starts 2 d"], Float[np.ndarray, " starts"]]:
    """Points of the domain and log ratios, found by ascent from each of those given."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), domain)
        matrices = [jnp.asarray(np.asarray(x, np.float64)) for x in (A, V, a)]
        search = _Search(matrices[0], matrices[1], matrices[2], wide, jnp.asarray(1.0 * free_mass))
        pairs = _Pair(jnp.asarray(points), jnp.asarray(log_ratios))
        found = jax.tree.map(np.asarray, _climbs(search, pairs, steps))
    return found.points, found.log_ratio


@eqx.filter_jit
def _climbs(search: _Search, starts: _Pair, steps: int) -> _Pair:
    return jax.vmap(lambda start: _climb(search, start, steps))(starts)


def _climb(search: _Search, start: _Pair, steps: int) -> _Pair:
    def step(state, rate):
        pair, tangent, means, best, best_value = state
        tangent = search.turned(pair, search.turned(pair, tangent))
        value, gradient = jax.value_and_grad(search.log_quotient)(pair, tangent)
        better = value > best_value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), pair, best)
        means = jax.tree.map(_averaged, means, (gradient, jax.tree.map(jnp.square, gradient)))
        ascent = jax.tree.map(lambda g, h: g / jnp.sqrt(h + 1e-300), *means)
        pair = search.stepped(pair, ascent, rate)
        return (pair, tangent, means, best, jnp.maximum(value, best_value)), None

    # the light atom moves, along the line of the two and a little across
    across = jnp.linspace(-0.1, 0.1, start.points.shape[1])
    light = start.points[1] - start.points[0] + across
    tangent = jax.lax.fori_loop(
        0, 20, lambda _, t: search.turned(start, t), jnp.stack([0.1 * light, light])
    )
    # every coordinate in its own unit (Adam): at the boundary the outward slope is much the largest
    nothing = jax.tree.map(jnp.zeros_like, start)
    rates = 0.05 * 1e-2 ** (jnp.arange(steps) / steps)
    state = (start, tangent, (nothing, nothing), start, jnp.asarray(-jnp.inf))
    (_, _, _, best, _), _ = jax.lax.scan(step, state, rates)
    return best


def _averaged(mean: Float[Array, "*n"], new: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return 0.9 * mean + 0.1 * new


def _log_square(field: Float[Array, "2 k"], log_masses: Float[Array, " 2"]) -> Float[Array, ""]:
    r"""$\log \sum_i a_i |v_i|^2$, for masses of any size."""
    squares = jnp.sum(field**2, axis=-1)
    seen = squares > 0
    logs = jnp.where(seen, jnp.log(jnp.where(seen, squares, 1.0)), -jnp.inf)
    return jax.nn.logsumexp(logs + log_masses)
