"""Entropic transport: POT and OTT as oracles, laws of measures, statuses."""

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from precision import rounded
from transport_problems import assert_close, random_measure, random_pair

import meanfield as mf
from meanfield.transport import FunctionCost, pairs as pairs_module


pytestmark = pytest.mark.slow
ACCURATE = mf.Sinkhorn(0.1, tolerance=rounded(1e-11))


def solve(mu, nu, cost=mf.PowerCost(2), solver=ACCURATE, **options):
    return mf.optimal_transport(mu, nu, cost, solver, **options)


def by_pot(mu, nu, p, epsilon):
    """POT's coupling and the steps it took."""
    costs = ot.dist(np.asarray(mu.points), np.asarray(nu.points), "euclidean") ** p
    weights = np.asarray(mu.weights), np.asarray(nu.weights)
    found, log = ot.sinkhorn(
        *weights, costs, epsilon, "sinkhorn_log", 20_000, 1e-12, log=True, warn=False
    )
    return costs, found, log["niter"]


def entropy(mu):
    weights = np.asarray(mu.weights)[np.asarray(mu.weights) > 0]
    return -weights @ np.log(weights)


@pytest.mark.parametrize("p, n, m, d", [(2, 200, 150, 32), (1, 12, 9, 3)])
def test_value_and_coupling_are_those_of_pot(rng, p, n, m, d):
    mu, nu = random_pair(rng, n, m, d)
    epsilon = 0.1 if p == 1 else 4.0
    solver = mf.Sinkhorn(epsilon, relative=False, tolerance=rounded(1e-11))
    sol = solve(mu, nu, mf.PowerCost(p), solver)
    costs, expected, _ = by_pot(mu, nu, p, epsilon)
    independent = np.outer(mu.weights, nu.weights)
    assert_close(sol.coupling.matrix, expected, rtol=1e-7)
    value = np.sum(expected * costs) + epsilon * np.sum(expected * np.log(expected / independent))
    assert_close(sol.value, value, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_value_is_that_of_ott(rng):
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    mu, nu = random_pair(rng, 12, 9)
    geometry = Geometry(mf.PowerCost(2).matrix(mu.points, nu.points), epsilon=0.5)
    theirs = Sinkhorn(threshold=rounded(1e-11), max_iterations=10_000)(
        LinearProblem(geometry, mu.weights, nu.weights)
    )
    ours = solve(mu, nu, solver=mf.Sinkhorn(0.5, relative=False, tolerance=rounded(1e-11)))
    assert_close(ours.value, theirs.reg_ot_cost, rtol=1e-8)


def test_the_value_exceeds_the_exact_one_by_at_most_epsilon_times_the_entropy(rng):
    mu, nu = random_pair(rng, 12, 9, absent=2)
    exact = mf.optimal_transport(mu, nu).value
    for epsilon in (0.1, 1.0):
        sol = solve(mu, nu, solver=mf.Sinkhorn(epsilon, relative=False, tolerance=rounded(1e-9)))
        assert exact < sol.value < exact + epsilon * min(entropy(mu), entropy(nu))


@pytest.mark.float64
def test_primal_and_dual_meet_and_marginals_are_met(rng):
    mu, nu = random_pair(rng, 12, 9, absent=2)
    sol = solve(mu, nu)
    assert_close(sol.gap, 0.0, atol=1e-9)
    assert sol.marginal_error <= 1e-11
    sent, received = sol.coupling.marginals
    assert_close(sent, mu.weights, atol=1e-12)
    assert_close(received, nu.weights, atol=1e-11)
    assert_close(mu.weights @ sol.potentials[0], nu.weights @ sol.potentials[1])
    assert_close(sol.value, 2 * mu.weights @ sol.potentials[0])


def test_low_temperatures_take_less_than_a_third_of_the_plain_iterations(rng):
    mu, nu = random_pair(rng, 12, 9)
    _, expected, plain = by_pot(mu, nu, 2, 0.02)
    sol = solve(mu, nu, solver=mf.Sinkhorn(0.02, relative=False, tolerance=rounded(1e-11)))
    assert_close(sol.coupling.matrix, expected, rtol=1e-6, atol=1e-10)
    assert sol.steps < plain / 3


@pytest.mark.parametrize("cost", [mf.PowerCost(2), FunctionCost(lambda x, y: -x @ y)])
def test_blocks_and_tables_give_the_same_solution(rng, monkeypatch, cost):
    mu, nu = random_pair(rng, 12, 9, absent=2)
    whole = solve(mu, nu, cost)
    monkeypatch.setattr(pairs_module, "_BLOCK", 1)
    blocked = solve(mu, nu, cost, mf.Sinkhorn(0.1, tolerance=rounded(1e-11), memory=0))
    assert_close(blocked.value, whole.value)
    assert_close(blocked.coupling.matrix, whole.coupling.matrix)
    assert_close(blocked.coupling.barycentric(nu.points), whole.coupling.barycentric(nu.points))


def test_a_matrix_and_a_function_give_the_value_of_the_power(rng):
    mu, nu = random_pair(rng, 12, 9, absent=2)
    value = solve(mu, nu).value
    matrix = mf.PowerCost(2).matrix(mu.points, nu.points).at[-1].set(jnp.nan)
    assert_close(solve(mu, nu, matrix).value, value)
    assert_close(solve(mu, nu, FunctionCost(lambda x, y: jnp.sum((x - y) ** 2))).value, value)


def test_absent_atoms_order_and_splitting_change_nothing(rng):
    mu, nu = random_pair(rng, 12, 9)
    sol = solve(mu, nu)
    padded = mu.pad(24)
    padded = mf.Measure(padded.points.at[-1].set(jnp.nan).at[-2].set(1e300), padded.weights)
    order = rng.permutation(24)
    for other in (padded, mf.Measure(padded.points[order], padded.weights[order]), mu.split(2)):
        changed = solve(other, nu)
        assert_close(changed.value, sol.value)
        assert_close(changed.potentials[1], sol.potentials[1], rtol=1e-8)
        assert_close(
            changed.coupling.transpose.barycentric(other.points),
            sol.coupling.transpose.barycentric(mu.points),
            rtol=1e-8,
        )
        assert changed.steps == sol.steps
        assert jnp.all(jnp.isfinite(changed.potentials[0]))


@pytest.mark.float64
def test_potentials_at_absent_atoms_are_the_slopes_of_mass_put_there(rng):
    mu, nu = random_pair(rng, 12, 9, absent=1)
    f = solve(mu, nu).potentials[0]
    step = 1e-6
    moved = mf.Measure(mu.points, mu.weights.at[-1].add(step).at[0].add(-step))
    absolute = ACCURATE.at_temperature(ACCURATE.temperature(mu, nu, mf.PowerCost(2)))
    rise = solve(moved, nu, solver=absolute).value - solve(mu, nu, solver=absolute).value
    assert_close(f[-1] - f[0], rise / step, rtol=1e-4)


def test_the_mass_multiplies_the_value_and_the_coupling(rng):
    mu, nu = random_pair(rng, 12, 9)
    heavy = [mf.Measure(measure.points, 3 * measure.weights) for measure in (mu, nu)]
    one, three = solve(mu, nu), solve(*heavy)
    assert_close(three.value, 3 * one.value)
    assert_close(three.coupling.matrix, 3 * one.coupling.matrix)
    assert_close(three.potentials[0], one.potentials[0])


def test_relative_epsilon_scales_with_the_cost(rng):
    mu, nu = random_pair(rng, 12, 9)
    far = [measure.with_points(100 * measure.points) for measure in (mu, nu)]
    assert_close(solve(*far).value, 1e4 * solve(mu, nu).value)
    near, wide = (mf.wasserstein(*pair, solver=ACCURATE) for pair in ((mu, nu), far))
    assert_close(wide, 100 * near)
    mean = np.asarray(mu.weights) @ mf.PowerCost(2).matrix(mu.points, nu.points) @ nu.weights
    assert_close(ACCURATE.temperature(mu, nu, mf.PowerCost(2)), 0.1 * mean)


def test_float32_agrees_to_its_precision(rng):
    mu, nu = random_pair(rng, 12, 9, absent=2)
    single = [
        mf.Measure(measure.points.astype(np.float32), measure.weights.astype(np.float32))
        for measure in (mu, nu)
    ]
    sol = solve(*single, solver=mf.Sinkhorn(0.1, tolerance=1e-5))
    assert sol.value.dtype == jnp.float32
    assert_close(sol.value, solve(mu, nu).value, rtol=1e-5)
    assert_close(sol.coupling.matrix, solve(mu, nu).coupling.matrix, rtol=1e-3, atol=1e-6)


def test_a_warm_start_takes_one_step(rng):
    mu, nu = random_pair(rng, 12, 9, absent=2)
    sol = solve(mu, nu)
    warm = mf.Sinkhorn(0.1, tolerance=rounded(1e-11), start=sol.potentials)
    again = solve(mu, nu, solver=warm)
    assert again.steps == 1
    assert_close(again.value, sol.value)
    with pytest.raises(ValueError, match="start"):
        solve(mu, nu.pad(10), solver=warm)


def test_vmap_gives_what_single_solves_give(rng):
    pairs = [random_pair(rng, 12, 9, absent=k) for k in range(3)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    batched = jax.vmap(solve)(mus, nus)
    for k, pair in enumerate(pairs):
        one = solve(*pair)
        assert_close(batched.value[k], one.value)
        assert_close(batched.potentials[1][k], one.potentials[1], rtol=1e-8)
        assert batched.steps[k] == one.steps


def test_far_clouds_at_a_low_temperature_start_without_underflow():
    x = jnp.array([[0.0], [1.0], [50.0]], jnp.float32)
    mu, nu = mf.Measure(x), mf.Measure(x + 1)
    for cooling in (0.0, 0.5):
        solver = mf.Sinkhorn(0.1, relative=False, cooling=cooling, tolerance=1e-3)
        value = solve(mu, nu, solver=solver).value
        assert 1.0 - 1e-2 <= value <= 1.0 + 0.1 * np.log(3) + 1e-2  # epsilon times the entropy


def test_equal_diracs_cost_nothing_and_empty_measures_too():
    dirac = mf.Measure(jnp.array([[2.0, -1.0]]))
    empty = mf.Measure(jnp.array([[2.0, -1.0]]), jnp.zeros(1))
    for mu in (dirac, empty):
        sol = solve(mu, mu)
        assert sol.value == 0
        assert_close(sol.coupling.matrix, mu.weights[:, None])


@pytest.mark.float64
def test_weights_of_any_size_keep_their_shares(rng):
    mu, nu = random_pair(rng, 12, 9)
    tiny, without = (
        mf.Measure(mu.points, mu.weights.at[0].set(weight)).normalize() for weight in (1e-305, 0.0)
    )
    sol, without = solve(tiny, nu), solve(without, nu)
    assert_close(sol.potentials[0], without.potentials[0], rtol=1e-8)
    turned = solve(nu, tiny)
    assert_close(turned.potentials[1], sol.potentials[0], rtol=1e-8)
    assert jnp.all(jnp.isfinite(turned.coupling.matrix))


def test_too_few_steps_are_an_error_that_says_so(rng):
    mu, nu = random_pair(rng, 12, 9)
    few = mf.Sinkhorn(0.01, max_steps=3)
    sol = solve(mu, nu, solver=few, throw=False)
    assert sol.result == mf.RESULTS.marginals_not_reached
    assert jnp.isnan(sol.value)
    assert sol.dual <= solve(mu, nu, solver=mf.Sinkhorn(0.01, tolerance=rounded(1e-8))).value
    with pytest.raises(RuntimeError, match="max_steps"):
        solve(mu, nu, solver=few)


def test_an_epsilon_below_the_rounding_of_costs_is_an_error_that_says_so(rng):
    mu, nu = random_pair(rng, 12, 9)
    mu, nu = (mf.Measure(m.points.astype(np.float32), m.weights) for m in (mu, nu))
    small = mf.Sinkhorn(1e-6, max_steps=50)
    assert solve(mu, nu, solver=small, throw=False).result == mf.RESULTS.epsilon_too_small
    with pytest.raises(RuntimeError, match="epsilon"):
        solve(mu, nu, solver=small)


def test_a_tolerance_below_the_rounding_of_costs_is_blamed_on_it(rng):
    mu, nu = random_pair(rng, 12, 9)
    mu, nu = (mf.Measure(m.points.astype(np.float32), m.weights) for m in (mu, nu))
    strict = mf.Sinkhorn(0.01, tolerance=1e-12, max_steps=50)
    assert solve(mu, nu, solver=strict, throw=False).result == mf.RESULTS.epsilon_too_small


def test_a_cost_that_is_not_finite_is_an_error_that_says_so(rng):
    mu, nu = random_pair(rng, 12, 9)
    for wrong, p in ((jnp.nan, 2), (jnp.inf, 2), (jnp.nan, 1)):
        bad = mf.Measure(mu.points.at[3, 1].set(wrong), mu.weights)
        sol = solve(bad, nu, mf.PowerCost(p), throw=False)
        assert sol.result == mf.RESULTS.nonfinite_cost
        assert jnp.isnan(sol.value)


def test_different_masses_are_refused_under_jit_too(rng):
    mu, nu = random_pair(rng, 12, 9)
    heavy = mf.Measure(nu.points, 2 * nu.weights)
    with pytest.raises(ValueError, match="mass"):
        solve(mu, heavy)
    assert jax.jit(lambda one, two: solve(one, two, throw=False))(mu, heavy).result == (
        mf.RESULTS.unequal_masses
    )


@pytest.mark.parametrize(
    "settings", [{"epsilon": 0.0}, {"tolerance": -1.0}, {"cooling": 1.0}, {"epsilon": jnp.nan}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        mf.Sinkhorn(**settings)


def test_other_settings_compile_nothing_anew(rng, caplog):
    mu, nu = random_pair(rng, 12, 9)
    solve(mu, nu)
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        solve(mu, nu, solver=mf.Sinkhorn(0.2, tolerance=rounded(1e-7), cooling=0.25))
    assert not [record for record in caplog.messages if "_optimal_transport" in record]


def test_no_temporary_of_all_pairs_is_formed(rng):
    mu, nu = (random_measure(rng, 4096, 16) for _ in range(2))

    def value(mu, nu):
        return solve(mu, nu, solver=mf.Sinkhorn(0.1)).value

    for function in (value, jax.grad(value)):
        memory = jax.jit(function).lower(mu, nu).compile().memory_analysis()
        assert memory.temp_size_in_bytes < 8 * 4096**2 / 2  # the costs alone, in float64, by two
