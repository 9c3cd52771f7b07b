r"""Doubly stochastic attention: shares whose columns are normalised too, by Sinkhorn's algorithm.

With the density $h_{ij} = e^{s_{ij} + f_i + p_j}$, rows and columns satisfy $\sum_j a_j h_{ij} = 1$
and $\sum_i a_i h_{ij} = 1$. Rows are those of a softmax once the potential p is known, so that p is
all that queries have to agree on; off the atoms, the same softmax extends the map. The derivative
of p solves a linear system, $H\,dp = -\sum_i a_i P_{ij} (ds_{ij} - \langle P_i, ds_i \rangle)$ with
$H = \mathrm{diag}(a) - P^T \mathrm{diag}(a) P$. Rows are made block by block: memory is O(n) where
the context is long.
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .attending import AbstractCoupledChoice, Attending
from .choice import LogMass, Scores, Softmax, Visible


Potential = Float[Array, "heads n"]


class DoublyStochastic(AbstractCoupledChoice):
    r"""$h_{ij} = e^{s_{ij} + f_i + p_j}$ with $\int h(x, \cdot)\, d\mu = 1 = \int h(\cdot, y)\,
    d\mu$: every atom is looked at as much as it weighs.

    Args:
      rtol: the largest $|\log \sum_i a_i h_{ij}|$ at which iterations stop; 64 epsilon by default.
      max_steps: the largest number of Sinkhorn iterations. They converge at a linear rate that is
        slow where scores differ by much more than ten.

    Raises:
      RuntimeError: the iterations did not converge.
    """

    rtol: float | None = eqx.field(default=None, static=True)
    max_steps: int = eqx.field(default=2000, static=True)

    @property
    def normalised(self) -> bool:
        return True

    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        return Softmax().respond(scores, log_mass, visible)

    def potential(self, context: Attending) -> Potential:
        log_mass = context.log_mass - jax.nn.logsumexp(context.log_mass)
        return _potential(replace(context, choice=self, log_mass=log_mass))


@eqx.filter_custom_jvp
def _potential(context: Attending) -> Potential:
    """The fixed point of Sinkhorn's iterations, with the mean over the measure zero."""
    choice: Any = context.choice
    heads, _, n = context.shape
    dtype = context.keys.dtype
    rtol = 64 * jnp.finfo(dtype).eps if choice.rtol is None else choice.rtol
    masses = jnp.exp(context.log_mass)

    def step(state):
        potential, _, count = state
        error = jnp.where(masses > 0, _log_columns(context, potential), 0)
        potential = potential - error
        newton = _solve(context, potential, -_excess(context, potential))
        newton = newton / jnp.maximum(1, jnp.max(jnp.abs(newton), axis=-1, keepdims=True))
        return potential + newton, jnp.max(jnp.abs(error)), count + 1

    def running(state):
        _, error, count = state
        return (error > rtol) & (count < choice.max_steps)

    start = (jnp.zeros((heads, n), dtype), jnp.asarray(jnp.inf, dtype), 0)
    potential, error, _ = jax.lax.while_loop(running, step, start)
    return eqx.error_if(
        potential,
        ~(error <= rtol),
        f"the Sinkhorn iterations of DoublyStochastic did not reach `rtol` in {choice.max_steps} "
        "steps, or a score is not finite. Raise `max_steps` or `rtol`, or make the scores smaller.",
    )


@_potential.def_jvp
def _potential_jvp(primals, tangents):
    (context,), (moved,) = primals, tangents
    potential = _potential(context)
    _, drift = eqx.filter_jvp(lambda seen: _excess(seen, potential), (context,), (moved,))
    return potential, _solve(context, potential, -drift)


def _log_columns(context: Attending, potential: Potential) -> Potential:
    r"""$\log \sum_i a_i h_{ij}$, where f makes the rows sum to one."""

    def one(q, k, potential, bias, log_mass):
        logits = context.scores(q, k, bias) + potential
        rows = jax.nn.logsumexp(logits + context.log_mass, axis=1)
        rows = jnp.where(jnp.isfinite(rows), rows, 0)
        return jax.nn.logsumexp(logits - rows[:, None] + log_mass[:, None], axis=0)

    start = jnp.full_like(potential, -jnp.inf)
    return _over_rows(context, one, jnp.logaddexp, start, potential)


