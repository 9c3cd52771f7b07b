"""Unbalanced Gromov-Wasserstein: the functional by brute force, POT, descent, masses and laws."""

import jax.numpy as jnp
import numpy as np
import pytest
from matching_problems import random_measure
from numpy.testing import assert_allclose

from meanfield import RESULTS, Measure
from meanfield.matching import (
    L1,
    Alternation,
    CostRegularized,
    GromovWasserstein,
    InnerProduct,
    KnownPairs,
    SquaredDistance,
    UnbalancedGromovWasserstein,
    match,
)
from meanfield.matching.relaxation import relaxation
from meanfield.matching.relaxed import _length, _linear, _towards
from meanfield.matching.relaxed_search import _of_transforms
from meanfield.matching.unbalanced import QuadraticMass
from meanfield.matching.unit_mass import iterated


SOLVER = Alternation(0.2, axes=1, tolerance=1e-7, marginal_tolerance=1e-10)
KINDS = {"inner": InnerProduct(), "squared": SquaredDistance()}
each = pytest.mark.parametrize("kind", KINDS)
slow = pytest.mark.slow


def kl(p, a):
    seen = p > 0
    return np.sum(p[seen] * np.log(p[seen] / a[seen])) - p.sum() + a.sum()


def pairs_kl(p, a):
    """KL(p x p | a x a), by all pairs."""
    return kl(np.outer(p, p), np.outer(a, a))


def kernels(kind, mu, nu):
    x, y = (np.asarray(m.points - m.mean) for m in (mu, nu))
    if kind == "inner":
        return x @ x.T, y @ y.T
    return tuple(np.sum((z[:, None] - z) ** 2, axis=-1) for z in (x, y))


def functional(kind, mu, nu, plan, rho):
    c, d = kernels(kind, mu, nu)
    distortion = np.einsum("ikjl,ij,kl->", (c[:, :, None, None] - d) ** 2, plan, plan)
    a, b = np.asarray(mu.weights), np.asarray(nu.weights)
    paid = rho[0] * pairs_kl(plan.sum(axis=1), a) + rho[1] * pairs_kl(plan.sum(axis=0), b)
    return distortion + paid


@pytest.fixture(scope="module")
def measures():
    rng = np.random.default_rng(0)
    mu, nu = random_measure(rng, 12, 3), random_measure(rng, 9, 2)
    return Measure(mu.points, 1.7 * mu.weights), Measure(nu.points, 0.6 * nu.weights)


@pytest.fixture(scope="module")
def sols(measures):
    return {
        kind: match(*measures, UnbalancedGromovWasserstein((9.0, 6.0), cost), SOLVER)
        for kind, cost in KINDS.items()
    }


def test_the_best_mass_is_the_formula(rng):
    """For any coupling of mass one, against the functional on a grid of masses."""
    q = rng.dirichlet(np.ones(20)).reshape(5, 4)
    a, b = 2 * rng.dirichlet(np.ones(5)), 0.5 * rng.dirichlet(np.ones(4))
    rho, epsilon, energy = (3.0, 2.0), 0.7, 1.9
    lost = kl(q.sum(axis=1), a / 2), kl(q.sum(axis=0), b / 0.5)
    entropy = kl(q, np.outer(a, b))  # to weights and shares alike: their product has mass one
    objective = np.array([energy / 2 + np.dot(rho, lost) + epsilon * entropy])

    def whole(m):
        p = m * q
        paid = rho[0] * pairs_kl(p.sum(axis=1), a) + rho[1] * pairs_kl(p.sum(axis=0), b)
        return m**2 * energy + paid + epsilon * pairs_kl(p.ravel(), np.outer(a, b).ravel())

    mass = QuadraticMass((2.0, 0.5), rho, epsilon)
    best = mass.best(objective)[0]
    assert_allclose(mass.total(objective)[0], whole(best), rtol=1e-12)
    assert whole(best) <= min(whole(best * t) for t in (0.5, 0.9, 0.999, 1.001, 1.1, 2))
    assert_allclose(mass.value(energy / 2, lost, 0.3), whole(0.3) - epsilon * pairs_kl(
        0.3 * q.ravel(), np.outer(a, b).ravel()), rtol=1e-12)  # fmt: skip


