r"""The kernels of entropic transport, block by block: soft minima, sweeps and products.

With costs $C_{ij}$, potentials f, g, weights a, b and a temperature $\varepsilon$,

- `softmin`: $-\varepsilon \log \sum_j w_j e^{(g_j - C_{ij}) / \varepsilon}$, half an iteration;
- `sweep`: the same with what arrives at each atom of the other measure, from one exponential;
- `gibbs`: the product of $e^{(f_i + g_j - C_{ij}) / \varepsilon}$ with vectors.

Each costs one product of matrices and n m exponentials, and holds a block of rows at a time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .pairs import AbstractPairs, stream


def softmin(
    pairs: AbstractPairs,
    potential: Float[Array, " m"],
    log_weights: Float[Array, " m"],
    epsilon: Float[Array, ""],
) -> Float[Array, " n"]:
    r"""The soft minima $-\varepsilon \log \sum_j e^{\log w_j + (g_j - C_{ij}) / \varepsilon}$.

    Exponents are shifted by the largest of their row, so nothing overflows. Over the other
    measure, use `pairs.transpose`. Where no atom has mass it is infinite.

    Args:
      pairs: the n m costs, from `pairs_of(mu, nu, cost)`.
      potential: g, shape (m,).
      log_weights: log w, shape (m,); -inf for an absent atom, whose potential must be finite.
      epsilon: the temperature, in units of the cost.
    """
    height = potential / epsilon + log_weights

    def of_rows(block, shared):
        height, epsilon = shared
        return -epsilon * _log_sum(block.exponents(height, epsilon))[0], None

    return stream(pairs, (), (height, epsilon), of_rows)[0]


def sweep(
    pairs: AbstractPairs,
    potential: Float[Array, " m"],
    log_weights: Float[Array, " m"],
    masses: Float[Array, " n"],
    epsilon: Float[Array, ""],
    near: Float[Array, " n"] | None = None,
) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    r"""The soft minima, and the masses $\sum_i a_i p_{ij}$ that arrive at each column.

    Row i sends its mass $a_i$ by the shares $p_{ij} = w_j e^{(s_i + g_j - C_{ij}) / \varepsilon}$,
    which sum to one. Both come from one exponential a pair.

    Args:
      pairs, potential, log_weights, epsilon: as for `softmin`.
      masses: a, shape (n,).
      near: soft minima of potentials that differ from these by at most two epsilon. Powers are
        then taken over them and not over the largest of their row, which need not be found.
    """
    height = potential / epsilon + log_weights

    def of_rows(block, shared, a, *near):
        height, epsilon = shared
        exponents = block.exponents(height, epsilon)
        log_sum, powers, sums = _log_sum(exponents, *near)
        return -epsilon * log_sum, (a / sums) @ powers

    rows = (masses,) if near is None else (masses, _shift(near, epsilon))
    found, received = stream(pairs, rows, (height, epsilon), of_rows)
    return found, jnp.zeros_like(potential) if received is None else received


def _shift(near: Float[Array, " n"], epsilon: Float[Array, ""]) -> Float[Array, " n"]:
    """Minus the logarithms of sums of powers, minus infinity for rows infinitely far away."""
    return jnp.where(jnp.isfinite(near), near / epsilon, -jnp.inf)


def gibbs(
    pairs: AbstractPairs,
    potentials: tuple[Float[Array, " n"], Float[Array, " m"]],
    epsilon: Float[Array, ""],
    values: Float[Array, "m ..."],
) -> Float[Array, "n ..."]:
    r"""The product $\sum_j e^{(f_i + g_j - C_{ij}) / \varepsilon} v_j$.

    Exponents are capped just below overflow. At the potentials of an optimum only a pair with an
    atom of a share of mass below the smallest normal number can reach the cap.
    """
    f, g = (potential / epsilon for potential in potentials)
    cap = 0.9 * jnp.log(jnp.finfo(pairs.dtype).max)

    def of_rows(block, shared, f):
        g, epsilon, values = shared
        exponents = block.exponents(g, epsilon) + f[:, None]
        return jnp.exp(jnp.minimum(exponents, cap)) @ values, None

    return stream(pairs, (f,), (g, epsilon, values), of_rows)[0]


def _log_sum(
    exponents: Float[Array, "k m"], shift: Float[Array, " k"] | None = None
) -> tuple[Array, Array, Array]:
    """The logarithm of the sum of powers of each row, and the powers as they were summed."""
    if shift is None:
        top = jax.lax.stop_gradient(jnp.max(exponents, axis=1, initial=-jnp.inf))
        shift = jnp.where(jnp.isfinite(top), -top, 0.0)
    powers = jnp.exp(exponents + shift[:, None])
    sums = jnp.sum(powers, axis=1)
    return jnp.log(sums) - shift, powers, jnp.where(sums > 0, sums, 1.0)
