"""Attention as an in-context map: score x choice x value (castin2024, geshkovski2023)."""

import abc
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from meanfield.measure import Measure

from .attending import AbstractCoupledChoice, AbstractMask, Attending
from .bias import AbstractScoreBias
from .choice import AbstractChoice, Softmax
from .map import AbstractInContextMap, AnyMeasure


class AbstractAttention(AbstractInContextMap):
    r"""Attention with scores that are inner products of features:

    $$G(\mu, x) = \mathrm{combine}\Big(\int p_\mu(x, y)\, v(y)\, d\mu(y)\Big), \qquad
    p_\mu(x, y) \propto e^{\langle q(x), k(y) \rangle} \text{ for the softmax choice,}$$

    for each head. A subclass says what the features q, k, v are. Scores may be capped
    (`soft_cap`: s -> cap tanh(s / cap)) and may carry a bias of the positions (`score_bias`).
    """

    choice: eqx.AbstractVar[AbstractChoice]
    score_bias: eqx.AbstractVar[AbstractScoreBias | None]
    soft_cap: eqx.AbstractVar[float | None]

    @abc.abstractmethod
    def queries(
        self, x: Float[Array, "m d"], positions: Int[Array, " m"] | None
    ) -> Float[Array, "heads m k"]:
        """The query features q(x) of every head, with the scale of the scores."""

    @abc.abstractmethod
    def keys(
        self, y: Float[Array, "n d"], positions: Int[Array, " n"] | None
    ) -> Float[Array, "heads n k"]:
        """The key features k(y) of every head."""

    @abc.abstractmethod
    def values(self, y: Float[Array, "n d"]) -> Float[Array, "heads n v"]:
        """The value features v(y) of every head."""

    @abc.abstractmethod
    def combine(self, mixed: Float[Array, "heads m v"]) -> Float[Array, "m e"]:
        """The output for the averaged values of all heads: an affine map."""

    @property
    @abc.abstractmethod
    def heads(self) -> tuple["AbstractAttention", ...]:
        """Each head as an attention of its own; without the output bias they add up."""

    def attending(
        self, mu: AnyMeasure, x: Float[Array, "*m d"], mask: AbstractMask | None = None
    ) -> Attending:
        """The queries at x before the context mu, ready to be mixed or differentiated."""
        points, where = flat_queries(mu, x)
        atoms, positions = mu.atoms, mu.positions
        if positions is None and (self.score_bias is not None or mask is not None):
            raise ValueError(
                "`mu` must be a ConditionalMeasure, because the scores depend on positions; got a "
                "Measure. Use mf.ConditionalMeasure.from_sequence(points)."
            )
        # what an absent atom holds, NaN perhaps, must not meet the zero of its share
        context = jnp.where(atoms.present[:, None], atoms.points, 0)
        seen = Attending(
            queries=self.queries(points, where),
            keys=self.keys(context, positions),
            values=self.values(context),
            log_mass=log_mass(atoms),
            query_positions=where,
            key_positions=positions,
            choice=self.choice,
            score_bias=self.score_bias,
            soft_cap=self.soft_cap,
            mask=mask,
        )
        if not isinstance(self.choice, AbstractCoupledChoice):
            return seen
        return _coupled(seen, self.choice, self.queries(context, positions))

    def at(self, mu: AnyMeasure, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        y = self.combine(self.attending(mu, x).mix())
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def weights(self, mu: AnyMeasure) -> Float[Array, "heads n n"]:
        """The shares p of every atom for every atom as a query; rows sum to one."""
        return self.attending(mu, mu.points).weights()

    def scores(self, mu: AnyMeasure) -> Float[Array, "heads n n"]:
        """The scores between all atoms (before masses, up to constants of a row)."""
        seen = replace(self.attending(mu, mu.points), potential=None)
        return seen.rows(seen.query_positions).over_heads(
            lambda q, k, bias, visible: seen.scores(q, k, bias), seen.queries, seen.keys
        )


def _coupled(
    seen: Attending, choice: AbstractCoupledChoice, own_queries: Float[Array, "heads n k"]
) -> Attending:
    """The same queries before a context whose atoms have competed for each other."""
    if seen.mask is not None:
        raise ValueError(
            f"`choice` must treat each query alone under a mask; got {type(choice).__name__}, for "
            "which queries compete. Use Softmax, ChiSquare or Entmax in causal attention."
        )
    context = replace(seen, queries=own_queries, query_positions=seen.key_positions)
    return replace(seen, potential=choice.potential(context))


def check_axes(f: eqx.Module, **expected: int) -> None:
    """Raises ValueError if an array of a map has another number of axes."""
    for name, ndim in expected.items():
        shape = getattr(f, name).shape
        if len(shape) != ndim:
            raise ValueError(f"`{name}` must have {ndim} axes; got shape {shape}.")


def check_shapes(f: eqx.Module, **expected: tuple[int, ...]) -> None:
    """Raises ValueError if an array of a map, unless it is None, has another shape."""
    for name, shape in expected.items():
        array = getattr(f, name)
        if array is not None and array.shape != shape:
            raise ValueError(
                f"`{name}` must have shape {shape} to match the other arrays of the "
                f"{type(f).__name__}; got {array.shape}."
            )


def flat_queries(mu: AnyMeasure, x: Float[Array, "*m d"]) -> tuple[Array, Array | None]:
    """Queries in the layout of `mu.points` as rows, with their positions where mu has them."""
    rows = x.reshape(-1, x.shape[-1])
    if isinstance(mu, Measure):
        return rows, None
    if x.ndim != 3 or x.shape[0] != mu.size:
        raise ValueError(
            f"`x` must have shape (s, m, d) with s = {mu.size}, the number of positions of `mu`; "
            f"got {x.shape}."
        )
    return rows, jnp.repeat(jnp.arange(mu.size), x.shape[1])


def log_mass(atoms: Measure) -> Float[Array, " n"]:
    """The logarithm of the weights, -inf where an atom is absent; its gradient is finite.

    In the weight of an absent atom the gradient is 0, by convention: the true one-sided derivative
    is that of an atom that appears, e^s (v - mean) / sum w e^s, which has no finite logarithmic
    form, overflows where the score s of what lies there is far above those that are seen, and is
    NaN where padding holds NaN. To ask what an atom would do, give it a small positive weight.
    """
    return jnp.where(atoms.present, jnp.log(jnp.where(atoms.present, atoms.weights, 1)), -jnp.inf)


class SelfAttention(AbstractAttention):
    r"""One head with score $\langle A x + a, y \rangle$ and value $V y$, plus a constant c:
    $G(\mu, x) = c + \int e^{\langle Ax + a, y\rangle} V y\, d\mu(y) \,/
    \int e^{\langle Ax + a, y\rangle} d\mu(y)$.

    Args:
      A: shape (d, d); $A = K^T Q / \sqrt k$ for query and key matrices Q, K.
      V: shape (e, d).
      a: shape (d,), the query bias, or None.
      c: shape (e,), the output bias, or None.
    """

    A: Float[Array, "d d"]
    V: Float[Array, "e d"]
    a: Float[Array, " d"] | None = None
    c: Float[Array, " e"] | None = None
    choice: AbstractChoice = Softmax()
    score_bias: AbstractScoreBias | None = None
    soft_cap: float | None = eqx.field(default=None, static=True)

    def __check_init__(self):
        check_axes(self, A=2, V=2)
        d, e = self.A.shape[1], self.V.shape[0]
        check_shapes(self, A=(d, d), V=(e, d), a=(d,), c=(e,))

    def queries(
        self, x: Float[Array, "m d"], positions: Int[Array, " m"] | None
    ) -> Float[Array, "1 m d"]:
        q = x @ self.A.T
        return (q if self.a is None else q + self.a)[None]

    def keys(
        self, y: Float[Array, "n d"], positions: Int[Array, " n"] | None
    ) -> Float[Array, "1 n d"]:
        return y[None]

    def values(self, y: Float[Array, "n d"]) -> Float[Array, "1 n e"]:
        return (y @ self.V.T)[None]

    def combine(self, mixed: Float[Array, "1 m e"]) -> Float[Array, "m e"]:
        return mixed[0] if self.c is None else mixed[0] + self.c

    @property
    def heads(self) -> tuple["SelfAttention", ...]:
        return (eqx.tree_at(lambda f: f.c, self, None, is_leaf=lambda x: x is None),)


class L2Attention(AbstractAttention):
    r"""Attention with score $-\lambda\, |Q x - K y|^2$ (kim2021).

    The part $-\lambda |Qx|^2$ is the same for every key, so the features
    $q(x) = (2\lambda Q x, 1)$ and $k(y) = (K y, -\lambda |K y|^2)$ give the same shares.

    Args:
      query_proj, key_proj: shape (heads, k, d).
      value_proj: shape (heads, v, d).
      output_proj: shape (heads, e, v).
      scale: lambda, 1/sqrt(k) by default.
    """

    query_proj: Float[Array, "heads k d"]
    key_proj: Float[Array, "heads k d"]
    value_proj: Float[Array, "heads v d"]
    output_proj: Float[Array, "heads e v"]
    scale: float | None = eqx.field(default=None, static=True)
    choice: AbstractChoice = Softmax()
    score_bias: AbstractScoreBias | None = None
    soft_cap: float | None = eqx.field(default=None, static=True)

    def __check_init__(self):
        check_axes(self, query_proj=3, value_proj=3, output_proj=3)
        heads, k, d = self.query_proj.shape
        v, e = self.value_proj.shape[1], self.output_proj.shape[1]
        check_shapes(self, key_proj=(heads, k, d), value_proj=(heads, v, d))
        check_shapes(self, output_proj=(heads, e, v))
        if not self.choice.normalised:
            raise ValueError(
                "`choice` must be normalised, because the features of L2Attention leave out what "
                f"is the same for every key; got {type(self.choice).__name__}."
            )

    @property
    def sharpness(self) -> float:
        """The factor lambda of the squared distance."""
        return self.query_proj.shape[1] ** -0.5 if self.scale is None else self.scale

    def queries(
        self, x: Float[Array, "m d"], positions: Int[Array, " m"] | None
    ) -> Float[Array, "heads m features"]:
        q = 2 * self.sharpness * project(self.query_proj, x)
        return jnp.concatenate([q, jnp.ones_like(q[..., :1])], axis=-1)

    def keys(
        self, y: Float[Array, "n d"], positions: Int[Array, " n"] | None
    ) -> Float[Array, "heads n features"]:
        k = project(self.key_proj, y)
        length = jnp.sum(k**2, axis=-1, keepdims=True)
        return jnp.concatenate([k, -self.sharpness * length], axis=-1)

    def values(self, y: Float[Array, "n d"]) -> Float[Array, "heads n v"]:
        return project(self.value_proj, y)

    def combine(self, mixed: Float[Array, "heads m v"]) -> Float[Array, "m e"]:
        return recombine(self.output_proj, mixed)

    @property
    def heads(self) -> tuple["L2Attention", ...]:
        return tuple(self._head(h) for h in range(self.query_proj.shape[0]))

    def _head(self, h: int) -> "L2Attention":
        one = slice(h, h + 1)
        return L2Attention(
            query_proj=self.query_proj[one],
            key_proj=self.key_proj[one],
            value_proj=self.value_proj[one],
            output_proj=self.output_proj[one],
            scale=self.scale,
            choice=self.choice,
            score_bias=None if self.score_bias is None else self.score_bias.head(h),
            soft_cap=self.soft_cap,
        )


def project(matrices: Float[Array, "heads k d"], x: Float[Array, "n d"]) -> Array:
    """The features (heads, n, k) of the points, as one matrix product for all heads."""
    heads, k, d = matrices.shape
    features = x @ matrices.reshape(heads * k, d).T
    return features.reshape(-1, heads, k).swapaxes(0, 1)


def recombine(matrices: Float[Array, "heads e v"], mixed: Float[Array, "heads m v"]) -> Array:
    """The outputs (m, e), summed over heads, as one matrix product."""
    heads, e, v = matrices.shape
    stacked = mixed.swapaxes(0, 1).reshape(-1, heads * v)
    return stacked @ matrices.swapaxes(1, 2).reshape(heads * v, e)
