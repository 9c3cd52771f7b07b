"""Measures with a large local constant, refined by a search: tables, exactness, domain."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from precision import rounded
from random_maps import as_installed

import meanfield as mf
from meanfield.lipschitz import two_dirac_bound, worst_measure


pytestmark = pytest.mark.slow

BALL = mf.Ball(1.0)
TURN = jnp.array([[0.0, 1.0], [-1.0, 0.0]])


def attention(A):
    return mf.SelfAttention(A, jnp.eye(A.shape[0]))


@pytest.mark.parametrize(
    ("A", "recipe", "best", "upper"),
    [
        (-1 * jnp.eye(2), 2.90, 3.07, 4.84),
        (-3 * jnp.eye(2), 40.4, 48.1, 66.5),
        (-5 * jnp.eye(2), 445, 547, 762),
        (-8 * jnp.eye(2), 1.34e4, 1.68e4, 2.40e4),
        (16 * jnp.eye(2), 11.16, 20.4, None),
        (32 * jnp.eye(2), 136.5, 165.8, None),
        (8 * TURN, 175.7, None, None),
        (12 * TURN, 1864, None, None),
    ],
)
def test_the_search_reaches_the_best_pair_of_the_table(A, recipe, best, upper):
    found = worst_measure(attention(A), BALL)
    assert found.recipe == pytest.approx(recipe, rel=3e-3)
    assert found.value >= found.recipe
    if best is not None:
        assert found.value >= best * (1 - 2e-3)
    if upper is not None:
        assert found.value <= mf.lipschitz_bound(attention(A), BALL).value <= upper * (1 + 2e-3)


def test_its_value_is_the_exact_local_constant(key):
    for each in jr.split(key, 4):
        A, V = 2 * jr.normal(each, (2, 3, 3))
        f = mf.SelfAttention(A, V, a=V[0])
        found = worst_measure(f, BALL)
        local = mf.local_lipschitz(f, found.measure, key=each, upper=False, rtol=1e-6)
        assert found.value == pytest.approx(float(local.value), rel=rounded(1e-8))
        assert two_dirac_bound(f, BALL).value <= found.value <= mf.lipschitz_bound(f, BALL).value


def test_n_equal_atoms_grow_like_the_root_of_n_and_saturate():
    f, values = attention(-3 * jnp.eye(2)), {}
    for n in (20, 100, 400, 1000, 5000):
        found = worst_measure(f, BALL, n=n)
        values[n] = found.value
        assert found.measure.size == n and np.ptp(found.measure.weights) == 0
        assert two_dirac_bound(f, BALL, n=n).value <= found.value * (1 + 1e-9)
        assert found.value <= mf.lipschitz_bound(f, BALL, n=n).value
    assert values[100] / values[20] > math.sqrt(5) * 0.9  # still growing like a root
    assert values[5000] < 1.1 * values[1000]  # saturated past n = e^6


def test_n_tokens_have_the_constant_that_is_told(key):
    found = worst_measure(attention(-3 * jnp.eye(2)), BALL, n=20)
    local = mf.local_lipschitz(attention(-3 * jnp.eye(2)), found.measure, key=key, upper=False)
    assert found.value == pytest.approx(float(local.value), rel=1e-6)


@pytest.mark.parametrize(
    "domain",
    [mf.Sphere(2.0), mf.LayerNormRange(jnp.array([1.0, 2.0, 0.5]), jnp.ones(3))],
    ids=["sphere", "layer-norm"],
)
def test_the_search_stays_on_the_domain(domain, key):
    found = worst_measure(attention(jr.normal(key, (3, 3))), domain)
    assert jnp.all(domain.contains(found.measure.points))
    assert found.value >= found.recipe


def test_a_negative_number_of_steps_is_refused():
    with as_installed(), pytest.raises(ValueError, match="`steps` must be at least 0"):
        worst_measure(attention(jnp.eye(2)), BALL, steps=-1)


@pytest.mark.parametrize("steps", [0, 20])
def test_scores_without_a_direction_leave_the_atoms_on_the_sphere(steps):
    domain = mf.Sphere(3.0)
    found = mf.worst_measure(mf.SelfAttention(jnp.zeros((3, 3)), jnp.eye(3)), domain, steps=steps)
    assert bool(jnp.all(domain.contains(found.measure.points)))
