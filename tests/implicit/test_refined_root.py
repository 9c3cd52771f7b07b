"""Implicit derivatives at a refined point: second order where the plain ones are first."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from precision import EPS

from meanfield.implicit import Newton, Preconditioned, Unrefined, refined_root


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def problem():
    """The stationarity of a regularised logistic regression, its root and its derivative."""
    rng = np.random.default_rng(0)
    A = jnp.asarray(rng.normal(size=(40, 7)))
    labels = jnp.asarray(rng.choice([-1.0, 1.0], size=40))
    y = jnp.asarray(rng.uniform(-1, 1, size=7))

    def loss(x, y):
        return jnp.mean(jax.nn.softplus(-labels * (A @ x))) + jnp.mean(jnp.exp(y) * x**2) / 2

    F = jax.grad(loss)
    root = jnp.zeros(7)
    for _ in range(30):
        root = root - jnp.linalg.solve(jax.jacobian(F)(root, y), F(root, y))
    exact = -jnp.linalg.solve(jax.jacobian(F)(root, y), jax.jacobian(F, argnums=1)(root, y))
    return F, root, y, exact


def derivative(F, x, y, refinement):
    return jax.jacobian(lambda y: refined_root(F, x, y, refinement).value)(y)


def slope(F, root, y, exact, refinement):
    """The order in the distance from the root of the error of the derivative."""
    direction = jnp.asarray(np.random.default_rng(1).normal(size=7))
    errors = []
    for distance in (1e-2, 1e-3):
        found = derivative(F, root + distance * direction, y, refinement)
        errors.append(float(jnp.linalg.norm(found - exact)))
    return np.log10(errors[0] / errors[1])


def test_a_newton_step_makes_the_derivative_second_order(problem):
    assert abs(slope(*problem, Unrefined()) - 1) < 0.1
    assert abs(slope(*problem, Newton()) - 2) < 0.1


def test_a_diagonal_preconditioner_stays_first_order_with_a_smaller_error(problem):
    F, root, y, exact = problem
    diagonal = jnp.diag(jax.jacobian(F)(root, y))
    by_diagonal = Preconditioned(lambda x, r: r / diagonal)
    assert abs(slope(F, root, y, exact, by_diagonal) - 1) < 0.1

    def error(refinement):
        return float(jnp.linalg.norm(derivative(F, root + 1e-3, y, refinement) - exact))

    assert error(by_diagonal) < error(Unrefined())


@pytest.mark.float64
def test_at_a_loose_tolerance_it_is_closer_than_optimistix(problem):
    F, root, y, exact = problem
    solver = optx.Newton(rtol=1e-2, atol=1e-2)

    def loose(y):
        return optx.root_find(lambda x, y: F(x, y), solver, jnp.zeros(7), args=y).value

    x = loose(y)
    theirs = jnp.linalg.norm(jax.jacobian(loose)(y) - exact)
    ours = jnp.linalg.norm(derivative(F, x, y, Newton()) - exact)
    assert ours < 0.05 * theirs


@pytest.mark.float64
def test_forward_and_backward_derivatives_agree(problem):
    F, root, y, exact = problem

    def value(y):
        return refined_root(F, root, y).value

    np.testing.assert_allclose(jax.jacfwd(value)(y), exact, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(jax.jit(jax.jacrev(value))(y), exact, rtol=1e-8, atol=1e-10)


@pytest.mark.float64
def test_the_residuals_and_distances_tell_how_near_the_root_is(problem):
    F, root, y, _ = problem
    x = root + 1e-3
    found = refined_root(F, x, y)
    assert found.refined_residual < 1e-2 * found.residual
    assert abs(found.distance / jnp.linalg.norm(x - root) - 1) < 0.01
    actual = jnp.linalg.norm(found.value - root)
    assert abs(found.remaining / actual - 1) < 0.01


def test_a_quadratic_is_solved_exactly_in_one_step():
    H = jnp.array([[3.0, 1.0], [1.0, 2.0]])
    found = refined_root(lambda x, y: H @ x - y, jnp.zeros(2), jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(
        found.value, jnp.linalg.solve(H, jnp.array([1.0, -1.0])), rtol=32 * EPS
    )


def test_trees_and_vmap_are_taken():
    def F(x, y):
        return {"a": x["a"] ** 2 - y, "b": x["b"] * x["a"] - 1.0}

    def value(y):
        start = {"a": jnp.sqrt(y) + 1e-3, "b": 1 / jnp.sqrt(y)}
        return refined_root(F, start, y).value["b"]

    ys = jnp.array([1.0, 4.0, 9.0])
    slopes = jax.vmap(jax.grad(value))(ys)
    np.testing.assert_allclose(slopes, -0.5 * ys**-1.5, rtol=1e-5)


def test_a_function_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"`function` must return .* \(3,\); got \(2,\)"):
        refined_root(lambda x, y: x[:2], jnp.zeros(3), jnp.zeros(1))
    with pytest.raises(ValueError, match="`steps` must be at least 0; got -1"):
        refined_root(lambda x, y: x, jnp.zeros(3), jnp.zeros(1), steps=-1)
