"""The derivative of attention in closed form: what a small move of the atoms does to the output.

With shares P, scores S = q k^T and a move (dq, dk, dv) of the features,

    dS = dq k^T + q dk^T,   T = P o (dS - <P, dS>),   output: T v + P dv,

and the transpose runs the same products backwards. The part with dq alone is what an atom does to
itself as a query while its context stays: the local part D_i. Shares are kept where they fit and
made again, one block of queries at a time, where they do not.
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


class AttentionDerivative(eqx.Module):
    """The linear maps J (all atoms move) and D (queries move, the context stays) at a measure.

    `smooth` and `smooth_transpose` apply J and its plain Euclidean transpose; `split` and
    `split_transpose` apply the block-diagonal D = (D_i). Moves have the layout of `mu.points`.
    """

    attending: Attending
    shares: Float[Array, "heads n n"] | None
    slopes: Float[Array, "heads n n"] | None
    move_features: Callable
    move_output: Callable
    points: Float[Array, "*n d"]
    outputs: Float[Array, "*n e"]

    def __init__(self, f: AbstractAttention, mu: AnyMeasure, mask: AbstractMask | None = None):
        def features(x):
            seen = f.attending(mu.with_points(x), x, mask)
            return seen.queries, seen.keys, seen.values

        self.points = mu.points
        self.attending = f.attending(mu, mu.points, mask)
        _, self.move_features = jax.linearize(features, mu.points)
        mixed = jax.eval_shape(self.attending.mix)
        zero = jnp.zeros(mixed.shape, mixed.dtype)
        combined, self.move_output = jax.linearize(f.combine, zero)
        self.outputs = jnp.zeros((*mu.points.shape[:-1], combined.shape[-1]), combined.dtype)
        heads, m, n = self.attending.shape
        kept = self.attending.block >= m and heads * m * n <= _KEPT
        self.shares = self.attending.weights() if kept else None
        self.slopes = self._kept_slopes() if kept else None

    def _kept_slopes(self) -> Array | None:
        if self.attending.soft_cap is None:
            return None
        return self._rows(None).over_heads(
            lambda q, k, *_: self._slope(q, k), self.attending.queries, self.attending.keys
        )

    def _slope(self, q: Array, k: Array) -> Array | None:
        """d(cap tanh(s / cap)) / ds."""
        cap = self.attending.soft_cap
        return None if cap is None else 1 - jnp.tanh(q @ k.T / cap) ** 2

    def smooth(self, v: Moves) -> Float[Array, "*n e"]:
        """J v."""
        moved = self.move_features(v)
        return self._output(self._forward(*moved))

    def split(self, v: Moves) -> Float[Array, "*n e"]:
        """(D_i v_i)_i: queries move, the context stays."""
        dq, _, _ = self.move_features(v)
        return self._output(self._forward(dq, None, None))

    def smooth_transpose(self, w: Float[Array, "*n e"]) -> Moves:
        """J^T w."""
        return self._pull_features(*self._backward(self._pull_output(w), context=True))

    def split_transpose(self, w: Float[Array, "*n e"]) -> Moves:
        """(D_i^T w_i)_i."""
        dq, _, _ = self._backward(self._pull_output(w), context=False)
        zeros = jnp.zeros_like(self.attending.keys), jnp.zeros_like(self.attending.values)
        return self._pull_features(dq, *zeros)

    def _output(self, mixed: Float[Array, "heads n v"]) -> Array:
        return self.move_output(mixed).reshape(self.outputs.shape)

    def _pull_output(self, w: Array) -> Float[Array, "heads n v"]:
        heads, m, _ = self.attending.shape
        mixed = jax.ShapeDtypeStruct((heads, m, self.attending.values.shape[-1]), w.dtype)
        return jax.linear_transpose(self.move_output, mixed)(w.reshape(m, -1))[0]

    def _pull_features(self, dq: Array, dk: Array, dv: Array) -> Moves:
        return jax.linear_transpose(self.move_features, self.points)((dq, dk, dv))[0]

    def _rows(self, positions: Array | None) -> Rows:
        """Biases and visibility of a block, needed only where shares are made again."""
        if self.shares is not None:
            heads, _, n = self.attending.shape
            return Rows(None, None, heads * n)
        return self.attending.rows(positions)

    def _head_shares(self, q, k, kept, bias, visible) -> tuple[Array, Array | None]:
        if kept is not None:
            return kept
        return self.attending.shares(q, k, bias, visible), self._slope(q, k)

    def _forward(self, dq: Array, dk: Array | None, dv: Array | None) -> Array:
        seen = self.attending

        def one(q, dq, kept, k, v, dk, dv, bias, visible):
            shares, slope = self._head_shares(q, k, kept, bias, visible)
            dscores = dq @ k.T if dk is None else dq @ k.T + q @ dk.T
            dscores = dscores if slope is None else dscores * slope
            out = seen.choice.respond(shares, dscores) @ v
            return out if dv is None else out + shares @ dv

        def block(positions, q, dq, kept):
            rows = self._rows(positions)
            return rows.over_heads(one, q, dq, kept, seen.keys, seen.values, dk, dv)

        if self.shares is not None:
            return block(None, seen.queries, dq, (self.shares, self.slopes))
        m = seen.shape[1]
        queries, positions = seen.blocked(seen.queries, seen.query_positions)
        dqs, _ = seen.blocked(dq, None)
        out = jax.lax.map(lambda b: block(*b, None), (positions, queries, dqs))
        return unblocked(out, m)

    def _backward(self, g: Array, context: bool) -> tuple[Array, Array | None, Array | None]:
        seen = self.attending

        def one(q, g, kept, k, v, bias, visible):
            shares, slope = self._head_shares(q, k, kept, bias, visible)
            dscores = seen.choice.respond(shares, g @ v.T)
            dscores = dscores if slope is None else dscores * slope
            if not context:
                return dscores @ k, None, None
            return dscores @ k, dscores.T @ q, shares.T @ g

        def block(positions, q, g, kept):
            return self._rows(positions).over_heads(one, q, g, kept, seen.keys, seen.values)

        if self.shares is not None:
            return block(None, seen.queries, g, (self.shares, self.slopes))
        queries, positions = seen.blocked(seen.queries, seen.query_positions)
        gs, _ = seen.blocked(g, None)

        def step(sums, b):
            dq, dk, dv = block(*b, None)
            return (jax.tree.map(jnp.add, sums, (dk, dv)), dq)

        start = (jnp.zeros_like(seen.keys), jnp.zeros_like(seen.values))
        start = start if context else (None, None)
        (dk, dv), dq = jax.lax.scan(step, start, (positions, queries, gs))
        return unblocked(dq, seen.shape[1]), dk, dv
