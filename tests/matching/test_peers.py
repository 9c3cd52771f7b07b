"""Gromov-Wasserstein between any matrices, by POT, OTT and our steps, from our starts."""

import jax.numpy as jnp
import numpy as np
import pytest
from matching_problems import random_measure, skewed_points
from numpy.testing import assert_allclose

from meanfield import RESULTS, Measure
from meanfield.matching import (
    Alternation,
    ConditionalGradient,
    CostRegularized,
    Dissimilarities,
    FusedGromovWasserstein,
    GromovWasserstein,
    KnownPairs,
    KullbackLeiblerLoss,
    MirrorDescent,
    MirrorDescentOTT,
    SharedCost,
    match,
)


ot = pytest.importorskip("ot")
SIZE, OTHER = 12, 9


def distances(x):
    return np.linalg.norm(x[:, None] - x, axis=-1)


def brute_force(loss, c, d, plan):
    return np.einsum("ikjl,ij,kl->", loss(c[:, :, None, None], d), plan, plan)


def square(s, t):
    return (s - t) ** 2


def divergence(s, t):
    return s * np.log(s / t) - s + t


def weighted(rng, n):
    return Measure(rng.normal(size=(n, 2)), 3 * rng.dirichlet(np.ones(n)))


@pytest.fixture
def pair(rng):
    return weighted(rng, SIZE), weighted(rng, OTHER)


def test_the_exact_value_is_that_of_pot_and_no_worse_than_from_its_own_start(pair, rng):
    c, d = distances(rng.normal(size=(SIZE, 3))), distances(rng.normal(size=(OTHER, 2)))
    mu, nu = pair
    problem = GromovWasserstein(Dissimilarities(c, d))
    sol = match(mu, nu, problem, ConditionalGradient())
    a, b = np.asarray(mu.weights) / 3, np.asarray(nu.weights) / 3
    plan = np.asarray(sol.coupling.matrix) / 3
    assert_allclose(plan.sum(axis=1), a, atol=1e-10)
    assert_allclose(plan.sum(axis=0), b, atol=1e-10)
    assert_allclose(sol.value, brute_force(square, c, d, plan), rtol=1e-10)
    constants = ot.gromov.init_matrix(c, d, a, b, "square_loss")
    assert_allclose(sol.value, ot.gromov.gwloss(*constants, plan), rtol=1e-10)
    assert sol.value <= ot.gromov.gromov_wasserstein2(c, d, a, b, "square_loss") + 1e-9
    assert len(sol.starts.objective) == 8 and sol.objective == sol.starts.objective.min()


def test_two_exponentials_of_distances_are_compared_by_the_divergence(pair, rng):
    c, d = (np.exp(-distances(rng.normal(size=(n, 2)))) for n in (SIZE, OTHER))
    problem = GromovWasserstein(Dissimilarities(c, d, KullbackLeiblerLoss()))
    sol = match(*pair, problem, ConditionalGradient())
    plan = np.asarray(sol.coupling.matrix) / 3
    assert_allclose(sol.value, brute_force(divergence, c, d, plan), rtol=1e-10)
    assert sol.epsilon == 0 and not sol.collapsed


def test_a_second_cost_makes_it_the_fused_problem(pair, rng):
    c, d = distances(rng.normal(size=(SIZE, 3))), distances(rng.normal(size=(OTHER, 2)))
    table = rng.uniform(size=(SIZE, OTHER))
    problem = FusedGromovWasserstein(SharedCost(table), 0.6, Dissimilarities(c, d))
    sol = match(*pair, problem, ConditionalGradient())
    plan = np.asarray(sol.coupling.matrix) / 3
    fused = 0.6 * brute_force(square, c, d, plan) + 0.4 * np.sum(plan * table)
    assert_allclose(sol.value, fused, rtol=1e-10)


def test_functions_of_points_are_their_matrices_and_absent_atoms_are_not_read(pair, rng):
    mu, nu = pair
    c, d = (
        np.sum(np.abs(x[:, None] - x), axis=-1) for x in map(np.asarray, (mu.points, nu.points))
    )

    def kernel(x, y):
        return jnp.sum(jnp.abs(x - y))

    matrices = match(mu, nu, GromovWasserstein(Dissimilarities(c, d)), ConditionalGradient())
    padded = np.full((SIZE + 1, SIZE + 1), np.nan)
    padded[:SIZE, :SIZE] = c
    for measure, first in ((mu, kernel), (mu.pad(SIZE + 1), padded)):
        problem = GromovWasserstein(Dissimilarities(first, kernel))
        sol = match(measure, nu, problem, ConditionalGradient())
        assert_allclose(sol.value, matrices.value, rtol=1e-9)
        assert not sol.coupling.matrix[SIZE:].any()


