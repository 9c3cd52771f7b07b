"""Causal attention: a position sees what is not after it (masked attention of castin2024)."""

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int

from meanfield.measure import ConditionalMeasure

from .attending import AbstractMask
from .attention import AbstractAttention
from .map import AbstractInContextMap, AnyMeasure


class CausalMask(AbstractMask):
    """Position s sees the positions t <= s and, with a window, t > s - window."""

    window: int | None = eqx.field(default=None, static=True)

    def __call__(self, queries: Int[Array, " m"], keys: Int[Array, " n"]) -> Bool[Array, "m n"]:
        behind = queries[:, None] - keys[None, :]
        seen = behind >= 0
        return seen if self.window is None else seen & (behind < self.window)


class CausalAttention(AbstractInContextMap):
    r"""Attention on a `ConditionalMeasure` in which position s sees positions t <= s only:
    $G(\mu, (s, x)) = \int 1_{t \le s}\, p_\mu((s, x), (t, y))\, v(y)\, d\mu(t, y)$, shares
    normalised over what is seen.

    Args:
      attention: the attention that is masked.
      window: how many positions are seen, the own one included; all by default.
    """

    attention: AbstractAttention
    window: int | None = eqx.field(default=None, static=True)

    def __check_init__(self):
        if self.window is not None and self.window < 1:
            raise ValueError(f"`window` must be at least 1; got {self.window}. Use None for all.")

    @property
    def mask(self) -> CausalMask:
        """What a position sees."""
        return CausalMask(self.window)

    def at(self, mu: AnyMeasure, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        if not isinstance(mu, ConditionalMeasure):
            raise ValueError(
                "`mu` must be a ConditionalMeasure, because causal attention needs an order; got "
                f"a {type(mu).__name__}. Use mf.ConditionalMeasure.from_sequence(points)."
            )
        y = self.attention.combine(self.attention.attending(mu, x, self.mask).mix())
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def weights(self, mu: ConditionalMeasure) -> Float[Array, "heads n n"]:
        """The shares of every atom for every atom as a query; rows sum to one."""
        return self.attention.attending(mu, mu.points, self.mask).weights()

    def scores(self, mu: ConditionalMeasure) -> Float[Array, "heads n n"]:
        """The scores between all atoms, those the mask hides included."""
        return self.attention.scores(mu)

    @property
    def heads(self) -> tuple["CausalAttention", ...]:
        """Each head as a causal attention of its own."""
        return tuple(CausalAttention(head, self.window) for head in self.attention.heads)
