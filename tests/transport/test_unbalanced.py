"""Unbalanced transport: duality, oracles, laws, derivatives, and what goes wrong."""

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
from meanfield.transport import KullbackLeibler, PowerCost, Range, TotalVariation, Unbalanced


pytestmark = pytest.mark.slow
KL, TV, RANGE = KullbackLeibler(), TotalVariation(), Range(0.4, 1.6)
# rho, divergence: the three alike on both sides, unlike sides, and one side balanced
PROBLEMS = {
    "kullback-leibler": (1.0, KL),
    "total-variation": (1.0, TV),
    "range": (1.0, RANGE),
    "rho-each": ((0.5, 3.0), KL),
    "kl-and-tv": ((1.0, 2.0), (KL, TV)),
    "range-and-kl": (2.0, (RANGE, KL)),
    "half-balanced": ((np.inf, 2.0), KL),
}
alike = pytest.mark.parametrize("name", ["kullback-leibler", "total-variation", "range"])
every = pytest.mark.parametrize("name", PROBLEMS)
# the same everywhere, so that problems of one kind share a program
SETTINGS = {"epsilon": 0.3, "relative": False, "tolerance": rounded(1e-11), "max_steps": 100_000}


def pair(rng, absent=0):
    """Two measures of the masses 1 and 1.4."""
    mu, nu = random_measure(rng, 8, 3, absent), random_measure(rng, 8, 3, absent)
    return mu, mf.Measure(nu.points, 1.4 * nu.weights)


def solver(name, **settings):
    rho, divergence = PROBLEMS[name]
    return Unbalanced(rho, divergence, **(SETTINGS | settings))


def solve(mu, nu, name, **settings):
    return mf.optimal_transport(mu, nu, solver=solver(name, **settings))


@every
def test_the_primal_equals_the_dual(rng, name):
    sol = solve(*pair(rng, absent=2), name)
    assert sol.result == RESULTS.successful
    assert abs(sol.gap) <= rounded(1e-9) * abs(sol.value)
    assert sol.marginal_error <= rounded(1e-9)
    assert_close(sol.value, sol.primal, rtol=1e-9)


@pytest.mark.float64
@pytest.mark.parametrize("rho, gain", [(10.0, 5), (100.0, 10)])
def test_translations_save_iterations(rng, rho, gain):
    mu, nu = (mf.Measure(rng.uniform(size=(8, 3)), m.weights) for m in pair(rng))

    def solved(translation_invariant):
        changes = {"epsilon": 0.1, "tolerance": 1e-9}
        method = Unbalanced(
            rho, **(SETTINGS | changes), translation_invariant=translation_invariant
        )
        return mf.optimal_transport(mu, nu, solver=method)

    quick, plain = solved(True), solved(False)
    assert plain.steps >= gain * quick.steps
    assert_close(quick.value, plain.value, rtol=1e-9)


@pytest.mark.float64
def test_the_rates_of_convergence_are_those_of_the_theory(rng):
    mu, nu = (mf.Measure(rng.uniform(size=(8, 3)), m.weights) for m in pair(rng))
    epsilon, rho = 0.1, (0.5, 3.0)
    factor = np.prod([r / (r + epsilon) for r in rho])

    def steps(translation_invariant, tolerance):
        changes = {"epsilon": epsilon, "tolerance": tolerance}
        method = Unbalanced(
            rho, **(SETTINGS | changes), translation_invariant=translation_invariant
        )
        sol = mf.optimal_transport(mu, nu, solver=method)
        return int(sol.steps), np.asarray(sol.coupling.matrix)

    P = steps(True, 1e-11)[1]
    correlation = P / np.sqrt(P.sum(1)[:, None] * P.sum(0))
    second = np.linalg.svd(correlation, compute_uv=False)[1] ** 2
    for quick, rate in ((False, 1.0), (True, max(second, epsilon / sum(rho)))):
        between = steps(quick, 1e-11)[0] - steps(quick, 1e-6)[0]
        expected = np.log(1e-5) / np.log(factor * rate)
        assert abs(between - expected) <= 1 + 0.05 * expected


def test_translations_change_no_solution(rng):
    mu, nu = pair(rng)
    for name in ("total-variation", "range-and-kl"):
        plain = solve(mu, nu, name, translation_invariant=False)
        sol = solve(mu, nu, name)
        assert sol.steps <= plain.steps
        assert_close(sol.value, plain.value, rtol=1e-9)
        assert_close(sol.coupling.matrix, plain.coupling.matrix, rtol=1e-6, atol=1e-9)


