"""First-order slopes in W_1, W_2 and W_inf, tried with exact transport along their witnesses."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import as_installed

import meanfield as mf
from meanfield.lipschitz import slopes


KEY = jr.key(0)
BALL = mf.Ball(4.0)
STEP = 1e-5


def head():
    A, V = jr.normal(jr.key(3), (2, 3, 3))
    return mf.SelfAttention(A, V)


def tokens():
    return mf.Measure(jr.normal(jr.key(2), (4, 3)), jnp.array([0.4, 0.3, 0.2, 0.1]))


def ratio(f, mu, nu, p):
    return float(mf.wasserstein(f(mu), f(nu), p) / mf.wasserstein(mu, nu, p))


def moved(mu, i, share, step):
    """A share of atom i moved by a step."""
    nu = mu.split(i, [1 - share, share])
    return nu.with_points(nu.points.at[i + 1].add(step))


@pytest.fixture(scope="module", params=[1, 2, math.inf])
def found(request):
    return slopes(head(), tokens(), request.param, domain=BALL, key=KEY, starts=4, steps=40)


@pytest.mark.float64
@pytest.mark.slow
def test_moving_along_the_witness_has_the_slope(found):
    f, mu = head(), tokens()
    nu = mu.with_points(mu.points + STEP * found.move_field)
    assert ratio(f, mu, nu, found.p) == pytest.approx(float(found.move), rel=1e-3)


@pytest.mark.float64
@pytest.mark.slow
def test_splitting_along_the_witness_has_the_slope(found):
    f, mu, i = head(), tokens(), int(found.split_atom)
    u = STEP * found.split_direction
    if found.p == 1:
        value, nu = found.split, moved(mu, i, 1e-4, u)
    elif found.p == 2:  # the split part alone, which moving may exceed
        halves = mu.split(i, [0.5, 0.5])
        nu = halves.with_points(halves.points.at[i].add(-u).at[i + 1].add(u))
        value = float(jnp.linalg.norm(mf.lipschitz.jacobian(f, mu).split(found_field(mu, i, u))[i]))
        value = value / STEP
    else:
        bulk = mu.with_points(mu.points + STEP * found.split_field)
        nu = bulk.split(i, [1 - 1e-9, 1e-9])
        nu = nu.with_points(nu.points.at[i + 1].set(mu.points[i] + u))
        value = found.split
    assert ratio(f, mu, nu, found.p) == pytest.approx(float(value), rel=1e-3)


def found_field(mu, i, u):
    return jnp.zeros_like(mu.points).at[i].set(u)


@pytest.mark.float64
@pytest.mark.slow
def test_a_vanishing_mass_along_the_chord_has_the_slope(found):
    if found.p == math.inf:
        assert found.chord == 0
        return
    f, mu, i = head(), tokens(), int(found.chord_atom)
    # a mass that the context does not feel: scores here reach 40
    nu = moved(mu, i, 1e-9, found.chord_target - mu.points[i])
    assert ratio(f, mu, nu, found.p) == pytest.approx(float(found.chord), rel=1e-3)
    assert BALL.contains(found.chord_target)


@pytest.mark.slow
def test_slopes_are_in_order(found):
    assert found.move <= found.split <= found.value
    if found.p != 2:
        assert found.split > found.move * (1 + 1e-6)


@pytest.mark.slow
def test_random_small_attacks_stay_below_the_slope(found, key):
    f, mu = head(), tokens()
    for each in jr.split(key, 20):
        one, other = jr.split(each)
        halves = mu.split(2)
        steps = jr.normal(one, halves.points.shape) * jnp.exp(2 * jr.normal(other, (8, 1)))
        nu = halves.with_points(halves.points + 1e-6 * steps)
        assert ratio(f, mu, nu, found.p) <= found.split * (1 + 1e-3)


@pytest.mark.slow
def test_in_w_2_they_are_the_local_constant(found):
    if found.p != 2:
        return
    local = mf.local_lipschitz(head(), tokens(), key=KEY)
    assert found.move == pytest.approx(float(local.smooth), rel=1e-6)
    assert found.split == pytest.approx(float(local.value), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("p", [1, math.inf])
def test_absent_atoms_and_copies_change_no_slope(p):
    f, mu = head(), tokens()
    settings = {"key": KEY, "starts": 4, "steps": 40}
    expected = slopes(f, mu, p, **settings)
    points = jnp.concatenate([mu.points, jnp.full((1, 3), jnp.nan)])
    padded = slopes(f, mf.Measure(points, jnp.append(mu.weights, 0.0)), p, **settings)
    assert padded.move == pytest.approx(float(expected.move), rel=1e-9)
    assert padded.split == pytest.approx(float(expected.split), rel=1e-9)
    copied = slopes(f, mu.split(0, [0.5, 0.5]), p, **settings)
    assert copied.split == pytest.approx(float(expected.split), rel=1e-6)


@pytest.mark.float64
@pytest.mark.slow
def test_in_one_dimension_w_1_is_the_sum_over_a_column():
    f = mf.SelfAttention(jnp.array([[0.7]]), jnp.array([[1.3]]))
    mu = mf.Measure(jnp.array([[-1.0], [0.5], [1.2]]), jnp.array([0.5, 0.3, 0.2]))
    J = jax.jacobian(lambda x: f(mu.with_points(x[:, None])).points[:, 0])(mu.points[:, 0])
    D = np.diag(jax.jacobian(lambda x: f.at(mu, x[:, None])[:, 0])(mu.points[:, 0]))
    a = np.asarray(mu.weights)
    columns = np.sum(a[:, None] * np.abs(J), axis=0) / a
    apart = np.abs(D) + np.sum(a[:, None] * np.abs(J - np.diag(D)), axis=0) / a
    rows = np.abs(D) + np.sum(np.abs(J - np.diag(D)), axis=1)
    one, most = (slopes(f, mu, p, key=KEY, starts=2, steps=3) for p in (1, math.inf))
    assert one.move == pytest.approx(columns.max(), rel=1e-12)
    assert one.split == pytest.approx(apart.max(), rel=1e-12)
    assert most.move == pytest.approx(np.abs(J).sum(axis=1).max(), rel=1e-12)
    assert most.split == pytest.approx(rows.max(), rel=1e-12)


def test_another_exponent_is_refused():
    with as_installed(), pytest.raises(ValueError, match="`p` must be 1, 2 or jnp.inf"):
        slopes(head(), tokens(), 3, key=KEY)


def test_a_domain_without_the_measure_is_refused():
    with pytest.raises(ValueError, match="`domain` must contain the measure"):
        slopes(head(), tokens(), domain=mf.Ball(0.1), key=KEY)


@pytest.mark.parametrize("p", [1, 2, jnp.inf])
def test_what_stands_at_an_absent_atom_changes_no_slope(p, key):
    mu = mf.Measure(jr.normal(key, (4, 3)), jnp.asarray([0.5, 0.3, 0.2, 0.0]))
    f = mf.SelfAttention(jr.normal(key, (3, 3)), jnp.eye(3))
    hidden = mu.with_points(mu.points.at[-1].set(jnp.nan))
    one, other = (mf.lipschitz.slopes(f, m, p, domain=mf.Ball(9.0), key=key) for m in (mu, hidden))
    for part in ("move", "split", "chord"):
        np.testing.assert_allclose(getattr(other, part), getattr(one, part), rtol=1e-12)
