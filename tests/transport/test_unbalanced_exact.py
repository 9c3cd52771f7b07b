"""Exact unbalanced transport: the certified gap, oracles, laws, derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from precision import rounded
from transport_problems import assert_close, random_measure

import meanfield as mf
from meanfield.measure import RESULTS
from meanfield.transport import PowerCost, UnbalancedExact, UnbalancedLine


pytestmark = pytest.mark.slow


def pair(rng, absent=0, d=3):
    mu, nu = random_measure(rng, 8, d, absent), random_measure(rng, 8, d, absent)
    return mu, mf.Measure(nu.points, 1.4 * nu.weights)


def solve(mu, nu, rho=1.0, cost=PowerCost(2), **settings):
    return mf.optimal_transport(mu, nu, cost, UnbalancedExact(rho, **settings))


@pytest.mark.parametrize("rho", [0.01, 1.0, 100.0, 1e6, (0.3, 20.0)])
def test_the_gap_is_closed_by_feasible_couplings_and_potentials(rng, rho):
    mu, nu = pair(rng, absent=2)
    sol = solve(mu, nu, rho)
    assert sol.result == RESULTS.successful
    f, g = (np.asarray(potential) for potential in sol.potentials)
    costs = np.asarray(PowerCost(2).matrix(mu.points, nu.points))
    present = (mu.weights > 0)[:, None] & (nu.weights > 0)
    assert np.min((costs - f[:, None] - g)[present]) >= -rounded(0.0)
    # the objective and its dual, from their definitions
    P = np.asarray(sol.coupling.matrix)
    rhos = rho if isinstance(rho, tuple) else (rho, rho)
    primal, dual = np.sum(P * costs), 0.0
    for moved, m, potential, r in zip((P.sum(1), P.sum(0)), (mu, nu), (f, g), rhos, strict=True):
        seen, w = np.asarray(m.present), np.asarray(m.weights)
        moved, w, potential = moved[seen], w[seen], potential[seen]
        primal += r * np.sum(moved * np.log(moved / w) - moved + w)
        dual -= r * w @ np.expm1(-potential / r)
    assert_close(sol.primal, primal)
    assert_close(sol.dual, dual)
    assert -rounded(1e-13) * primal <= sol.gap <= rounded(1e-10) * primal
    assert jnp.all(sol.coupling.matrix[~present] == 0)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_is_zero_between_equal_measures_and_scales_with_the_cost(rng, scale):
    mu, nu = pair(rng)
    far, further = (mf.Measure(scale * m.points, m.weights) for m in (mu, nu))
    assert_close(solve(far, further, scale**2).value / scale**2, solve(mu, nu).value, rtol=1e-9)
    assert 0 <= solve(far, far, scale**2).value / scale**2 + 1e-12 <= 2e-12
    one = mf.Measure(jnp.zeros((8, 3)), mu.weights)
    assert abs(solve(one, one).value) <= 1e-12


def test_agrees_with_pot(rng):
    mu, nu = pair(rng)
    arrays = np.asarray(mu.weights), np.asarray(nu.weights)
    costs = ot.dist(np.asarray(mu.points), np.asarray(nu.points))
    P = ot.unbalanced.mm_unbalanced(*arrays, costs, 2.0, numItermax=200_000, stopThr=1e-12)
    assert_close(solve(mu, nu, 2.0).coupling.matrix, P, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_agrees_with_frank_wolfe_on_the_line(rng, p):
    mu, nu = pair(rng, d=1)
    for rho in (0.3, 2.0, 30.0):
        exact = solve(mu, nu, rho, PowerCost(p))
        line = UnbalancedLine(rho)
        sol = mf.optimal_transport(mu, nu, PowerCost(p), line, throw=False)
        rounding = rounded(1e-9) * exact.value
        assert sol.dual - rounding <= exact.value <= sol.primal + rounding


def test_the_entropic_problem_comes_down_to_it(rng):
    mu, nu = pair(rng)
    exact = solve(mu, nu)
    method = mf.Unbalanced(1.0, epsilon=1e-3, relative=False, max_steps=50_000)
    sol = mf.optimal_transport(mu, nu, solver=method)
    assert_close(sol.coupling.matrix, exact.coupling.matrix, rtol=0.02, atol=1e-3)


def test_a_large_or_infinite_rho_is_balanced(rng):
    mu, nu = random_measure(rng, 8, 3), random_measure(rng, 8, 3)
    balanced = mf.optimal_transport(mu, nu)
    assert_close(solve(mu, nu, 1e7).value, balanced.value, rtol=1e-6)
    half = solve(mu, nu, (np.inf, 2.0))
    assert half.marginal_error <= rounded(1e-10)
    assert_close(half.coupling.marginals[0], mu.weights, rtol=1e-9)
    assert solve(mu, nu, 2.0).value < half.value < balanced.value
    assert abs(half.gap) <= rounded(1e-10) * half.value


def test_padding_permuting_and_splitting_change_nothing(rng):
    mu, nu = pair(rng)
    few = mf.Measure(mu.points[:5], mu.weights[:5])
    expected = solve(few.pad(8), nu)
    written = few.split(2, jnp.array([0.2, 0.8])).pad(8)
    junk = jnp.where(written.present[:, None], written.points, jnp.nan)
    order = rng.permutation(8)
    same = solve(mf.Measure(junk[order], written.weights[order]), nu)
    assert_close(same.value, expected.value, rtol=1e-9)
    slopes = jax.grad(lambda m: solve(m, nu).value)(mf.Measure(junk, written.weights))
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))


@pytest.mark.float64
@pytest.mark.parametrize("rho", [1.0, 30.0])
def test_gradients_match_finite_differences_at_absent_atoms_too(rng, rho):
    mu, nu = pair(rng, absent=2)
    ways = [mf.Measure(rng.normal(size=(8, 3)), rng.uniform(0.5, 1, size=8)) for _ in range(2)]

    def value(one, other):
        return solve(one, other, rho, tolerance=rounded(1e-13)).value

    def moved(t, pick):
        return [
            mf.Measure(m.points + t * way.points, m.weights + t * pick * way.weights)
            for m, way in zip((mu, nu), ways, strict=True)
        ]

    slopes = jax.grad(value, argnums=(0, 1))(mu, nu)
    by_points = sum(jnp.vdot(s.points, w.points) for s, w in zip(slopes, ways, strict=True))
    by_weights = sum(jnp.vdot(s.weights, w.weights) for s, w in zip(slopes, ways, strict=True))
    ends = [value(*moved(t, 0.0)) for t in (-1e-5, 1e-5)]
    assert_close(by_points, (ends[1] - ends[0]) / 2e-5, rtol=1e-6)
    # one-sided in the weights, so that none becomes negative
    t = 1e-5
    ends = [float(value(*moved(k * t, 1.0))) for k in range(3)]
    assert_close(by_points + by_weights, (-3 * ends[0] + 4 * ends[1] - ends[2]) / (2 * t), 1e-5)


def test_works_under_jit_and_vmap_and_in_float32(rng):
    pairs = [pair(rng, absent=k) for k in (0, 2)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    batched = jax.jit(jax.vmap(lambda mu, nu: solve(mu, nu).value))(mus, nus)
    assert_close(batched, jnp.stack([solve(*each).value for each in pairs]))
    single = [jax.tree.map(lambda leaf: leaf.astype("float32"), m) for m in pairs[0]]
    value = solve(*single).value
    assert value.dtype == jnp.float32
    assert_close(value, batched[0], rtol=1e-5)


def test_an_empty_side_pays_for_what_is_lost(rng):
    mu, _ = pair(rng)
    empty = mf.Measure(mu.points, 0 * mu.weights)
    sol = solve(mu, empty, 3.0)
    assert_close(sol.value, 3.0 * mu.mass)
    assert sol.coupling.mass == 0
    assert solve(empty, empty).value == 0


def test_failures_are_reported(rng):
    mu, nu = pair(rng)
    few = mf.optimal_transport(mu, nu, solver=UnbalancedExact(1.0, max_steps=2), throw=False)
    assert few.result == RESULTS.gap_not_closed
    assert jnp.isnan(few.value)
    assert few.dual <= solve(mu, nu).value <= few.primal
    broken = mf.Measure(nu.points.at[2].set(jnp.nan), nu.weights)
    with pytest.raises(eqx.EquinoxRuntimeError, match="not finite"):
        solve(mu, broken)
    with pytest.raises(ValueError, match="use Exact"):
        UnbalancedExact(np.inf)
    with pytest.raises(ValueError, match="`rho` must be positive"):
        UnbalancedExact(-1.0)