def costs_of(mu, nu):
    return ot.dist(np.asarray(mu.points), np.asarray(nu.points))


@pytest.mark.parametrize("rho", [1.0, 100.0])
def test_agrees_with_pot(rng, rho):
    mu, nu = pair(rng)
    sol = mf.optimal_transport(mu, nu, solver=Unbalanced(rho, **SETTINGS))
    expected = ot.unbalanced.sinkhorn_unbalanced(
        np.asarray(mu.weights),
        np.asarray(nu.weights),
        costs_of(mu, nu),
        0.3,
        rho,
        reg_type="kl",
        numItermax=100_000,
        stopThr=1e-14,
    )
    assert_close(sol.coupling.matrix, expected, rtol=1e-8)


def test_agrees_with_ott(rng):
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    mu, nu = pair(rng)
    epsilon, rho = 0.3, 2.0
    tau = rho / (rho + epsilon)
    # OTT's entropy is relative to the counting measure, ours to the product of the weights
    logs = np.log(mu.weights)[:, None] + np.log(nu.weights)
    problem = linear_problem.LinearProblem(
        geometry.Geometry(cost_matrix=costs_of(mu, nu) - epsilon * logs, epsilon=epsilon),
        mu.weights,
        nu.weights,
        tau_a=tau,
        tau_b=tau,
    )
    expected = sinkhorn.Sinkhorn(threshold=rounded(1e-10), max_iterations=10_000)(problem).matrix
    sol = mf.optimal_transport(mu, nu, solver=Unbalanced(rho, **SETTINGS))
    assert_close(sol.coupling.matrix, expected, rtol=1e-8)


def least(mu, nu, name, epsilon):
    """The optimum by a general solver: P and, for total variation, what bounds |P_1 - a|."""
    (rho, divergence), costs = PROBLEMS[name], costs_of(mu, nu)
    a, b = np.asarray(mu.weights), np.asarray(nu.weights)
    n, m = costs.shape
    rhos = rho if isinstance(rho, tuple) else (rho, rho)
    kinds = divergence if isinstance(divergence, tuple) else (divergence, divergence)

    def parts(z):
        P = z[: n * m].reshape(n, m)
        return P, [(P.sum(1), a, z[n * m : n * m + n]), (P.sum(0), b, z[n * m + n :])]

    def objective(z):
        P, sides = parts(z)
        entropy = np.sum(P * np.log(P / np.outer(a, b)) - P + np.outer(a, b))
        value = np.sum(P * costs) + epsilon * entropy
        for (moved, w, slack), kind, r in zip(sides, kinds, rhos, strict=True):
            if kind == KL and np.isfinite(r):
                value += r * np.sum(moved * np.log(moved / w) - moved + w)
            if kind == TV:
                value += r * np.sum(slack)
        return value

    constraints = []
    for side, (kind, r) in enumerate(zip(kinds, rhos, strict=True)):

        def difference(z, side=side):
            moved, w, _ = parts(z)[1][side]
            return moved - w

        if kind == KL and np.isinf(r):
            constraints.append({"type": "eq", "fun": difference})
        if kind == TV:
            for sign in (-1, 1):
                constraints.append(
                    {
                        "type": "ineq",
                        "fun": lambda z, s=sign, side=side, d=difference: (
                            parts(z)[1][side][2] + s * d(z)
                        ),
                    }
                )
        if kind == RANGE:
            constraints += [
                {
                    "type": "ineq",
                    "fun": lambda z, side=side, s=sign, e=end: (
                        s * (parts(z)[1][side][0] - e * parts(z)[1][side][1])
                    ),
                }
                for sign, end in ((1, 0.4), (-1, 1.6))
            ]
    start = np.concatenate([0.8 * np.outer(a, b).ravel(), np.ones(n + m)])
    return scipy.optimize.minimize(
        objective,
        start,
        method="SLSQP",
        bounds=[(1e-12, None)] * len(start),
        constraints=constraints,
        options={"maxiter": 2000, "ftol": 1e-13},
    ).fun


@every
def test_agrees_with_a_general_solver_on_tiny_problems(rng, name):
    mu = mf.Measure(rng.normal(size=(3, 2)), [0.5, 0.2, 0.3])
    nu = mf.Measure(rng.normal(size=(3, 2)), [0.4, 0.4, 0.3])
    sol = mf.optimal_transport(mu, nu, solver=solver(name, epsilon=0.5))
    assert_close(sol.value, least(mu, nu, name, 0.5), rtol=1e-5)


