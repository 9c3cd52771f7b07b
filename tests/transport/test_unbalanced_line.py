"""Unbalanced transport on the line: the gap, oracles, laws, derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.optimize
from precision import rounded
from transport_problems import assert_close, random_measure

import meanfield as mf
from meanfield.measure import RESULTS
from meanfield.transport import PowerCost, UnbalancedLine


pytestmark = pytest.mark.slow


def pair(rng, absent=0):
    mu, nu = random_measure(rng, 8, 1, absent), random_measure(rng, 8, 1, absent)
    return mu, mf.Measure(nu.points, 1.4 * nu.weights)


def solve(mu, nu, rho=100.0, p=2, **settings):
    settings = {"tolerance": rounded(1e-10)} | settings
    return mf.optimal_transport(mu, nu, PowerCost(p), UnbalancedLine(rho, **settings))


@pytest.mark.parametrize("rho", [10.0, 100.0])
def test_the_gap_is_closed_by_a_plan_that_is_feasible(rng, rho):
    mu, nu = pair(rng, absent=2)
    sol = solve(mu, nu, rho)
    assert sol.result == RESULTS.successful
    assert -rounded(1e-14) <= sol.gap <= rounded(1e-10) * sol.primal
    f, g = sol.potentials
    slack = PowerCost(2).matrix(mu.points, nu.points) - f[:, None] - g[None, :]
    assert jnp.min(slack) >= -rounded(1e-12)
    # the objective and its dual, from their definitions
    P = np.asarray(sol.coupling.matrix)

    def paid(moved, w):
        moved, w = moved[w > 0], w[w > 0]
        return rho * np.sum(moved * np.log(moved / w) - moved + w)

    a, b = np.asarray(mu.weights), np.asarray(nu.weights)
    carried = np.sum(P * np.asarray(PowerCost(2).matrix(mu.points, nu.points)))
    assert_close(sol.primal, carried + paid(P.sum(1), a) + paid(P.sum(0), b))
    assert_close(sol.dual, rho * (a @ (1 - np.exp(-f / rho)) + b @ (1 - np.exp(-g / rho))))


@pytest.mark.parametrize("p, rho", [(1, 5.0), (2, 2.0), (2, 0.5)])
def test_agrees_with_a_general_solver(rng, p, rho):
    mu, nu = pair(rng)
    a, b = np.asarray(mu.weights), np.asarray(nu.weights)
    costs = np.asarray(PowerCost(p).matrix(mu.points, nu.points))

    def objective(z):
        P = z.reshape(8, 8)
        value, slopes = np.sum(P * costs), costs.copy()
        for moved, w, shape in ((P.sum(1), a, (8, 1)), (P.sum(0), b, (1, 8))):
            logs = np.log(moved / w)
            value += rho * np.sum(moved * logs - moved + w)
            slopes += rho * logs.reshape(shape)
        return value, slopes.ravel()

    best = scipy.optimize.minimize(
        objective,
        np.outer(a, b).ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-14, None)] * 64,
        options={"maxiter": 10_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-10},
    ).fun
    sol = solve(mu, nu, rho, p, tolerance=1e-4)
    assert sol.dual <= best * (1 + rounded(1e-9))
    assert best <= sol.primal * (1 + 1e-5)
    assert_close(sol.value, best, rtol=1e-4)


def test_agrees_with_pot(rng):
    mu, nu = pair(rng)
    arrays = mu.points, nu.points, 100.0, mu.weights, nu.weights
    *_, expected = ot.unbalanced.uot_1d(*arrays, p=2, numItermax=50, returnCost="total")
    assert_close(solve(mu, nu).value, expected[0], rtol=1e-6)


@pytest.mark.float64
def test_the_entropic_value_comes_down_to_it(rng):
    mu, nu = pair(rng)
    exact = solve(mu, nu)
    method = mf.Unbalanced(100.0, epsilon=1e-2, relative=False, tolerance=1e-6, max_steps=50_000)
    sol = mf.optimal_transport(mu, nu, PowerCost(2), method)
    costs = PowerCost(2).matrix(mu.points, nu.points)
    assert_close(jnp.sum(sol.coupling.matrix * costs), jnp.sum(exact.coupling.matrix * costs), 0.02)


def test_equal_masses_at_a_large_rho_are_balanced_transport(rng):
    mu, nu = random_measure(rng, 8, 1), random_measure(rng, 8, 1)
    assert_close(solve(mu, nu, 1e7).value, mf.wasserstein(mu, nu) ** 2, rtol=1e-6)
    half = solve(mu, nu, (np.inf, 100.0))
    assert half.marginal_error <= rounded(1e-12)
    assert_close(half.coupling.marginals[0], mu.weights)
    assert half.value > solve(mu, nu).value


def test_padding_permuting_and_splitting_change_nothing(rng):
    mu, nu = pair(rng)
    few = mf.Measure(mu.points[:5], mu.weights[:5])
    expected = solve(few.pad(8), nu)
    written = few.split(2, jnp.array([0.2, 0.8])).pad(8)
    junk = jnp.where(written.present[:, None], written.points, jnp.nan)
    order = rng.permutation(8)
    same = solve(mf.Measure(junk[order], written.weights[order]), nu)
    assert_close(same.value, expected.value, rtol=1e-9)


@pytest.mark.float64
def test_gradients_match_finite_differences(rng):
    mu, nu = pair(rng)
    points, weights = jnp.asarray(rng.normal(size=(8, 1))), jnp.asarray(rng.normal(size=8)) / 9

    def along(t):
        moved = mf.Measure(mu.points + t * points, mu.weights + t * weights)
        return solve(moved, nu, tolerance=rounded(1e-13)).value

    assert_close(jax.grad(along)(0.0), (along(1e-5) - along(-1e-5)) / 2e-5, rtol=1e-5)
    odd = mf.Measure(mu.points.at[-1].set(jnp.nan), mu.weights.at[-1].set(0.0))
    slopes = jax.grad(lambda m: solve(m, nu).value)(odd)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))


def test_works_under_jit_and_vmap_and_in_float32(rng):
    pairs = [pair(rng, absent=k) for k in (0, 2)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    batched = jax.jit(jax.vmap(lambda mu, nu: solve(mu, nu).value))(mus, nus)
    assert_close(batched, jnp.stack([solve(*each).value for each in pairs]))
    single = [jax.tree.map(lambda leaf: leaf.astype("float32"), m) for m in pairs[0]]
    sol = solve(*single, tolerance=1e-5)
    assert sol.value.dtype == jnp.float32
    assert_close(sol.value, batched[0], rtol=3e-5)


def test_failures_are_reported(rng):
    mu, nu = pair(rng)
    few = UnbalancedLine(0.1, max_steps=1)
    sol = mf.optimal_transport(mu, nu, solver=few, throw=False)
    assert sol.result == RESULTS.gap_not_closed
    assert jnp.isnan(sol.value)
    assert sol.gap > 0
    with pytest.raises(eqx.EquinoxRuntimeError, match="duality gap"):
        mf.optimal_transport(mu, nu, solver=few)
    plane = random_measure(rng, 8, 2)
    with pytest.raises(ValueError, match=r"needs points of shape \(n, 1\)"):
        mf.optimal_transport(plane, plane, solver=UnbalancedLine(1.0))
    with pytest.raises(ValueError, match="`rho` must be positive"):
        UnbalancedLine(0.0)