@slow
@each
def test_the_value_is_the_functional_at_the_coupling(kind, sols, measures):
    sol, plan = sols[kind], np.asarray(sols[kind].coupling.matrix)
    value = functional(kind, *measures, plan, (9.0, 6.0))
    assert_allclose(sol.value, value, rtol=1e-9)
    a, b = (np.asarray(m.weights) for m in measures)
    entropy = pairs_kl(plan.ravel(), np.outer(a, b).ravel())
    assert_allclose(sol.objective, value + sol.epsilon * entropy, rtol=1e-9)
    assert_allclose(sol.coupling.mass, plan.sum(), rtol=1e-9)
    assert 0.1 < plan.sum() < 1.7 and not sol.collapsed


@slow
@each
def test_pot_stays_where_we_ended_and_its_own_start_is_no_better(kind, sols, measures):
    ot = pytest.importorskip("ot")
    sol, plan = sols[kind], np.asarray(sols[kind].coupling.matrix)
    c, d = kernels(kind, *measures)
    weights = [np.asarray(m.weights) for m in measures]
    found = [
        ot.gromov.fused_unbalanced_gromov_wasserstein(
            c, d, *weights, reg_marginals=(9.0, 6.0), epsilon=sol.epsilon,
            unbalanced_solver="sinkhorn_log", init_pi=start, max_iter=500, max_iter_ot=1000,
            tol=1e-9, tol_ot=1e-9, log=True,
        )
        for start in (plan, None)
    ]  # fmt: skip
    assert_allclose(found[0][0], plan, atol=1e-6)
    assert_allclose(found[0][2]["fugw_cost"], sol.objective, rtol=1e-6)
    assert sol.objective <= found[1][2]["fugw_cost"] * (1 + 1e-6)


@slow
@each
def test_no_coupling_nearby_is_better(kind, sols, measures, rng):
    sol, plan = sols[kind], np.asarray(sols[kind].coupling.matrix)
    reference = np.outer(*(np.asarray(m.weights) for m in measures)).ravel()

    def whole(p):
        entropy = sol.epsilon * pairs_kl(p.ravel(), reference)
        return functional(kind, *measures, p, (9.0, 6.0)) + entropy

    for _ in range(20):
        change = np.exp(1e-3 * rng.normal(size=plan.shape))
        assert whole(plan * change) >= whole(plan) - 1e-9


@slow
@each
def test_atoms_map_to_the_mean_of_their_partners(kind, sols, measures):
    sol, (mu, nu) = sols[kind], measures
    assert_allclose(sol.map(mu.points), sol.coupling.barycentric(nu.points), atol=1e-9)
    back = sol.coupling.transpose.barycentric(mu.points)
    assert_allclose(sol.inverse_map(nu.points), back, atol=1e-9)
    shares = np.asarray(sol.coupling.matrix) / np.asarray(sol.coupling.marginals[0])[:, None]
    assert_allclose(sol.top(1)[1][:, 0], shares.max(axis=1), atol=1e-9)


@slow
@each
def test_each_step_descends_by_the_quadratic_bound(kind, measures, rng):
    """Linearise, solve to the end, go as far as the bound falls: the objective never rises."""
    problem = UnbalancedGromovWasserstein((9.0, 6.0), KINDS[kind])
    found = relaxation(problem, *measures)
    assert found is not None
    task, epsilon = found.relaxed, 0.2 * found.relaxed.energy.critical(found.task.moments)
    slopes = _of_transforms(task, 5 * rng.normal(size=(1, 2, 3)))
    state, values, lengths = None, [], []
    for _ in range(25):
        g = jnp.zeros((1, 9))
        reached = iterated(task.problem(slopes, epsilon, task.rho), g, jnp.asarray(400), False)
        new = task.state(reached)
        if state is not None:
            moved = type(new)(*(u - v for u, v in zip(new, state, strict=True)))
            assert slopes.at(moved) + _linear(moved, epsilon) <= 1e-9
            lengths.append(_length(task.energy, slopes, moved, epsilon)[0])
            new = _towards(state, moved, np.array(lengths[-1:]))
        state, slopes = new, task.energy.slopes(new)
        values.append(task.objective(state, epsilon)[0])
    assert (np.diff(values) <= 1e-9).all() and values[-1] < values[0] - 1e-3
    assert kind == "inner" or min(lengths) < 1


