r"""Transport with free marginals and mass one, and the moments of the coupling found.

$$\min_Q\ \langle C, Q \rangle + \rho_1 \mathrm{KL}(Q_1 | a) + \rho_2 \mathrm{KL}(Q_2 | b) +
\varepsilon \mathrm{KL}(Q | a b^\top)$$

over probability matrices Q. A potential is a soft minimum s plus $\varepsilon \log r$, where $r
\propto e^{-s / (\rho + \varepsilon)}$ with $\langle a, r \rangle = 1$ is the share of each atom:
constants in C change nothing, so that no translation is needed, and an infinite rho gives r = 1.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..transport.entropic_problem import EntropicProblem, log_shares
from ..transport.softmin import softmin
from .bilinear import BilinearPairs


class UnitMass(NamedTuple):
    r"""The problem with $C_{ij} = \alpha_i + \beta_j - \langle u_i, v_j \rangle + T_{ij}$.

    Attributes:
      u, alpha, beta: shapes (n, k), (n,) and (m,); a batch of problems has a leading axis.
      v, table: shapes (m, k) and (n, m) or None, the same for a batch.
      weights: the shares a and b.
      rho, epsilon: prices and temperature.
      points: shape (n, p), those whose cross-moment with v is asked for.
    """

    u: Float[Array, "*batch n k"]
    alpha: Float[Array, "*batch n"]
    beta: Float[Array, "*batch m"]
    v: Float[Array, "m k"]
    table: Float[Array, "n m"] | None
    weights: tuple[Float[Array, " n"], Float[Array, " m"]]
    rho: tuple[Float[Array, ""], Float[Array, ""]]
    epsilon: Float[Array, ""]
    points: Float[Array, "n p"]

    @property
    def pairs(self) -> BilinearPairs:
        return BilinearPairs(rows=(self.u, self.alpha, self.table), cols=(self.v, self.beta))


class Reached(NamedTuple):
    r"""Where the iterations came to.

    Attributes:
      f, g: potentials, $Q_{ij} = a_i b_j e^{(f_i + g_j - C_{ij}) / \varepsilon}$.
      cross: $\sum Q_{ij} v_j x_i^\top$ with the features v of the costs.
      sent, received: the marginals.
      lost: the divergences of both marginals, without their prices.
      entropy: $\mathrm{KL}(Q | a b^\top)$.
      table: the pairing of Q with the table of costs, zero without one.
      error: how far the second marginal is from what its potential asks for, in total variation.
    """

    f: Float[Array, " n"]
    g: Float[Array, " m"]
    cross: Float[Array, "q p"]
    sent: Float[Array, " n"]
    received: Float[Array, " m"]
    lost: tuple[Float[Array, ""], Float[Array, ""]]
    entropy: Float[Array, ""]
    table: Float[Array, ""]
    error: Float[Array, ""]


def iterate(problem: UnitMass, g: Float[Array, " m"], steps: Any, keep: bool) -> Reached:
    """So many iterations from the second potential: with the kernel kept about it, or with both
    soft minima from logarithms, block by block, which serves where potentials have far to go."""
    if not keep:
        return _reached(problem, jax.lax.fori_loop(0, steps, lambda _, g: _step(problem, g), g))
    pairs, epsilon, (a, b) = problem.pairs, problem.epsilon, problem.weights
    exponents = pairs.exponents(g / epsilon + log_shares(b), epsilon)
    top = jnp.max(exponents, axis=1)
    kernel = jnp.exp(exponents - top[:, None])

    def step(_, now):
        powers = jnp.exp((now - g) / epsilon)
        sums = jnp.maximum(kernel @ powers, jnp.finfo(g.dtype).tiny)
        share = _log_share(-epsilon * (top + jnp.log(sums)), a, problem.rho[0] + epsilon)
        received = (jnp.exp(log_shares(a) + share) / sums @ kernel) * powers
        soft = now - epsilon * _log_ratio(received, b)
        new = soft + epsilon * _log_share(soft, b, problem.rho[1] + epsilon)
        return g + epsilon * _bounded((jnp.where(b > 0, new, 0.0) - g) / epsilon)

    return _reached(problem, jax.lax.fori_loop(0, steps, step, g))


def _step(problem: UnitMass, g: Float[Array, " m"]) -> Float[Array, " m"]:
    (a, b), epsilon = problem.weights, problem.epsilon
    f = _first(problem, g)[0]
    soft = softmin(problem.pairs.transpose, f, log_shares(a), epsilon)
    g = soft + epsilon * _log_share(soft, b, problem.rho[1] + epsilon)
    return jnp.where(b > 0, g, 0.0)


def _first(problem: UnitMass, g: Float[Array, " m"]) -> tuple[Array, Array]:
    """The first potential, and the logarithms of the shares that the first marginal then is."""
    (a, b), epsilon = problem.weights, problem.epsilon
    soft = softmin(problem.pairs, g, log_shares(b), epsilon)
    share = _log_share(soft, a, problem.rho[0] + epsilon)
    return jnp.where(a > 0, soft + epsilon * share, 0.0), share


def _reached(problem: UnitMass, g: Float[Array, " m"]) -> Reached:
    (a, b), epsilon = problem.weights, problem.epsilon
    u, alpha, v, beta = problem.u, problem.alpha, problem.v, problem.beta
    f, share = _first(problem, g)
    plan = EntropicProblem(problem.pairs, a, b, epsilon)
    sent = jnp.where(a > 0, a * jnp.exp(share), 0.0)
    images = a[:, None] * plan.spread(f, g, v)
    received = b * plan.transpose.spread(g, f, jnp.ones((len(a), 1), a.dtype))[:, 0]
    table = _table(problem, plan, f, g)
    arrived = _log_ratio(received, b)
    soft = g - epsilon * arrived
    wanted = b * jnp.exp(_log_share(soft, b, problem.rho[1] + epsilon))
    cost = jnp.sum(sent * alpha) + jnp.sum(received * beta) - jnp.sum(u * images) + table
    paid = jnp.sum(sent * f) + jnp.sum(received * g) - cost
    return Reached(
        f=f,
        g=g,
        cross=images.T @ problem.points,
        sent=sent,
        received=received,
        lost=(jnp.sum(jnp.where(a > 0, sent * share, 0.0)), jnp.sum(received * arrived)),
        entropy=paid / epsilon,
        table=table,
        error=jnp.sum(jnp.abs(received - jnp.where(b > 0, wanted, 0.0))),
    )


def _table(problem: UnitMass, plan: EntropicProblem, f, g) -> Array:
    if problem.table is None:
        return jnp.zeros((), f.dtype)
    return jnp.sum(problem.table * plan.plan(f, g))


def _log_share(soft: Float[Array, " n"], a: Float[Array, " n"], price: Any) -> Float[Array, " n"]:
    """The logarithms of shares proportional to powers of minus the soft minima, of mean one."""
    height = -soft / price
    return height - jax.scipy.special.logsumexp(jnp.where(a > 0, height, 0.0) + log_shares(a))


def _log_ratio(received: Float[Array, " m"], b: Float[Array, " m"]) -> Float[Array, " m"]:
    """log(received / b), zero for absent atoms; a mass that underflowed counts as the smallest
    that has all its digits."""
    numbers = jnp.finfo(b.dtype)
    floor = jnp.minimum(b, numbers.tiny / numbers.eps)
    ratio = jnp.maximum(received, floor) / jnp.where(b > 0, b, 1.0)
    return jnp.log(jnp.where(b > 0, ratio, 1.0))


def _bounded(change: Array) -> Array:
    """How far a potential may go while the kernel is kept: entries that underflowed cannot
    answer."""
    most = 0.2 * jnp.log(jnp.finfo(change.dtype).max)
    return jnp.clip(change, -most, most)


@eqx.filter_jit
def iterated(problem: UnitMass, g: Float[Array, "s m"], steps: Any, keep: bool) -> Reached:
    """`iterate` compiled, for a batch of costs and potentials; one program for every number of
    steps, if that is an array."""

    def one(u: Array, alpha: Array, beta: Array, g: Array) -> Reached:
        return iterate(problem._replace(u=u, alpha=alpha, beta=beta), g, steps, keep)

    return jax.vmap(one)(problem.u, problem.alpha, problem.beta, g)
