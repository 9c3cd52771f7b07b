"""Matches without entropy: exact steps, their certificate, and what is refused."""

import numpy as np
import pytest
from matching_problems import clusters, random_measure, skewed_points

import meanfield as mf
from meanfield import Measure
from meanfield.matching import (
    L1,
    Alternation,
    ColumnGroups,
    CostRegularized,
    ElasticNet,
    ExactAlternation,
    FusedGromovWasserstein,
    GromovWasserstein,
    InnerProduct,
    KnownPairs,
    Nonnegative,
    Nuclear,
    Orthogonal,
    Rank,
    Ridge,
    RowGroups,
    SharedCost,
    SharedFeatures,
    SquaredDistance,
)
from meanfield.matching.exact_descent import descend_exactly, problem_of
from meanfield.matching.lower_bound import largest_product
from meanfield.matching.moments import cloud
from meanfield.matching.starts import ranked_starts
from meanfield.matching.vertices import Products, Vertex, best_vertex, potentials


ALONE = ExactAlternation(None)
REGULARIZERS = [
    Ridge(),
    L1(0.2),
    ElasticNet(0.1),
    ColumnGroups(0.2),
    RowGroups(0.2),
    Nuclear(0.2),
    Rank(1),
    Orthogonal(),
    Nonnegative(),
]


def kind(one) -> str:
    return type(one).__name__


def isometric(rng, n: int, p: int, q: int) -> tuple[Measure, Measure, np.ndarray]:
    """A cloud without symmetry, the same in another space and another order, and the order."""
    x, order = skewed_points(rng, n, p), rng.permutation(n)
    turn = np.linalg.qr(rng.normal(size=(q, p)))[0]
    return Measure(x), Measure((x @ turn.T + 3)[order]), np.argsort(order)


def product_costs(rng, n, m, table=False) -> Products:
    a, b = (rng.dirichlet(np.ones(k)) for k in (n, m))
    noise = rng.normal(size=(n, m)) if table else None
    return Products(rng.normal(size=(n, 3)) + 1, rng.normal(size=(m, 3)) - 2, noise, a, b)


def paid(costs: Products, found: Vertex) -> float:
    matrix = -costs.u @ costs.v.T + (0 if costs.table is None else costs.table)
    return float(found.masses @ matrix[found.rows, found.cols])


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("sizes", [(12, 12), (9, 14)])
def test_a_vertex_pays_what_pots_simplex_pays(rng, sizes, table):
    import ot

    costs = product_costs(rng, sizes[0], sizes[1], table)
    matrix = -costs.u @ costs.v.T + (costs.table if table else 0)
    found = best_vertex(costs)
    pays = paid(costs, found)
    cheapest = float(np.asarray(ot.emd2(costs.a, costs.b, matrix)))
    assert pays == pytest.approx(cheapest, rel=1e-9)
    again = best_vertex(costs, found.potential)
    assert paid(costs, again) == pytest.approx(pays, rel=1e-12)


def test_equal_atoms_are_assigned_as_scipy_does_from_any_potential(rng):
    from scipy.optimize import linear_sum_assignment

    u, v = rng.normal(size=(2, 40, 4))
    costs = Products(u, v, None, np.full(40, 1 / 40), np.full(40, 1 / 40))
    rows, cols = linear_sum_assignment(-u @ v.T)
    for potential in (None, rng.normal(size=40)):
        found = best_vertex(costs, potential)
        assert np.array_equal(found.cols[np.argsort(found.rows)], cols)
    f, g = potentials(costs, found)
    slack = -u @ v.T - f[:, None] - g
    assert np.allclose(slack[rows, cols], 0) and np.array_equal(slack.argmin(axis=1), cols)
    slack[rows, cols] = np.inf
    assert slack.min() > 0  # no ties: what is nearest is the partner