@slow
@each
def test_a_large_price_balances(kind, measures):
    mu, nu = (Measure(m.points, 2 * m.normalize().weights) for m in measures)
    free = match(mu, nu, UnbalancedGromovWasserstein(1e7, KINDS[kind]), SOLVER)
    kept = match(mu, nu, UnbalancedGromovWasserstein(np.inf, KINDS[kind]), SOLVER)
    shares = match(mu, nu, GromovWasserstein(KINDS[kind]), SOLVER)
    assert_allclose(free.coupling.mass, 2, rtol=1e-4)
    assert_allclose(free.coupling.matrix, kept.coupling.matrix, atol=1e-4)
    assert_allclose(kept.coupling.matrix, shares.coupling.matrix, atol=1e-5)
    assert_allclose(kept.value, 4 * shares.value, rtol=1e-5)
    assert_allclose(2 * kept.epsilon, shares.epsilon, rtol=1e-10)


@slow
def test_masses_of_any_size_are_matched(sols, measures):
    """Where all masses are multiplied, the coupling keeps its shape, and no mass diverges."""
    problem = UnbalancedGromovWasserstein((9.0, 6.0), InnerProduct())
    one = np.asarray(sols["inner"].coupling.matrix)
    for factor in (1e-3, 50.0):
        scaled = [Measure(m.points, factor * m.weights) for m in measures]
        sol = match(*scaled, problem, SOLVER)
        plan = np.asarray(sol.coupling.matrix)
        assert_allclose(plan / plan.sum(), one / one.sum(), atol=1e-6)
        assert np.isfinite(sol.objective) and sol.result == RESULTS.successful


@slow
def test_absent_atoms_order_and_splits_change_nothing(sols, measures):
    mu, nu = measures
    problem, one = UnbalancedGromovWasserstein((9.0, 6.0), SquaredDistance()), sols["squared"]
    points = jnp.concatenate([mu.points, jnp.full((2, 3), jnp.nan)])
    padded = Measure(points, jnp.concatenate([mu.weights, jnp.zeros(2)]))
    split = Measure(mu.points[::-1], mu.weights[::-1]).split(2, [0.3, 0.7])
    for other in (padded, split):
        sol = match(other, nu, problem, SOLVER)
        assert_allclose(sol.objective, one.objective, rtol=1e-7)
        assert_allclose(sol.coupling.mass, one.coupling.mass, rtol=1e-6)
        assert_allclose(sol.transform, one.transform, rtol=1e-4, atol=1e-4)


@slow
def test_blocks_and_a_kernel_that_is_kept_agree(sols, measures):
    blocked = Alternation(0.2, axes=1, tolerance=1e-7, marginal_tolerance=1e-10, memory=0)
    sol = match(*measures, UnbalancedGromovWasserstein((9.0, 6.0)), blocked)
    assert_allclose(sol.coupling.matrix, sols["inner"].coupling.matrix, atol=1e-8)
    with pytest.raises(ValueError, match="`step`"):
        match(*measures, UnbalancedGromovWasserstein(9.0), Alternation(step=1.0))


@slow
def test_a_match_begins_where_it_is_told_and_on_a_sample(sols, measures, rng):
    problem = UnbalancedGromovWasserstein((9.0, 6.0), SquaredDistance())
    again = match(*measures, problem, SOLVER, start=sols["squared"])
    assert_allclose(again.objective, sols["squared"].objective, rtol=1e-9)
    assert len(again.starts.objective) == 1
    mu = Measure((rng.gamma(1.5, size=(90, 2)) - 1.5) * np.array([2.0, 0.7]))
    nu = Measure(mu.points[:, ::-1])
    full, sampled = (match(mu, nu, problem, Alternation(0.05, sample=size)) for size in (None, 50))
    assert_allclose(sampled.objective, full.objective, rtol=1e-3)
    assert sampled.starts.refined.any() and sampled.coupling.shape == (90, 90)


