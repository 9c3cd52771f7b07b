"""Multi-head attention as pretrained transformers have it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .attention import AbstractAttention, check_axes, check_shapes, project, recombine
from .bias import AbstractScoreBias
from .choice import AbstractChoice, Softmax
from .layers import RMSNorm
from .rotary import Rotary


class MultiheadAttention(AbstractAttention):
    r"""$G(\mu, x) = c + \sum_h O_h \int p^h_\mu(x, y)\, (V_h y + b^V_h)\, d\mu(y)$ with scores
    $\lambda \langle Q_h x + b^Q_h,\; K_h y + b^K_h \rangle$.

    Args:
      query_proj: Q, shape (H, k, d).
      key_proj, value_proj: K, V, shapes (G, k, d) and (G, v, d); G divides H, and query head h
        uses key/value head h // (H / G) (grouped-query attention).
      output_proj: O, shape (H, e, v).
      query_bias, key_bias, value_bias, output_bias: shapes (H, k), (G, k), (G, v), (e,), or None.
      scale: lambda; 1/sqrt(k) by default.
      rotary: rotary positions; the context must then be a `ConditionalMeasure`.
      score_bias: a bias of the positions, added to the scores.
      query_norm, key_norm: a norm of each head's query and key, before the rotation.
      soft_cap: scores s become soft_cap tanh(s / soft_cap).

    Raises:
      ValueError: shapes that do not match, or key/value heads that do not divide the heads.
    """

    query_proj: Float[Array, "H k d"]
    key_proj: Float[Array, "G k d"]
    value_proj: Float[Array, "G v d"]
    output_proj: Float[Array, "H e v"]
    query_bias: Float[Array, "H k"] | None = eqx.field(default=None, kw_only=True)
    key_bias: Float[Array, "G k"] | None = eqx.field(default=None, kw_only=True)
    value_bias: Float[Array, "G v"] | None = eqx.field(default=None, kw_only=True)
    output_bias: Float[Array, " e"] | None = eqx.field(default=None, kw_only=True)
    scale: float | None = eqx.field(default=None, kw_only=True, static=True)
    rotary: Rotary | None = eqx.field(default=None, kw_only=True)
    score_bias: AbstractScoreBias | None = eqx.field(default=None, kw_only=True)
    query_norm: RMSNorm | None = eqx.field(default=None, kw_only=True)
    key_norm: RMSNorm | None = eqx.field(default=None, kw_only=True)
    soft_cap: float | None = eqx.field(default=None, kw_only=True, static=True)
    choice: AbstractChoice = eqx.field(default=Softmax(), kw_only=True)

    def __check_init__(self):
        check_axes(self, query_proj=3, key_proj=3, value_proj=3, output_proj=3)
        H, k, d = self.query_proj.shape
        G, v, e = self.key_proj.shape[0], self.value_proj.shape[1], self.output_proj.shape[1]
        if H % G:
            raise ValueError(
                f"`query_proj` has {H} heads, which must be a multiple of the {G} heads of "
                "`key_proj`."
            )
        check_shapes(self, key_proj=(G, k, d), value_proj=(G, v, d), output_proj=(H, e, v))
        check_shapes(self, query_bias=(H, k), key_bias=(G, k), value_bias=(G, v), output_bias=(e,))

    @classmethod
    def random(
        cls, *, dim: int, heads: int, key: PRNGKeyArray, head_dim: int | None = None
    ) -> "MultiheadAttention":
        """Independent normal projections of variance 1/d, for experiments."""
        k = dim // heads if head_dim is None else head_dim
        shapes = [(heads, k, dim), (heads, k, dim), (heads, k, dim), (heads, dim, k)]
        keys = jr.split(key, 4)
        return cls(*[jr.normal(key, s) / dim**0.5 for key, s in zip(keys, shapes, strict=True)])

    @property
    def score_scale(self) -> float:
        """The factor lambda of the scores."""
        return self.query_proj.shape[1] ** -0.5 if self.scale is None else self.scale

    @property
    def group(self) -> int:
        """How many query heads share one key/value head."""
        return self.query_proj.shape[0] // self.key_proj.shape[0]

    def queries(
        self, x: Float[Array, "m d"], positions: Int[Array, " m"] | None
    ) -> Float[Array, "H m k"]:
        q = _biased(project(self.query_proj, x), self.query_bias)
        return self.score_scale * self._placed(q, self.query_norm, positions)

    def keys(
        self, y: Float[Array, "n d"], positions: Int[Array, " n"] | None
    ) -> Float[Array, "H n k"]:
        k = _biased(project(self.key_proj, y), self.key_bias)
        return self._shared(self._placed(k, self.key_norm, positions))

    def values(self, y: Float[Array, "n d"]) -> Float[Array, "H n v"]:
        return self._shared(_biased(project(self.value_proj, y), self.value_bias))

    def combine(self, mixed: Float[Array, "H m v"]) -> Float[Array, "m e"]:
        y = recombine(self.output_proj, mixed)
        return y if self.output_bias is None else y + self.output_bias

    def _placed(self, features: Array, norm: RMSNorm | None, positions: Array | None) -> Array:
        if norm is not None:
            features = norm.point(features)
        if self.rotary is None:
            return features
        if positions is None:
            raise ValueError(
                "`mu` must be a ConditionalMeasure, because rotary scores depend on positions; got "
                "a Measure. Use mf.ConditionalMeasure.from_sequence(points)."
            )
        return self.rotary.rotate(features, positions)

    def _shared(self, features: Array) -> Array:
        return features if self.group == 1 else jnp.repeat(features, self.group, axis=0)

    @property
    def heads(self) -> tuple["MultiheadAttention", ...]:
        return tuple(self._head(h) for h in range(self.query_proj.shape[0]))

    def _head(self, h: int) -> "MultiheadAttention":
        own, shared = slice(h, h + 1), slice(h // self.group, h // self.group + 1)
        bias = self.score_bias

        def cut(array, part):
            return None if array is None else array[part]

        return MultiheadAttention(
            self.query_proj[own],
            self.key_proj[shared],
            self.value_proj[shared],
            self.output_proj[own],
            query_bias=cut(self.query_bias, own),
            key_bias=cut(self.key_bias, shared),
            value_bias=cut(self.value_bias, shared),
            scale=self.score_scale,
            rotary=self.rotary,
            score_bias=None if bias is None else bias.head(h),
            query_norm=self.query_norm,
            key_norm=self.key_norm,
            soft_cap=self.soft_cap,
            choice=self.choice,
        )


def _biased(features: Float[Array, "H n k"], bias: Float[Array, "H k"] | None) -> jax.Array:
    return features if bias is None else features + bias[:, None, :]