def test_an_infinite_rho_on_both_sides_is_balanced_entropic_transport(rng):
    mu, nu = random_measure(rng, 8, 3), random_measure(rng, 8, 3)
    method = Unbalanced(np.inf, **SETTINGS)
    sol = mf.optimal_transport(mu, nu, solver=method)
    arrays = np.asarray(mu.weights), np.asarray(nu.weights), costs_of(mu, nu), 0.3
    expected = ot.sinkhorn(*arrays, numItermax=100_000, stopThr=1e-14)
    assert_close(sol.coupling.matrix, expected, rtol=1e-8)
    assert sol.marginal_error <= rounded(1e-9)


def test_little_moves_when_rho_is_small_and_all_when_it_is_large(rng):
    mu, nu = random_measure(rng, 8, 3), random_measure(rng, 8, 3)

    def moved(rho):
        method = Unbalanced(rho, **(SETTINGS | {"epsilon": 0.1, "tolerance": 1e-6}))
        return mf.optimal_transport(mu, nu, solver=method).coupling.mass

    masses = [float(moved(rho)) for rho in (0.01, 0.1, 1.0, 10.0, 1e4)]
    assert sorted(masses) == masses
    assert masses[0] < 0.1
    assert masses[-1] == pytest.approx(1.0, abs=1e-3)


@every
def test_padding_permuting_and_splitting_change_nothing(rng, name):
    mu, nu = pair(rng)
    few = mf.Measure(mu.points[:5], mu.weights[:5])
    expected = solve(few.pad(8), nu, name)
    written = few.split(2, jnp.array([0.2, 0.8])).pad(8)
    junk = jnp.where(written.present[:, None], written.points, jnp.nan)
    order = rng.permutation(8)
    same = solve(mf.Measure(junk[order], written.weights[order]), nu, name)
    assert_close(same.value, expected.value, rtol=1e-9)
    assert_close(same.coupling.mass, expected.coupling.mass, rtol=1e-8)
    assert same.steps == expected.steps


@eqx.filter_jit  # the solver is an argument: problems of one kind share a program
def value_and_slopes(mu, nu, epsilon, method):
    def value(one, other, temperature):
        warmer = eqx.tree_at(lambda at: at.epsilon, method, temperature)
        return mf.optimal_transport(one, other, solver=warmer).value

    return jax.value_and_grad(value, argnums=(0, 1, 2))(mu, nu, epsilon)


@pytest.mark.float64
@every
def test_gradients_match_finite_differences_at_absent_atoms_too(rng, name):
    mu, nu = pair(rng, absent=2)
    directions = [
        mf.Measure(rng.normal(size=(8, 3)), rng.uniform(0.5, 1.0, size=8)) for _ in range(2)
    ]

    def moved(t):  # the absent atoms of both gain mass
        measures = [
            mf.Measure(m.points + t * way.points, m.weights + t * way.weights)
            for m, way in zip((mu, nu), directions, strict=True)
        ]
        return value_and_slopes(*measures, jnp.array(0.3 + t * 0.1), solver(name))

    # one-sided, to third order: no weight becomes negative
    t = 1e-5
    ends = [float(moved(k * t)[0]) for k in range(4)]
    expected = (-11 * ends[0] + 18 * ends[1] - 9 * ends[2] + 2 * ends[3]) / (6 * t)
    slopes = moved(0.0)[1]
    along = sum(
        jnp.vdot(slope.points, way.points) + jnp.vdot(slope.weights, way.weights)
        for slope, way in zip(slopes[:2], directions, strict=True)
    )
    assert_close(along + 0.1 * slopes[2], expected, rtol=1e-6)


@pytest.mark.float64
def test_the_slope_in_rho_is_the_divergence_paid(rng):
    mu, nu = pair(rng)

    def value(rho):
        method = Unbalanced((rho, 2.0), **SETTINGS)
        return mf.optimal_transport(mu, nu, solver=method).value

    slope = jax.grad(value)(1.0)
    assert_close(slope, (value(1 + 1e-5) - value(1 - 1e-5)) / 2e-5, rtol=1e-6)


def test_gradients_are_finite_where_absent_points_are_not(rng):
    mu, nu = pair(rng, absent=2)
    for junk in (jnp.nan, jnp.inf, 1e300):
        odd = mf.Measure(mu.points.at[-1].set(junk), mu.weights)
        _, (slopes, *_) = value_and_slopes(odd, nu, jnp.array(0.3), solver("kullback-leibler"))
        assert jnp.all(jnp.isfinite(slopes.points)) and jnp.all(jnp.isfinite(slopes.weights))
        assert jnp.all(slopes.points[-1] == 0)


