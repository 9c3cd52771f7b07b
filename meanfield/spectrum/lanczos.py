r"""The largest singular value of a linear map, by Golub-Kahan-Lanczos bidiagonalisation.

From a random start, k products with A and k with its transpose give orthonormal V_k, U_k and an
upper bidiagonal B_k with A V_k = U_k B_k and A^T U_k = V_k B_k^T + beta_k v_{k+1} e_k^T. The top
singular triplet (sigma, p, q) of B_k gives the vectors V_k q, U_k p, for which

- |A V_k q| = sigma: a lower bound on the norm of A, whatever the rounding of the search;
- |A^T U_k p - sigma V_k q|: the residual, beta_k |p_k| if (sigma, p, q) is exact, and else with
  |B_k^T p - sigma q| besides; some singular value of A lies that near.

Many maps at once (the blocks of a block-diagonal map) run in lockstep: vectors have shape
(blocks, size), and the search ends when the largest block is known.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..measure.wording import figure


Vectors = Float[Array, "blocks size"]


# Basis vectors are removed this many at a time: a product that stays in cache.
_FEW = 4


class SingularTriplet(eqx.Module):
    """The top singular value of each block, as far as it was needed to know the largest.

    `value` (blocks,) is |A v| for the unit vectors `vector` (blocks, size), a lower bound up to
    rounding; `residual` (blocks,); `steps`, the number of products with A; `converged`, whether
    the largest block's residual is below the tolerance and no other block can be larger by
    its own residual.
    """

    value: Float[Array, " blocks"]
    vector: Vectors
    residual: Float[Array, " blocks"]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]

    def __repr__(self) -> str:
        return (
            f"SingularTriplet({figure(self.value)}, residual {figure(self.residual, 2)}, "
            f"{figure(self.steps)} products)"
        )


class _Bidiagonal(eqx.Module):
    """B_k with beta_k, its basis v_1..v_k, and the vectors v_{k+1} and u_k that carry it on."""

    basis: Float[Array, "blocks capacity size"]
    v: Vectors
    u: Float[Array, "blocks rows"]
    alpha: Float[Array, "blocks capacity"]
    beta: Float[Array, "blocks capacity"]
    count: Int[Array, ""]


class _Ritz(eqx.Module):
    """The top triplet found so far, and the products spent on it."""

    value: Float[Array, " blocks"]
    residual: Float[Array, " blocks"]
    vector: Vectors
    steps: Int[Array, ""]


def top_singular(
    matvec: Callable[[Vectors], Float[Array, "blocks rows"]],
    transpose: Callable[[Float[Array, "blocks rows"]], Vectors],
    start: Vectors,
    *,
    rtol: float | Float[Array, ""] = 1e-4,
    max_steps: int = 500,
    capacity: int = 32,
    stride: int = 1,
) -> SingularTriplet:
    """The largest singular value of each of the blocks, as far as the largest of all needs it.

    Args:
      matvec, transpose: A and A^T on (blocks, size) and (blocks, rows) arrays, block by block.
      start: (blocks, size), random normal vectors; their dtype is the precision of the search.
      rtol: stop when the residual is below rtol times the value (20 times the machine epsilon
        is the least that can be asked).
      max_steps: the largest number of products with A.
      capacity: how many basis vectors are kept; a longer search restarts from its best vector.
      stride: how many steps are taken between two looks at the small bidiagonal matrix.

    References: {cite}`golub1965`; one-sided reorthogonalisation as in {cite}`simon2000`.
    """
    capacity = min(capacity, start.shape[1], max_steps)
    rtol = jnp.maximum(rtol, 20 * jnp.finfo(start.dtype).eps).astype(start.dtype)

    def unfinished(ritz: _Ritz) -> Bool[Array, ""]:
        return (ritz.steps < max_steps) & ~_settled(ritz, rtol)

    def cycle(ritz: _Ritz) -> _Ritz:
        return _cycle(matvec, transpose, ritz, unfinished, capacity, stride)

    unknown = jnp.full(start.shape[0], jnp.inf, start.dtype)
    first = _Ritz(jnp.zeros_like(unknown), unknown, start, jnp.asarray(0))
    ritz = jax.lax.while_loop(unfinished, cycle, first)
    unit, _ = normalise(ritz.vector)
    value = jnp.linalg.norm(matvec(unit), axis=-1)
    return SingularTriplet(value, unit, ritz.residual, ritz.steps + 1, _settled(ritz, rtol))


def _settled(ritz: _Ritz, rtol: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether the largest value is known: its own residual small, no other block in reach."""
    best = jnp.argmax(ritz.value)
    slack = rtol * ritz.value[best]
    within_reach = ritz.value + ritz.residual > ritz.value[best] + slack
    return (ritz.residual[best] <= slack) & ~jnp.any(within_reach)


def _cycle(matvec, transpose, ritz: _Ritz, unfinished, capacity: int, stride: int) -> _Ritz:
    """One bidiagonalisation from the best vector so far, until it is good enough or full."""

    def grow(carry):
        before, now = carry
        more = jnp.minimum(stride, capacity - before.count)
        state = jax.lax.fori_loop(0, more, lambda _, state: _step(matvec, transpose, state), before)
        return state, _best_pair(state, now.steps + more)

    def go_on(carry):
        state, now = carry
        return (state.count < capacity) & unfinished(now)

    state = _start(matvec, ritz.vector, capacity)
    unknown = jnp.full_like(ritz.residual, jnp.inf)
    pair = _Ritz(
        ritz.value, unknown, jnp.zeros((len(unknown), capacity), unknown.dtype), ritz.steps
    )
    state, pair = jax.lax.while_loop(go_on, grow, (state, pair))
    vector = jnp.einsum("bc,bcs->bs", pair.vector, state.basis)
    return _Ritz(pair.value, pair.residual, vector, pair.steps)


