"""The derivative of attention in closed form: what a small move of the atoms does to the output.

With shares P, their response R to scores (R = P for the softmax), scores S = q k^T + p (p is the
potential of a coupled choice), values v and their centres c = R v / R 1 (c = 0 where shares are not
normalised), a move (dq, dk, dv, dp) of the features changes a head's output by

    dS = dq k^T + q dk^T + dp,   W = R o dS,   W v - (W 1) c + P dv,

and the transpose sends an output g back by Q = R o (g v^T - <g, c> 1^T): dq = Q k, dk = Q^T q,
dv = P^T g, dp = Q^T 1. A soft cap multiplies dq k^T + q dk^T by its slope. The part with dq alone
is what an atom does to itself as a query while its context stays: the local part D_i. Shares are
kept where they fit and made again, one block of queries at a time, where they do not.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .attending import AbstractMask, Attending, Rows, unblocked
from .attention import AbstractAttention
from .map import AnyMeasure


# All heads' shares are kept up to this many entries (400 MB in float32).
_KEPT = 10**8

Moves = Float[Array, "*n d"]
# dk, dv, dp: None for what does not move
_Sent = tuple[Array | None, Array | None, Array | None]


class HeadRows(eqx.Module):
    """Rows of a head (or of all heads, with a leading axis): shares P, response R, centres c, and
    the slopes of the soft cap."""

    shares: Float[Array, "*heads b n"]
    response: Float[Array, "*heads b n"] | None
    centres: Float[Array, "*heads b v"]
    slopes: Float[Array, "*heads b n"] | None

    @property
    def answer(self) -> Float[Array, "*heads b n"]:
        """R; it is P itself for the plain softmax."""
        return self.shares if self.response is None else self.response

    def bent(self, x: Float[Array, "b n"]) -> Float[Array, "b n"]:
        """x times the slope of the soft cap, where there is one."""
        return x if self.slopes is None else x * self.slopes


class AttentionDerivative(eqx.Module):
    """The linear maps J (all atoms move) and D (queries move, the context stays) at a measure.

    `smooth` and `smooth_transpose` apply J and its plain Euclidean transpose; `split` and
    `split_transpose` apply the block-diagonal D = (D_i). Moves have the layout of `mu.points`.
    """

    attending: Attending
    kept: HeadRows | None
    move_features: Callable
    move_output: Callable
    points: Float[Array, "*n d"]
    outputs: Float[Array, "*n e"]

    def __init__(self, f: AbstractAttention, mu: AnyMeasure, mask: AbstractMask | None = None):
        def features(x):
            seen = f.attending(mu.with_points(x), x, mask)
            return seen.queries, seen.keys, seen.values, seen.potential

        # what an absent atom holds, NaN perhaps, must not meet the zeros of its share
        mu = mu.with_points(jnp.where(mu.masses[..., None] > 0, mu.points, 0))
        self.points = mu.points
        self.attending = seen = f.attending(mu, mu.points, mask)
        heads, m, n = seen.shape
        _, self.move_features = jax.linearize(features, mu.points)
        zero = jnp.zeros((heads, m, seen.values.shape[-1]), seen.values.dtype)
        combined, self.move_output = jax.linearize(f.combine, zero)
        self.outputs = jnp.zeros((*mu.points.shape[:-1], combined.shape[-1]), combined.dtype)
        self.kept = None
        if seen.block >= m and heads * m * n <= _KEPT:
            rows = seen.rows(seen.query_positions)
            self.kept = rows.over_heads(self._head_rows, seen.queries, seen.keys, seen.values)

    def _head_rows(self, q, k, v, bias, visible) -> HeadRows:
        """Shares, response and centres of a block of a head's queries."""
        seen = self.attending
        shares, response = seen.choice.respond(seen.scores(q, k, bias), seen.log_mass, visible)
        centres = jnp.zeros((q.shape[0], v.shape[1]), v.dtype)
        if seen.choice.normalised:
            total = jnp.sum(response, axis=-1, keepdims=True)
            centres = response @ v / jnp.where(total > 0, total, 1)
        slopes = None
        if seen.soft_cap is not None:  # d(cap tanh(s / cap)) / ds
            slopes = 1 - jnp.tanh(q @ k.T / seen.soft_cap) ** 2
        return HeadRows(shares, None if response is shares else response, centres, slopes)

    def smooth(self, v: Moves) -> Float[Array, "*n e"]:
        """J v."""
        moved = self.move_features(v)
        return self._output(self._forward(*moved))

    def split(self, v: Moves) -> Float[Array, "*n e"]:
        """(D_i v_i)_i: queries move, the context stays."""
        dq, *_ = self.move_features(v)
        return self._output(self._forward(dq, None, None, None))

    def smooth_transpose(self, w: Float[Array, "*n e"]) -> Moves:
        """J^T w."""
        return self._pull_features(*self._backward(self._pull_output(w), context=True))

    def split_transpose(self, w: Float[Array, "*n e"]) -> Moves:
        """(D_i^T w_i)_i."""
        dq, *_ = self._backward(self._pull_output(w), context=False)
        return self._pull_features(dq, None, None, None)

    def _output(self, mixed: Float[Array, "heads n v"]) -> Array:
        return self.move_output(mixed).reshape(self.outputs.shape)

    def _pull_output(self, w: Array) -> Float[Array, "heads n v"]:
        heads, m, _ = self.attending.shape
        mixed = jax.ShapeDtypeStruct((heads, m, self.attending.values.shape[-1]), w.dtype)
        return jax.linear_transpose(self.move_output, mixed)(w.reshape(m, -1))[0]

    def _pull_features(
        self, dq: Array, dk: Array | None, dv: Array | None, dp: Array | None
    ) -> Moves:
        seen = self.attending
        dk = jnp.zeros_like(seen.keys) if dk is None else dk
        dv = jnp.zeros_like(seen.values) if dv is None else dv
        if dp is None and seen.potential is not None:
            dp = jnp.zeros_like(seen.potential)
        return jax.linear_transpose(self.move_features, self.points)((dq, dk, dv, dp))[0]

    def _rows(self, positions: Array | None) -> Rows:
        """Biases and visibility of a block, needed only where shares are made again."""
        if self.kept is None:
            return self.attending.rows(positions)
        heads, _, n = self.attending.shape
        return Rows(None, None, heads * n)

    def _forward(self, dq: Array, dk: Array | None, dv: Array | None, dp: Array | None) -> Array:
        seen = self.attending

        def one(q, dq, kept, k, v, dk, dv, dp, bias, visible):
            rows = self._head_rows(q, k, v, bias, visible) if kept is None else kept
            dscores = rows.bent(dq @ k.T if dk is None else dq @ k.T + q @ dk.T)
            response = rows.answer * (dscores if dp is None else dscores + dp)
            out = response @ v - jnp.sum(response, axis=-1, keepdims=True) * rows.centres
            return out if dv is None else out + rows.shares @ dv

        def block(positions, q, dq, kept):
            rows = self._rows(positions)
            return rows.over_heads(one, q, dq, kept, seen.keys, seen.values, dk, dv, dp)

        if self.kept is not None:
            return block(None, seen.queries, dq, self.kept)
        queries, positions = seen.blocked(seen.queries, seen.query_positions)
        dqs, _ = seen.blocked(dq, None)
        out = jax.lax.map(lambda b: block(b[0], b[1], b[2], None), (positions, queries, dqs))
        return unblocked(out, seen.shape[1])

    def _backward(self, g: Array, context: bool) -> tuple[Array, *_Sent]:
        """(dq, dk, dv, dp)."""
        seen = self.attending

        def one(q, g, kept, k, v, bias, visible):
            rows = self._head_rows(q, k, v, bias, visible) if kept is None else kept
            level = jnp.sum(g * rows.centres, axis=-1, keepdims=True)
            pulled = rows.answer * (g @ v.T - level)
            bent = rows.bent(pulled)
            if not context:
                return bent @ k, None, None, None
            dp = None if seen.potential is None else jnp.sum(pulled, axis=0)
            # (k, n) rather than (n, k): the n x n matrix is then read along its rows
            return bent @ k, q.T @ bent, g.T @ rows.shares, dp

        def block(positions, q, g, kept):
            return self._rows(positions).over_heads(one, q, g, kept, seen.keys, seen.values)

        if self.kept is not None:
            dq, dk, dv, dp = block(None, seen.queries, g, self.kept)
            return dq, _turned(dk), _turned(dv), dp
        queries, positions = seen.blocked(seen.queries, seen.query_positions)
        gs, _ = seen.blocked(g, None)

        def step(sums, b):
            dq, *sent = block(b[0], b[1], b[2], None)
            return jax.tree.map(jnp.add, sums, sent), dq

        start = [None, None, None]
        if context:
            start = [_turned(jnp.zeros_like(x)) for x in (seen.keys, seen.values)]
            start += [None if seen.potential is None else jnp.zeros_like(seen.potential)]
        (dk, dv, dp), dq = jax.lax.scan(step, start, (positions, queries, gs))
        return unblocked(dq, seen.shape[1]), _turned(dk), _turned(dv), dp


def _turned(x: Array | None) -> Array | None:
    """Each head's matrix transposed."""
    return None if x is None else x.swapaxes(1, 2)
