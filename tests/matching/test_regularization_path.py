"""Regularization paths: what a match is at one strength, laws along the strengths, bad input."""

import numpy as np
import pytest
from matching_problems import random_measure, skewed_points
from numpy.testing import assert_allclose

from meanfield import RESULTS, Measure
from meanfield.matching import (
    L1,
    Alternation,
    ColumnGroups,
    CostRegularized,
    ElasticNet,
    Nuclear,
    Rank,
    RowGroups,
    SquaredDistance,
    match,
    regularization_path,
)


slow = pytest.mark.slow
SOLVER = Alternation(0.1, tolerance=1e-5, marginal_tolerance=1e-7, axes=2)
STRENGTHS = np.array([0.01, 0.03, 0.1, 0.2, 0.3, 0.9])
KINDS = [L1(), ElasticNet(ridge=0.5), ColumnGroups(), RowGroups(), Nuclear()]


@pytest.fixture(scope="module")
def measures():
    rng = np.random.default_rng(5)
    x = skewed_points(rng, 16, 4)
    return Measure(x, rng.dirichlet(np.ones(16))), random_measure(rng, 13, 3).normalize()


def along(kind, measures, strengths=STRENGTHS, **options):
    return regularization_path(*measures, CostRegularized(kind), strengths, SOLVER, **options)


def penalties(path):
    """R at strength one, from its definition: the objective's slope in the strength."""
    regularizers = [sol.task.regularizer.regularizer for sol in path.matches]
    values = [r.value(m) for r, m in zip(regularizers, path.transforms, strict=True)]
    ridges = [getattr(r, "ridge", 0.0) for r in regularizers]
    squares = np.sum(path.transforms**2, axis=(1, 2))
    return (np.array(values) - np.array(ridges) / 2 * squares) / path.strengths


@slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_objectives_rise_and_penalties_fall_along_a_path(kind, measures):
    path = along(kind, measures, fresh=2)
    objectives, penalty = path.objectives, penalties(path)
    size = abs(objectives).max()
    assert (np.diff(objectives) >= -1e-5 * size).all()
    assert (np.diff(penalty) <= 1e-3 * penalty[0]).all() and penalty[-1] < 0.5 * penalty[0]
    # no transform of the path beats the match at another strength
    lines = objectives[:, None] + (path.strengths - path.strengths[:, None]) * penalty[:, None]
    assert (lines >= objectives - 1e-5 * size).all()
    assert path.result == RESULTS.successful


@slow
def test_paths_with_squared_distances_obey_the_same_laws(measures):
    problem = CostRegularized(L1(), SquaredDistance(), ridge=0.1)
    path = regularization_path(*measures, problem, [0.03, 0.1, 0.3], SOLVER, fresh=1)
    objectives, penalty = path.objectives, penalties(path)
    lines = objectives[:, None] + (path.strengths - path.strengths[:, None]) * penalty[:, None]
    assert (lines >= objectives - 1e-5 * abs(objectives).max()).all()
    assert (np.diff(objectives) > 0).all() and (np.diff(penalty) < 0).all()


@slow
def test_a_path_of_one_strength_is_the_match(measures):
    path = along(L1(0.7), measures, 0.1)
    sol = match(*measures, CostRegularized(L1(0.1)), SOLVER)
    assert_allclose(path.transforms[0], sol.transform, rtol=1e-12)
    assert_allclose(path.objectives[0], sol.objective, rtol=1e-12)
    assert path.fresh.all() and path.gaps[0] == sol.starts.gap


@slow
def test_a_path_is_nowhere_above_fresh_starts(measures):
    path = along(L1(), measures, fresh=1)
    fresh = [match(*measures, CostRegularized(L1(s)), SOLVER, throw=False) for s in STRENGTHS]
    objectives = np.array([float(sol.objective) for sol in fresh])
    assert (path.objectives <= objectives + 1e-4 * abs(objectives).max()).all()


@slow
def test_a_path_leaves_the_optimum_that_warm_starts_would_follow():
    rng = np.random.default_rng(16)
    measures = random_measure(rng, 16, 4).normalize(), random_measure(rng, 13, 3).normalize()
    strengths = [0.01, 0.1, 0.2, 0.25, 0.28, 0.3]
    warm = along(L1(), measures, strengths, fresh=1)
    path = along(L1(), measures, strengths, fresh=2)
    # what fresh starts find at the last strength is lower at those before it, too
    assert path.origins.tolist() == [0, 0, 3, 4, 5, 5]
    assert_allclose(path.objectives[:2], warm.objectives[:2])
    assert (path.objectives[2:] < 1.2 * warm.objectives[2:]).all() and warm.objectives[-1] < 0


@slow
def test_zero_ends_a_path_and_is_no_failure(measures):
    path = along(L1(), measures, [0.05, 2.0], fresh=1)
    assert path.collapsed.tolist() == [False, True] and path.nonzeros[1] == 0 < path.nonzeros[0]
    assert path.result == RESULTS.successful and "1 collapsed" in repr(path)
    with pytest.raises(RuntimeError, match="collapsed"):
        along(L1(), measures, [2.0])


@slow
def test_nuclear_paths_lose_rank_and_groups_lose_columns(measures):
    ranks = along(Nuclear(), measures, [0.001, 0.3], fresh=1).ranks
    assert ranks[0] == 3 and ranks[1] == 1
    transforms = along(ColumnGroups(), measures, [0.01, 0.4], fresh=1).transforms
    used = np.any(transforms, axis=1)
    assert used[0].all() and not used[1].all()
    assert (np.all(transforms, axis=1) == used).all()  # columns go as a whole


@slow
def test_absent_atoms_change_no_path(measures):
    mu, nu = measures
    path, padded = (along(L1(), m, [0.03, 0.2], fresh=1) for m in (measures, (mu.pad(19), nu)))
    assert_allclose(path.transforms, padded.transforms, atol=1e-4)
    assert_allclose(path.objectives, padded.objectives, rtol=1e-6)


def test_what_has_no_path_is_refused(measures):
    for strengths in ([0.2, 0.1], [-0.1, 0.1], [], [0.1, np.nan]):
        with pytest.raises(ValueError, match="increasing"):
            along(L1(), measures, strengths)
    with pytest.raises(ValueError, match="RowGroups, Nuclear"):
        along(Rank(1), measures)
    with pytest.raises(ValueError, match="rho"):
        regularization_path(*measures, CostRegularized(L1(), rho=1.0), [0.1])
    with pytest.raises(ValueError, match="fresh"):
        along(L1(), measures, fresh=0)
