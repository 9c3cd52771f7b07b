"""What a match calls successful is finite and has its marginals, recomputed from its matrix."""

import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield import RESULTS, Measure
from meanfield.matching import (
    L1,
    Alternation,
    ConditionalGradient,
    CostRegularized,
    FusedGromovWasserstein,
    GromovWasserstein,
    SharedCost,
    SharedFeatures,
    SquaredDistance,
    UnbalancedGromovWasserstein,
    match,
)


@pytest.fixture
def clouds(rng):
    return skewed_points(rng, 14, 3), skewed_points(rng, 11, 2)


@pytest.fixture
def shared(rng):
    return rng.normal(size=(14, 2)), rng.normal(size=(11, 2))


def marginals_off(sol) -> float:
    plan = np.asarray(sol.coupling.matrix, np.float64)
    first, second = (np.asarray(m.weights, np.float64) for m in (sol.mu, sol.nu))
    rows, cols = np.abs(plan.sum(axis=1) - first).sum(), np.abs(plan.sum(axis=0) - second).sum()
    return float(max(rows / first.sum(), cols / second.sum()))


def fused(shared, alpha):
    return FusedGromovWasserstein(SharedFeatures(*shared), alpha)


def regularized(shared, alpha):
    return CostRegularized(shared=SharedFeatures(*shared), alpha=alpha)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1e-1, 1e-2, 1e-6])
@pytest.mark.parametrize("problem", [fused, regularized])
def test_a_small_share_is_met_or_said_to_be_too_small(problem, alpha, clouds, shared):
    mu, nu = (Measure(points.astype(np.float32)) for points in clouds)
    sol = match(mu, nu, problem(shared, alpha), Alternation(max_steps=100), throw=False)
    off = marginals_off(sol)
    assert off <= 1.01 * sol.marginal_error + 1e-5
    met = off <= 1e-4 and np.isfinite(float(sol.value))
    assert (sol.result == RESULTS.successful) <= met
    if alpha == 1e-6:
        assert sol.result == RESULTS.epsilon_too_small


PROBLEMS = {
    "learnt": CostRegularized(L1(0.05)),
    "learnt distances": CostRegularized(cost=SquaredDistance()),
    "products": GromovWasserstein(),
    "distances": GromovWasserstein(SquaredDistance()),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", PROBLEMS)
def test_success_is_finite_with_marginals_and_a_bound_below(name, dtype, clouds):
    mu, nu = (Measure(points.astype(dtype)) for points in clouds)
    sol = match(mu, nu, PROBLEMS[name], Alternation(0.2))
    assert np.isfinite([sol.value, sol.objective, sol.correlation, sol.epsilon]).all()
    assert marginals_off(sol) <= 1e-4 + 50 * np.finfo(dtype).eps
    assert sol.lower_bound <= float(sol.value) * (1 + np.sign(sol.value) * 1e-5)


@pytest.mark.slow
def test_free_marginals_are_those_of_the_matrix(clouds):
    mu, nu = (Measure(points) for points in clouds)
    sol = match(mu, nu, UnbalancedGromovWasserstein(5.0), Alternation(0.2))
    plan = np.asarray(sol.coupling.matrix)
    for found, axis in zip(sol.coupling.marginals, (1, 0), strict=True):
        assert_allclose(found, plan.sum(axis=axis), rtol=1e-5)
    assert sol.marginal_error <= 1e-4


@pytest.mark.parametrize("solver", [Alternation(), ConditionalGradient()])
def test_a_shared_cost_that_is_not_finite_is_refused_where_atoms_have_mass(solver, clouds):
    table = np.ones((14, 11))
    table[3, 4] = np.nan
    with pytest.raises(ValueError, match="`matrix` must be finite.*row 3, column 4"):
        match(*map(Measure, clouds), FusedGromovWasserstein(SharedCost(table)), solver)


def test_shared_features_that_are_not_finite_are_refused(clouds, shared):
    shared[1][2, 0] = np.inf
    with pytest.raises(ValueError, match="`y` of the shared features must be finite; row 2"):
        match(*map(Measure, clouds), fused(shared, 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["features", "cost"])
def test_what_absent_atoms_share_is_not_read(kind, clouds, shared):
    weights = np.r_[np.zeros(2), np.ones(12)]
    mu, nu = Measure(clouds[0], weights), Measure(clouds[1], 12 / 11 * np.ones(11))
    table = np.sum((shared[0][:, None] - shared[1]) ** 2, axis=-1)
    solver = Alternation(0.2)
    values = []
    for held in (0.0, np.nan, 1e30):
        rows, costs = shared[0].copy(), table.copy()
        rows[:2], costs[:2] = held, held
        second = SharedFeatures(rows, shared[1]) if kind == "features" else SharedCost(costs)
        values.append(float(match(mu, nu, FusedGromovWasserstein(second), solver).value))
    assert_allclose(values, values[0], rtol=1e-12)
