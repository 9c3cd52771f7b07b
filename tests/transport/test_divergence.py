"""Entropy functions: conjugates, proximal maps and translations against general solvers."""

import jax.numpy as jnp
import numpy as np
import pytest
from precision import EPS
from transport_problems import assert_close

from meanfield.transport import KullbackLeibler, Range, TotalVariation
from meanfield.transport.divergence import Side
from meanfield.transport.translation import _by_bisection, translated


pytestmark = pytest.mark.slow
DIVERGENCES = [KullbackLeibler(), TotalVariation(), Range(0.6, 1.3), Range(0.0, 2.0)]
divergences = pytest.mark.parametrize("divergence", DIVERGENCES, ids=str)
RHO = jnp.array(0.7)


@divergences
def test_the_conjugate_is_a_supremum(divergence):
    slopes = jnp.array([-2.0, -0.5, 0.0, 0.3, 0.69])
    low, high = (float(end) for end in divergence.bounds(RHO))
    shares = jnp.linspace(low, min(high, 10.0), 20_001)
    penalties = divergence.penalty(shares, RHO)
    expected = jnp.max(slopes[:, None] * shares - penalties, axis=1)
    assert_close(divergence.conjugate(slopes, RHO), expected, rtol=1e-6, atol=1e-7)


@divergences
def test_the_best_share_attains_the_supremum(divergence):
    potentials = jnp.array([-0.6, -0.3, 0.2, 1.5])
    shares = divergence.share(potentials, RHO)
    attained = -potentials * shares - divergence.penalty(shares, RHO)
    assert_close(attained, divergence.conjugate(-potentials, RHO))


@divergences
@pytest.mark.parametrize("soft", [-3.0, -0.4, 0.01, 0.3, 5.0])
def test_the_proximal_map_is_the_best_potential(divergence, soft):
    epsilon = 0.2

    def loss(f):
        cost = divergence.conjugate(jnp.array([-f]), RHO)[0]
        return float(cost + epsilon * jnp.exp((f - soft) / epsilon))

    found = float(divergence.proximal(jnp.array([soft]), RHO, jnp.array(epsilon))[0])
    assert all(loss(found) <= loss(found + step) + 4 * EPS for step in (-1e-2, -1e-4, 1e-4, 1e-2))


def test_infinite_rho_asks_for_all_mass():
    infinite = jnp.array(jnp.inf)
    values = jnp.array([-1.5, 0.0, 2.0])
    for divergence in DIVERGENCES[:2]:
        assert_close(divergence.conjugate(values, infinite), values)
        assert_close(divergence.share(values, infinite), 1.0)
        assert_close(divergence.proximal(values, infinite, jnp.array(0.1)), values)
        assert_close(divergence.penalty(values**2, infinite), 0.0)
        assert [float(end) for end in divergence.bounds(infinite)] == [1.0, 1.0]


def random_state(rng):
    weights = jnp.asarray(rng.uniform(0.2, 1, size=5)), jnp.asarray(rng.uniform(0.2, 2, size=6))
    return weights, tuple(jnp.asarray(rng.uniform(-0.6, 0.6, size=w.size)) for w in weights)


def test_the_closed_translation_is_the_one_that_bisection_finds(rng):
    weights, potentials = random_state(rng)
    sides = Side(KullbackLeibler(), jnp.array(0.7)), Side(KullbackLeibler(), jnp.array(2.0))
    f, _ = translated(sides, weights, potentials)
    assert_close(f - potentials[0], _by_bisection(sides, weights, potentials))


@pytest.mark.parametrize("pair", [(1, 1), (2, 2), (0, 1), (2, 0), (1, 2)])
def test_translations_reach_the_largest_dual_value(rng, pair):
    weights, potentials = random_state(rng)
    first, second = (Side(DIVERGENCES[kind], RHO) for kind in pair)

    def dual(shift):
        left = jnp.sum(weights[0] * first.conjugate(-potentials[0] - shift))
        return float(left + jnp.sum(weights[1] * second.conjugate(-potentials[1] + shift)))

    f, g = translated((first, second), weights, potentials)
    found = float(f[0] - potentials[0][0])
    assert_close(g - potentials[1], -found)
    shifts = np.linspace(-5, 5, 4001)
    assert dual(found) <= min(dual(shift) for shift in shifts) + 1e-12


@pytest.mark.parametrize("low, high", [(-0.1, 1.0), (1.1, 0.9), (0.0, 0.0), (0.5, np.inf)])
def test_ranges_out_of_order_are_refused(low, high):
    with pytest.raises(ValueError, match="0 <= low <= high < inf"):
        Range(low, high)
