"""What an entropic coupling says of one point: its mean partner, and its likeliest ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..transport.pairs import stream
from .bilinear import BilinearPairs


@eqx.filter_jit
def conditional_mean(
    pairs: BilinearPairs,
    potential: Float[Array, " m"],
    log_weights: Float[Array, " m"],
    epsilon: Float[Array, ""],
    values: Float[Array, "m d"],
) -> Float[Array, "n d"]:
    r"""$\sum_j p_{ij} v_j$ for each row, $p_{ij} \propto w_j e^{(g_j - C_{ij}) / \varepsilon}$."""

    def of_rows(block, shared):
        height, epsilon, values = shared
        shares = jax.nn.softmax(block.exponents(height, epsilon), axis=1)
        return shares @ values, None

    return stream(pairs, (), (potential / epsilon + log_weights, epsilon, values), of_rows)[0]


@eqx.filter_jit
def nearest_mean(
    pairs: BilinearPairs,
    potential: Float[Array, " m"],
    weights: Float[Array, " m"],
    values: Float[Array, "m d"],
) -> Float[Array, "n d"]:
    r"""The limit of `conditional_mean` at zero temperature: the mean of the values where $C_{ij} -
    g_j$ is least, weighted where several are up to rounding."""
    one = jnp.ones((), potential.dtype)

    def of_rows(block, shared):
        height, weights, values = shared
        heights = jnp.where(weights > 0, block.exponents(height, one), -jnp.inf)
        top = jnp.max(heights, axis=1, keepdims=True)
        rounding = 256 * jnp.finfo(potential.dtype).eps * (jnp.abs(top) + jnp.max(jnp.abs(height)))
        chosen = jnp.where(heights >= top - rounding, weights, 0.0)
        return chosen @ values / jnp.sum(chosen, axis=1, keepdims=True), None

    return stream(pairs, (), (potential, weights, values), of_rows)[0]


@eqx.filter_jit
def likeliest(
    pairs: BilinearPairs,
    potential: Float[Array, " m"],
    log_weights: Float[Array, " m"],
    epsilon: Float[Array, ""],
    count: int,
) -> tuple[Int[Array, "n k"], Float[Array, "n k"]]:
    """The columns of the largest shares of each row, and the shares."""

    def of_rows(block, shared):
        height, epsilon = shared
        shares = jax.nn.softmax(block.exponents(height, epsilon), axis=1)
        largest, columns = jax.lax.top_k(shares, count)
        return jnp.stack([columns.astype(largest.dtype), largest], axis=1), None

    found = stream(pairs, (), (potential / epsilon + log_weights, epsilon), of_rows)[0]
    return found[:, 0].astype(int), found[:, 1]
