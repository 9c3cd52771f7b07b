"""The distance for p = inf: brute force, linear programs, certificates, laws, derivatives."""

import itertools
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from precision import EPS
from transport_problems import assert_close, random_measure, random_pair

import meanfield as mf
from meanfield.measure import RESULTS
from meanfield.transport import MatrixCost, PowerCost


pytestmark = pytest.mark.slow


distance = PowerCost(1)
dimensions = pytest.mark.parametrize("d", [3, 1])


def w_inf(mu, nu):
    return mf.wasserstein(mu, nu, p=jnp.inf)


def largest_moves(mu, nu):
    return np.linalg.norm(np.asarray(mu.points)[:, None] - np.asarray(nu.points), axis=-1)


def is_feasible(costs, a, b, threshold):
    """Whether a linear program finds a coupling that costs at most the threshold everywhere."""
    i, j = np.nonzero(costs <= threshold)
    sums = np.zeros((len(a) + len(b), len(i)))
    sums[i, np.arange(len(i))] = 1
    sums[len(a) + j, np.arange(len(i))] = 1
    return scipy.optimize.linprog(np.zeros(len(i)), A_eq=sums, b_eq=np.r_[a, b]).status == 0


@dimensions
@pytest.mark.parametrize("n", [2, 7])
def test_between_equal_atoms_it_is_the_best_permutation(rng, n, d):
    for _ in range(5):
        x, y = rng.normal(size=(2, n, d))
        moves = np.linalg.norm(x[:, None] - y, axis=-1)
        best = min(moves[np.arange(n), order].max() for order in _permutations(n))
        assert_close(w_inf(mf.Measure(x), mf.Measure(y)), best)


def _permutations(n):
    return np.array(list(itertools.permutations(range(n))))


@pytest.mark.float64
@dimensions
@pytest.mark.parametrize("unit", [None, 12])
def test_a_linear_program_agrees_that_it_is_the_least_threshold(rng, d, unit):
    for _ in range(5):
        mu, nu = random_pair(rng, d=d, absent=1)
        if unit:  # shares of a twelfth: many subsets weigh the same, up to rounding
            mu, nu = (mf.Measure(m.points, _twelfths(rng)) for m in (mu, nu))
        a, b = (np.asarray(m.weights, float) / np.sum(m.weights) for m in (mu, nu))
        moves, value = largest_moves(mu, nu), float(w_inf(mu, nu))
        assert is_feasible(moves, a, b, value * (1 + 8 * EPS))
        assert not is_feasible(moves, a, b, value * (1 - 8 * EPS))


def _twelfths(rng):
    return rng.multinomial(9, np.ones(8) / 8) / 12 + np.array([3 / 12, *np.zeros(7)])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_it_is_a_lower_bound_in_exact_arithmetic_and_right_but_for_rounding(rng, dtype):
    for _ in range(20):
        x, y = rng.normal(size=(2, 6, 2))
        a, b = 10.0 ** rng.uniform(-9, 0, size=(2, 6))
        mu, nu = (mf.Measure(jnp.asarray(z, dtype), w / w.sum()) for z, w in ((x, a), (y, b)))
        costs = distance.matrix(mu.points, nu.points)
        value = float(mf.optimal_transport(mu, nu, distance, mf.Bottleneck()).value)
        below = np.max(costs, where=costs < value * (1 - 1e-6), initial=0.0)
        shares = [_exact_shares(m.weights) for m in (mu, nu)]
        assert _excess(costs <= value * (1 + 1e-6), *shares) <= 17 * jnp.finfo(dtype).eps
        assert _excess(costs <= below, *shares) > 0


def _exact_shares(weights):
    fractions = [Fraction(float(w)) for w in weights]
    return [w / sum(fractions) for w in fractions]


def _excess(allowed, a, b):
    """How much a set of rows holds at most beyond the columns it reaches (Hall's condition)."""
    sets = itertools.product([False, True], repeat=len(a))
    reached = ((s, np.asarray(allowed)[np.array(s)].any(axis=0)) for s in sets)
    return max(sum(itertools.compress(a, s)) - sum(itertools.compress(b, t)) for s, t in reached)


