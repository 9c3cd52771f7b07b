"""The Sinkhorn divergence: zero between equal measures, positive between others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import rounded
from transport_problems import assert_close, random_pair

import meanfield as mf
from meanfield.transport import sinkhorn_divergence


pytestmark = pytest.mark.slow
SOLVER = mf.Sinkhorn(0.5, tolerance=rounded(1e-10))


def test_equal_measures_are_at_divergence_zero_with_zero_gradient(rng):
    mu, _ = random_pair(rng, 12, 9, absent=1)
    value, gradient = jax.value_and_grad(sinkhorn_divergence)(mu, mu, solver=SOLVER)
    assert_close(value, 0.0, atol=1e-12)
    assert_close(gradient.points, jnp.zeros_like(mu.points), atol=1e-9)
    turned = mf.Measure(mu.points[::-1], mu.weights[::-1])
    assert_close(sinkhorn_divergence(mu, turned, solver=SOLVER), 0.0, atol=1e-10)


@pytest.mark.parametrize("p", [1, 2])
def test_different_measures_are_apart_the_same_from_both_sides(rng, p):
    for _ in range(4):
        mu, nu = random_pair(rng, 12, 9, absent=1)
        there, back = (
            sinkhorn_divergence(*pair, mf.PowerCost(p), SOLVER) for pair in ((mu, nu), (nu, mu))
        )
        assert there > 1e-3
        assert_close(there, back, rtol=1e-8)


def test_a_translation_by_v_is_at_the_square_of_its_length(rng):
    mu, _ = random_pair(rng, 12, 9)
    moved = mu.with_points(mu.points + jnp.array([3.0, 0.0, 4.0]))
    assert_close(sinkhorn_divergence(mu, moved, solver=SOLVER), 25.0, rtol=1e-8)


@pytest.mark.float64
def test_its_gradient_matches_finite_differences(rng):
    mu, nu = random_pair(rng, 12, 9)
    direction = rng.normal(size=(12, 3))

    @jax.jit
    def at(step):
        return sinkhorn_divergence(mu.with_points(mu.points + step * direction), nu, solver=SOLVER)

    slope = jax.jit(jax.grad(at))(0.0)
    assert_close(slope, (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-7)


def test_a_matrix_a_start_and_different_masses_are_refused(rng):
    mu, nu = random_pair(rng, 12, 9)
    with pytest.raises(ValueError, match="cost"):
        sinkhorn_divergence(mu, nu, np.ones((12, 9)))
    with pytest.raises(ValueError, match="start"):
        sinkhorn_divergence(mu, nu, solver=mf.Sinkhorn(start=(mu.weights, nu.weights)))
    with pytest.raises(ValueError, match="mass"):
        sinkhorn_divergence(mu, mf.Measure(nu.points, 2 * nu.weights))
