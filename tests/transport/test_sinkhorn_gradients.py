"""Derivatives of entropic transport against finite differences, first and second, in everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import rounded
from transport_problems import assert_close, random_pair

import meanfield as mf


pytestmark = pytest.mark.slow
STEP = 1e-5  # central differences in float64: errors about STEP^2 and 1e-13 / STEP, under 1e-8
N, M, D = 12, 9, 3


def solution(x, a, y, b, epsilon, cost=mf.PowerCost(2)):
    solver = mf.Sinkhorn(epsilon, tolerance=rounded(1e-13))
    return mf.optimal_transport(mf.Measure(x, a), mf.Measure(y, b), cost, solver)


@jax.jit
def value(x, a, y, b, epsilon):
    return solution(x, a, y, b, epsilon).value


slopes = jax.jit(jax.grad(value, argnums=(0, 1, 2, 3, 4)))


@pytest.fixture
def point(rng):
    """Points and weights of both measures, one atom of the first absent, and epsilon."""
    mu, nu = random_pair(rng, N, M, D)
    a = mu.weights.at[-1].set(0.0)
    return mu.points, a / jnp.sum(a), nu.points, nu.weights, jnp.asarray(0.1)


@pytest.fixture
def direction(rng):
    """A direction that keeps masses, and atoms absent."""
    da, db = rng.normal(size=N - 1), rng.normal(size=M)
    da, db = np.append(da - da.mean(), 0.0), db - db.mean()
    moves = rng.normal(size=(N, D)), da / 20, rng.normal(size=(M, D)), db / 20, 0.01
    return tuple(jnp.asarray(move) for move in moves)


def along(function, point, direction):
    """The central difference of a function along a direction."""
    ahead, behind = (
        function(*(at + sign * STEP * move for at, move in zip(point, direction, strict=True)))
        for sign in (1, -1)
    )
    return jax.tree.map(lambda one, two: (one - two) / (2 * STEP), ahead, behind)


def only(direction, k):
    return tuple(move if i == k else 0 * move for i, move in enumerate(direction))


@pytest.mark.float64
def test_the_gradient_matches_finite_differences_in_each_argument(point, direction):
    gradient = slopes(*point)
    for k, move in enumerate(direction):
        expected = along(value, point, only(direction, k))
        assert_close(jnp.vdot(gradient[k], move), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.float64
def test_second_derivatives_match_finite_differences_in_each_argument(point, direction):
    turned = jax.jit(lambda *move: jax.jvp(slopes, point, move)[1])
    for k in range(5):
        found = turned(*only(direction, k))
        expected = along(slopes, point, only(direction, k))
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.float64
def test_second_derivatives_are_symmetric_and_agree_in_reverse_mode(point, direction):
    def slope(*at):
        return sum(jnp.vdot(*pair) for pair in zip(slopes(*at), direction, strict=True))

    reverse = jax.jit(jax.grad(slope, argnums=(0, 1, 2, 3, 4)))(*point)
    forward = jax.jit(lambda *move: jax.jvp(slopes, point, move)[1])(*direction)
    for one, other in zip(reverse, forward, strict=True):
        assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.float64
def test_potentials_and_coupling_have_implicit_derivatives(point, direction):
    def found(*at):
        sol = solution(*at)
        return *sol.potentials, sol.coupling.matrix

    _, rates = jax.jit(lambda *move: jax.jvp(found, point, move))(*direction)
    for one, other in zip(rates, along(jax.jit(found), point, direction), strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.float64
def test_the_barycentric_map_differentiates_backwards(point, direction):
    def total(*at):
        return jnp.sum(jnp.sin(solution(*at).coupling.barycentric(at[2])))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3, 4)))(*point)
    slope = sum(jnp.vdot(*pair) for pair in zip(gradient, direction, strict=True))
    assert_close(slope, along(jax.jit(total), point, direction), rtol=1e-6)


def test_the_gradient_in_the_cost_is_the_coupling(point):
    x, a, y, b, _ = point
    costs = mf.PowerCost(2).matrix(x, y)

    def of_costs(costs):
        solver = mf.Sinkhorn(0.5, relative=False, tolerance=rounded(1e-13))
        return mf.optimal_transport(mf.Measure(x, a), mf.Measure(y, b), costs, solver)

    gradient = jax.grad(lambda costs: of_costs(costs).value)(costs)
    assert_close(gradient, of_costs(costs).coupling.matrix, rtol=1e-8)


def test_a_first_derivative_solves_no_linear_system(point):
    def primitives(function):
        return str(jax.make_jaxpr(function)(*point))

    assert "linear_solve" not in primitives(jax.grad(value, argnums=(0, 1)))
    assert "linear_solve" in primitives(jax.grad(lambda *at: solution(*at).potentials[0][0]))


def test_the_gradient_in_weights_is_centred(point):
    x, a, y, b, epsilon = point
    gradient = slopes(*point)
    assert_close(gradient[1] @ a, gradient[3] @ b)
    assert_close(gradient[1] @ a + gradient[3] @ b, value(*point))


@pytest.mark.parametrize("p", [1, 2])
def test_derivatives_are_finite_at_coincident_points_and_absent_atoms(point, direction, p):
    x, a, y, b, epsilon = point
    x = x.at[:M].set(y).at[-1].set(jnp.nan)

    @jax.jit
    @jax.grad
    def slope(at):
        return solution(at["x"], at["a"], at["y"], b, epsilon, mf.PowerCost(p)).value

    at = {"x": x, "a": a, "y": y}
    move = dict(zip("xay", direction, strict=False))
    first, second = jax.jit(lambda move: jax.jvp(slope, (at,), (move,)))(move)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((first, second)))
    assert jnp.all(first["x"][-1] == 0)


def test_gradients_on_padded_measures_are_the_same(point):
    x, a, y, b, epsilon = point
    gradient = slopes(*point)
    more = jnp.pad(x, ((0, 3), (0, 0))).at[-1].set(jnp.nan), jnp.pad(a, (0, 3))
    padded = slopes(*more, y, b, epsilon)
    assert_close(padded[0][:N], gradient[0], rtol=1e-8)
    assert_close(padded[1][:N], gradient[1], rtol=1e-8)
    assert jnp.all(padded[0][N:] == 0)
    assert jnp.all(jnp.isfinite(padded[1]))


def test_derivatives_work_under_vmap(point, direction):
    def slope(scale):
        x, *rest = point
        return jax.grad(lambda x: value(x, *rest))(scale * x)

    scales = jnp.array([0.5, 1.0, 2.0])
    one = jax.jit(lambda scale: jax.jvp(slope, (scale,), (jnp.ones(()),)))
    together = jax.jit(jax.vmap(lambda scale: jax.jvp(slope, (scale,), (jnp.ones(()),))))(scales)
    for k, scale in enumerate(scales):
        for found, expected in zip(together, one(scale), strict=True):
            assert_close(found[k], expected, rtol=1e-8)