def test_products_on_the_line_are_largest_at_the_monotone_coupling(rng):
    import ot

    (u, v), (a, b) = rng.normal(size=(2, 9)), rng.dirichlet(np.ones(9), size=2)
    expected = -float(np.asarray(ot.emd2(a, b, -np.outer(u, v))))
    assert largest_product(u, a, v, b) == pytest.approx(expected, rel=1e-12)
    u, a = np.append(u, 7.0), np.append(a, 0.0)
    assert largest_product(u, a, v, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("cost", [InnerProduct(), SquaredDistance()], ids=kind)
def test_isometric_clouds_are_matched_and_certified(rng, cost):
    mu, nu, order = isometric(rng, 150, 4, 6)
    sol = mf.match(mu, nu, GromovWasserstein(cost), ExactAlternation())
    assert np.array_equal(sol.coupling.support()[1], order)
    assert np.allclose(sol.map(mu.points), nu.points[order])
    assert np.allclose(sol.inverse_map(nu.points), mu.points[np.argsort(order)])
    assert len(sol.starts.objective) == 1 and sol.result == mf.RESULTS.successful
    scale = abs(np.trace(np.asarray(mu.covariance))) ** 2
    assert sol.optimality_gap <= 1e-9 * scale
    assert abs(float(sol.value)) <= 1e-9 * scale


@pytest.mark.parametrize("cost", [InnerProduct(), SquaredDistance()], ids=kind)
def test_the_value_is_the_distortion_that_pot_computes(rng, cost):
    import ot

    mu, nu = random_measure(rng, 14, 3, mean=1.0), random_measure(rng, 11, 2)
    sol = mf.match(mu, nu, GromovWasserstein(cost), ALONE)
    x, y = (np.asarray(m.points - m.mean) for m in (mu, nu))
    grams: list = [z @ z.T if isinstance(cost, InnerProduct) else ot.dist(z, z) for z in (x, y)]
    plan, a, b = (np.asarray(z, float) for z in (sol.coupling.matrix, mu.weights, nu.weights))
    constant, h1, h2 = ot.gromov.init_matrix(grams[0], grams[1], a, b)
    assert float(sol.value) == pytest.approx(ot.gromov.gwloss(constant, h1, h2, plan), rel=1e-9)
    assert sol.marginal_error < 1e-12 and np.count_nonzero(plan) <= 14 + 11 - 1


def test_the_lowest_start_is_not_above_conditional_gradients_of_pot(rng):
    import ot

    x, y = skewed_points(rng, 40, 3), skewed_points(rng, 40, 2)
    sol = mf.match(Measure(x), Measure(y), GromovWasserstein(), ALONE)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    theirs = float(np.asarray(ot.gromov.gromov_wasserstein2(x @ x.T, y @ y.T)))
    assert sol.lower_bound <= float(sol.value) <= theirs * (1 + 1e-12)
    assert float(sol.value) == sol.starts.objective.min() and len(sol.starts.steps) == 4


@pytest.mark.slow
@pytest.mark.parametrize("cost", [InnerProduct(), SquaredDistance()], ids=kind)
@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=kind)
def test_no_coupling_is_below_the_bound_and_every_step_descends(rng, regularizer, cost):
    x, y = skewed_points(rng, 25, 3), skewed_points(rng, 30, 2)
    mu, nu = Measure(x), Measure(y, rng.dirichlet(np.ones(30)))
    problem = CostRegularized(regularizer, cost, ridge=0.5)
    sol = mf.match(mu, nu, problem, ALONE, throw=False)
    assert np.isfinite(sol.lower_bound)
    assert sol.lower_bound <= sol.starts.objective.min() <= float(sol.value) + 1e-9
    clouds = cloud("mu", mu, True), cloud("nu", nu, True)
    task = problem.task(mu, nu)
    hosted = problem_of(task, clouds)
    start = ranked_starts(clouds, task.moments, 2)[-1]
    heights = [descend_exactly(hosted, start, k).coupled.objective for k in range(1, 6)]
    assert np.all(np.diff(heights) <= 1e-12 * np.abs(heights[0]))


def test_the_bound_is_met_where_axes_can_be_paired_and_the_rank_is_cut(rng):
    mu, nu, _ = isometric(rng, 60, 3, 3)
    for regularizer in (Ridge(), Nuclear(0.3), Rank(2), Orthogonal()):
        sol = mf.match(mu, nu, CostRegularized(regularizer), ALONE)
        assert float(sol.value) == pytest.approx(sol.lower_bound, rel=1e-9)
        assert len(sol.starts.objective) == 1


def test_a_match_with_entropy_is_above_the_same_bound(rng):
    mu, nu = Measure(skewed_points(rng, 40, 3)), Measure(skewed_points(rng, 40, 3))
    soft = mf.match(mu, nu, GromovWasserstein())
    exact = mf.match(mu, nu, GromovWasserstein(), ALONE)
    assert soft.lower_bound == pytest.approx(exact.lower_bound, rel=1e-6)
    assert exact.lower_bound <= float(exact.value) <= float(soft.value) <= float(soft.objective)
    assert 0 < exact.optimality_gap < soft.optimality_gap


