"""Right values where numbers run out: far from the origin, beside far atoms, at small shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meanfield.measure import RESULTS, Measure
from meanfield.transport import (
    Exact,
    LowRank,
    PowerCost,
    Unbalanced,
    UnbalancedExact,
    UnbalancedLine,
    optimal_transport,
    wasserstein,
)


RNG = np.random.default_rng(0)
CLOUDS = RNG.normal(size=(6, 2)), RNG.normal(size=(6, 2))


def in_single(points, weights=None):
    weights = None if weights is None else np.float32(weights)
    return Measure(np.float32(points), weights)


def in_double(points, p):
    with jax.enable_x64(True):
        mu, nu = (Measure(np.asarray(x, np.float64)) for x in points)
        return float(wasserstein(mu, nu, p))


@pytest.mark.fast
@pytest.mark.parametrize("p", [1, 2, 6, 7, 8, 9, np.inf])
@pytest.mark.parametrize("dim", [1, 2])
def test_distances_in_float32_are_those_of_the_points_far_from_the_origin(p, dim):
    shifted = [np.float32(x[:, :dim] + 1e6) for x in CLOUDS]
    near = [x.astype(np.float64) - 1e6 for x in shifted]
    got = wasserstein(*(in_single(x) for x in shifted), p)
    np.testing.assert_allclose(got, in_double(near, p), rtol=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize("p", [1, 2, 6, 7, 8])
def test_a_far_common_atom_costs_no_digits(p):
    joined = [np.float32(np.r_[x, [[1e6, 1e6]]]) for x in CLOUDS]
    got = wasserstein(*(in_single(x) for x in joined), p)
    np.testing.assert_allclose(got, in_double(joined, p), rtol=1e-6)


@pytest.mark.fast
def test_the_longest_move_is_found_in_half_precision():
    mu, nu = (Measure(jnp.asarray(x, jnp.bfloat16)) for x in CLOUDS)
    exact = in_double([mu.points, nu.points], np.inf)
    np.testing.assert_allclose(float(wasserstein(mu, nu, np.inf)), exact, rtol=0.02)


def on_a_grid(size, *bins):
    weights = np.zeros(size)
    weights[list(bins)] = 0.5
    return in_single(np.arange(float(size))[:, None], weights)


@pytest.mark.fast
def test_histograms_of_one_grid_far_apart_have_a_finite_unbalanced_value():
    solver = Unbalanced(1.0, epsilon=1.0, relative=False)
    sol = optimal_transport(on_a_grid(21, 0, 20), on_a_grid(21, 0, 1), solver=solver)
    np.testing.assert_allclose([sol.value, sol.primal, sol.dual], 1.36692, rtol=1e-5)
    slope = jax.grad(lambda mu: optimal_transport(mu, on_a_grid(21, 0, 1), solver=solver).value)
    assert np.all(np.isfinite(slope(on_a_grid(21, 0, 20)).points))


@pytest.mark.fast
def test_an_atom_that_keeps_less_than_a_machine_epsilon_of_its_mass_has_a_gap():
    x, y = np.r_[RNG.normal(size=(50, 2)), [[12.0, 12.0]]], RNG.normal(size=(50, 2))
    sol = optimal_transport(Measure(x), Measure(y), solver=Unbalanced(3.0))
    np.testing.assert_allclose(sol.primal, sol.dual, rtol=1e-4)


@pytest.mark.fast
@pytest.mark.parametrize("solver", [UnbalancedLine, UnbalancedExact])
def test_far_mass_is_lost_rather_than_moved(solver):
    half = np.full(2, 0.5)
    sol = optimal_transport(
        in_single([[0.0], [20.0]], half), in_single([[0.0], [1.0]], half), solver=solver(10.0)
    )
    np.testing.assert_allclose(sol.value, 6.19842, rtol=1e-5)
    far = in_single([[100.0], [130.0]], half)
    sol = optimal_transport(in_single([[0.0], [1.0]], half), far, solver=solver(1.0))
    np.testing.assert_allclose([sol.value, sol.primal], 2.0, rtol=1e-5)


@pytest.mark.float64
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e-2])
def test_near_atoms_do_not_make_the_equations_singular(scale):
    mu = Measure(np.array([[0.0, 0.0], [scale, 0.0]]), np.array([0.4, 0.6]))
    sol = optimal_transport(mu, Measure(np.zeros((1, 2))), solver=UnbalancedExact(0.7))
    assert 0 <= sol.value <= 0.6 * scale**2 * (1 + 1e-9)
    np.testing.assert_allclose(sol.gap, 0.0, atol=1e-9 * scale**2 + 1e-13)


@pytest.mark.float64
@pytest.mark.parametrize("size", [1e1, 1e6])
def test_costs_far_above_the_price_leave_no_gap(size):
    mu = Measure(size * np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0.4, 0.6]))
    nu = Measure(size * np.array([[2.0, 1.0]]), np.ones(1))
    sol = optimal_transport(mu, nu, solver=UnbalancedExact(1.0))
    np.testing.assert_allclose([sol.value, sol.primal], 2.0, rtol=1e-9)


@pytest.mark.fast
def test_a_coupling_of_rank_one_is_that_of_independent_atoms():
    x, y = CLOUDS
    sol = optimal_transport(Measure(x), Measure(y), solver=LowRank(1))
    assert sol.result == RESULTS.successful
    product = np.mean(np.sum((x[:, None] - y[None]) ** 2, axis=-1))
    np.testing.assert_allclose(sol.value, product, rtol=1e-5)


@pytest.mark.fast
@pytest.mark.parametrize("far", [np.nan, 1e15, -1e15, np.inf])
def test_duals_on_the_line_do_not_depend_on_where_absent_atoms_are(far):
    x, y = (cloud[:, :1] for cloud in CLOUDS)
    padded = Measure(np.r_[x, [[far]]], np.r_[np.full(6, 1 / 6), 0.0])
    sol = optimal_transport(padded, Measure(y), PowerCost(2), Exact())
    weights = np.full(6, 1 / 6)
    dual = weights @ sol.potentials[0][:6] + weights @ sol.potentials[1]
    np.testing.assert_allclose(dual, sol.value, rtol=1e-5)
