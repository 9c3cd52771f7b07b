"""The coupling, its potentials and its duality gap."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.optimize
from precision import rounded
from transport_problems import assert_close, dimensions, random_pair

import meanfield as mf
from meanfield.measure import RESULTS
from meanfield.transport import AbstractPointCost, PowerCost


@dimensions
@pytest.mark.parametrize("absent", [0, 3])
def test_the_coupling_has_the_right_marginals_and_the_least_cost(rng, d, absent):
    mu, nu = random_pair(rng, d=d, absent=absent)
    sol = mf.optimal_transport(mu, nu)
    costs = ot.dist(np.asarray(mu.points), np.asarray(nu.points))
    assert sol.result == RESULTS.successful
    assert_close(sol.coupling.matrix.sum(1), mu.weights, atol=1e-14)
    assert_close(sol.coupling.matrix.sum(0), nu.weights, atol=1e-14)
    assert_close(sol.value, jnp.sum(sol.coupling.matrix * costs))
    assert_close(sol.value, ot.emd2(np.asarray(mu.weights), np.asarray(nu.weights), costs))


@dimensions
@pytest.mark.parametrize("absent", [0, 3])
@pytest.mark.parametrize("uniform", [False, True])
def test_the_potentials_are_feasible_tight_and_balanced(rng, d, absent, uniform):
    mu, nu = random_pair(rng, d=d, absent=absent)
    if uniform:  # a degenerate program: many bases for one vertex
        mu, nu = (mf.Measure(m.points, (m.weights > 0) / 4.0) for m in (mu, nu))
    sol = mf.optimal_transport(mu, nu, PowerCost(1.5))
    f, g = sol.potentials
    slack = PowerCost(1.5).matrix(mu.points, nu.points) - f[:, None] - g[None, :]
    present = (mu.weights[:, None] > 0) | (nu.weights[None, :] > 0)
    assert jnp.min(jnp.where(present, slack, 0.0)) >= -rounded(1e-12)
    assert jnp.max(jnp.abs(slack * (sol.coupling.matrix > 1e-12))) <= rounded(1e-12)
    assert_close(mu.weights @ f, sol.value / 2)
    assert_close(nu.weights @ g, sol.value / 2)
    assert jnp.abs(sol.gap) <= rounded(1e-12)


@dimensions
def test_the_optimal_permutation_of_shuffled_points_is_found(rng, d):
    x = rng.normal(size=(30, d))
    order = rng.permutation(30)
    sol = mf.optimal_transport(mf.Measure(x), mf.Measure(x[order] + 1e-9))
    assert jnp.array_equal(jnp.argmax(sol.coupling.matrix, axis=0), order)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_costs_of_any_size_are_solved_to_the_same_digits(rng, scale):
    mu, nu = random_pair(rng)
    far = [mf.Measure(scale * m.points, m.weights) for m in (mu, nu)]
    sol = mf.optimal_transport(*far)
    assert_close(sol.value / scale**2, mf.optimal_transport(mu, nu).value)
    assert jnp.abs(sol.gap) <= 1e-12 * sol.value


class _CityBlock(AbstractPointCost):
    def __call__(self, x, y):
        return jnp.sum(jnp.abs(x - y))


@dimensions
def test_any_cost_between_two_points_will_do(rng, d):
    mu, nu = random_pair(rng, d=d)
    costs = ot.dist(np.asarray(mu.points), np.asarray(nu.points), "cityblock")
    expected = ot.emd2(np.asarray(mu.weights), np.asarray(nu.weights), costs)
    assert_close(mf.optimal_transport(mu, nu, _CityBlock()).value, expected)


def test_too_few_pivots_are_reported(rng):
    mu, nu = random_pair(rng, n=50, m=50)
    few = mf.Exact(max_steps=3)
    sol = mf.optimal_transport(mu, nu, solver=few, throw=False)
    assert sol.result == RESULTS.pivots_exhausted
    assert jnp.isnan(sol.value)
    with pytest.raises(eqx.EquinoxRuntimeError, match="Raise `max_steps`"):
        mf.optimal_transport(mu, nu, solver=few)


@dimensions
def test_points_that_are_not_numbers_are_reported(rng, d):
    mu, nu = random_pair(rng, d=d)
    broken = mf.Measure(nu.points.at[2].set(jnp.nan), nu.weights)
    assert mf.optimal_transport(mu, broken, throw=False).result == RESULTS.nonfinite_cost
    with pytest.raises(eqx.EquinoxRuntimeError, match="NaN or inf in `points`"):
        mf.optimal_transport(mu, broken)


@pytest.mark.slow
@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_points_that_are_not_numbers_are_reported_for_every_exponent(rng, p):
    mu, nu = random_pair(rng)
    broken = mf.Measure(nu.points.at[2].set(jnp.nan), nu.weights)
    sol = mf.optimal_transport(mu, broken, PowerCost(p), throw=False)
    assert sol.result == RESULTS.nonfinite_cost


@pytest.mark.slow
@pytest.mark.parametrize("p", [50, 200])
def test_the_gap_is_small_beside_the_value_even_if_costs_span_many_orders(rng, p):
    mu, nu = (mf.Measure(m.points / 5, m.weights) for m in random_pair(rng))
    sol = mf.optimal_transport(mu, nu, PowerCost(p))
    assert jnp.max(PowerCost(p).matrix(mu.points, nu.points)) > 1e8 * sol.value
    assert jnp.abs(sol.gap) <= 1e-9 * sol.value
    f, g = sol.potentials
    rows, cols, masses = sol.coupling.support()
    assert_close(jnp.sum(masses * (f[rows] + g[cols])), sol.dual)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [1e-7, 1e-12])
def test_near_measures_are_matched_with_a_gap_small_beside_the_value(rng, shift):
    x, order = rng.normal(size=(30, 3)), rng.permutation(30)
    sol = mf.optimal_transport(mf.Measure(x), mf.Measure(x[order] + shift))
    assert_close(sol.value, 3 * shift**2, rtol=1e-3)
    assert jnp.abs(sol.gap) <= 1e-9 * sol.value


@pytest.mark.slow
def test_equal_atoms_with_distinct_nearest_neighbours_go_there(rng):
    x, order = 3.0 * rng.normal(size=(30, 3)), rng.permutation(30)
    mu = mf.Measure(x, np.full(30, 0.1))
    for shake in (1e-3, 1.0):  # the second has neighbours in common, and needs the simplex
        nu = mf.Measure(x[order] + shake * rng.normal(size=(30, 3)), np.full(30, 0.1))
        sol = mf.optimal_transport(mu.pad(33), nu.pad(31))
        best = scipy.optimize.linear_sum_assignment(PowerCost(2).matrix(mu.points, nu.points))
        costs = np.asarray(PowerCost(2).matrix(mu.points, nu.points))
        assert_close(sol.value, 0.1 * costs[best].sum())
        distinct = len(set(costs.argmin(1))) == 30
        assert distinct == (shake < 1)
        f, g = sol.potentials
        assert jnp.min(costs - f[:30, None] - g[:30]) >= -rounded(1e-12)
        assert jnp.abs(sol.gap) <= rounded(1e-12)
        assert_close(mu.weights @ f[:30], nu.weights @ g[:30])


@dimensions
def test_unequal_masses_raise_under_jit_too(rng, d):
    mu, nu = random_pair(rng, d=d)
    heavy = mf.Measure(nu.points, 1.001 * nu.weights)
    with pytest.raises(ValueError, match=r"`nu` must have the total mass 1 of `mu`; got 1\.001"):
        mf.optimal_transport(mu, heavy)
    with pytest.raises(eqx.EquinoxRuntimeError, match="same total mass"):
        eqx.filter_jit(mf.optimal_transport)(mu, heavy)


def test_the_rounding_of_float32_weights_is_no_mismatch():
    weights = jnp.full(10_007, 1.0, jnp.float32) / 10_007
    points = jnp.arange(10_007, dtype=jnp.float32)[:, None]
    one = mf.Measure(jnp.zeros((1, 1), jnp.float32), jnp.ones(1, jnp.float32))
    assert_close(mf.wasserstein(mf.Measure(points, weights), one, p=1), 5003.0, rtol=1e-5)


@pytest.mark.parametrize("p", [0.5, 0, -1, float("nan"), -float("inf")])
def test_exponents_below_one_are_refused(rng, p):
    with pytest.raises(ValueError, match="`p` must be a number with 1 <= p < inf; got"):
        mf.wasserstein(*random_pair(rng), p=p)


def test_measures_that_do_not_fit_are_refused(rng):
    mu, nu = random_pair(rng)
    with pytest.raises(ValueError, match="`nu` must have the dimension 3 of `mu`; got 2"):
        mf.wasserstein(mu, mf.Measure(nu.points[:, :2], nu.weights))
    with pytest.raises(ValueError, match=r"`mu` must be one Measure .* \(2, 8, 3\).*jax.vmap"):
        mf.wasserstein(mf.stack([mu, mu]), nu)


def test_a_matrix_and_a_function_say_the_same_cost(rng):
    mu, nu = random_pair(rng)
    by_power = mf.optimal_transport(mu, nu, PowerCost(2))
    by_function = mf.optimal_transport(mu, nu, lambda x, y: jnp.sum((x - y) ** 2))
    by_matrix = mf.optimal_transport(mu, nu, PowerCost(2).matrix(mu.points, nu.points))
    assert_close(by_function.value, by_power.value)
    assert_close(by_matrix.value, by_power.value)
    with pytest.raises(
        ValueError, match=r"`cost` must be a matrix of shape \(8, 8\).*got \(3, 3\)"
    ):
        mf.optimal_transport(mu, nu, jnp.eye(3))


def test_a_coupling_applies_transposes_and_averages(rng):
    mu, nu = random_pair(rng, n=8, m=8, absent=3)
    coupling = mf.optimal_transport(mu, nu).coupling
    values = jnp.asarray(rng.normal(size=(8, 2)))
    assert_close(coupling.apply(values), coupling.matrix @ values)
    assert_close(coupling.transpose.apply(values), coupling.matrix.T @ values)
    for marginal, weights in zip(coupling.marginals, (mu.weights, nu.weights), strict=True):
        assert_close(marginal, weights, atol=1e-14)
    rows, cols, masses = coupling.support()
    assert_close(np.asarray(coupling.matrix)[rows, cols], masses)
    moved = (coupling.matrix @ nu.points)[:5] / mu.weights[:5, None]
    assert_close(coupling.barycentric(nu.points)[:5], moved)
    assert_close(coupling.barycentric(nu.points.at[6].set(jnp.nan))[:5], moved)