@pytest.mark.slow
def test_laws_of_measures_hold(rng):
    x, y = skewed_points(rng, 20, 3), skewed_points(rng, 20, 2)
    mu, nu = Measure(x), Measure(y)
    value = float(mf.match(mu, nu, GromovWasserstein(), ALONE).value)
    order = rng.permutation(20)
    for one, other in (
        (mu.pad(23), nu.pad(21)),
        (Measure(x[order]), nu),
        (mu.split(2), nu),
        (Measure(x, np.full(20, 0.1)), Measure(y, np.full(20, 0.1))),
        (Measure(np.asarray(x, np.float32)), nu),
    ):
        again = mf.match(one, other, GromovWasserstein(), ALONE)
        assert float(again.value) == pytest.approx(value, rel=1e-5)
        assert float(again.coupling.mass) == pytest.approx(float(one.mass), rel=1e-6)


def test_known_pairs_are_part_of_the_coupling(rng):
    mu, nu, order = isometric(rng, 30, 3, 3)
    wrong = KnownPairs([0, 1], order[[1, 0]])
    sol = mf.match(mu, nu, GromovWasserstein(known=wrong), ALONE)
    plan = np.asarray(sol.coupling.matrix)
    assert plan[0, order[1]] == pytest.approx(1 / 30) and plan[1, order[0]] == pytest.approx(1 / 30)
    assert sol.marginal_error < 1e-12 and float(sol.value) > 1e-6
    free = mf.match(mu, nu, GromovWasserstein(), ALONE)
    assert sol.lower_bound == pytest.approx(free.lower_bound, abs=1e-12)


def test_a_second_cost_alone_decides_what_the_first_cannot(rng):
    x = rng.normal(size=(20, 2))
    x = np.concatenate([x, -x])  # the reflection is an isometry
    mu, nu, row = Measure(x), Measure(x), np.arange(40.0)[:, None]
    for shared in (SharedFeatures(row, row), SharedCost((row - row.T) ** 2)):
        sol = mf.match(mu, nu, FusedGromovWasserstein(shared, 0.9), ALONE)
        assert np.array_equal(sol.coupling.support()[1], np.arange(40))
        assert float(sol.value) == pytest.approx(sol.lower_bound, abs=1e-9)


@pytest.mark.slow
def test_an_entropic_match_is_carried_on_exactly(rng):
    x, labels = clusters(rng, 60, 4)
    mu, nu = Measure(x), Measure(x[:, :3] + 0.3 * rng.normal(size=(60, 3)))
    soft = mf.match(mu, nu, GromovWasserstein())
    hard = mf.match(mu, nu, GromovWasserstein(), ExactAlternation(), start=soft)
    both = mf.match(mu, nu, GromovWasserstein(), ExactAlternation())
    assert len(both.starts.objective) == 2
    partner = np.asarray(hard.coupling.matrix).argmax(axis=1)
    assert np.allclose(hard.map(x), nu.points[partner])
    assert both.lower_bound < float(both.value) <= float(hard.value) < float(soft.value)


def test_what_it_cannot_solve_is_refused(rng):
    mu, nu = random_measure(rng, 8, 2), random_measure(rng, 9, 2)
    with pytest.raises(ValueError, match="fixed marginals"):
        mf.match(mu, nu, CostRegularized(rho=1.0), ALONE)
    with pytest.raises(ValueError, match="Alternation"):
        mf.match(mu, nu, CostRegularized(cost=SquaredDistance(), rho=1.0), ALONE)
    with pytest.raises(ValueError, match="`axes`"):
        ExactAlternation(axes=0)
    with pytest.raises(ValueError, match="`tolerance`"):
        ExactAlternation(tolerance=-1.0)
    with pytest.raises(RuntimeError, match="collapsed"):
        mf.match(mu, nu, CostRegularized(L1(1.0)), ALONE)
    with pytest.raises(RuntimeError, match="max_steps"):
        mf.match(mu, nu, CostRegularized(), ExactAlternation(None, max_steps=1))
    assert isinstance(ExactAlternation().search, Alternation)
