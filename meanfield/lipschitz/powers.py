"""Upper bounds on the norms of small matrices by traces of powers, without LAPACK.

For a positive matrix M, max lambda <= (sum lambda^p)^(1/p) = (tr M^p)^(1/p), and squaring k times
gives p = 2^(k+1). The bound is above the maximum by a factor of at most size^(1/p). Decompositions
are avoided because two batched ones at once can block the threads of XLA on a small machine.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def largest_eigenvalue(matrix: Float[Array, "*n a a"], squarings: int = 2) -> Float[Array, "*n"]:
    """(tr M^p)^(1/p), p = 2^(squarings + 1), for positive matrices; at least 1e-154 in float64."""
    least = jnp.sqrt(jnp.finfo(matrix.dtype).tiny)
    exponent, log_scale = 1.0, jnp.zeros(matrix.shape[:-2], matrix.dtype)
    for squaring in range(squarings + 1):
        size = jnp.maximum(jnp.max(jnp.abs(matrix), axis=(-2, -1)), least)
        log_scale = log_scale + jnp.log(size) / exponent
        matrix = matrix / size[..., None, None]
        if squaring < squarings:
            matrix, exponent = jnp.matmul(matrix, matrix, precision="highest"), 2 * exponent
    trace = jnp.einsum("...ab,...ba->...", matrix, matrix, precision="highest")
    # an entry of a positive matrix that is 1 in size gives a trace of at least 1, unless the matrix
    # vanishes: then neither the value nor its derivative may divide by it
    return jnp.exp(log_scale + jnp.log(jnp.maximum(trace, 1)) / (2 * exponent))


def operator_norm(x: Float[Array, "*n a b"], squarings: int = 2) -> Float[Array, "*n"]:
    """An upper bound on the operator norm of each matrix."""
    x = x if x.shape[-1] <= x.shape[-2] else x.swapaxes(-1, -2)
    gram = jnp.matmul(x.swapaxes(-1, -2), x, precision="highest")
    return jnp.sqrt(largest_eigenvalue(gram, squarings))


def orthonormal_columns(
    x: Float[Array, "*n a b"],
) -> tuple[Float[Array, "*n a b"], Float[Array, "*n b b"]]:
    """X = Z R by the modified Gram-Schmidt process; a column that vanishes stays zero in Z.

    Up to b^2 rounding errors of |X|_F, |X y| = |R y| for every y, whatever the condition of X
    ({cite}`bjorck1992`); the columns of Z themselves lose orthogonality where X is ill-conditioned.
    """

    def remove(x, column):
        z = jnp.take(x, column, axis=-1)
        square = jnp.sum(z**2, axis=-1, keepdims=True)
        z = z / jnp.sqrt(jnp.where(square > 0, square, 1))
        later = jnp.arange(x.shape[-1]) >= column
        row = jnp.einsum("...a,...ab->...b", z, x, precision="highest") * later
        return x - z[..., :, None] * row[..., None, :], (z, row)

    _, (z, rows) = jax.lax.scan(remove, x, jnp.arange(x.shape[-1]))
    return jnp.moveaxis(z, 0, -1), jnp.moveaxis(rows, 0, -2)
