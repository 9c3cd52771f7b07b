"""How the outputs of several heads add up: by the overlaps of the spaces they write to."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .powers import operator_norm, orthonormal_columns


class Outputs(eqx.Module):
    r"""The output projections as $O_h = Z_h R_h$ with orthonormal columns in $Z_h$, so that
    $|\sum_h O_h x_h|^2 \le \sum_{gh} \Omega_{gh} |R_g x_g| |R_h x_h|$ and
    $|\sum_h O_h x_h| \le \|[Z_1 \dots Z_H]\| (\sum_h |R_h x_h|^2)^{1/2}$.

    Attributes:
      inner: R, shape (H, r, v), or None for the identity.
      overlaps: Omega, shape (H, H), the norms of Z_g^T Z_h.
      whole: a bound on the norm of all Z side by side.
    """

    inner: Float[Array, "H r v"] | None
    overlaps: Float[Array, "H H"]
    whole: Float[Array, ""]

    @classmethod
    def of(cls, projections: Float[Array, "H e v"] | None, heads: int) -> "Outputs":
        """The factors of the projections; None stands for identities."""
        ones = jnp.ones((heads, heads))
        if projections is None or projections.shape[1] <= projections.shape[2]:
            return cls(projections, ones, jnp.sqrt(jnp.asarray(heads, ones.dtype)))
        z, inner = orthonormal_columns(projections)

        def overlap(one):
            products = jnp.einsum("ea,heb->hab", one, z, precision="highest")
            return operator_norm(products, squarings=5)

        overlaps = jnp.where(jnp.eye(heads, dtype=bool), 1, jnp.minimum(jax.lax.map(overlap, z), 1))
        whole = operator_norm(jnp.concatenate(list(z), axis=1), squarings=7)
        return cls(inner, overlaps, whole)

    def apply(self, values: Float[Array, "H n v"]) -> Float[Array, "H n r"]:
        """R_h v for each head."""
        if self.inner is None:
            return values
        return jnp.einsum("hrv,hnv->hnr", self.inner, values, precision="highest")

    def norm(self, parts: Float[Array, "H n"]) -> Float[Array, " n"]:
        """A bound on |sum_h O_h x_h| from the |R_h x_h|, for each of n."""
        crossed = jnp.sum(parts * (self.overlaps @ parts), axis=0)
        return jnp.sqrt(jnp.minimum(crossed, self.whole**2 * jnp.sum(parts**2, axis=0)))
