r"""The derivative of an implicit function, evaluated at a refined point (ye2024).

Let x(y) solve F(x, y) = 0. A solver returns x near the root, and the implicit function theorem
$dx = -F_x^{-1} F_y\, dy$ evaluated there errs in proportion to the distance from the root. After
one Newton step it errs in proportion to the square of the distance.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .refine import AbstractRefinement, Newton, Solve, solve_linear


class RefinedRoot(eqx.Module):
    r"""A root with its derivative, and how far it is from one.

    Attributes:
      value: the refined root; it differentiates with respect to y by the implicit function
        theorem at this point, forward and backward, once.
      residual: |F(x, y)| before refinement.
      refined_residual: |F| at `value`.
      distance: an estimate of the distance from the point given to the root, the length of the
        correction.
      remaining: an estimate of the distance from `value` to the root, by one more correction. The
        relative error of the derivative is of the order of this number, against `distance`
        without refinement.
    """

    value: PyTree
    residual: Float[Array, ""]
    refined_residual: Float[Array, ""]
    distance: Float[Array, ""]
    remaining: Float[Array, ""]


def refined_root(
    function: Callable[[Any, Any], Any],
    x: PyTree,
    y: PyTree,
    refinement: AbstractRefinement = Newton(),
    *,
    steps: int = 1,
    solve: Solve | None = None,
) -> RefinedRoot:
    r"""Refine an approximate root of F(., y) and differentiate it there {cite}`ye2024`.

    Preconditioning changes the *point* where the theorem is applied, never the equation: the
    derivative of a preconditioned residual has a term $dP^{-1} F$ which does not vanish off the
    root.

    Args:
      function: F(x, y), of the structure of x.
      x: an approximate root; no derivative is taken through it.
      y: what the root depends on; any pytree of arrays.
      refinement: `Newton()`, `Preconditioned(apply)` or `Unrefined()`.
      steps: how many refinement steps.
      solve: `solve(forward, right)` for the linear system of the derivative, itself linear in
        `right`, and for that of the Newton steps; by default conjugate gradients on the normal
        equations, matrix-free.

    Returns:
      a `RefinedRoot`.

    Raises:
      ValueError: F(x, y) does not have the structure and shapes of x; steps < 0.
    """
    x = jax.lax.stop_gradient(x)
    fixed_y = jax.lax.stop_gradient(y)
    _check(function, x, fixed_y, steps)

    def at_fixed(point):
        return function(point, fixed_y)

    refined, before = x, _norm(at_fixed(x))
    for _ in range(steps):
        refined = _step(at_fixed, refinement, refined, solve)
    refined = jax.lax.stop_gradient(refined)
    after = _step(at_fixed, refinement, refined, solve)

    # zero, with the derivative F_y dy; the solve turns it into that of the root
    change = _difference(function(refined, y), jax.lax.stop_gradient(at_fixed(refined)))
    _, forward = jax.linearize(at_fixed, refined)
    value = _difference(refined, solve_linear(forward, change, solve))
    return RefinedRoot(
        value=value,
        residual=jax.lax.stop_gradient(before),
        refined_residual=jax.lax.stop_gradient(_norm(at_fixed(refined))),
        distance=jax.lax.stop_gradient(_norm(_difference(refined, x))),
        remaining=jax.lax.stop_gradient(_norm(_difference(after, refined))),
    )


def _step(
    function: Callable[[Any], Any], refinement: AbstractRefinement, x: PyTree, solve: Solve | None
) -> PyTree:
    return _difference(x, refinement.correction(function, x, function(x), solve))


def _difference(x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(jnp.subtract, x, y)


def _norm(x: PyTree) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(x)))


def _check(function: Callable[[Any, Any], Any], x: PyTree, y: PyTree, steps: int) -> None:
    if steps < 0:
        raise ValueError(f"`steps` must be at least 0; got {steps}.")
    wanted = jax.tree.map(jnp.shape, x)
    got = jax.tree.map(jnp.shape, jax.eval_shape(function, x, y))
    if wanted != got:
        raise ValueError(
            f"`function` must return what has the structure and shapes of `x`, {wanted}; got {got}."
        )