@dimensions
@pytest.mark.parametrize("uniform", [False, True])
def test_both_certificates_hold(rng, d, uniform):
    mu, nu = random_pair(rng, n=40, m=40, d=d, absent=4)
    if uniform:
        mu, nu = (mf.Measure(m.points, (m.weights > 0) / 7.0) for m in (mu, nu))
    sol = mf.optimal_transport(mu, nu, distance, mf.Bottleneck())
    costs, (f, g) = distance.matrix(mu.points, nu.points), sol.potentials
    assert sol.result == RESULTS.successful
    rows, cols, masses = sol.coupling.support()
    assert len(masses) <= 36 + 36 - 1
    assert_close(costs[rows, cols].max(), sol.value)
    assert_close(sol.coupling.marginals[0], mu.weights, atol=1e-14)
    assert_close(sol.coupling.marginals[1], nu.weights, atol=1e-14)
    dearer = costs >= sol.value * (1 - 1e-12)
    assert jnp.all(f[:, None] + g <= dearer)  # potentials of the cost 1 of a long move, else 0
    assert f @ mu.weights + g @ nu.weights > 1e-3  # so this mass must move that far
    assert_close(jnp.min(jnp.where((f[:, None] > 0) & (g == 0), costs, jnp.inf)), sol.dual)
    assert jnp.abs(sol.gap) <= 1e-12


@pytest.mark.float64
@dimensions
def test_it_is_the_limit_of_large_p(rng, d):
    mu, nu = random_pair(rng, d=d)
    values = jnp.array([*(mf.wasserstein(mu, nu, p) for p in (1, 2, 200)), w_inf(mu, nu)])
    assert jnp.all(jnp.diff(values) >= 0)
    _, _, masses = mf.optimal_transport(mu, nu, PowerCost(200)).coupling.support(1e-12)
    assert values[-1] * masses.min() ** (1 / 200) <= values[-2] * (1 + 1e-12)


@dimensions
def test_translation_moves_it_by_its_length(rng, d):
    mu, shift = random_measure(rng, 8, d), jnp.array([3.0, 0.0, 4.0])[:d]
    assert_close(w_inf(mu, mu.pushforward(lambda x: x + shift)), jnp.linalg.norm(shift))


def test_to_a_dirac_it_is_the_largest_distance(rng):
    mu = random_measure(rng, 8, 3, absent=2)
    dirac = mf.Measure(jnp.full((8, 3), 0.5), jnp.zeros(8).at[3].set(1.0))
    assert_close(w_inf(mu, dirac), jnp.linalg.norm(mu.points[:6] - 0.5, axis=1).max())


def test_it_is_zero_on_equal_measures_written_differently(rng):
    mu, order = random_measure(rng, 8, 3, absent=2), rng.permutation(8)
    assert w_inf(mu, mf.Measure(mu.points[order], mu.weights[order])) == 0


@pytest.mark.parametrize("weights", ["generic", "uniform"])
def test_padding_permuting_and_splitting_change_nothing_at_all(rng, weights):
    for _ in range(10):
        mu, nu = random_pair(rng, n=6, m=6)
        if weights == "uniform":
            mu, nu = mf.Measure(mu.points), mf.Measure(nu.points)
        written = mu.split(3, jnp.array([0.2, 0.5, 0.3])).split(3).pad(26)
        order = rng.permutation(written.size)
        same = mf.Measure(written.points[order], written.weights[order])
        assert_close(w_inf(same, nu), w_inf(mu, nu), rtol=1e-15)
        assert_close(w_inf(nu, same), w_inf(mu, nu), rtol=1e-15)


def test_what_stands_at_an_absent_atom_does_not_matter(rng):
    mu, nu = random_pair(rng, absent=1)
    for junk in (jnp.nan, jnp.inf, 1e300):
        odd = mf.Measure(mu.points.at[-1].set(junk), mu.weights)
        assert w_inf(odd, nu) == w_inf(mu, nu)
        slopes = jax.grad(w_inf)(odd, nu)
        assert jnp.all(jnp.isfinite(slopes.points)) and jnp.all(slopes.weights == 0)
        sol = mf.optimal_transport(odd, nu, distance, mf.Bottleneck())
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(sol.potentials))


