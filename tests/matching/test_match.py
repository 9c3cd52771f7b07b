"""What a match holds, the laws of measures, known pairs, free marginals, and bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from matching_problems import random_measure, skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import (
    L1,
    Alternation,
    CostRegularized,
    GromovWasserstein,
    InnerProduct,
    KnownPairs,
    Rank,
    SharedCost,
    SquaredDistance,
    match,
)


SOLVER = Alternation(0.2, tolerance=1e-7, marginal_tolerance=1e-8)


@pytest.fixture(scope="module")
def measures():
    rng = np.random.default_rng(3)
    return random_measure(rng, 14, 3, mean=1.0), random_measure(rng, 11, 2)


@pytest.fixture(scope="module")
def sol(measures):
    return match(*measures, CostRegularized(L1(0.05)), SOLVER)


slow = pytest.mark.slow


@slow
def test_the_parts_of_a_match_agree(sol, measures):
    mu, nu = measures
    plan = np.asarray(sol.coupling.matrix)
    assert_allclose(plan.sum(axis=1), mu.weights, atol=1e-7)
    assert_allclose(plan.sum(axis=0), nu.weights, atol=1e-7)
    x, y = (np.asarray(m.points - m.mean) for m in measures)
    cross, m = y.T @ plan.T @ x, np.asarray(sol.transform)
    threshold = 0.05 * np.sqrt(
        np.diag(x.T * mu.weights @ x).max() * np.diag(y.T * nu.weights @ y).max()
    )
    assert_allclose(m, np.sign(cross) * np.maximum(abs(cross) - threshold, 0), atol=1e-5)
    value = -np.sum(m * cross) + np.sum(m**2) / 2 + threshold * abs(m).sum()
    assert_allclose(sol.value, value, rtol=1e-6)
    outer = np.outer(mu.weights, nu.weights)
    entropy = np.sum(plan * np.log(np.maximum(plan, 1e-300) / outer))
    assert_allclose(sol.objective, value + sol.epsilon * entropy, rtol=1e-6)
    assert_allclose(
        sol.correlation,
        np.linalg.norm(cross)
        / np.sqrt((x.T * mu.weights @ x).trace() * (y.T * nu.weights @ y).trace()),
    )
    assert not sol.collapsed and sol.objective == sol.starts.objective.min()


@slow
def test_atoms_map_to_the_mean_of_their_partners(sol, measures):
    mu, nu = measures
    assert_allclose(sol.map(mu.points), sol.coupling.barycentric(nu.points), atol=1e-6)
    assert_allclose(
        sol.inverse_map(nu.points), sol.coupling.transpose.barycentric(mu.points), atol=1e-6
    )
    assert_allclose(sol.linear_map(mu.mean[None])[0], nu.mean, atol=1e-12)


@slow
def test_top_lists_the_largest_entries_of_each_row(sol, measures):
    columns, shares = sol.top(3)
    rows = np.asarray(sol.coupling.matrix) / np.asarray(measures[0].weights)[:, None]
    assert_allclose(shares, -np.sort(-rows, axis=1)[:, :3], atol=1e-6)
    assert_allclose(np.take_along_axis(rows, np.asarray(columns), 1), shares, atol=1e-6)
    with pytest.raises(ValueError, match="`k`"):
        sol.top(12)


@slow
def test_starts_are_grouped_by_their_optimum(sol):
    starts = sol.starts
    assert starts.refined.all() and len(starts.objective) == 4
    best = starts.optimum == starts.optimum[np.argmin(starts.objective)]
    assert_allclose(starts.transforms[best][0], sol.transform, atol=0.05)
    others = starts.objective[~best]
    gap = (others.min() - starts.objective.min()) / abs(starts.objective.min())
    assert_allclose(starts.gap, gap)
    assert starts.gap > 0


def same(one, other):
    assert_allclose(one.transform, other.transform, atol=1e-4)
    assert_allclose(one.objective, other.objective, rtol=1e-6)


@slow
def test_absent_atoms_change_nothing_even_if_they_hold_nan(sol, measures):
    mu, nu = measures
    points = jnp.concatenate([mu.points, jnp.full((2, 3), jnp.nan)])
    padded = Measure(points, jnp.concatenate([mu.weights, jnp.zeros(2)]))
    other = match(padded, nu.pad(13), CostRegularized(L1(0.05)), SOLVER)
    same(sol, other)
    assert_allclose(other.coupling.matrix[:14, :11], sol.coupling.matrix, atol=1e-5)
    assert not other.coupling.matrix[14:].any() and not other.coupling.matrix[:, 11:].any()
    assert np.isfinite(other.map(mu.points)).all()


@slow
def test_order_and_splitting_change_nothing(sol, measures):
    mu, nu = measures
    order = np.random.default_rng(0).permutation(14)
    problem = CostRegularized(L1(0.05))
    same(sol, match(Measure(mu.points[order], mu.weights[order]), nu, problem, SOLVER))
    same(sol, match(mu.split(2, [0.3, 0.7]), nu.split(2), problem, SOLVER))


@slow
def test_masses_count_as_shares_and_the_coupling_carries_them(sol, measures):
    mu, nu = (Measure(m.points, 5 * m.weights) for m in measures)
    other = match(mu, nu, CostRegularized(L1(0.05)), SOLVER)
    same(sol, other)
    assert_allclose(other.coupling.matrix, 5 * sol.coupling.matrix, atol=1e-5)


@slow
def test_float32_agrees_to_its_precision(sol, measures):
    small = [Measure(m.points.astype(jnp.float32), m.weights) for m in measures]
    other = match(
        *small, CostRegularized(L1(0.05)), Alternation(0.2, tolerance=1e-5, marginal_tolerance=1e-5)
    )
    assert other.transform.dtype == jnp.float32
    assert_allclose(other.transform, sol.transform, atol=2e-3)
    assert_allclose(other.objective, sol.objective, rtol=1e-3)


@slow
def test_blocks_and_a_kernel_that_is_kept_agree(sol, measures):
    blocked = Alternation(0.2, tolerance=1e-7, marginal_tolerance=1e-8, memory=0)
    same(sol, match(*measures, CostRegularized(L1(0.05)), blocked))


@slow
def test_a_match_begins_where_it_is_told(sol, measures):
    again = match(*measures, CostRegularized(L1(0.05)), SOLVER, start=sol)
    same(sol, again)
    assert len(again.starts.objective) == 1 and again.starts.gap == np.inf
    with pytest.raises(ValueError, match="`start`"):
        match(*measures, start=np.ones((3, 2)))


@slow
def test_random_starts_depend_on_the_key_alone(measures):
    solver = Alternation(0.2, random=3)
    one, two = (match(*measures, solver=solver, key=jr.key(1)) for _ in range(2))
    assert len(one.starts.objective) == 7
    assert (one.starts.objective == two.starts.objective).all()


@slow
def test_a_sample_finds_the_optimum_of_all_atoms(rng):
    x = skewed_points(rng, 150, 3)
    mu, nu = Measure(x), Measure((x[:, :2] + 0.1)[rng.permutation(150)])
    full, sampled = (match(mu, nu, solver=Alternation(0.1, sample=size)) for size in (None, 90))
    assert_allclose(sampled.objective, full.objective, rtol=1e-4)
    assert sampled.starts.refined.any() and sampled.coupling.shape == (150, 150)


@slow
def test_known_pairs_are_kept_and_decide_between_mirror_images(rng):
    x = rng.normal(size=(24, 2)) * np.array([2.0, 1.0])
    x = np.concatenate([x, -x])  # symmetric: both signs of every axis are as good
    order = rng.permutation(48)
    mu, nu = Measure(x), Measure(x[order])
    cols = np.argsort(order)[:6]
    sol = match(mu, nu, CostRegularized(known=KnownPairs(np.arange(6), cols)), Alternation(0.02))
    plan = np.asarray(sol.coupling.matrix)
    assert_allclose(plan[np.arange(6), cols], 1 / 48, rtol=1e-6)
    assert_allclose(plan.sum(axis=1), 1 / 48, rtol=1e-3)
    assert np.trace(np.asarray(sol.transform)) > 0
    assert (order[np.argmax(plan, axis=1)] == np.arange(48)).mean() > 0.9


@slow
def test_the_value_counts_known_pairs(rng):
    mu, nu = random_measure(rng, 14, 3), random_measure(rng, 11, 2)
    known = KnownPairs([0, 3], [5, 1])
    x, y = (np.asarray(m.points - m.mean) for m in (mu, nu))
    for kind, kernel in ((InnerProduct(), lambda z: z @ z.T), (SquaredDistance(), distances)):
        sol = match(mu, nu, GromovWasserstein(kind, known=known), SOLVER)
        plan = np.asarray(sol.coupling.matrix)
        gaps = (kernel(x)[:, :, None, None] - kernel(y)) ** 2
        assert_allclose(sol.value, np.einsum("ikjl,ij,kl->", gaps, plan, plan), rtol=1e-6)


def distances(z):
    return np.sum((z[:, None] - z) ** 2, axis=-1)


@slow
def test_free_marginals_leave_what_has_no_partner(rng):
    x = skewed_points(rng, 40, 3)
    y = np.concatenate([x[:, :2], np.full((10, 2), 30.0) + rng.normal(size=(10, 2))])
    mu, nu = Measure(x, np.full(40, 1.0)), Measure(y, np.full(50, 1.0))
    start = np.eye(2, 3)
    problem = CostRegularized(cost=SquaredDistance(), rho=2.0, center=False)
    sol = match(mu, nu, problem, Alternation(0.1, relative=False), start=start)
    received = np.asarray(sol.coupling.marginals[1])
    assert received[40:].max() < 0.01 * received[:40].mean()
    assert_allclose(sol.transform, start, atol=0.2)
    with pytest.raises(ValueError, match="total mass"):
        match(mu, nu)


@slow
def test_squared_distances_find_their_own_starts_with_free_marginals(measures):
    """They begin at what inner products find, whose free mass would grow without bound."""
    sol = match(*measures, CostRegularized(cost=SquaredDistance(), rho=5.0))
    assert 0.2 < float(jnp.sum(sol.coupling.marginals[0])) < 1
    assert sol.correlation > 0.1 and np.isfinite(sol.starts.objective).all()


@slow
def test_a_large_price_balances(measures):
    problem = {"regularizer": L1(0.02), "cost": SquaredDistance()}
    solver = Alternation(0.5, tolerance=1e-5, marginal_tolerance=1e-6)
    balanced = match(*measures, CostRegularized(**problem), solver)
    free = match(*measures, CostRegularized(**problem, rho=1e4), solver, start=balanced)
    assert_allclose(free.transform, balanced.transform, atol=1e-2)
    assert_allclose(free.objective, balanced.objective, rtol=1e-2)


@slow
def test_rank_one_has_rank_one(measures):
    sol = match(*measures, CostRegularized(Rank(1)), SOLVER)
    values = np.linalg.svd(np.asarray(sol.transform), compute_uv=False)
    assert values[1] < 1e-6 * values[0]


def test_a_match_is_a_tree_of_arrays(measures):
    task = CostRegularized().task(*measures)
    leaves = jax.tree.leaves(eqx.filter(task, eqx.is_array))
    assert all(hasattr(leaf, "shape") for leaf in leaves)


BAD = {
    "no mass": (lambda x: (x, np.zeros(5)), "must have mass"),
    "one point": (lambda x: (np.ones((5, 3)), None), "two different points"),
    "nan": (
        lambda x: (np.where(np.eye(5, 3, dtype=bool), np.nan, x), None),
        "finite points; atom 0",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_measures_that_cannot_be_matched_are_refused(kind, rng):
    make, words = BAD[kind]
    with pytest.raises(ValueError, match=words):
        match(Measure(*make(rng.normal(size=(5, 3)))), random_measure(rng, 5, 2))


def test_settings_that_do_not_fit_are_refused(rng):
    mu, nu = random_measure(rng, 5, 3), random_measure(rng, 4, 2)
    with pytest.raises(ValueError, match="ridge"):
        CostRegularized(ridge=0.0)
    with pytest.raises(ValueError, match="rho"):
        CostRegularized(rho=-1.0)
    with pytest.raises(ValueError, match="`matrix` must have shape"):
        match(mu, nu, CostRegularized(shared=SharedCost(np.ones((4, 5)))))
    with pytest.raises(ValueError, match="indices below"):
        match(mu, nu, CostRegularized(known=KnownPairs([7], [0])))
    with pytest.raises(ValueError, match="at most once"):
        KnownPairs([0, 0], [1, 2])
    with pytest.raises(ValueError, match="one entry"):
        KnownPairs([0, 1], [1])


@slow
def test_constant_features_get_no_entry(rng):
    x = np.concatenate([skewed_points(rng, 14, 2), np.ones((14, 1))], axis=1)
    sol = match(Measure(x), random_measure(rng, 11, 2).normalize(), solver=Alternation(0.2))
    assert_allclose(np.asarray(sol.transform)[:, 2], 0, atol=1e-12)


@slow
def test_fewer_samples_than_features_are_matched(rng):
    mu, nu = random_measure(rng, 5, 8), random_measure(rng, 4, 6)
    for cost in (InnerProduct(), SquaredDistance()):
        sol = match(mu, nu, CostRegularized(L1(0.01), cost), Alternation(0.2), throw=False)
        assert np.isfinite(sol.transform).all() and not sol.collapsed
