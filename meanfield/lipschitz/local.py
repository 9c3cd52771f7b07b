r"""The exact local Lipschitz constant of an in-context map at a measure.

In the mass-weighted norm |v|_mu^2 = sum_i w_i |v_i|^2, to first order, the largest ratio of
Wasserstein-2 distances after and before over all small perturbations of mu, atoms split or not, is

    max( ||J||_mu, max_i ||D_i|| )

(docs: theory/regularity). The smooth part moves atoms, the split part cuts one in two and pulls the
halves apart. Both are singular values of maps that are never formed: M^{1/2} J M^{-1/2}, with M the
diagonal of masses, and the blocks D_i.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from meanfield.attention import AbstractInContextMap, AnyMeasure, check_dim, check_map
from meanfield.measure import RESULTS, Ball, check_any_measure
from meanfield.spectrum import SingularTriplet, top_singular

from .attained import (
    BLUR,
    Attained,
    Seen,
    at_least_single,
    converted,
    is_traced,
    root_masses,
)
from .envelope import held, moving
from .jacobian import jacobian
from .theorems import lipschitz_bound
from .upper import has_upper_rule, upper_at


# Lanczos vectors are kept up to this many numbers in all (400 MB in float32), then restarted.
_BASIS = 10**8


class LocalLipschitz(eqx.Module):
    r"""The local Lipschitz constant of a map at a measure, with its error bars.

    Attributes:
      value: the constant: `max(smooth, split)`, or `smooth` where splitting was not asked for.
      smooth: ||J||_mu, what moving atoms can do.
      split: max_i ||D_i||, what splitting an atom can do (0 where it was not asked for).
      split_atom: the index of the atom that is best split, in the flat order of `mu.atoms`.
      lower: a lower bound, |J v|_mu / |v|_mu (or |D_i u| / |u|) at the tangent, computed in float64
        whatever the dtype of `mu`, less 64 epsilon of that dtype. In float64 the margin is not a
        proved bound on rounding.
      upper: an upper bound at the point, computed in float64 whatever the dtype of `mu` and rounded
        upwards; inf where none is known. For choices other than the softmax it is the bound on the
        ball of points that holds mu (inf while traced: that bound is computed on the host). Docs:
        theory/regularity, "Rounding", which says what its allowance for rounding covers.
      residual: of the singular triplet behind `value`, |A^T u - sigma v|: some singular value lies
        that near; that it is the largest is a matter of the random start.
      tangent: the worst direction, in the layout of `mu.points`, of mass-weighted norm one.
      shares: the share of each atom in the squared norm of `tangent`, in the layout of `mu.masses`.
      atom: the worst atom, in the flat order of `mu.atoms`.
      result: how the search ended.
      stats: `smooth_steps` and `split_steps`, the numbers of products with J and with D.
    """

    value: Float[Array, ""]
    smooth: Float[Array, ""]
    split: Float[Array, ""]
    split_atom: Int[Array, ""]
    lower: Float[Array, ""]
    upper: Float[Array, ""]
    residual: Float[Array, ""]
    tangent: Float[Array, "*n d"]
    shares: Float[Array, "*n"]
    atom: Int[Array, ""]
    result: RESULTS
    stats: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"LocalLipschitz({self.value}, smooth={self.smooth}, split={self.split}, "
            f"in [{self.lower}, {self.upper}], worst atom {self.atom})"
        )


def local_lipschitz(
    f: AbstractInContextMap,
    mu: AnyMeasure,
    *,
    key: PRNGKeyArray,
    splitting: bool = True,
    rtol: float | Float[Array, ""] = 1e-4,
    max_steps: int = 1000,
    lower: bool = True,
    upper: bool = True,
    throw: bool = True,
) -> LocalLipschitz:
    r"""The exact local Lipschitz constant of $F(\mu) = G(\mu, \cdot)_\# \mu$ in $W_2$ at mu.

    $$\max\Big(\sup_v \frac{|Jv|_\mu}{|v|_\mu},\; \max_i \|D_i\|\Big), \qquad
    |v|_\mu^2 = \sum_i w_i |v_i|^2,$$

    with J the derivative in all atoms and D_i that of atom i as a query in a frozen context.

    Runs under `jit` and `vmap`. `value`, `smooth` and `split` have first derivatives, forward and
    backward, in the points, the masses and the parameters of f: those of the quotient at the
    tangent that was found, exact where the top singular value stands alone and the search has
    converged (an error of the order of the residual). All other fields count as constant; second
    derivatives are refused.

    Args:
      f: any in-context map; attention is differentiated in closed form.
      mu: a `Measure`, or a `ConditionalMeasure` for maps that depend on positions. The results
        have its dtype, or float32 for half precision. Where scores are too large for float32 the
        search is done again in float64; while traced it is not, and `.result` says so.
      key: for the random start of the search.
      splitting: whether atoms may be split.
      rtol: the residual to reach, relative to the value. The error of the value is of the order
        of its square where the top singular value is separated.
      max_steps: the largest number of products with J, and with D.
      lower: whether to compute the lower bound; without, it is zero.
      upper: whether to compute the upper bound at the point; without, it is infinite.
      throw: whether to raise where the search did not end well; else see `.result`.

    Raises:
      RuntimeError: the search did not converge, or a number is not finite (with `throw`).
      ValueError: mu lives in another dimension than f.
      NotImplementedError: a second derivative was asked for.
    """
    check_map(f)
    check_any_measure(mu=mu)
    check_dim(f, mu)
    f, mu = at_least_single((f, mu))
    tolerance = jnp.asarray(rtol, mu.points.dtype)  # an array, so that no value compiles anew
    options = key, splitting, tolerance, max_steps, (lower, upper)
    solution = _local_lipschitz(f, mu, *options)
    if not is_traced((solution, f, mu)) and solution.result == RESULTS.beyond_precision:
        solution = _in_float64(solution, f, mu, options)
    if upper and not has_upper_rule(f):
        solution = _bounded_on_domain(solution, *held((f, mu)))
    if throw:
        solution = solution.result.error_if(solution, solution.result != RESULTS.successful)
    return solution


def _in_float64(coarse: LocalLipschitz, *problem: Any) -> LocalLipschitz:
    """The solution of the problem in float64, in the dtypes of another solution."""
    with jax.enable_x64(True):
        f, mu, options = converted(problem, jnp.float64)
        fine = _local_lipschitz(f, mu, *options)
        least = fine.lower * (1 - 2 * jnp.finfo(coarse.lower.dtype).eps)  # rounded downwards
        most = fine.upper * (1 + 2 * jnp.finfo(coarse.upper.dtype).eps)
        fine = eqx.tree_at(lambda s: (s.lower, s.upper), fine, (least, most))
        return jax.tree.map(
            lambda x, like: x.astype(like.dtype) if eqx.is_array(like) else x, fine, coarse
        )


def _bounded_on_domain(
    solution: LocalLipschitz, f: AbstractInContextMap, mu: AnyMeasure
) -> LocalLipschitz:
    """The solution with the bound on the ball of points that holds mu, where there is one."""
    if is_traced((solution.upper, f, mu)):
        return solution
    try:
        bound = lipschitz_bound(f, Ball(float(mu.radius) * (1 + 1e-6))).value
    except (TypeError, ValueError):
        return solution
    wide = jnp.asarray(bound * (1 + 1e-6), solution.upper.dtype)
    return eqx.tree_at(lambda s: s.upper, solution, wide)


@eqx.filter_jit
def _local_lipschitz(f, mu, key, splitting, rtol, max_steps, bounds) -> LocalLipschitz:
    f_now, mu_now, f, mu = f, mu, *held((f, mu))
    derivative = jacobian(f, mu)
    first, second = jr.normal(key, (2, *mu.points.shape), mu.points.dtype)
    moved, move = _smooth_part(derivative, mu, first, rtol, max_steps)
    parts, fields = [moved.value[0]], [move]
    residuals, converged, steps = [moved.residual[0]], moved.converged, [moved.steps]
    split_atom = jnp.asarray(0)
    if splitting:
        split, split_atom, field = _split_part(derivative, mu, second, rtol, max_steps)
        parts.append(split.value[split_atom])
        fields.append(field)
        residuals.append(split.residual[split_atom])
        converged &= split.converged
        steps.append(split.steps)
    which = jnp.argmax(jnp.stack(parts))
    value = jnp.stack(parts)[which]
    tangent = jnp.stack(fields)[which]
    shares = mu.masses * jnp.sum(tangent**2, axis=-1)
    seen = Seen.by(derivative, mu, jr.fold_in(key, 1))
    found = Attained.by(f, mu, tangent, which == 1, seen)
    lower = found.lower if bounds[0] else jnp.zeros_like(value)
    bound = upper_at(f, mu) if bounds[1] else jnp.full_like(value, jnp.inf)
    # the search was in the dtype of mu: what float64 knows better corrects its rounding
    parts = [
        jnp.minimum(jnp.where(which == i, jnp.maximum(part, lower), part), bound)
        for i, part in enumerate(parts)
    ]
    parts = list(moving(tuple(parts), tuple(fields), f_now, mu_now))
    value = jnp.maximum(parts[0], parts[-1])
    finite = jnp.isfinite(value)
    result = RESULTS.where(converged, RESULTS.successful, RESULTS.max_steps_reached)
    result = RESULTS.where(found.blur > BLUR * value, RESULTS.beyond_precision, result)
    zero = jnp.zeros_like(value)
    return LocalLipschitz(
        value=value,
        smooth=parts[0],
        split=parts[1] if splitting else zero,
        split_atom=split_atom,
        lower=lower,
        upper=bound,
        residual=jnp.stack(residuals)[which],
        tangent=tangent,
        shares=shares / jnp.maximum(jnp.sum(shares), jnp.finfo(value.dtype).tiny),
        atom=jnp.argmax(shares),
        result=RESULTS.where(finite, result, RESULTS.not_finite),
        stats={"smooth_steps": steps[0], "split_steps": steps[1] if splitting else 0},
    )


def _smooth_part(derivative, mu, start, rtol, max_steps) -> tuple[SingularTriplet, Array]:
    """The top singular triplet of M^{1/2} J M^{-1/2}, and its tangent M^{-1/2} z."""
    points, outputs = derivative.points, derivative.outputs
    root, inverse = root_masses(mu)

    def matvec(z):
        return (root * derivative.smooth(inverse * z.reshape(points.shape))).reshape(1, -1)

    def transpose(w):
        pulled = derivative.smooth_transpose(root * w.reshape(outputs.shape))
        return (inverse * pulled).reshape(1, -1)

    start = jnp.where(root > 0, start, 0).reshape(1, -1)
    found = top_singular(
        matvec, transpose, start, rtol=rtol, max_steps=max_steps, capacity=_capacity(start, 32)
    )
    return found, inverse * found.vector.reshape(points.shape)


def _split_part(derivative, mu, start, rtol, max_steps) -> tuple[SingularTriplet, Array, Array]:
    """The top singular triplets of the D_i, the best atom, and its direction as a tangent."""
    points, outputs = derivative.points, derivative.outputs
    root, inverse = root_masses(mu)
    present = (root > 0).astype(points.dtype)

    def matvec(z):
        moved = derivative.split(present * z.reshape(points.shape))
        return (present * moved).reshape(-1, outputs.shape[-1])

    def transpose(w):
        pulled = derivative.split_transpose(present * w.reshape(outputs.shape))
        return (present * pulled).reshape(-1, points.shape[-1])

    start = (present * start).reshape(-1, points.shape[-1])
    capacity = _capacity(start, 12)  # many small blocks: short searches, looked at now and then
    found = top_singular(
        matvec, transpose, start, rtol=rtol, max_steps=max_steps, capacity=capacity, stride=3
    )
    best = jnp.argmax(found.value)
    alone = jnp.zeros_like(found.vector).at[best].set(found.vector[best])
    return found, best, inverse * alone.reshape(points.shape)


def _capacity(start: Array, wanted: int) -> int:
    """How many vectors to keep: as many as wanted, as far as memory goes."""
    return int(max(4, min(wanted, _BASIS // start.size)))
