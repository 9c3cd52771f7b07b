"""Rotary positions: queries and keys turn with their position, so that scores see differences."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Rotary(eqx.Module):
    r"""Rotates the pairs of coordinates $(i, i + r/2)$, $i < r/2$, of a feature at position t by
    the angle $t\, \theta^{-2i/r}$ (the half-split convention).

    Args:
      theta: the base of the frequencies.
      dims: the number r of leading coordinates that turn; all of them by default.
      frequencies: shape (r/2,), in place of $\theta^{-2i/r}$ (for scaled variants).
    """

    theta: float = eqx.field(default=10000.0, static=True)
    dims: int | None = eqx.field(default=None, static=True)
    frequencies: Float[Array, " half"] | None = None

    def rotate(
        self, features: Float[Array, "heads n k"], positions: Int[Array, " n"]
    ) -> Float[Array, "heads n k"]:
        """The features (heads, n, k), each turned by the angles of its position."""
        dims = features.shape[-1] if self.dims is None else self.dims
        angle = positions[:, None] * self._frequencies(dims, features.dtype)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        first, second, rest = jnp.split(features, [dims // 2, dims], axis=-1)
        turned = [first * cos - second * sin, second * cos + first * sin, rest]
        return jnp.concatenate(turned, axis=-1)

    def _frequencies(self, dims: int, dtype) -> Float[Array, " half"]:
        if self.frequencies is not None:
            return self.frequencies.astype(dtype)
        return (self.theta ** (-jnp.arange(0, dims, 2) / dims)).astype(dtype)
