"""Derivatives of a match at a refined point, against finite differences of finer matches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matching_problems import skewed_points

import meanfield as mf
from meanfield.implicit import Unrefined
from meanfield.matching import refined_match


pytestmark = pytest.mark.slow
N, M, P, Q = 24, 18, 3, 2
STEP = 1e-5
PROBLEMS = {
    "l1": mf.CostRegularized(mf.L1(0.1)),
    "squared": mf.CostRegularized(mf.L1(0.02), mf.matching.SquaredDistance()),
    "gromov": mf.GromovWasserstein(mf.matching.SquaredDistance()),
}


def measures():
    rng = np.random.default_rng(0)
    x = skewed_points(rng, N, P)
    y = (x @ rng.normal(size=(P, Q)) + 0.1 * rng.normal(size=(N, Q)))[:M]
    weights = rng.dirichlet(np.ones(N))
    weights[-1] = 0.0
    return mf.Measure(x, weights / weights.sum()), mf.Measure(y)


@pytest.fixture(scope="module", params=PROBLEMS.values(), ids=PROBLEMS)
def matched(request):
    mu, nu = measures()
    return mf.match(mu, nu, request.param, mf.Alternation(0.1)), request.param


def solved(sol, problem, mu, nu, epsilon):
    """The match near another, to many digits, with strengths and epsilon as they were."""
    if isinstance(problem, mf.CostRegularized):
        problem = eqx.tree_at(lambda p: p.regularizer, problem, sol.task.regularizer.regularizer)
    solver = mf.Alternation(
        epsilon,
        relative=False,
        tolerance=1e-13,
        marginal_tolerance=1e-14,
        max_steps=5000,
        hottest=1.0,
    )
    fine = mf.match(mu, nu, problem, solver, start=sol.transform, throw=False)
    return np.asarray(fine.transform), float(fine.objective)


def moved(mu, t):
    """The measure with its points and weights moved along a direction."""
    rng = np.random.default_rng(1)
    points, weights = rng.normal(size=mu.points.shape), rng.normal(size=mu.size)
    weights = weights * mu.weights / 4
    weights = weights - weights.sum() * mu.weights
    return mf.Measure(mu.points + t * points, mu.weights + t * weights)


def test_transform_and_objective_differentiate_as_finer_matches_do(matched):
    sol, problem = matched

    def found(t, heat):
        near = refined_match(
            sol, problem, moved(sol.mu, t), moved(sol.nu, t), epsilon=sol.epsilon * (1 + heat)
        )
        return near.transform, near.objective

    def fine(t, heat):
        epsilon = sol.epsilon * (1 + heat)
        return solved(sol, problem, moved(sol.mu, t), moved(sol.nu, t), epsilon)

    values, rates = jax.jit(lambda t: jax.jvp(found, (t, t), (1.0 + t, 0.3 + t)))(jnp.zeros(()))
    for value, exact in zip(values, fine(0.0, 0.0), strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-6, atol=1e-6 * np.abs(exact).max())
    ahead, behind = fine(STEP, 0.3 * STEP), fine(-STEP, -0.3 * STEP)
    for rate, one, other in zip(rates, ahead, behind, strict=True):
        expected = (np.asarray(one) - np.asarray(other)) / (2 * STEP)
        np.testing.assert_allclose(rate, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def sparse():
    mu, nu = measures()
    problem = PROBLEMS["l1"]
    return mf.match(mu, nu, problem, mf.Alternation(0.1)), problem


def test_a_newton_step_squares_the_distance_and_estimates_what_remains(sparse):
    sol, problem = sparse
    exact, _ = solved(sol, problem, sol.mu, sol.nu, sol.epsilon)
    found = refined_match(sol, problem)
    errors = [
        np.linalg.norm(M - exact) / np.linalg.norm(exact) for M in (sol.transform, found.transform)
    ]
    assert errors[0] <= found.distance and errors[1] <= 2 * found.remaining + 1e-12
    assert found.remaining < 10 * found.distance**2
    assert found.refined_residual < 1e-4 * found.residual
    np.testing.assert_allclose(
        refined_match(sol, problem, refinement=Unrefined()).transform, sol.transform, rtol=1e-12
    )


def test_the_coupling_moves_with_its_marginals(sparse):
    sol, problem = sparse

    def marginals(t):
        return refined_match(sol, problem, moved(sol.mu, t)).coupling.marginals

    (first, second), rates = jax.jit(lambda t: jax.jvp(marginals, (t,), (1.0 + t,)))(jnp.zeros(()))
    np.testing.assert_allclose(first, sol.mu.weights, atol=1e-9)
    np.testing.assert_allclose(second, sol.nu.weights, atol=1e-9)
    np.testing.assert_allclose(rates[0], moved(sol.mu, 1.0).weights - sol.mu.weights, atol=1e-8)
    np.testing.assert_allclose(rates[1], 0, atol=1e-8)


def test_the_gradient_in_the_strength_is_the_norm_and_that_of_finer_matches(sparse):
    sol, problem = sparse
    ridged = sol.task.regularizer

    def with_strength(ridged, strength):
        return eqx.tree_at(lambda r: r.regularizer.strength, ridged, strength)

    def found(strength):
        near = refined_match(sol, problem, regularizer=with_strength(ridged, strength))
        return near.objective, jnp.sum(near.transform**2)

    def fine(strength):
        changed = eqx.tree_at(lambda s: s.task.regularizer, sol, with_strength(ridged, strength))
        transform, objective = solved(changed, problem, sol.mu, sol.nu, sol.epsilon)
        return objective, np.sum(transform**2), np.abs(transform).sum()

    strength = ridged.regularizer.strength
    rates = jax.jit(jax.jacrev(found))(jnp.asarray(strength))
    ahead, behind = fine(strength + STEP), fine(strength - STEP)
    np.testing.assert_allclose(rates[0], fine(strength)[2], rtol=1e-6)
    np.testing.assert_allclose(rates[1], (ahead[1] - behind[1]) / (2 * STEP), rtol=1e-4)


def test_matches_without_a_derivative_are_refused():
    mu, nu = measures()
    rank = mf.CostRegularized(mf.matching.Rank(1))
    sol = mf.match(mu, nu, rank, mf.Alternation(0.1), throw=False)
    with pytest.raises(ValueError, match="Rank is decomposed on the host"):
        refined_match(sol, rank)
    known = mf.CostRegularized(known=mf.matching.KnownPairs([0], [0]))
    sol = mf.match(mu, nu, known, mf.Alternation(0.1), throw=False)
    with pytest.raises(ValueError, match="without `known` pairs"):
        refined_match(sol, known)
    plain = mf.CostRegularized()
    exact = mf.match(mu, nu, plain, mf.matching.ExactAlternation(), throw=False)
    with pytest.raises(ValueError, match="must have a temperature"):
        refined_match(exact, plain)
    sol = mf.match(mu, nu, plain, mf.Alternation(0.1), throw=False)
    with pytest.raises(ValueError, match=r"`mu` must have points of shape \(24, 3\)"):
        refined_match(sol, plain, nu)
