"""The unbalanced Sinkhorn divergence: zero, positive, symmetric, without bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import rounded
from transport_problems import assert_close, random_measure

import meanfield as mf
from meanfield.transport import (
    KullbackLeibler,
    PowerCost,
    TotalVariation,
    Unbalanced,
    unbalanced_sinkhorn_divergence,
)


pytestmark = pytest.mark.slow


SOLVER = Unbalanced(1.0, epsilon=0.5, relative=False, tolerance=rounded(1e-11))


def pair(rng):
    mu, nu = random_measure(rng, 8, 2), random_measure(rng, 8, 2)
    return mu, mf.Measure(nu.points, 1.4 * nu.weights)


def test_is_zero_between_equal_measures_positive_between_others_and_symmetric(rng):
    mu, nu = pair(rng)
    assert abs(unbalanced_sinkhorn_divergence(mu, mu, SOLVER)) <= rounded(1e-12)
    there = unbalanced_sinkhorn_divergence(mu, nu, SOLVER)
    assert there > 0.01
    assert_close(unbalanced_sinkhorn_divergence(nu, mu, SOLVER), there)
    heavier = mf.Measure(mu.points, 1.2 * mu.weights)
    assert unbalanced_sinkhorn_divergence(mu, heavier, SOLVER) > 1e-3


def test_the_value_alone_is_biased_and_the_divergence_has_its_least_value_at_the_measure(rng):
    mu, _ = pair(rng)

    def shrunk(t):
        return mu.pushforward(lambda x: (1 - t) * x)

    hot = Unbalanced(1.0, epsilon=2.0, relative=False, tolerance=rounded(1e-11))

    def biased(t):
        return mf.optimal_transport(shrunk(t), mu, solver=hot).value

    assert biased(0.2) < biased(0.0)
    values = [unbalanced_sinkhorn_divergence(shrunk(t), mu, hot) for t in (-0.1, 0.0, 0.1)]
    assert values[1] < min(values[0], values[2])
    slope = jax.grad(lambda t: unbalanced_sinkhorn_divergence(shrunk(t), mu, hot))(0.0)
    assert abs(slope) <= rounded(1e-9)


@pytest.mark.parametrize("divergence", [KullbackLeibler(), TotalVariation()], ids=str)
def test_is_nonnegative_over_random_pairs(rng, divergence):
    solver = Unbalanced(1.0, divergence, epsilon=1.0, relative=False, tolerance=rounded(1e-7))
    for p in (1, 2):
        for _ in range(5):
            mu, nu = pair(rng)
            assert unbalanced_sinkhorn_divergence(mu, nu, solver, PowerCost(p)) > 0


def test_a_relative_epsilon_is_that_of_the_pair(rng):
    mu, nu = pair(rng)
    mean = mu.weights @ PowerCost(2).matrix(mu.points, nu.points) @ nu.weights / (1.0 * 1.4)
    relative = Unbalanced(1.0, epsilon=0.1, tolerance=rounded(1e-11))
    absolute = Unbalanced(1.0, epsilon=0.1 * mean, relative=False, tolerance=rounded(1e-11))
    assert_close(
        unbalanced_sinkhorn_divergence(mu, nu, relative),
        unbalanced_sinkhorn_divergence(mu, nu, absolute),
    )


@pytest.mark.float64
def test_gradients_match_finite_differences(rng):
    mu, nu = pair(rng)
    points, weights = jnp.asarray(rng.normal(size=(8, 2))), jnp.asarray(rng.normal(size=8)) / 9

    def along(t):
        moved = mf.Measure(mu.points + t * points, mu.weights + t * weights)
        return unbalanced_sinkhorn_divergence(moved, nu, SOLVER)

    assert_close(jax.grad(along)(0.0), (along(1e-5) - along(-1e-5)) / 2e-5, rtol=1e-6)


def test_absent_atoms_change_nothing(rng):
    mu, nu = pair(rng)
    few = mf.Measure(mu.points, mu.weights.at[5:].set(0.0))
    odd = mf.Measure(few.points.at[5:].set(jnp.nan), few.weights)
    expected = unbalanced_sinkhorn_divergence(few, nu, SOLVER)
    assert_close(unbalanced_sinkhorn_divergence(odd, nu, SOLVER), expected)


def test_sides_that_differ_and_tables_of_costs_are_refused(rng):
    mu, nu = pair(rng)
    with pytest.raises(ValueError, match="one rho and one divergence for both sides"):
        unbalanced_sinkhorn_divergence(mu, nu, Unbalanced((1.0, 2.0)))
    sides = KullbackLeibler(), TotalVariation()
    with pytest.raises(ValueError, match="one rho and one divergence for both sides"):
        unbalanced_sinkhorn_divergence(mu, nu, Unbalanced(1.0, sides))
    with pytest.raises(ValueError, match="`cost` must be a function of two points"):
        unbalanced_sinkhorn_divergence(mu, nu, SOLVER, np.zeros((8, 8)))