@pytest.mark.slow
def test_entropic_steps_agree_with_alternation_and_with_ott(rng):
    mu, nu = random_measure(rng, SIZE, 3), random_measure(rng, OTHER, 2)
    problem, solver = GromovWasserstein(), Alternation(0.2, tolerance=1e-7, marginal_tolerance=1e-9)
    ours = match(mu, nu, problem, solver)
    steps = match(mu, nu, problem, MirrorDescent(0.2, tolerance=1e-6))
    assert_allclose(steps.epsilon, ours.epsilon, rtol=1e-10)
    assert_allclose(steps.value, ours.value, rtol=1e-4)
    assert_allclose(steps.objective, ours.objective, rtol=1e-6)
    pytest.importorskip("ott")
    theirs = match(mu, nu, problem, MirrorDescentOTT(0.2), start=steps)
    assert_allclose(theirs.objective, steps.objective, rtol=1e-4)
    assert len(theirs.starts.objective) == 1


@pytest.mark.slow
def test_from_the_product_pot_collapses_and_from_our_starts_it_does_not(rng):
    x = skewed_points(rng, 20, 3)
    x -= x.mean(axis=0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(20)
    y = (x @ turn.T)[order]
    sol = match(Measure(x), Measure(y), GromovWasserstein(), MirrorDescent(0.05))
    share, kernels = np.full(20, 0.05), (x @ x.T, y @ y.T)
    stuck = ot.gromov.entropic_gromov_wasserstein(
        *kernels, share, share, "square_loss", epsilon=sol.epsilon, solver="PGD"
    )
    assert_allclose(stuck, np.outer(share, share), atol=1e-9)
    assert not sol.collapsed and sol.correlation > 0.5
    told = match(
        Measure(x), Measure(y), GromovWasserstein(), MirrorDescent(0.05), start=_as(sol, stuck),
        throw=False,
    )  # fmt: skip
    assert told.collapsed and told.result == RESULTS.match_collapsed
    exact = match(Measure(x), Measure(y), GromovWasserstein(), ConditionalGradient())
    assert (order[np.asarray(exact.top(1)[0])[:, 0]] == np.arange(20)).all()


def _as(sol, plan):
    import equinox as eqx

    return eqx.tree_at(lambda match: match.coupling.values, sol, jnp.asarray(plan))


@pytest.mark.slow
def test_a_coupling_that_is_not_stationary_is_reported(pair, rng):
    c, d = distances(rng.normal(size=(SIZE, 3))), distances(rng.normal(size=(OTHER, 2)))
    sol = match(
        *pair,
        GromovWasserstein(Dissimilarities(c, d)),
        MirrorDescent(0.02, axes=1, max_steps=1, tolerance=1e-6),
        throw=False,
    )
    assert sol.result == RESULTS.transform_not_settled


def test_what_does_not_fit_is_refused(pair, rng):
    mu, nu = pair
    c, d = distances(rng.normal(size=(SIZE, 3))), distances(rng.normal(size=(OTHER, 2)))
    problem = GromovWasserstein(Dissimilarities(c, d))
    with pytest.raises(ValueError, match="ConditionalGradient"):
        match(mu, nu, problem)
    with pytest.raises(ValueError, match="Use Alternation"):
        match(mu, nu, CostRegularized(), ConditionalGradient())
    with pytest.raises(ValueError, match="total mass"):
        match(mu, Measure(nu.points, 2 * nu.weights), problem, ConditionalGradient())
    with pytest.raises(ValueError, match="`first` must have shape"):
        match(nu, mu, problem, ConditionalGradient())
    with pytest.raises(ValueError, match="symmetric"):
        bad = GromovWasserstein(Dissimilarities(np.triu(c), d))
        match(mu, nu, bad, ConditionalGradient())
    with pytest.raises(ValueError, match="must be positive"):
        bad = GromovWasserstein(Dissimilarities(c, d, KullbackLeiblerLoss()))
        match(mu, nu, bad, ConditionalGradient())
    with pytest.raises(ValueError, match="known"):
        bad = GromovWasserstein(Dissimilarities(c, d), known=KnownPairs([0], [0]))
        match(mu, nu, bad, ConditionalGradient())
    sol = match(mu, nu, problem, ConditionalGradient())
    with pytest.raises(ValueError, match="maps no new points"):
        sol.map(mu.points)