@dimensions
def test_it_is_a_distance(rng, d):
    mu, nu, rho = (random_measure(rng, 8, d) for _ in range(3))
    assert_close(w_inf(mu, nu), w_inf(nu, mu))
    assert w_inf(mu, nu) <= (w_inf(mu, rho) + w_inf(rho, nu)) * (1 + 1e-12)


def test_it_scales_with_the_points_and_not_with_the_mass(rng):
    mu, nu = random_pair(rng)
    far = float(jnp.finfo(mu.points.dtype).max) ** 0.4
    for scale in (-3.7, 1 / far, far):
        larger = [m.pushforward(lambda x, s=scale: s * x) for m in (mu, nu)]
        assert_close(w_inf(*larger) / abs(scale), w_inf(mu, nu))
    heavier = [mf.Measure(m.points, 7.0 * m.weights) for m in (mu, nu)]
    assert_close(w_inf(*heavier), w_inf(mu, nu))
    assert_close(mf.optimal_transport(*heavier, distance, mf.Bottleneck()).coupling.mass, 7.0)


@pytest.mark.parametrize(
    "mass", [1e-6, *(pytest.param(m, marks=pytest.mark.float64) for m in (1e-9, 1e-13))]
)
def test_a_little_mass_far_away_counts_in_full(mass):
    # There is an atom at hand, but it is full: what is too much must cross to the far one.
    mu = mf.Measure([[0.0, 0.0], [9.0, 0.0]], [0.5 + mass, 0.5 - mass])
    nu = mf.Measure([[0.0, 0.0], [9.0, 0.0]], [0.5, 0.5])
    assert_close(w_inf(mu, nu), 9.0)


def test_rounding_of_the_weights_does_not_count():
    thirds = mf.Measure([[0.0], [0.0], [5.0]], [1 / 3, 1 / 3, 1 - 1 / 3 - 1 / 3])
    whole = mf.Measure([[0.0], [5.0]], [2 / 3, 1 / 3])
    tenths = mf.Measure(jnp.array([0.0, 5.0]).repeat(5)[:, None], np.full(10, 0.1))
    halves = mf.Measure([[0.0], [5.0]], [sum([0.1] * 5), 1 - 0.5])
    for dtype in ("float64", "float32"):
        for pair in ((thirds, whole), (tenths, halves)):
            rounded = (mf.Measure(m.points.astype(dtype), m.weights) for m in pair)
            assert w_inf(*rounded) == 0


def test_float32_stays_float32_and_agrees(rng):
    mu, nu = random_pair(rng, n=40, m=40, absent=4)
    single = [mf.Measure(m.points.astype("float32"), m.weights) for m in (mu, nu)]
    assert w_inf(*single).dtype == jnp.float32
    assert_close(w_inf(*single), w_inf(mu, nu), rtol=1e-6)


def test_of_empty_measures_it_is_zero(rng):
    empty = [mf.Measure(m.points, 0.0 * m.weights) for m in random_pair(rng)]
    assert w_inf(*empty) == 0
    assert mf.optimal_transport(*empty, MatrixCost(jnp.ones((8, 8))), mf.Bottleneck()).value == 0


@pytest.mark.float64
@dimensions
def test_the_slope_is_that_of_one_critical_pair(rng, d):
    mu, nu = random_pair(rng, d=d, absent=2)
    for side in (0, 1):
        slopes = jax.grad(w_inf, argnums=side)(mu, nu)
        assert jnp.all(slopes.weights == 0)
        moved = jnp.flatnonzero(jnp.any(slopes.points != 0, axis=1))
        assert len(moved) == 1
        assert_close(jnp.linalg.norm(slopes.points), 1.0)
        direction = rng.normal(size=mu.points.shape)

        def along(step, side=side, direction=direction):
            pair = [mu, nu]
            pair[side] = pair[side].with_points(pair[side].points + step * direction)
            return w_inf(*pair)

        expected = (along(1e-6) - along(-1e-6)) / 2e-6
        assert_close(jnp.vdot(slopes.points, direction), expected, rtol=1e-6, atol=1e-8)