def _excess(context: Attending, potential: Potential) -> Potential:
    r"""$\sum_i a_i P_{ij} - a_j$."""
    masses = jnp.exp(context.log_mass)

    def one(q, k, potential, bias, log_mass):
        shares = Softmax().weigh(context.scores(q, k, bias) + potential, context.log_mass)
        return jnp.exp(log_mass) @ shares

    start = jnp.zeros_like(potential)
    return _over_rows(context, one, jnp.add, start, potential) - masses


def _solve(context: Attending, potential: Potential, target: Potential) -> Potential:
    r"""The x of mean zero with H x = b, for b that sums to zero: conjugate gradients on
    $I - B^T B + d d^T$, with $B = a^{1/2} P c^{-1/2}$, $d = c^{1/2}$ and c the sums of the columns,
    which are a at the fixed point (each head with its own steps)."""
    masses = jnp.exp(context.log_mass)
    columns = jax.lax.stop_gradient(masses + _excess(context, potential))
    present: Bool[Array, " n"] = columns > 0
    root = jnp.sqrt(jnp.where(present, columns, 1))
    root, inverse = jnp.where(present, root, 0), jnp.where(present, 1 / root, 0)

    def one(q, k, potential, x, bias, log_mass):
        shares = Softmax().weigh(context.scores(q, k, bias) + potential, context.log_mass)
        return (jnp.exp(log_mass) * (shares @ x)) @ shares

    def matvec(z):
        x = inverse * z
        back = _over_rows(context, one, jnp.add, jnp.zeros_like(z), potential, x)
        return z - inverse * back + root * jnp.sum(root * z, axis=-1, keepdims=True)

    z = jax.lax.custom_linear_solve(
        matvec, inverse * target, _conjugate_gradients, _conjugate_gradients, symmetric=True
    )
    x = inverse * z
    return x - jnp.sum(masses * x, axis=-1, keepdims=True)


def _conjugate_gradients(matvec, target: Potential) -> Potential:
    """x with matvec(x) = b for positive matrices, one for each row, to rounding."""
    tolerance = 4 * jnp.finfo(target.dtype).eps

    def dot(x, y):
        return jnp.sum(x * y, axis=-1, keepdims=True)

    def step(state):
        x, residual, direction, square, count = state
        image = matvec(direction)
        curvature = dot(direction, image)
        length = jnp.where(curvature > 0, square / jnp.where(curvature > 0, curvature, 1), 0)
        x, residual = x + length * direction, residual - length * image
        after = dot(residual, residual)
        turn = jnp.where(square > 0, after / jnp.where(square > 0, square, 1), 0)
        return x, residual, residual + turn * direction, after, count + 1

    def running(state):
        *_, square, count = state
        return jnp.any(square > (tolerance**2) * first) & (count < 4 * target.shape[-1] + 20)

    first = dot(target, target)
    start = (jnp.zeros_like(target), target, target, first, 0)
    return jax.lax.while_loop(running, step, start)[0]


def _over_rows(context: Attending, f, join, start: Potential, *columns: Potential) -> Potential:
    """f of every head on each block of query rows, joined: (heads, n).

    f takes q, k, the head's row of each of `columns`, a bias, and the logarithms of the masses of
    the block's atoms.
    """
    _, m, _ = context.shape

    def block(q, positions, log_mass):
        def each(q, k, *rest):
            *features, _ = rest  # no mask
            return f(q, k, *features, log_mass)

        return context.rows(positions).over_heads(each, q, context.keys, *columns)

    if context.block >= m:
        return join(start, block(context.queries, context.query_positions, context.log_mass))
    queries, positions = context.blocked(context.queries, context.query_positions)
    blocks, _, size, _ = queries.shape
    log_masses = jnp.pad(context.log_mass, (0, blocks * size - m), constant_values=-jnp.inf)
    log_masses = log_masses.reshape(blocks, size)

    @jax.checkpoint  # rows are made again rather than kept
    def add(sums, b):
        return join(sums, block(*b)), None

    return jax.lax.scan(add, start, (queries, positions, log_masses))[0]
