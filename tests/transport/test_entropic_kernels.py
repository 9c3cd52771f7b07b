"""The kernels of entropic transport against scipy, whole and by blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from transport_problems import assert_close, random_pair

import meanfield as mf
from meanfield.transport import FunctionCost, pairs as pairs_module
from meanfield.transport.pairs import PointPairs, TablePairs, pairs_of
from meanfield.transport.softmin import gibbs, softmin, sweep


EPSILON = jnp.asarray(0.3)
costs = pytest.mark.parametrize("cost", [mf.PowerCost(2), FunctionCost(jnp.dot)])
pytestmark = pytest.mark.slow


@pytest.fixture
def problem(rng):
    mu, nu = random_pair(rng, n=13, m=9, absent=2)
    return mu, nu, jnp.asarray(rng.normal(size=13)), jnp.asarray(rng.normal(size=9))


@pytest.fixture
def by_blocks(monkeypatch):
    """Blocks of eight rows: two here, the second with three rows of filling."""
    monkeypatch.setattr(pairs_module, "_BLOCK", 1)


def log(weights):
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(np.asarray(weights)))


@costs
def test_softmin_is_a_log_sum_of_powers(problem, cost, by_blocks):
    mu, nu, _, g = problem
    matrix = np.asarray(cost.matrix(mu.points, nu.points))
    exponents = np.asarray(log(nu.weights)) + (np.asarray(g) - matrix) / EPSILON
    expected = -EPSILON * logsumexp(exponents, axis=1)
    for memory in (0, 10**6):
        found = softmin(pairs_of(mu, nu, cost, memory=memory), g, log(nu.weights), EPSILON)
        assert_close(found, expected)


@costs
def test_what_arrives_at_the_columns_is_the_sum_of_what_rows_send(problem, cost, by_blocks):
    mu, nu, _, g = problem
    for memory in (0, 10**6):
        pairs = pairs_of(mu, nu, cost, memory=memory)
        f, received = sweep(pairs, g, log(nu.weights), mu.weights, EPSILON)
        assert_close(f, softmin(pairs, g, log(nu.weights), EPSILON))
        plan = np.exp((f[:, None] + g - cost.matrix(mu.points, nu.points)) / EPSILON)
        assert_close(received, (mu.weights @ plan) * nu.weights)


def test_a_sweep_near_another_needs_no_maxima(problem, by_blocks):
    mu, nu, _, g = problem
    mu = mf.Measure(mu.points.at[-1].set(1e153), mu.weights)  # absent, its costs near the largest
    pairs = pairs_of(mu, nu, mf.PowerCost(2), memory=0)
    before, _ = sweep(pairs, g, log(nu.weights), mu.weights, EPSILON)
    moved = g + 2 * EPSILON * jnp.sign(g)
    plain = sweep(pairs, moved, log(nu.weights), mu.weights, EPSILON)
    near = sweep(pairs, moved, log(nu.weights), mu.weights, EPSILON, before)
    assert_close(near[0][:-2], plain[0][:-2])
    assert_close(near[1], plain[1])


@costs
def test_gibbs_is_the_product_with_the_kernel_on_both_sides(problem, cost, by_blocks):
    mu, nu, f, g = problem
    kernel = np.exp((f[:, None] + g - cost.matrix(mu.points, nu.points)) / EPSILON)
    for memory in (0, 10**6):
        pairs = pairs_of(mu, nu, cost, memory=memory)
        assert_close(gibbs(pairs, (f, g), EPSILON, nu.points), kernel @ nu.points)
        assert_close(gibbs(pairs.transpose, (g, f), EPSILON, f), kernel.T @ f)


def test_blocks_have_the_derivative_of_the_whole(problem, by_blocks):
    mu, nu, f, g = problem

    def total(mu, nu, g, epsilon, memory):
        pairs = pairs_of(mu, nu, mf.PowerCost(2), memory=memory)
        return f @ softmin(pairs, g, log(nu.weights), epsilon)

    blocked, whole = (
        jax.grad(lambda *all, m=memory: total(*all, m), argnums=(0, 2, 3))(mu, nu, g, EPSILON)
        for memory in (0, 10**6)
    )
    jax.tree.map(assert_close, blocked, whole)


def test_a_table_is_made_below_the_memory_limit_only(rng):
    mu, nu = random_pair(rng)
    table = 8 * 8 * mu.points.itemsize
    assert isinstance(pairs_of(mu, nu, mf.PowerCost(1), memory=table), TablePairs)
    assert isinstance(pairs_of(mu, nu, mf.PowerCost(1), memory=table - 1), PointPairs)


def test_softmin_far_down_the_exponential_keeps_its_digits():
    mu = mf.Measure(jnp.array([[0.0]]))
    nu = mf.Measure(jnp.array([[1e3], [1e3 + 1.0]]))
    found = softmin(
        pairs_of(mu, nu, mf.PowerCost(1)), jnp.zeros(2), log(nu.weights), jnp.asarray(1e-2)
    )
    assert_close(found, [1e3 + 1e-2 * np.log(2)])


def test_absent_points_of_any_size_leave_costs_finite(rng):
    mu, nu = random_pair(rng, absent=2)
    for wrong in (jnp.nan, jnp.inf, 1e200):
        odd = mf.Measure(nu.points.at[-1].set(wrong), nu.weights)
        pairs = pairs_of(mu, odd, mf.PowerCost(2), memory=0)
        found, _ = sweep(pairs, jnp.zeros(8), log(nu.weights), mu.weights, EPSILON)
        same = pairs_of(mu, nu, mf.PowerCost(2), memory=0)
        assert_close(found, softmin(same, jnp.zeros(8), log(nu.weights), EPSILON))
