"""The conditional distance: fibre by fibre, positions kept."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transport_problems import assert_close, pot_distance

import meanfield as mf


pytestmark = pytest.mark.slow


exponents = pytest.mark.parametrize("p", [2, 1, jnp.inf])


def sequences(rng, s=4, d=3):
    x, y = rng.normal(size=(2, s, d))
    base = rng.uniform(0.1, 1.0, size=s)
    base /= base.sum()
    return tuple(mf.ConditionalMeasure.from_sequence(z, base) for z in (x, y))


def fibred(rng, s=4, k=5, d=3):
    base = jnp.array([0.1, 0.4, 0.3, 0.2])
    measures = []
    for _ in range(2):
        weights = rng.dirichlet(np.ones(k), size=s)
        measures.append(mf.ConditionalMeasure(rng.normal(size=(s, k, d)), weights, base))
    return tuple(measures)


problems = pytest.mark.parametrize(
    "problem", [sequences, pytest.param(fibred, marks=pytest.mark.slow)]
)


@exponents
def test_sequences_are_compared_position_by_position(rng, p):
    mu, nu = sequences(rng)
    distances = jnp.linalg.norm(mu.points[:, 0] - nu.points[:, 0], axis=-1)
    expected = distances.max() if p == jnp.inf else (mu.base @ distances**p) ** (1 / p)
    assert_close(mf.conditional_wasserstein(mu, nu, p), expected)


@pytest.mark.parametrize("p", [2, 1])
def test_fibres_are_compared_by_pot(rng, p):
    mu, nu = fibred(rng)
    fibres = [[mf.Measure(m.points[s], m.weights[s]) for s in range(m.size)] for m in (mu, nu)]
    powers = jnp.array([pot_distance(*pair, p) ** p for pair in zip(*fibres, strict=True)])
    assert_close(mf.conditional_wasserstein(mu, nu, p), (mu.base @ powers) ** (1 / p))


def test_for_infinite_p_the_worst_fibre_counts(rng):
    mu, nu = fibred(rng)
    fibres = [[mf.Measure(m.points[s], m.weights[s]) for s in range(m.size)] for m in (mu, nu)]
    worst = max(mf.wasserstein(*pair, jnp.inf) for pair in zip(*fibres, strict=True))
    assert_close(mf.conditional_wasserstein(mu, nu, jnp.inf), worst)
    values = jnp.array([mf.conditional_wasserstein(mu, nu, p) for p in (1, 2, jnp.inf)])
    assert jnp.all(jnp.diff(values) > 0)  # fibres and base have mass one


def test_infinite_p_needs_a_solver_that_knows_it(rng):
    mu, nu = sequences(rng)
    with pytest.raises(ValueError, match="for p=jnp.inf; got Line"):
        mf.conditional_wasserstein(mu, nu, jnp.inf, mf.Line())
    with pytest.raises(ValueError, match="for p=jnp.inf alone; got p=2"):
        mf.conditional_wasserstein(mu, nu, 2, mf.Bottleneck())


@problems
def test_the_mass_of_fibres_counts(rng, problem):
    mu, nu = problem(rng)
    half = [mf.ConditionalMeasure(m.points, 0.25 * m.weights, m.base) for m in (mu, nu)]
    assert_close(mf.conditional_wasserstein(*half), mf.conditional_wasserstein(mu, nu) / 2)


def test_fibres_of_two_equal_atoms_are_the_sequence(rng):
    mu, nu = sequences(rng)
    assert_close(mf.conditional_wasserstein(mu.split(2), nu), mf.conditional_wasserstein(mu, nu))


@exponents
@problems
def test_forgetting_the_positions_brings_measures_closer(rng, p, problem):
    mu, nu = problem(rng)
    apart = mf.conditional_wasserstein(mu, nu, p)
    assert mf.wasserstein(mu.atoms, nu.atoms, p) <= apart * (1 + 1e-12)


def test_positions_matter_even_if_the_points_are_the_same(rng):
    mu, _ = sequences(rng)
    swapped = mu.with_points(mu.points[::-1])
    equal = mf.ConditionalMeasure(swapped.points, mu.weights, mu.base)
    assert mf.conditional_wasserstein(mu, equal) > 0.1


@problems
def test_padding_changes_nothing(rng, problem):
    mu, nu = problem(rng)
    expected = mf.conditional_wasserstein(mu, nu)
    assert_close(mf.conditional_wasserstein(mu.pad(9), nu.pad(9)), expected)
    assert_close(mf.conditional_wasserstein(mu.pad(9), nu), expected)


@pytest.mark.parametrize("p", [2, jnp.inf])
@problems
def test_an_absent_position_may_hold_anything(rng, problem, p):
    mu, nu = problem(rng)
    base = mu.base.at[1].set(0.0)
    mu, nu = (mf.ConditionalMeasure(m.points, m.weights, base) for m in (mu, nu))
    odd = mf.ConditionalMeasure(nu.points.at[1].set(jnp.nan), nu.weights.at[1].set(7.0), base)
    value, slopes = jax.value_and_grad(mf.conditional_wasserstein)(mu, odd, p)
    assert_close(value, mf.conditional_wasserstein(mu, nu, p))
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))


@exponents
@problems
def test_is_a_distance(rng, p, problem):
    (mu, nu), (rho, _) = problem(rng), problem(rng)
    rho = mf.ConditionalMeasure(rho.points, rho.weights, mu.base)
    assert mf.conditional_wasserstein(mu, mu, p) == 0
    assert_close(mf.conditional_wasserstein(mu, nu, p), mf.conditional_wasserstein(nu, mu, p))
    around = mf.conditional_wasserstein(mu, rho, p) + mf.conditional_wasserstein(rho, nu, p)
    assert mf.conditional_wasserstein(mu, nu, p) <= around * (1 + 1e-12)


@pytest.mark.float64
@pytest.mark.slow
@pytest.mark.parametrize("p, problem", [(3, sequences), (2, fibred), (jnp.inf, fibred)])
def test_gradient_matches_finite_differences(rng, p, problem):
    mu, nu = problem(rng)
    direction = rng.normal(size=mu.points.shape)

    def value(x):
        return mf.conditional_wasserstein(mu.with_points(x), nu, p)

    slope = jnp.vdot(jax.grad(value)(mu.points), direction)
    ends = [value(mu.points + step * direction) for step in (1e-6, -1e-6)]
    assert_close(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)


@problems
def test_gradients_are_finite_on_equal_and_padded_measures(rng, problem):
    mu, nu = problem(rng)
    for one, other in ((mu, mu), (mu.pad(8), nu.pad(8))):
        slopes = jax.grad(mf.conditional_wasserstein)(one, other)
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))


@problems
def test_works_under_jit_and_vmap(rng, problem):
    pairs = [problem(rng) for _ in range(3)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    one_by_one = jnp.stack([mf.conditional_wasserstein(*pair) for pair in pairs])
    assert_close(jax.jit(jax.vmap(mf.conditional_wasserstein))(mus, nus), one_by_one)


def test_float32_stays_float32_and_agrees(rng):
    for problem in (sequences, fibred):
        mu, nu = problem(rng)
        single = [
            mf.ConditionalMeasure(m.points.astype("float32"), m.weights, m.base) for m in (mu, nu)
        ]
        value = mf.conditional_wasserstein(*single)
        assert value.dtype == jnp.float32
        assert_close(value, mf.conditional_wasserstein(mu, nu), rtol=1e-5)


def test_different_bases_are_refused(rng):
    mu, nu = sequences(rng)
    other = mf.ConditionalMeasure(nu.points, nu.weights)
    with pytest.raises(ValueError, match="`nu` must have the base weights of `mu`.*At position 0"):
        mf.conditional_wasserstein(mu, other)
    with pytest.raises(eqx.EquinoxRuntimeError, match="base weights"):
        eqx.filter_jit(mf.conditional_wasserstein)(mu, other)


def test_fibres_of_different_mass_are_refused(rng):
    for problem in (sequences, fibred):
        mu, nu = problem(rng)
        heavy = mf.ConditionalMeasure(nu.points, 1.5 * nu.weights, nu.base)
        with pytest.raises(eqx.EquinoxRuntimeError, match="mass"):
            mf.conditional_wasserstein(mu, heavy)


def test_measures_that_do_not_fit_are_refused(rng):
    mu, nu = sequences(rng)
    with pytest.raises(ValueError, match="`nu` must have the dimension 3 of `mu`; got 2"):
        mf.conditional_wasserstein(mu, mf.ConditionalMeasure(nu.points[..., :2], base=nu.base))
    with pytest.raises(ValueError, match="`mu` must be one ConditionalMeasure .*jax.vmap"):
        mf.conditional_wasserstein(mf.stack([mu, mu]), nu)


@pytest.mark.slow
def test_powers_that_no_number_holds_leave_the_distance_below_that_of_the_longest_move(rng):
    x, y = rng.normal(size=(2, 3, 2, 3))
    x[0, 0] = y[0, 0] = 50.0
    mu, nu = (mf.ConditionalMeasure(jnp.asarray(z)) for z in (x, y))
    single = [mf.ConditionalMeasure(jnp.asarray(z, jnp.float32)) for z in (x, y)]
    value, longest = (mf.conditional_wasserstein(mu, nu, p) for p in (200, jnp.inf))
    assert longest / 6 ** (1 / 200) <= value * (1 + 1e-6) <= longest * (1 + 1e-6)
    assert_close(mf.conditional_wasserstein(*single, 200), value, rtol=1e-5)
