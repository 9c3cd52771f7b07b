"""Gromov-Wasserstein through the cross-moment, against POT's matrices of distances."""

import numpy as np
import pytest
from matching_problems import random_measure, skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import (
    Alternation,
    GromovWasserstein,
    InnerProduct,
    SquaredDistance,
    match,
)


def kernels(kind, x, y):
    if isinstance(kind, InnerProduct):
        return x @ x.T, y @ y.T
    return tuple(np.sum((z[:, None] - z) ** 2, axis=-1) for z in (x, y))


def distortion(kind, x, y, plan):
    """The definition, written out over quadruples."""
    cx, cy = kernels(kind, x, y)
    return np.einsum("ikjl,ij,kl->", (cx[:, :, None, None] - cy) ** 2, plan, plan)


def random_plan(rng, n, m):
    plan = rng.dirichlet(np.full(n * m, 0.3)).reshape(n, m)
    return plan, plan.sum(axis=1), plan.sum(axis=0)


@pytest.mark.parametrize("kind", [InnerProduct(), SquaredDistance()], ids=["inner", "squared"])
@pytest.mark.parametrize("center", [True, False], ids=["centred", "as-given"])
def test_the_energy_of_any_coupling_is_its_distortion(kind, center, rng):
    plan, a, b = random_plan(rng, 6, 7)
    x, y = rng.normal(size=(6, 3)) + 1, rng.normal(size=(7, 2)) - 2
    task = GromovWasserstein(kind, center=center).task(Measure(x, a), Measure(y, b))
    cx, cy = (np.asarray(points) for points in (task.x, task.y))
    cross = cy.T @ plan.T @ cx
    transform = task.transform_for(cross, 0.0, cross, 1.0)
    fixed = -task.norms * np.sum(cx**2, axis=1) @ plan @ np.sum(cy**2, axis=1)
    energy = fixed - np.sum(transform * cross) + task.besides(transform)
    assert_allclose(energy, distortion(kind, cx, cy, plan), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [InnerProduct(), SquaredDistance()], ids=["inner", "squared"])
def test_the_value_is_that_of_pot_at_the_coupling(kind, rng):
    ot = pytest.importorskip("ot")
    mu, nu = random_measure(rng, 14, 3), random_measure(rng, 11, 2)
    sol = match(mu, nu, GromovWasserstein(kind), Alternation(0.2, marginal_tolerance=1e-12))
    x, y = (np.asarray(m.points - m.mean) for m in (mu, nu))
    cx, cy = kernels(kind, x, y)
    a, b = np.asarray(mu.weights), np.asarray(nu.weights)
    constant, hx, hy = ot.gromov.init_matrix(cx, cy, a, b, "square_loss")
    plan = np.asarray(sol.coupling.matrix)
    assert_allclose(sol.value, ot.gromov.gwloss(constant, hx, hy, plan), rtol=1e-8)
    assert_allclose(sol.value, distortion(kind, x, y, plan), rtol=1e-8)


@pytest.mark.slow
def test_a_rotated_cloud_is_matched_point_by_point(rng):
    x = skewed_points(rng, 20, 3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(20)
    for kind in (InnerProduct(), SquaredDistance()):
        sol = match(
            Measure(x),
            Measure((x @ turn.T)[order]),
            GromovWasserstein(kind),
            Alternation(0.02, marginal_tolerance=1e-3),
        )
        assert (order[np.asarray(sol.top(1)[0])[:, 0]] == np.arange(20)).mean() >= 0.9
        assert sol.value < 0.1 * 2 * np.sum(np.cov(x.T) ** 2)  # a tenth of the product's, at most


@pytest.mark.slow
def test_distances_ask_for_no_origin(rng):
    mu, nu = random_measure(rng, 14, 3), random_measure(rng, 11, 2)
    moved = nu.with_points(nu.points + 5)
    one, other = (
        match(mu, target, GromovWasserstein(SquaredDistance()), Alternation(0.2))
        for target in (nu, moved)
    )
    assert_allclose(one.value, other.value, rtol=1e-6)
