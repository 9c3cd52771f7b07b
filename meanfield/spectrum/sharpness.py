r"""The sharpness of a loss: the largest eigenvalue of its Hessian, by Lanczos tridiagonalisation.

From a random start, k products with H give an orthonormal V_k and a symmetric tridiagonal T_k with
H V_k = V_k T_k + beta_k v_{k+1} e_k^T. The largest eigenvalue theta of T_k, with vector s, is that
of H on the span of V_k, hence a lower bound, and |H V_k s - theta V_k s| = beta_k |s_k| is its
residual. The largest eigenvalue is meant with its sign: where negative ones are larger in size,
as at saddles, T_k is shifted before its top vector is taken.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..measure import RESULTS
from .lanczos import normalise, orthogonalise, top_eigenvector


# Lanczos vectors are kept up to this many numbers in all (400 MB in float32), then restarted.
_BASIS = 10**8
# So many steps are taken between two looks at the small matrix.
_STRIDE = 4

Product = Callable[[Float[Array, " size"]], Float[Array, " size"]]


class Sharpness(eqx.Module):
    r"""The largest eigenvalue of a Hessian, with its error bars.

    Attributes:
      value: $\langle v, H v \rangle$ at the vector found. It differentiates with respect to the
        parameters, as a simple eigenvalue does: $d\lambda = \langle v, dH\, v \rangle$.
      vector: v, of length one, shaped like the parameters.
      lower: a lower bound on the largest eigenvalue, the value less 64 epsilon of $|H v|$; the
        margin is for the rounding of the product, and is not a proved bound on it.
      residual: $|H v - \lambda v|$: some eigenvalue lies that near. That it is the largest is a
        matter of the random start.
      steps: the products with H.
      result: how the search ended.
    """

    value: Float[Array, ""]
    vector: PyTree
    lower: Float[Array, ""]
    residual: Float[Array, ""]
    steps: Int[Array, ""]
    result: RESULTS

    def __repr__(self) -> str:
        return f"Sharpness({self.value}, residual {self.residual}, {self.steps} products)"


class _Tridiagonal(eqx.Module):
    """T_k with beta_k, its basis v_1..v_k, and the vector v_{k+1}, zero where the basis is full."""

    basis: Float[Array, "capacity size"]
    v: Float[Array, " size"]
    alpha: Float[Array, " capacity"]
    beta: Float[Array, " capacity"]
    count: Int[Array, ""]


class _Ritz(eqx.Module):
    """The top pair found so far, the size of T and the products spent."""

    value: Float[Array, ""]
    residual: Float[Array, ""]
    size: Float[Array, ""]
    vector: Float[Array, " size"]
    steps: Int[Array, ""]


def sharpness(
    loss: Callable[[Any], Any],
    params: PyTree,
    *,
    key: PRNGKeyArray,
    rtol: float | Float[Array, ""] = 1e-4,
    max_steps: int = 500,
    capacity: int = 64,
    throw: bool = True,
) -> Sharpness:
    r"""The largest eigenvalue of the Hessian of a loss, without forming the matrix.

    Gradient descent with the step eta is unstable at a minimum where it exceeds 2 / eta. Each
    product with the Hessian costs a few evaluations of the gradient. Works under `jax.jit` and
    `jax.vmap`, in the dtype of the parameters.

    Args:
      loss: from the parameters to a number, twice differentiable (forward over reverse).
      params: any pytree; what is not an array of floating-point numbers is held constant.
      key: for the random start.
      rtol: the residual to reach, relative to the value (or 20 epsilon of the largest eigenvalue
        in size, where that is more). The error of the value is of the order of its square where
        the top eigenvalue is separated.
      max_steps: the largest number of products with the Hessian.
      capacity: how many Lanczos vectors of the size of the parameters are kept, as far as 10^8
        numbers go; a longer search restarts from its best vector.
      throw: whether to raise where the search did not end well; else see `.result`.

    Raises:
      ValueError: no parameters; the loss is not a number.
      RuntimeError: the search did not converge, or the Hessian is not finite (with `throw`).

    References: {cite}`lanczos1950`, with full reorthogonalisation.
    """
    varied, rest = eqx.partition(params, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(varied)
    if not flat.size:
        raise ValueError("`params` must hold at least one array of floating-point numbers.")

    def of_flat(flat):
        return loss(eqx.combine(unravel(flat), rest))

    shape = jax.eval_shape(of_flat, flat)
    if getattr(shape, "shape", None) != ():
        raise ValueError(f"`loss` must return a number, of shape (); got {shape}.")
    _, product = jax.linearize(jax.grad(of_flat), flat)
    start = jr.normal(key, flat.shape, flat.dtype)
    found = _largest(product, start, jnp.asarray(rtol, flat.dtype), max_steps, capacity)
    found = eqx.tree_at(lambda found: found.vector, found, unravel(found.vector))
    if throw:
        found = found.result.error_if(found, found.result != RESULTS.successful)
    return found


def _largest(product: Product, start: Array, rtol: Array, max_steps: int, capacity: int):
    """The largest eigenvalue of a symmetric map; only its last product is differentiated."""
    converted, constants = jax.closure_convert(product, start)
    held = jax.lax.stop_gradient(constants)
    ritz, settled = _search(lambda v: converted(v, *held), start, rtol, max_steps, capacity)
    unit = jax.lax.stop_gradient(normalise(ritz.vector[None])[0][0])
    image = product(unit)
    value = jnp.vdot(unit, image)
    fixed = jax.lax.stop_gradient(image)
    result = RESULTS.where(settled, RESULTS.successful, RESULTS.eigenvalue_not_reached)
    margin = 64 * jnp.finfo(unit.dtype).eps * jnp.linalg.norm(fixed)
    return Sharpness(
        value=value,
        vector=unit,
        lower=jax.lax.stop_gradient(value) - margin,
        residual=jnp.linalg.norm(fixed - jax.lax.stop_gradient(value) * unit),
        steps=ritz.steps + 1,
        result=RESULTS.where(jnp.isfinite(value), result, RESULTS.hessian_not_finite),
    )


def _search(
    product: Product, start: Array, rtol: Array, max_steps: int, capacity: int
) -> tuple[_Ritz, Bool[Array, ""]]:
    """Tridiagonalisations, each from the best vector of the last, and whether the last suffices."""
    capacity = max(2, min(capacity, max_steps, _BASIS // start.size)) if start.size > 1 else 1
    least = 20 * jnp.finfo(start.dtype).eps

    def settled(ritz: _Ritz) -> Bool[Array, ""]:
        reach = jnp.maximum(rtol * jnp.abs(ritz.value), least * ritz.size)
        return ritz.residual <= reach

    def unfinished(ritz: _Ritz) -> Bool[Array, ""]:
        return (ritz.steps < max_steps) & ~settled(ritz) & ~jnp.isnan(ritz.residual)

    def cycle(ritz: _Ritz) -> _Ritz:
        return _cycle(product, ritz, unfinished, capacity, max_steps)

    zero, far = jnp.zeros((), start.dtype), jnp.full((), jnp.inf, start.dtype)
    ritz = jax.lax.while_loop(unfinished, cycle, _Ritz(zero, far, zero, start, jnp.asarray(0)))
    return ritz, settled(ritz)


def _cycle(product: Product, ritz: _Ritz, unfinished, capacity: int, max_steps: int) -> _Ritz:
    """One tridiagonalisation from the best vector so far, until it is good enough or full."""

    def grow(carry):
        before, pair = carry
        most = jnp.minimum(before.count + _STRIDE, capacity)
        most = jnp.minimum(most, before.count + max_steps - pair.steps)

        def room(state: _Tridiagonal):  # after an invariant subspace there is no next vector
            return (state.count < most) & jnp.any(state.v != 0)

        state = jax.lax.while_loop(room, lambda state: _step(product, state), before)
        return state, _best_pair(state, pair.steps + state.count - before.count)

    def go_on(carry):
        state, pair = carry
        return (state.count < capacity) & jnp.any(state.v != 0) & unfinished(pair)

    size, dtype = ritz.vector.shape[0], ritz.vector.dtype
    diagonal = jnp.zeros(capacity, dtype)
    v = normalise(ritz.vector[None])[0][0]
    state = _Tridiagonal(jnp.zeros((capacity, size), dtype), v, diagonal, diagonal, jnp.asarray(0))
    unknown = _Ritz(ritz.value, jnp.full_like(ritz.value, jnp.inf), ritz.size, diagonal, ritz.steps)
    state, pair = jax.lax.while_loop(go_on, grow, (state, unknown))
    return eqx.tree_at(lambda pair: pair.vector, pair, pair.vector @ state.basis)


def _step(product: Product, state: _Tridiagonal) -> _Tridiagonal:
    """beta_k v_{k+1} = H v_k less its components along v_1..v_k; alpha_k is the last of them."""
    k = state.count
    basis = state.basis.at[k].set(state.v)
    image = product(state.v)
    alpha = jnp.vdot(state.v, image)
    floor = 10 * jnp.finfo(image.dtype).eps * jnp.linalg.norm(image)
    rest = orthogonalise((image - alpha * state.v)[None], basis[None], k + 1)
    v, beta = normalise(rest, floor[None])
    return _Tridiagonal(
        basis, v[0], state.alpha.at[k].set(alpha), state.beta.at[k].set(beta[0]), k + 1
    )


def _best_pair(state: _Tridiagonal, steps: Int[Array, ""]) -> _Ritz:
    """The largest eigenvalue of T_k, its residual, and its vector in the basis."""
    capacity = len(state.alpha)
    inside = jnp.arange(capacity) < state.count
    beside = jnp.where(inside[1:], state.beta[:-1], 0)
    alpha = jnp.where(inside, state.alpha, 0)
    matrix = jnp.diag(alpha) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
    size = jnp.max(jnp.sum(jnp.abs(matrix), axis=1))  # by Gershgorin, |T| is at most this
    shifted = matrix + jnp.diag(jnp.where(inside, size, 0))
    vector = top_eigenvector(shifted[None])[0]
    image = jnp.matmul(matrix, vector, precision="highest")
    value = jnp.vdot(vector, image)
    outside = state.beta[state.count - 1] * vector[state.count - 1]
    residual = jnp.hypot(jnp.linalg.norm(image - value * vector), outside)
    return _Ritz(value, residual, size, vector, steps)
