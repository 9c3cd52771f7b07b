"""Upper bounds on the norms of small matrices by traces of powers, without LAPACK.

For a matrix M with real eigenvalues >= 0 (a product of two positive matrices has them),
max lambda <= (sum lambda^p)^(1/p) = (tr M^p)^(1/p), and squaring k times gives p = 2^(k+1). The
bound is above the maximum by a factor of at most size^(1/p). Decompositions are avoided because
two batched ones at once can block the threads of XLA on a small machine.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def largest_eigenvalue(matrix: Float[Array, "*n a a"], squarings: int = 2) -> Float[Array, "*n"]:
    """(tr M^p)^(1/p), p = 2^(squarings + 1), for matrices with eigenvalues >= 0."""
    tiny = jnp.finfo(matrix.dtype).tiny
    exponent, log_scale = 1.0, jnp.zeros(matrix.shape[:-2], matrix.dtype)
    for squaring in range(squarings + 1):
        size = jnp.maximum(jnp.max(jnp.abs(matrix), axis=(-2, -1)), tiny)
        log_scale = log_scale + jnp.log(size) / exponent
        matrix = matrix / size[..., None, None]
        if squaring < squarings:
            matrix, exponent = jnp.matmul(matrix, matrix, precision="highest"), 2 * exponent
    trace = jnp.einsum("...ab,...ba->...", matrix, matrix, precision="highest")
    # a trace that rounds to nothing belongs to a matrix whose eigenvalues do
    return jnp.exp(log_scale + jnp.log(jnp.maximum(trace, tiny)) / (2 * exponent))


def operator_norm(x: Float[Array, "*n a b"], squarings: int = 2) -> Float[Array, "*n"]:
    """An upper bound on the operator norm of each matrix."""
    x = x if x.shape[-1] <= x.shape[-2] else x.swapaxes(-1, -2)
    gram = jnp.matmul(x.swapaxes(-1, -2), x, precision="highest")
    return jnp.sqrt(largest_eigenvalue(gram, squarings))
