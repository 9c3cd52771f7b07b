"""An allowance for the rounding of an upper bound (docs: theory/regularity, "Rounding")."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.attention.attending import Attending
from meanfield.measure import Measure

from .factors import Factors


class Rounding(eqx.Module):
    """What is added to the computed norms, so that rounding cannot take them below the true ones.

    Attributes:
      local: for each head, to the norms of D_i.
      row: for each head, to the norms of the rows N_i.
      relative: to the bound put together from them, as a multiple of it.
    """

    local: Float[Array, " H"]
    row: Float[Array, " H"]
    relative: Float[Array, ""]

    @classmethod
    def of_attention(cls, seen: Attending, parts: Factors, atoms: Measure) -> "Rounding":
        """Of the bound for an attention: gamma S sizes the errors of the shares."""
        heads, v, d = parts.value.shape
        k, e = seen.keys.shape[-1], v if parts.output is None else parts.output.shape[1]
        gamma = unit_of(atoms.points) * (atoms.size + d + e + k + v + 64)
        shares = gamma * _score_size(seen, parts, atoms)
        factorised = unit_of(atoms.points) * (d * k + e * v)  # by orthogonalisation
        output = 1.0 if parts.output is None else frobenius(parts.output)
        query = frobenius(parts.query)
        if parts.twist is not None:
            twist = jnp.max(frobenius(parts.twist), 1, where=atoms.present, initial=0)
            query = query * twist
        local = output * parts.sizes.value * parts.sizes.key * query
        row = output * (parts.sizes.value * parts.sizes.reach + frobenius(parts.value))
        side = max(v, k, min(e, heads * v))
        # beyond, errors of the shares no longer add up like first-order ones
        relative = jnp.where(jnp.max(shares) < 2**-8, 32 * jnp.max(shares), jnp.inf)
        return cls(
            local=(256 * shares + 8 * factorised) * local,
            row=(64 * shares + 8 * factorised) * row,
            relative=relative + 8 * side * gamma,
        )


def of_norm(matrices: Float[Array, "*n a b"]) -> Float[Array, ""]:
    """The relative rounding of `operator_norm` of matrices of this shape."""
    a, b = matrices.shape[-2:]
    return unit_of(matrices) * 8 * min(a, b) * (max(a, b) + 64)


def unit_of(x: Array) -> Float[Array, ""]:
    """The unit roundoff of the dtype of x."""
    return jnp.asarray(jnp.finfo(x.dtype).eps / 2, x.dtype)


def frobenius(matrices: Float[Array, "*n a b"]) -> Float[Array, "*n"]:
    """The Frobenius norm of each matrix."""
    return jnp.linalg.norm(matrices, axis=(-2, -1))


def _score_size(seen: Attending, parts: Factors, atoms: Measure) -> Float[Array, " H"]:
    """S: what the rounding of logits, and of the slopes of a soft cap, is relative to."""
    cap = 1.0 if seen.soft_cap is None else 1 + 1 / seen.soft_cap
    log_mass = jnp.where(atoms.present, jnp.abs(seen.log_mass), 0)
    bias = seen.rows(seen.query_positions).bias
    biases = 0.0
    if bias is not None:  # -inf hides an atom: nothing is rounded
        biases = jnp.max(jnp.where(bias > -jnp.inf, jnp.abs(bias), 0), axis=(1, 2))
    return 1 + cap * parts.sizes.query * parts.sizes.key + jnp.max(log_mass) + biases
