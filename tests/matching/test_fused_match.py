"""Fused Gromov-Wasserstein against POT's value, its two limits, and the laws of measures."""

import jax.numpy as jnp
import numpy as np
import pytest
from matching_problems import random_measure
from numpy.testing import assert_allclose

from meanfield import Measure, Sinkhorn, optimal_transport
from meanfield.matching import (
    Alternation,
    ConditionalGradient,
    CostRegularized,
    FusedGromovWasserstein,
    GromovWasserstein,
    InnerProduct,
    KnownPairs,
    SharedCost,
    SharedFeatures,
    SquaredDistance,
    match,
)


KINDS = {"inner": InnerProduct(), "squared": SquaredDistance()}
SOLVER = Alternation(0.2, axes=2, tolerance=1e-8, marginal_tolerance=1e-11)


@pytest.fixture
def pair(rng):
    """Two measures, and the two features that their atoms share."""
    mu, nu = random_measure(rng, 14, 3), random_measure(rng, 11, 2)
    return mu, nu, rng.normal(size=(14, 2)), rng.normal(size=(11, 2))


def matrices(kind, mu, nu):
    x, y = (np.asarray(measure.points - measure.mean) for measure in (mu, nu))
    if kind == "inner":
        return x @ x.T, y @ y.T
    return tuple(np.sum((z[:, None] - z) ** 2, axis=-1) for z in (x, y))


