"""Starts from clusters: a coarse problem, the large one among fewer couplings, and its optima."""

import itertools

import jax.random as jr
import numpy as np
import pytest
from matching_problems import planted, random_measure
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import (
    L1,
    Alternation,
    CostRegularized,
    FusedGromovWasserstein,
    GromovWasserstein,
    InnerProduct,
    SharedCost,
    SquaredDistance,
    Support,
    UnbalancedGromovWasserstein,
    match,
    support_recovery,
)
from meanfield.matching.clusters import (
    _root,
    cluster_starts,
    clusters,
    coarsened,
    lowered,
    reflected,
)


KEY = jr.key(0)


def labelled(rng, n, d):
    """Three groups far apart, in random order, their weights, and the group of each."""
    labels = rng.permutation(np.arange(n) % 3)
    points = 20 * np.eye(3, d)[labels] + rng.normal(size=(n, d))
    return points, rng.dirichlet(np.ones(n)), labels


@pytest.mark.parametrize("cost", [InnerProduct(), SquaredDistance()], ids=["inner", "squared"])
def test_the_coarse_problem_is_the_large_one_among_products_of_clusters(cost, rng):
    (x, a, _), (y, b, _) = labelled(rng, 14, 4), labelled(rng, 11, 3)
    table, alpha = rng.normal(size=(14, 11)), 0.7
    mu, nu = Measure(x, a), Measure(y, b)
    task = FusedGromovWasserstein(SharedCost(table), alpha, cost).task(mu, nu)
    coarse = coarsened(task, 3, _root(task), KEY)
    left, right = (
        parts / parts.sum(axis=0)
        for parts in (
            a[:, None] * (clusters(np.asarray(task.x), a, 3, KEY)[:, None] == np.arange(3)),
            b[:, None] * (clusters(np.asarray(task.y), b, 3, KEY)[:, None] == np.arange(3)),
        )
    )
    cx, cy = (
        z @ z.T if isinstance(cost, InnerProduct) else np.sum((z[:, None] - z) ** 2, axis=-1)
        for z in (x - a @ x, y - b @ y)
    )

    def large(plan):
        whole = left @ plan @ right.T
        squares = (cx[:, :, None, None] - cy) ** 2
        distortion = np.einsum("ikjl,ij,kl->", squares, whole, whole)
        return alpha * distortion + (1 - alpha) * np.sum(whole * table)

    one = np.outer(coarse.a, coarse.b)
    two = lowered(coarse, rng.normal(size=(3, 3))).plan
    assert_allclose(large(two) - large(one), coarse.value(two) - coarse.value(one), rtol=1e-8)
    step = 1e-6 * (two - one)
    slope = (coarse.value(one + step) - coarse.value(one - step)) / 2e-6
    assert_allclose(np.sum(coarse.costs(coarse.cross(one)) * (two - one)), slope, rtol=1e-6)


def test_reflections_find_the_best_of_all_assignments(rng):
    task = CostRegularized().task(
        *(Measure(rng.normal(size=(6, d))) for d in (5, 4))
    )  # atoms are clusters
    coarse = coarsened(task, 6, _root(task), KEY)
    best = min(
        coarse.value(np.eye(6)[list(order)] / 6) for order in itertools.permutations(range(6))
    )
    found = [reflected(coarse, lowered(coarse, rng.normal(size=(6, 6))), rng) for _ in range(10)]
    assert_allclose(min(vertex.value for vertex in found), best, rtol=1e-9)
    start = lowered(coarse, rng.normal(size=(6, 6)))
    assert reflected(coarse, start, rng).value <= start.value


def test_groups_far_apart_are_the_clusters(rng):
    x, a, labels = labelled(rng, 40, 5)
    found = clusters(x, a, 3, KEY)
    assert len({*zip(labels, found, strict=True)}) == len(np.unique(found)) == 3


def test_absent_atoms_order_and_copies_leave_the_clusters(rng):
    x, a, _ = labelled(rng, 40, 5)
    order = np.append(rng.permutation(40), [3, 0])  # atom 3 as two halves; an absent one at the end
    shares = a[order]
    shares[[int(np.argmax(order == 3)), 40]] /= 2
    shares[41] = 0
    here, there = clusters(x, a, 3, KEY), clusters(x[order], shares, 3, KEY)
    assert len({*zip(here[order][:41], there[:41], strict=True)}) == 3


def test_fewer_atoms_than_clusters_are_clusters_each(rng):
    x = np.repeat(rng.normal(size=(4, 2)), 3, axis=0)
    assert len(np.unique(clusters(x, np.full(12, 1 / 12), 7, KEY))) == 4
    task = GromovWasserstein().task(Measure(x), random_measure(rng, 3, 5))
    assert np.isfinite(cluster_starts(task, 7, KEY)).all()


def test_free_marginals_take_no_clusters(rng):
    mu, nu = random_measure(rng, 6, 3), random_measure(rng, 5, 2)
    with pytest.raises(ValueError, match="`clusters`"):
        match(mu, nu, UnbalancedGromovWasserstein(1.0), Alternation(clusters=3))


@pytest.mark.slow
def test_a_sparse_map_between_clusters_is_recovered_from_unpaired_points():
    """Of a seed whose map the starts along axes do not find."""
    x, y, truth, _ = planted(3)
    mu, nu = Measure(x), Measure(y[np.random.default_rng(3).permutation(len(y))])
    solver = Alternation(0.0002, hottest=20, axes=1, clusters=24, max_steps=40)
    problem = CostRegularized(L1(0.005), SquaredDistance())
    sol = match(mu, nu, problem, solver, throw=False)
    for share in (0.0, 0.1):
        size = np.abs(np.asarray(sol.transform))
        support = CostRegularized(Support(size > share * size.max()), SquaredDistance())
        sol = match(mu, nu, support, Alternation(0.0002), start=sol, throw=False)
    scores = support_recovery(sol.transform, truth)
    assert scores["precision"] == scores["recall"] == 1 and scores["error"] <= 0.01
