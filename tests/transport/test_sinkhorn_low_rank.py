"""Couplings of low rank: marginals, the exact value as a floor, laws, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import rounded
from transport_problems import assert_close, random_pair

import meanfield as mf
from meanfield.transport import LowRank, LowRankCoupling


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SOLVER = LowRank(6)


def test_the_value_is_the_cost_of_a_coupling_of_the_measures(rng):
    mu, nu = random_pair(rng, 12, 12, absent=2)
    sol = mf.optimal_transport(mu, nu, solver=SOLVER)
    matrix = sol.coupling.matrix
    assert_close(sol.value, jnp.sum(matrix * mf.PowerCost(2).matrix(mu.points, nu.points)))
    assert jnp.all(matrix >= 0)
    assert np.linalg.matrix_rank(np.asarray(matrix), rounded(1e-10)) <= 6
    assert_close(jnp.sum(jnp.abs(matrix.sum(1) - mu.weights)), 0.0, atol=1e-3)
    assert_close(jnp.sum(jnp.abs(matrix.sum(0) - nu.weights)), 0.0, atol=1e-3)
    independent = mu.weights @ mf.PowerCost(2).matrix(mu.points, nu.points) @ nu.weights
    assert mf.optimal_transport(mu, nu).value < sol.value < independent


def test_absent_atoms_and_order_change_nothing(rng):
    mu, nu = random_pair(rng, 12, 12, absent=2)
    order = rng.permutation(12)
    bad = mf.Measure(mu.points.at[-1].set(jnp.nan)[order], mu.weights[order])
    one, other = (mf.optimal_transport(first, nu, solver=SOLVER) for first in (mu, bad))
    assert_close(other.value, one.value, rtol=1e-8)
    assert_close(other.coupling.matrix, one.coupling.matrix[order], atol=1e-10)


def test_products_need_no_matrix(rng):
    left, right = rng.uniform(size=(12, 2)), rng.uniform(size=(9, 2))
    coupling = LowRankCoupling(jnp.asarray(left), jnp.asarray(right))
    values = rng.normal(size=(9, 3))
    assert coupling.shape == (12, 9) and coupling.rank == 2
    assert_close(coupling.apply(jnp.asarray(values)), left @ right.T @ values)
    assert_close(coupling.transpose.matrix, right @ left.T)


def test_the_derivative_in_points_is_that_of_the_coupling_held_fixed(rng):
    mu, nu = random_pair(rng, 12, 12, absent=2)

    def value(x):
        return mf.optimal_transport(mf.Measure(x, mu.weights), nu, solver=SOLVER).value

    coupling = mf.optimal_transport(mu, nu, solver=SOLVER).coupling
    expected = 2 * (coupling.marginals[0][:, None] * mu.points - coupling.apply(nu.points))
    assert_close(jax.grad(value)(mu.points), expected, atol=1e-8)


def test_a_derivative_in_weights_is_refused(rng):
    mu, nu = random_pair(rng, 12, 12, absent=2)
    with pytest.raises(NotImplementedError, match="weights"):
        jax.grad(lambda mu: mf.optimal_transport(mu, nu, solver=SOLVER).value)(mu)


def test_a_rank_of_zero_is_refused():
    with pytest.raises(ValueError, match="rank"):
        LowRank(0)
