"""Descent for every step, the critical temperature, and the collapse that others do not report."""

import jax.numpy as jnp
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
    GromovWasserstein,
    Orthogonal,
    Rank,
    Ridge,
    SquaredDistance,
    match,
)
from meanfield.matching.descent import begun, completed, objectives
from meanfield.matching.sweeps import far, kept, streamed
from meanfield.matching.task import first_of, pairs_of
from meanfield.matching.turns import Way


SIZE, DIM, OTHER = 14, 3, 2


def problem(rng, regularizer=Ridge(), **kwargs):
    mu, nu = random_measure(rng, SIZE, DIM), random_measure(rng, 11, OTHER)
    return CostRegularized(regularizer, **kwargs).task(mu, nu)


def at_optimum(task, transforms, epsilon):
    """The couplings of transforms, with marginals met to the last digits."""
    going = np.ones(len(transforms), bool)
    return completed(task, begun(task, transforms), epsilon, 1e-12, 4000, Way("kept"), going)


@pytest.mark.parametrize("step", [0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("regularizer", [L1(0.2), ColumnGroups(0.2)], ids=["l1", "columns"])
def test_every_step_descends_by_as_much_as_the_theorem_says(step, regularizer, rng):
    task = problem(rng, regularizer)
    epsilon, transform = 0.3 * task.epsilon_critical, rng.normal(size=(1, OTHER, DIM))
    before, moved = np.inf, 0.0
    for _ in range(6):
        found = at_optimum(task, transform, epsilon)
        value = objectives(task, found)[0]
        assert value <= before - moved / step + 1e-9
        new = task.regularizer.proximal(transform + step * found.cross, step)
        moved, before, transform = np.sum((new - transform) ** 2), value, new


@pytest.mark.parametrize("regularizer", [Rank(1), Orthogonal()], ids=["rank", "orthogonal"])
def test_steps_of_any_size_descend_by_half_as_much_where_the_regularizer_is_not_convex(
    regularizer, rng
):
    task = problem(rng, regularizer)
    epsilon, transform = 0.3 * task.epsilon_critical, rng.normal(size=(1, OTHER, DIM))
    transform = np.asarray(task.regularizer.proximal(transform, 1.0))
    before, moved, step = np.inf, 0.0, 1.0
    for step in (0.1, 10.0, 1.0, 1000.0, 0.1):
        found = at_optimum(task, transform, epsilon)
        value = objectives(task, found)[0]
        assert value <= before - moved + 1e-9
        new = np.asarray(task.regularizer.proximal(transform + step * found.cross, step))
        moved, before, transform = np.sum((new - transform) ** 2) / (2 * step), value, new


@pytest.mark.parametrize("kind", ["inner", "squared"])
def test_the_best_transform_descends(kind, rng):
    cost = {} if kind == "inner" else {"cost": SquaredDistance()}
    task = problem(rng, L1(0.1), **cost)
    epsilon, transform = 0.3 * task.epsilon_critical, rng.normal(size=(1, OTHER, DIM))
    values = []
    for _ in range(6):
        found = at_optimum(task, transform, epsilon)
        values.append(objectives(task, found)[0])
        transform = task.transform_for(found.cross, found.second, transform, 1.0)
    assert (np.diff(values) <= 1e-9).all() and values[-1] < values[0] - 1e-3


def test_the_cross_moment_near_zero_is_that_of_the_theorem(rng):
    """Gamma = S_y M S_x / epsilon + O(|M|^2), by halving M."""
    task = problem(rng)
    transform, epsilon = rng.normal(size=(1, OTHER, DIM)), task.epsilon_critical
    errors = []
    for scale in (1e-2, 5e-3):
        cross = at_optimum(task, scale * transform, epsilon).cross[0]
        linear = task.moments.y @ (scale * transform[0]) @ task.moments.x / epsilon
        errors.append(np.linalg.norm(cross - linear))
    assert errors[1] < 0.3 * errors[0] and errors[0] < 0.05 * np.linalg.norm(linear)


@pytest.mark.parametrize(("share", "grows"), [(1.05, False), (0.95, True)])
def test_zero_attracts_above_the_critical_temperature_alone(share, grows, rng):
    task = problem(rng)
    (_, x), (_, y) = (np.linalg.eigh(moment) for moment in task.moments)
    transform = 1e-3 * np.outer(y[:, -1], x[:, -1])[None]
    sizes = [1e-3]
    for _ in range(4):
        cross = at_optimum(task, transform, share * task.epsilon_critical).cross
        transform = task.transform_for(cross, 0.0, transform, 1.0)
        sizes.append(np.linalg.norm(transform))
    assert_allclose(np.divide(sizes[1:], sizes[:-1]), 1 / share, rtol=0.01)
    assert (sizes[-1] > sizes[0]) == grows


@pytest.mark.slow
def test_a_match_says_when_epsilon_is_above_the_critical_one(rng):
    mu, nu = random_measure(rng, SIZE, DIM), random_measure(rng, 11, OTHER)
    sol = match(mu, nu, solver=Alternation(1.05), throw=False)
    assert sol.collapsed and sol.result == RESULTS.epsilon_above_critical
    assert sol.correlation < 1e-3 and "collapsed" in repr(sol)
    with pytest.raises(RuntimeError, match="critical"):
        match(mu, nu, solver=Alternation(1.05))
    below = match(mu, nu, solver=Alternation(0.9))
    assert not below.collapsed and below.epsilon < below.epsilon_critical


@pytest.mark.slow
def test_a_regularizer_that_kills_the_transform_is_reported(rng):
    mu, nu = random_measure(rng, SIZE, DIM), random_measure(rng, 11, OTHER)
    sol = match(mu, nu, CostRegularized(L1(1.0)), throw=False)
    assert sol.collapsed and sol.result == RESULTS.match_collapsed


@pytest.mark.slow
def test_a_search_that_is_cut_short_says_so(rng):
    mu, nu = random_measure(rng, SIZE, DIM), random_measure(rng, 11, OTHER)
    sol = match(mu, nu, solver=Alternation(0.02, max_steps=3), throw=False)
    assert sol.result == RESULTS.transform_not_settled


@pytest.mark.slow
def test_other_libraries_collapse_where_a_match_does_not(rng):
    ot = pytest.importorskip("ot")
    pytest.importorskip("ott")
    from ott.geometry import geometry
    from ott.problems.quadratic import quadratic_problem
    from ott.solvers.linear import sinkhorn
    from ott.solvers.quadratic import gromov_wasserstein as gw

    x = skewed_points(rng, 40, 3)
    x -= x.mean(axis=0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    y = (x @ turn.T)[rng.permutation(40)]
    sol = match(Measure(x), Measure(y), GromovWasserstein(), Alternation(0.05))
    kernels = x @ x.T, y @ y.T
    shares = np.full(40, 1 / 40)
    pots, log = ot.gromov.entropic_gromov_wasserstein(
        *kernels, shares, shares, "square_loss", epsilon=sol.epsilon, log=True, solver="PGD"
    )
    problem = quadratic_problem.QuadraticProblem(
        *(geometry.Geometry(cost_matrix=jnp.asarray(k)) for k in kernels)
    )
    out = gw.GromovWasserstein(linear_solver=sinkhorn.Sinkhorn(), epsilon=sol.epsilon / 2)(problem)
    for plan in (pots, np.asarray(out.matrix)):
        assert np.linalg.norm(y.T @ plan.T @ x) < 1e-8  # the product coupling
    assert bool(out.converged)
    assert not sol.collapsed and sol.correlation > 0.3
    plan = np.asarray(sol.coupling.matrix)
    loss = [
        ot.gromov.gwloss(*ot.gromov.init_matrix(*kernels, shares, shares), p) for p in (plan, pots)
    ]
    assert loss[0] < 0.5 * loss[1]


@pytest.mark.slow
def test_the_three_kinds_of_iteration_take_the_same_steps(rng):
    task = problem(rng)
    transform = jnp.asarray(rng.normal(size=(1, OTHER, DIM)))
    entropic = task.entropic(first_of(pairs_of(task, transform)), 0.3 * task.epsilon_critical)
    f, g = jnp.zeros_like(task.a), jnp.asarray(0.1 * rng.normal(size=11))
    for steps, others in ((1, (streamed, far)), (5, (streamed,))):  # the first has no momentum
        first = kept(entropic, f, g, steps)
        for way in others:
            for one, two in zip(first, way(entropic, f, g, steps), strict=True):
                assert_allclose(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_momentum_ends_where_plain_iterations_do_and_sooner(rng):
    task = problem(rng)
    transform = jnp.asarray(rng.normal(size=(1, OTHER, DIM)))
    entropic = task.entropic(first_of(pairs_of(task, transform)), 0.02 * task.epsilon_critical)
    f, g = jnp.zeros_like(task.a), jnp.zeros_like(task.b)
    begin = far(entropic, f, g, 50)
    plain, quick = (way(entropic, f, begin.g, 50) for way in (far, kept))
    assert quick.error < 0.3 * plain.error
    assert_allclose(kept(entropic, f, begin.g, 2000).dual, far(entropic, f, g, 2000).dual)


@pytest.mark.slow
def test_blocks_of_rows_that_are_filled_up_add_nothing(rng, monkeypatch):
    task = problem(rng)
    transform = jnp.asarray(rng.normal(size=(1, OTHER, DIM)))
    entropic = task.entropic(first_of(pairs_of(task, transform)), 0.3 * task.epsilon_critical)
    f, g = jnp.zeros_like(task.a), jnp.asarray(0.1 * rng.normal(size=11))
    whole = streamed(entropic, f, g, 5)
    monkeypatch.setattr("meanfield.transport.pairs._BLOCK", 99)  # nine of fourteen rows
    for way in (streamed, far):
        if way is far:
            whole = kept(entropic, f, g, 1)
        steps = 1 if way is far else 5
        for one, two in zip(whole, way(entropic, f, g, steps), strict=True):
            assert_allclose(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"epsilon": 0},
        {"hottest": 0.5},
        {"cooling": 1.0},
        {"axes": 0},
        {"clusters": 1},
        {"finalists": 0},
        {"step": -1},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Alternation(**settings)