def test_slopes_of_copies_sum_to_the_slope_of_the_atom(rng):
    mu, nu = random_pair(rng, n=6, m=6)
    slope = jax.grad(w_inf)(mu, nu).points
    assert_close(jax.grad(w_inf)(mu.split(3), nu).points.reshape(6, 3, 3).sum(1), slope)


def test_slopes_are_finite_at_coincident_points_and_padding(rng):
    mu, nu = random_pair(rng)
    for pair in ((mu, mu), (mu.split(2), mu), (mu.pad(10), nu.pad(11))):
        slopes = jax.grad(w_inf)(*pair)
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    assert_close(slopes.points[:8], jax.grad(w_inf)(mu, nu).points)
    assert jnp.all(slopes.points[8:] == 0)


def test_it_works_under_jit_and_vmap(rng):
    pairs = [random_pair(rng, n=n) for n in (4, 6, 8)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    one_by_one = jnp.stack([w_inf(*pair) for pair in pairs])
    assert_close(jax.vmap(w_inf)(mus, nus), one_by_one)
    assert_close(jax.jit(jax.vmap(w_inf))(mus, nus), one_by_one)
    slopes = jax.jit(jax.vmap(jax.grad(w_inf)))(mus, nus)
    assert_close(slopes.points[2], jax.grad(w_inf)(*pairs[2]).points)


def test_any_cost_has_a_bottleneck(rng):
    mu, nu = random_pair(rng)
    by_square = mf.optimal_transport(mu, nu, PowerCost(2), mf.Bottleneck())
    assert_close(by_square.value, w_inf(mu, nu) ** 2)
    table = MatrixCost(PowerCost(2).matrix(mu.points, nu.points))
    assert_close(mf.optimal_transport(mu, nu, table, mf.Bottleneck()).value, by_square.value)


def test_weights_of_many_sizes_are_solved_within_rounding(rng):
    for d in (2, 1):
        x, y = rng.normal(size=(2, 200, d))
        a, b = 10.0 ** rng.uniform(-8, 0, size=(2, 200))
        mu, nu = mf.Measure(x, a / a.sum()), mf.Measure(y, b / b.sum())
        sol = mf.optimal_transport(mu, nu, distance, mf.Bottleneck())
        assert sol.marginal_error <= 400 * EPS
        assert jnp.abs(sol.gap) <= 4000 * EPS
        f, g = sol.potentials
        assert f @ mu.weights + g @ nu.weights > 1e-15


def test_what_cannot_be_solved_is_said(rng):
    mu, nu = random_pair(rng)
    broken = mf.Measure(nu.points.at[2].set(jnp.nan), nu.weights)
    failed = mf.optimal_transport(mu, broken, distance, mf.Bottleneck(), throw=False)
    assert failed.result == RESULTS.nonfinite_cost and jnp.isnan(failed.value)
    with pytest.raises(eqx.EquinoxRuntimeError, match="NaN or inf in `points`"):
        w_inf(mu, broken)
    heavy = mf.Measure(nu.points, 1.001 * nu.weights)
    with pytest.raises(ValueError, match="total mass"):
        w_inf(mu, heavy)
    with pytest.raises(eqx.EquinoxRuntimeError, match="same total mass"):
        eqx.filter_jit(w_inf)(mu, heavy)


def test_exponent_and_solver_must_fit(rng):
    mu, nu = random_pair(rng)
    assert mf.wasserstein(mu, nu, jnp.inf, mf.Bottleneck()) == w_inf(mu, nu)
    with pytest.raises(ValueError, match=r"Exact\(\) or Bottleneck\(\) for p=jnp.inf; got Line"):
        mf.wasserstein(mu, nu, jnp.inf, mf.Line())
    with pytest.raises(ValueError, match=r"Bottleneck\(\) finds .* for p=jnp.inf alone; got p=2"):
        mf.wasserstein(mu, nu, 2, mf.Bottleneck())