def _start(matvec, vector: Vectors, capacity: int) -> _Bidiagonal:
    v, _ = normalise(vector)
    rows = jax.eval_shape(matvec, v)
    diagonal = jnp.zeros((v.shape[0], capacity), v.dtype)
    basis = jnp.zeros((v.shape[0], capacity, v.shape[1]), v.dtype)
    return _Bidiagonal(
        basis, v, jnp.zeros(rows.shape, rows.dtype), diagonal, diagonal, jnp.asarray(0)
    )


def _step(matvec, transpose, state: _Bidiagonal) -> _Bidiagonal:
    """u_k = A v_k - beta_{k-1} u_{k-1}, then v_{k+1} = A^T u_k - alpha_k v_k, both of length 1."""
    k, floor = state.count, 10 * jnp.finfo(state.v.dtype).eps * jnp.max(state.alpha, axis=1)
    before = jnp.where(k > 0, state.beta[:, k - 1], 0)
    basis = state.basis.at[:, k].set(state.v)
    u, alpha = normalise(matvec(state.v) - before[:, None] * state.u, floor)
    v = transpose(u) - alpha[:, None] * state.v
    v = orthogonalise(v, basis, k + 1)
    v, beta = normalise(v, jnp.maximum(floor, 10 * jnp.finfo(v.dtype).eps * alpha))
    alphas, betas = state.alpha.at[:, k].set(alpha), state.beta.at[:, k].set(beta)
    return _Bidiagonal(basis, v, u, alphas, betas, k + 1)


def orthogonalise(v: Vectors, basis: Array, count: Int[Array, ""]) -> Vectors:
    """v less its components along the first `count` vectors of the basis.

    Taken a few vectors at a time, and twice: the second pass removes what rounding left.
    """
    few = min(_FEW, basis.shape[1])
    chunks = -(-count // few)

    def remove(i, v):
        first = jnp.minimum((i % chunks) * few, basis.shape[1] - few)
        part = jax.lax.dynamic_slice_in_dim(basis, first, few, axis=1)
        return v - jnp.einsum("bc,bcs->bs", jnp.einsum("bcs,bs->bc", part, v), part)

    return jax.lax.fori_loop(0, 2 * chunks, remove, v)


def _best_pair(state: _Bidiagonal, steps: Int[Array, ""]) -> _Ritz:
    """The top triplet of B_k: its value, residual, and right vector in the basis."""
    capacity = state.alpha.shape[1]
    inside = jnp.arange(1, capacity) < state.count
    above = jnp.where(inside, state.beta[:, :-1], 0)
    matrix = jax.vmap(jnp.diag)(state.alpha) + jax.vmap(lambda b: jnp.diag(b, 1))(above)
    right = _top_right_vector(matrix)
    left, value = normalise(jnp.einsum("bij,bj->bi", matrix, right, precision="highest"))
    back = jnp.einsum("bij,bi->bj", matrix, left, precision="highest")
    last = state.count - 1
    outside = state.beta[:, last] * left[:, last]
    residual = jnp.hypot(jnp.linalg.norm(back - value[:, None] * right, axis=-1), outside)
    return _Ritz(value, residual, right, steps)


def _top_right_vector(matrix: Float[Array, "blocks c c"]) -> Float[Array, "blocks c"]:
    """The top right singular vector of small matrices, from B^T B."""
    matrix = _scaled(matrix)
    return top_eigenvector(jnp.einsum("bij,bik->bjk", matrix, matrix, precision="highest"))


def top_eigenvector(matrix: Float[Array, "blocks c c"]) -> Float[Array, "blocks c"]:
    """The top eigenvector of small positive semidefinite matrices, squared until of rank one.

    As many squarings as the precision has bits tell apart what it can tell apart. LAPACK is not
    called: two batched decompositions at once can block the threads of XLA on a small machine.
    """

    def square(_, x):
        return _scaled(jnp.einsum("bij,bjk->bik", x, x, precision="highest"))

    power = jax.lax.fori_loop(0, jnp.finfo(matrix.dtype).nmant, square, _scaled(matrix))
    best = jnp.argmax(jnp.diagonal(power, axis1=1, axis2=2), axis=1)
    column = jnp.take_along_axis(power, best[:, None, None], axis=2)[..., 0]
    first = jnp.zeros_like(column).at[:, 0].set(1)  # a zero matrix: any vector will do
    return normalise(jnp.where(jnp.any(column != 0, axis=1, keepdims=True), column, first))[0]


def _scaled(x: Float[Array, "blocks c c"]) -> Float[Array, "blocks c c"]:
    """The matrices divided by their largest entries."""
    largest = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True)
    return x / jnp.maximum(largest, jnp.finfo(x.dtype).tiny)


def normalise(x: Vectors, floor: Float[Array, " blocks"] | float = 0.0):
    """Vectors of length one, and their lengths; what is shorter than `floor` is rounding: zero."""
    length = jnp.linalg.norm(x, axis=-1)
    length = jnp.where(length > floor, length, 0)
    return x * jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)[:, None], length