@slow
def test_float32_agrees_to_its_precision(sols, measures):
    small = [Measure(m.points.astype(jnp.float32), m.weights) for m in measures]
    rough = Alternation(0.2, axes=1, tolerance=1e-4, marginal_tolerance=1e-5)
    for kind, cost in KINDS.items():
        sol = match(*small, UnbalancedGromovWasserstein((9.0, 6.0), cost), rough)
        assert sol.transform.dtype == jnp.float32
        assert_allclose(sol.objective, sols[kind].objective, rtol=1e-3)
        assert_allclose(sol.coupling.mass, sols[kind].coupling.mass, rtol=1e-3)


@slow
def test_what_fits_badly_is_left_unmatched(rng):
    x = (rng.gamma(1.5, size=(25, 2)) - 1.5) * np.array([2.0, 0.7])
    y = np.concatenate([x[:, ::-1], np.full((5, 2), 12.0) + rng.normal(size=(5, 2))])
    mu, nu = Measure(x, np.ones(25)), Measure(y, np.ones(30))
    sol = match(mu, nu, UnbalancedGromovWasserstein(100.0, SquaredDistance()), Alternation(0.001))
    received = np.asarray(sol.coupling.marginals[1])
    assert received[25:].max() < 0.01 * received[:25].mean()
    assert np.mean(np.asarray(sol.top(1)[0])[:, 0] == np.arange(25)) >= 0.9


@slow
def test_far_atoms_that_hold_the_axes_do_not_decide(rng):
    """Of 16 starts, eight from the cores: axes of the whole measure are those of the outliers."""
    x = (rng.gamma(1.5, size=(60, 3)) - 1.5) * np.linspace(2, 0.5, 3)
    y = np.concatenate([x[:, ::-1], 12 + rng.normal(size=(6, 3))])
    mu, nu = Measure(x, np.full(60, 1 / 60)), Measure(y, np.full(66, 1 / 60))
    problem = UnbalancedGromovWasserstein(100.0, SquaredDistance())
    sol = match(mu, nu, problem, Alternation(0.002), throw=False)
    received = np.asarray(sol.coupling.marginals[1])
    assert received[60:].max() < 0.01 * received[:60].mean() and sol.coupling.mass > 0.8
    assert len(sol.starts.objective) == 16


@slow
def test_learnt_costs_take_prices_with_inner_products(measures):
    mu, nu = measures
    sol = match(mu, nu, CostRegularized(L1(0.1), rho=(2.0, 3.0)), SOLVER)
    plan, m = np.asarray(sol.coupling.matrix), np.asarray(sol.transform)
    x, y = (np.asarray(measure.points - measure.mean) for measure in (mu, nu))
    a, b = (np.asarray(measure.weights / measure.mass) for measure in (mu, nu))
    paid = 2 * kl(plan.sum(axis=1), a) + 3 * kl(plan.sum(axis=0), b)
    value = sol.task.regularizer.value(m) - np.sum(m * (y.T @ plan.T @ x)) + paid
    assert_allclose(plan.sum(), 1, rtol=1e-9)
    assert_allclose(sol.value, value, rtol=1e-9)
    assert_allclose(
        sol.objective, value + sol.epsilon * kl(plan.ravel(), np.outer(a, b).ravel()), rtol=1e-9
    )
    balanced = match(mu.normalize(), nu.normalize(), CostRegularized(L1(0.1)), SOLVER)
    large = match(mu, nu, CostRegularized(L1(0.1), rho=1e6), SOLVER)
    assert_allclose(large.objective, balanced.objective, rtol=1e-3)
    with pytest.raises(ValueError, match="`known`"):
        match(mu, nu, CostRegularized(rho=1.0, known=KnownPairs([0], [0])))


@slow
def test_at_a_low_price_few_atoms_are_matched(measures):
    problem = UnbalancedGromovWasserstein(0.02, SquaredDistance())
    sol = match(*measures, problem, Alternation(1e-4, axes=1))
    plan = np.asarray(sol.coupling.matrix)
    assert plan.sum() < 0.3 and plan.max() > 0.5 * plan.sum()


def test_different_masses_without_a_price_are_refused(measures):
    for problem in (GromovWasserstein(), UnbalancedGromovWasserstein(np.inf)):
        with pytest.raises(ValueError, match="total mass"):
            match(*measures, problem)
    with pytest.raises(ValueError, match="rho"):
        UnbalancedGromovWasserstein(0.0)
