"""Derivatives of transport values: finite differences, coincident points, absent atoms."""

import jax
import jax.numpy as jnp
import pytest
from transport_problems import assert_close, cases, dimensions, random_pair

import meanfield as mf
from meanfield.transport import PowerCost


STEP = 1e-6  # central differences in float64: error about STEP^2 + 1e-16 / STEP, under 1e-9


def moved(mu, step, points=None, weights=None):
    """The measure with its points or its weights moved along a direction."""
    return mf.Measure(
        mu.points if points is None else mu.points + step * points,
        mu.weights if weights is None else mu.weights + step * weights,
    )


def central_difference(f):
    return (f(STEP) - f(-STEP)) / (2 * STEP)


@pytest.mark.float64
@cases
def test_gradients_match_finite_differences(rng, p, d):
    pair = random_pair(rng, d=d, absent=2)
    slopes = jax.grad(mf.wasserstein, argnums=(0, 1))(*pair, p)
    directions = rng.normal(size=(8, d)), rng.normal(size=(6,))
    points, weights = directions[0], jnp.pad(directions[1] - directions[1].mean(), (0, 2))

    def along(step, side, **direction):
        measures = list(pair)
        measures[side] = moved(pair[side], step, **direction)
        return mf.wasserstein(*measures, p)

    for side in (0, 1):
        by_points = central_difference(lambda t, side=side: along(t, side, points=points))
        assert_close(jnp.vdot(slopes[side].points, points), by_points, rtol=1e-6)
        by_weights = central_difference(lambda t, side=side: along(t, side, weights=weights))
        assert_close(jnp.vdot(slopes[side].weights, weights), by_weights, rtol=1e-6)


@pytest.mark.slow
def test_forward_mode_agrees_with_reverse_mode(rng):
    mu, nu = random_pair(rng)
    reverse = jax.grad(mf.wasserstein)(mu, nu)
    direction, _ = random_pair(rng)
    _, forward = jax.jvp(lambda one: mf.wasserstein(one, nu), (mu,), (direction,))
    pairs = zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)
    assert_close(forward, sum(jnp.vdot(*pair) for pair in pairs))


@pytest.mark.slow
@dimensions
def test_the_slope_when_both_masses_grow_is_the_value_over_the_mass(rng, d):
    mu, nu = random_pair(rng, d=d)
    value, (one, other) = jax.value_and_grad(mf.wasserstein, argnums=(0, 1))(mu, nu, 1)
    assert_close(one.weights @ mu.weights + other.weights @ nu.weights, value)


@pytest.mark.float64
@pytest.mark.slow
@dimensions
def test_the_slope_of_mass_put_on_an_absent_atom(rng, d):
    mu, nu = random_pair(rng, d=d, absent=1)
    direction = jnp.zeros(mu.size).at[-1].set(1.0).at[0].set(-1.0)
    slopes = jax.grad(mf.wasserstein)(mu, nu, 1)
    ends = [mf.wasserstein(moved(mu, step, weights=direction), nu, 1) for step in (0, STEP)]
    # W_1 is piecewise linear in the weights: a one-sided difference has no error of second order.
    assert_close(slopes.weights @ direction, (ends[1] - ends[0]) / STEP, rtol=1e-6)


@pytest.mark.slow
@cases
def test_gradients_are_finite_at_coincident_points(rng, p, d):
    z = rng.normal(size=(8, d))
    x, y = (
        mf.Measure(z[jnp.array(index)]) for index in ([0, 1, 2, 3] * 2, [0, 0, 1, 4, 5, 6, 7, 7])
    )
    for one, other in ((x, y), (y, x), (x, x), (y, y)):
        value, slopes = jax.value_and_grad(mf.wasserstein)(one, other, p)
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
        assert (value > 0) == (one is not other)
        assert value > 0 or jnp.all(slopes.points == 0)


@pytest.mark.slow
@cases
def test_gradients_on_padded_measures_are_finite_and_the_same(rng, p, d):
    mu, nu = random_pair(rng, d=d)
    slopes = jax.grad(mf.wasserstein)(mu, nu, p)
    padded = jax.grad(mf.wasserstein)(mu.pad(10), nu.pad(11), p)
    assert_close(padded.points[:8], slopes.points)
    assert_close(padded.weights[:8], slopes.weights)
    assert jnp.all(padded.points[8:] == 0)
    assert jnp.all(jnp.isfinite(padded.weights))


@pytest.mark.slow
@dimensions
def test_gradients_work_under_jit_and_vmap(rng, d):
    pairs = [random_pair(rng, d=d) for _ in range(3)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    batched = jax.jit(jax.vmap(jax.grad(mf.wasserstein)))(mus, nus)
    for i, pair in enumerate(pairs):
        one = jax.grad(mf.wasserstein)(*pair)
        assert_close(batched.points[i], one.points)
        assert_close(batched.weights[i], one.weights)


@pytest.mark.float64
@pytest.mark.slow
@pytest.mark.parametrize("p, d", [(2, 3), (3, 1)])
def test_second_derivatives_in_the_points_match_finite_differences(rng, p, d):
    mu, nu = random_pair(rng, d=d)
    direction = rng.normal(size=mu.points.shape)

    @jax.jit
    def slope(x):
        return jax.grad(lambda y: mf.wasserstein(mf.Measure(y, mu.weights), nu, p))(x)

    second = jax.jvp(slope, (mu.points,), (direction,))[1]
    expected = central_difference(lambda t: slope(mu.points + t * direction))
    assert_close(second, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_second_derivatives_that_do_not_exist_raise(rng):
    mu, nu = random_pair(rng)

    def slope(w):
        return jax.grad(lambda x: mf.wasserstein(mf.Measure(x, w), nu))(mu.points)

    with pytest.raises(NotImplementedError, match="mix points and weights"):
        jax.jacfwd(slope)(mu.weights)


@pytest.mark.slow
@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_the_gradient_of_a_power_cost_at_coincident_points_is_zero(p):
    x = jnp.array([1.0, -2.0])
    assert jnp.all(jax.grad(PowerCost(p))(x, x) == 0)