def table(u, v):
    return np.sum((u[:, None] - v) ** 2, axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_value_is_the_loss_of_pot_at_the_coupling(kind, pair):
    ot = pytest.importorskip("ot")
    mu, nu, u, v = pair
    for alpha in (0.3, 0.7):
        sol = match(
            mu, nu, FusedGromovWasserstein(SharedFeatures(u, v), alpha, KINDS[kind]), SOLVER
        )
        plan = np.asarray(sol.coupling.matrix)
        weights = (np.asarray(mu.weights), np.asarray(nu.weights))
        _, log = ot.gromov.fused_gromov_wasserstein(
            table(u, v), *matrices(kind, mu, nu), *weights,
            loss_fun="square_loss", alpha=alpha, G0=plan, log=True, max_iter=0,
        )  # fmt: skip
        assert_allclose(sol.value, log["loss"][0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_with_alpha_one_it_is_gromov_wasserstein(kind, pair):
    mu, nu, u, v = pair
    fused = match(mu, nu, FusedGromovWasserstein(SharedFeatures(u, v), 1, KINDS[kind]), SOLVER)
    plain = match(mu, nu, GromovWasserstein(KINDS[kind]), SOLVER)
    assert_allclose(fused.value, plain.value, rtol=1e-10)
    assert_allclose(fused.starts.objective, plain.starts.objective, rtol=1e-10)
    assert_allclose(fused.map(mu.points), plain.map(mu.points), rtol=1e-8)  # maps new points, too


@pytest.mark.slow
def test_as_alpha_vanishes_it_becomes_transport_between_the_shared_features(pair):
    mu, nu, u, v = pair
    solver = Alternation(0.3, relative=False, axes=2, tolerance=1e-6, marginal_tolerance=1e-11)
    sol = match(mu, nu, FusedGromovWasserstein(SharedFeatures(u, v), 1e-9), solver)
    plain = optimal_transport(
        Measure(jnp.asarray(u), mu.weights),
        Measure(jnp.asarray(v), nu.weights),
        solver=Sinkhorn(epsilon=0.3, relative=False, tolerance=1e-11),
    )
    assert_allclose(sol.coupling.matrix, plain.coupling.matrix, atol=1e-7)
    assert_allclose(sol.value, np.sum(np.asarray(plain.coupling.matrix) * table(u, v)), rtol=1e-6)


@pytest.mark.slow
def test_features_and_their_matrix_are_one_problem(pair):
    mu, nu, u, v = pair
    features = match(mu, nu, FusedGromovWasserstein(SharedFeatures(u, v), 0.7), SOLVER)
    matrix = match(mu, nu, FusedGromovWasserstein(SharedCost(table(u, v)), 0.7), SOLVER)
    assert_allclose(features.value, matrix.value, rtol=1e-7)
    with pytest.raises(ValueError, match="barycentric"):
        features.map(mu.points)


@pytest.mark.slow
def test_absent_atoms_order_and_copies_change_nothing(pair, rng):
    mu, nu, u, v = pair
    sol = match(mu, nu, FusedGromovWasserstein(SharedFeatures(u, v), 0.6), SOLVER)
    order = np.append(rng.permutation(14), [3, 0])  # atom 3 as two halves; an absent one at the end
    weights = np.asarray(mu.weights)[order]
    weights[[int(np.argmax(order == 3)), 14]] /= 2
    weights[15] = 0
    other = Measure(np.asarray(mu.points)[order], weights)
    again = match(other, nu, FusedGromovWasserstein(SharedFeatures(u[order], v), 0.6), SOLVER)
    assert_allclose(again.value, sol.value, rtol=1e-7)
    assert_allclose(again.transform, sol.transform, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_prices_make_it_the_unbalanced_problem(pair):
    mu, nu, u, v = pair
    heavy = Measure(mu.points, 1.5 * mu.weights)
    problem = FusedGromovWasserstein(SharedFeatures(u, v), 0.7, SquaredDistance(), rho=(9.0, 6.0))
    sol = match(heavy, nu, problem, SOLVER)
    plan = np.asarray(sol.coupling.matrix)
    cx, cy = matrices("squared", mu, nu)
    distortion = np.einsum("ikjl,ij,kl->", (cx[:, :, None, None] - cy) ** 2, plan, plan)
    value = 0.7 * distortion + 0.3 * plan.sum() * np.sum(plan * table(u, v))
    for rho, p, a in ((9, plan.sum(1), heavy.weights), (6, plan.sum(0), nu.weights)):
        pp, aa = np.outer(p, p), np.outer(a, a)
        value += rho * np.sum(pp * np.log(pp / aa) - pp + aa)
    assert_allclose(sol.value, value, rtol=1e-9)


@pytest.mark.slow
def test_known_pairs_and_decisive_features_are_kept(rng):
    x, order = rng.normal(size=(14, 3)), rng.permutation(14)
    mu, nu = Measure(x), Measure(x[:, :2][order])
    shared = SharedFeatures(np.arange(14.0)[:, None], order[:, None] * 1.0)
    sol = match(mu, nu, FusedGromovWasserstein(shared, 0.01), Alternation(0.05))
    assert (order[np.asarray(sol.top(1)[0])[:, 0]] == np.arange(14)).all()
    known = KnownPairs([0, 1], [5, 6])
    sol = match(mu, nu, FusedGromovWasserstein(shared, 0.5, known=known), Alternation(0.2))
    assert_allclose(np.asarray(sol.coupling.matrix)[[0, 1], [5, 6]], 1 / 14)


@pytest.mark.slow
def test_conditional_gradients_go_on_down_from_an_entropic_match(pair):
    mu, nu, u, v = pair
    problem = FusedGromovWasserstein(SharedFeatures(u, v), 0.5)
    smooth = match(mu, nu, problem, SOLVER)
    exact = match(mu, nu, problem, ConditionalGradient(), start=smooth)
    assert exact.value < smooth.value and exact.epsilon == 0


def test_what_has_no_meaning_is_refused_by_name(pair):
    mu, nu, u, v = pair
    for alpha in (0.0, 1.1, -1.0):
        with pytest.raises(ValueError, match=r"`alpha` must be in \(0, 1\]"):
            FusedGromovWasserstein(SharedFeatures(u, v), alpha)
    with pytest.raises(ValueError, match="a row for each atom"):
        match(nu, mu, FusedGromovWasserstein(SharedFeatures(u, v)))
    with pytest.raises(ValueError, match="`alpha`"):
        CostRegularized(shared=SharedFeatures(u, v), alpha=0)
    free = FusedGromovWasserstein(SharedFeatures(u, v), rho=1.0, known=KnownPairs([0], [0]))
    with pytest.raises(ValueError, match="finite `rho`"):
        match(mu, nu, free)
    with pytest.raises(ValueError, match="`rho`"):
        match(mu, nu, FusedGromovWasserstein(SharedFeatures(u, v), rho=1.0), ConditionalGradient())