def test_second_derivatives_raise_rather_than_being_wrong(rng):
    mu, nu = pair(rng)

    def slope(x):
        moved = mf.Measure(x, mu.weights)
        return jax.grad(lambda m: solve(m, nu, "kullback-leibler").value)(moved).points

    with pytest.raises(NotImplementedError, match="Second derivatives of an unbalanced"):
        jax.jvp(slope, (mu.points,), (mu.points,))


def test_works_under_jit_and_vmap(rng):
    pairs = [pair(rng, absent=k) for k in (0, 2)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    method, epsilon = solver("kullback-leibler"), jnp.array(0.3)
    batched = jax.vmap(lambda mu, nu: value_and_slopes(mu, nu, epsilon, method))(mus, nus)
    for i, each in enumerate(pairs):
        one = value_and_slopes(*each, epsilon, method)
        for got, expected in zip(jax.tree.leaves(batched), jax.tree.leaves(one), strict=True):
            assert_close(got[i], expected, rtol=1e-9, atol=1e-11)


def test_rows_in_blocks_and_other_costs_give_the_same(rng, monkeypatch):
    mu, nu = pair(rng)

    def cost(x, y):
        return jnp.sum((x - y) ** 2)

    method = solver("kullback-leibler")
    expected, (slope, *_) = value_and_slopes(mu, nu, jnp.array(0.3), method)
    monkeypatch.setattr("meanfield.transport.pairs._BLOCK", 16)
    for method in (Unbalanced(1.0, **SETTINGS), Unbalanced(1.0, memory=0, **SETTINGS)):

        def value(one, method=method):
            return mf.optimal_transport(one, nu, cost, method).value

        got, same = jax.value_and_grad(value)(mu)
        assert_close(got, expected)
        assert_close(same.points, slope.points, rtol=1e-8)


@alike
def test_float32_stays_float32_and_agrees(rng, name):
    mu, nu = pair(rng)
    single = [jax.tree.map(lambda leaf: leaf.astype("float32"), m) for m in (mu, nu)]
    sol = solve(*single, name, tolerance=1e-4)
    assert sol.value.dtype == jnp.float32
    assert_close(sol.value, solve(mu, nu, name).value, rtol=1e-5)


def test_an_empty_side_pays_for_what_is_lost(rng):
    mu, _ = pair(rng)
    empty = mf.Measure(mu.points, 0 * mu.weights)
    for name in ("kullback-leibler", "total-variation"):
        sol = solve(mu, empty, name)
        assert_close(sol.value, mu.mass)  # rho phi(0) = 1 a unit of mass
        assert sol.gap == 0 and sol.coupling.mass == 0
    assert solve(empty, empty, "kullback-leibler").value == 0


def test_failures_are_reported_with_what_to_try(rng):
    mu, nu = pair(rng)

    def result(one, other, method):
        return mf.optimal_transport(one, other, solver=method, throw=False)

    few = result(mu, nu, Unbalanced(1.0, max_steps=2))
    assert few.result == RESULTS.potentials_not_settled
    assert jnp.isnan(few.value)
    assert few.dual < few.primal
    with pytest.raises(eqx.EquinoxRuntimeError, match="Raise `max_steps`"):
        mf.optimal_transport(mu, nu, solver=Unbalanced(1.0, max_steps=2))
    cold = result(mu, nu, Unbalanced(1.0, epsilon=1e-17, max_steps=2))
    assert cold.result == RESULTS.epsilon_too_small
    broken = mf.Measure(nu.points.at[2].set(jnp.nan), nu.weights)
    assert result(mu, broken, Unbalanced(1.0, max_steps=2)).result == RESULTS.nonfinite_cost
    infinite = result(mu, nu, Unbalanced(np.inf, max_steps=2))
    assert infinite.result == RESULTS.masses_out_of_range
    narrow = result(mu, nu, Unbalanced(1.0, Range(0.9, 1.1), max_steps=2))
    assert narrow.result == RESULTS.masses_out_of_range


@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="`rho` must be positive; got"):
        Unbalanced((1.0, bad))
    with pytest.raises(ValueError, match="`epsilon` must be positive; got"):
        Unbalanced(1.0, epsilon=bad)


def test_the_power_of_the_distance_goes_through_wasserstein(rng):
    mu, nu = pair(rng)
    method = solver("kullback-leibler")
    value = mf.optimal_transport(mu, nu, PowerCost(2), method).value
    assert_close(mf.wasserstein(mu, nu, 2, method), value**0.5)
