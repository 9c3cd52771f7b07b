"""A Newton step after Sinkhorn's iterations squares the marginal error, and that of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transport_problems import assert_close, random_pair

import meanfield as mf
from meanfield.implicit import Newton, Preconditioned, Unrefined


pytestmark = pytest.mark.slow
LOOSE = (1e-2, 1e-3, 1e-4)


@pytest.fixture
def pair(rng):
    return random_pair(rng, 12, 9, absent=1)


def solution(x, mu, nu, tolerance, refinement, **settings):
    solver = mf.Sinkhorn(0.05, tolerance=tolerance, refinement=refinement, **settings)
    return mf.optimal_transport(mf.Measure(x, mu.weights), nu, solver=solver, throw=False)


@jax.jit
def gradients(mu, nu, tolerance, refinement):
    """The derivatives of the value, and of a function of the coupling, and the marginal error."""

    def value(x):
        return solution(x, mu, nu, tolerance, refinement).value

    def carried(x):
        coupling = solution(x, mu, nu, tolerance, refinement).coupling
        return jnp.sum(jnp.sin(coupling.apply(nu.points)))

    error = solution(mu.points, mu, nu, tolerance, refinement).marginal_error
    return jax.grad(value)(mu.points), jax.grad(carried)(mu.points), error


@pytest.mark.float64
def test_the_errors_of_gradients_are_of_second_order(pair):
    exact = gradients(*pair, 1e-13, Unrefined())

    def errors(refinement):
        found = [gradients(*pair, tolerance, refinement) for tolerance in LOOSE]
        return np.array(
            [
                [jnp.linalg.norm(one - other) for one, other in zip(g, exact, strict=True)]
                for g in found
            ]
        )

    first, second = errors(Unrefined()), errors(Newton())
    slopes = np.log(second[0] / second[-1]) / np.log(first[0] / first[-1])
    assert np.all(slopes > 1.75) and np.all(slopes < 2.3)
    assert np.all(second[1] < 0.02 * first[1])


@pytest.mark.float64
def test_the_marginal_error_is_that_of_the_refined_potentials_and_the_dual_stays_below(pair):
    mu, nu = pair
    best = solution(mu.points, mu, nu, 1e-13, Unrefined()).value
    for tolerance in LOOSE:
        plain, refined = (
            solution(mu.points, mu, nu, tolerance, choice) for choice in (Unrefined(), Newton())
        )
        assert refined.marginal_error < 0.1 * plain.marginal_error
        received = refined.coupling.marginals[1]
        assert_close(refined.marginal_error, jnp.sum(jnp.abs(received - nu.weights)), atol=1e-12)
        assert plain.dual <= refined.dual <= best * (1 + 1e-12)


def test_a_step_that_does_not_help_is_not_taken(pair):
    mu, nu = pair
    away = Preconditioned(lambda z, residual: 100 * residual)
    plain, kept = (solution(mu.points, mu, nu, 1e-3, choice) for choice in (Unrefined(), away))
    np.testing.assert_array_equal(plain.potentials[1], kept.potentials[1])
    broken = Preconditioned(lambda z, residual: jnp.nan * residual)
    assert solution(mu.points, mu, nu, 1e-3, broken).marginal_error == plain.marginal_error


def test_padding_and_order_change_nothing(pair):
    mu, nu = pair
    expected = solution(mu.points, mu, nu, 1e-3, Newton())
    order = jnp.array([3, 1, 4, 0, 5, 2, 8, 7, 6])
    moved = mf.Measure(nu.points[order], nu.weights[order]).pad(12)
    found = solution(mu.points, mu, moved, 1e-3, Newton())
    assert_close(found.value, expected.value, rtol=1e-12)
    assert_close(found.potentials[1][:9], expected.potentials[1][order], atol=1e-10)


def test_float32_and_vmap_are_taken(pair):
    mu, nu = (mf.Measure(m.points.astype(jnp.float32), m.weights) for m in pair)
    points = jnp.stack([mu.points, 2 * mu.points])
    together = jax.vmap(lambda x: solution(x, mu, nu, 1e-2, Newton()).value)(points)
    assert together.dtype == jnp.float32
    alone = solution(mu.points, mu, nu, 1e-5, Unrefined()).value
    assert_close(together[0], alone, rtol=1e-5)
