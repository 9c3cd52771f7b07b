"""A little mass peeled off one token and sent far: curves against the fraction, and their limit."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from attack_problems import BALL, cancelling, head, ratio_of, tokens

import meanfield as mf
from meanfield.attacks import attack


pytestmark = pytest.mark.slow

KEY = jr.key(7)
FRACTIONS = (1.0, 0.1, 0.01, 1e-3)


@pytest.fixture(scope="module")
def curve():
    return attack(head(), tokens(), mf.MassPeeling(FRACTIONS, BALL), key=KEY)


def test_a_curve_has_one_ratio_for_each_fraction_in_their_order(curve):
    assert curve.ratio.shape == curve.distance_in.shape == (4,)
    again = attack(head(), tokens(), mf.MassPeeling(FRACTIONS[::-1], BALL), key=KEY)
    np.testing.assert_array_equal(again.ratio[::-1], curve.ratio)
    assert curve.stats["fractions"] == FRACTIONS


def test_distances_are_those_of_exact_transport(curve):
    assert curve.ratio[-1] == pytest.approx(ratio_of(head(), tokens(), curve.measure), rel=1e-6)
    mass = float(tokens().weights[curve.stats["atom"]])
    coupled = np.sqrt(mass * np.array(FRACTIONS)) * np.asarray(curve.displacement)
    assert np.all(np.asarray(curve.distance_in) <= coupled * (1 + 1e-9))


def test_the_peeled_mass_stays_in_the_domain(curve):
    assert jnp.all(BALL.contains(curve.stats["targets"]))
    assert curve.measure.mass == pytest.approx(1.0)
    assert np.all(np.asarray(curve.radius) <= 4.0 * (1 + 1e-9))


def test_no_curve_exceeds_the_bound_of_the_domain(curve):
    assert curve.ratio.max() <= mf.lipschitz_bound(head(), BALL).value


def test_a_vanishing_fraction_has_the_slope_of_a_chord():
    """Where no score is large, what the context does vanishes faster than the distance."""
    f = mf.SelfAttention(0.3 * head().A, head().V)
    slopes = mf.lipschitz.slopes(f, tokens(), domain=BALL, key=KEY)
    peel = mf.MassPeeling(1e-10, BALL, atom=int(slopes.chord_atom))
    assert attack(f, tokens(), peel, key=KEY).ratio == pytest.approx(float(slopes.chord), rel=1e-3)


def test_small_masses_move_the_output_of_two_tokens_by_far():
    f, mu = cancelling(5, 5, 0.1)
    found = attack(f, mu, mf.MassPeeling((0.1, 0.01), mf.Ball(mu.radius), atom=0), key=KEY)
    assert found.ratio[1] > found.ratio[0] > 5 * found.local
    assert found.ratio[1] > 20 * found.local
    assert found.result == mf.RESULTS.successful


def test_absent_atoms_order_and_copies_change_nothing():
    f, mu = head(), tokens()
    method = mf.MassPeeling(0.01, BALL, starts=2, steps=60)
    found = attack(f, mu, method, key=KEY)
    padded = mf.Measure(
        jnp.concatenate([mu.points[::-1], jnp.full((1, 3), jnp.nan)]),
        jnp.append(mu.weights[::-1], 0.0),
    )
    again = attack(f, padded, method, key=KEY)
    assert again.ratio == found.ratio
    assert again.stats["atom"] == 3 - found.stats["atom"]
    assert attack(f, mu.split(2), method, key=KEY).ratio == pytest.approx(float(found.ratio))


@pytest.mark.parametrize("p", [1, math.inf])
def test_other_distances_are_measured_in_kind(p):
    found = attack(head(), tokens(), mf.MassPeeling(0.1, BALL, p=p, starts=2, steps=60), key=KEY)
    expected = ratio_of(head(), tokens(), found.measure, p)
    assert found.ratio == pytest.approx(expected, rel=1e-6)


def test_causal_attention_is_peeled_at_one_position():
    f = mf.CausalAttention(head())
    mu = mf.ConditionalMeasure.from_sequence(tokens().points)
    found = attack(f, mu, mf.MassPeeling(0.1, BALL, atom=1, starts=2, steps=60), key=KEY)
    out = mf.conditional_wasserstein(f(mu), f(found.measure))
    assert found.distance_out == pytest.approx(float(out), rel=1e-9)
    assert found.distance_in == pytest.approx(math.sqrt(0.1 / 4) * float(found.displacement))
    assert found.ratio <= mf.lipschitz_bound(f, BALL).value
    assert np.flatnonzero(found.origin[:, 1] >= 0).tolist() == [1]


def test_any_map_can_be_peeled():
    f = mf.Residual(head())
    found = attack(f, tokens(), mf.MassPeeling(0.1, BALL, starts=2, steps=60), key=KEY)
    assert found.ratio == pytest.approx(ratio_of(f, tokens(), found.measure), rel=1e-9)
    assert found.ratio > found.local


def test_a_loss_is_raised_like_by_the_best_of_500_targets():
    """Without a budget the loss itself is climbed, not the loss over the distance."""
    f, mu = head(), tokens()
    u = jnp.array([1.0, -1.0, 0.5])
    loss = mf.TaskLoss(lambda image: jax.nn.softplus(image.mean @ u))
    peel = mf.MassPeeling((0.5, 0.05), BALL, atom=1, objective=loss, starts=4)
    found = attack(f, mu, peel, key=KEY)
    targets = BALL.project(4.0 * jr.normal(jr.key(1), (500, 3)))
    for fraction, reached in zip(peel.fractions, found.objective, strict=True):

        def there(z, fraction=fraction):
            weights = mu.weights.at[1].multiply(1 - fraction)
            points = jnp.concatenate([mu.points, z[None]])
            return loss.loss(f(mf.Measure(points, jnp.append(weights, fraction * mu.weights[1]))))

        rest, best = loss.loss(f(mu)), jnp.max(jax.vmap(there)(targets))
        assert reached - rest > 0.98 * (best - rest) > 0.1
    assert found.result == mf.RESULTS.successful
    np.testing.assert_allclose(found.objective[1], loss.loss(f(found.measure)), rtol=1e-9)


def test_float32_finds_what_float64_finds(curve):
    f, mu = jax.tree.map(lambda x: x.astype(jnp.float32), (head(), tokens()))
    narrow = attack(f, mu, mf.MassPeeling(FRACTIONS, BALL), key=KEY)
    assert narrow.ratio.dtype == jnp.float32
    np.testing.assert_allclose(narrow.ratio, curve.ratio, rtol=0.02)


def test_a_search_that_stalled_says_so():
    """One step from random targets, of a mass that no query feels: it ends below the local one."""
    method = mf.MassPeeling(1e-30, BALL, starts=2, steps=1)
    found = attack(head(), tokens(), method, key=KEY)
    assert found.ratio < found.local
    assert found.result == mf.RESULTS.search_stalled
    with pytest.raises(RuntimeError, match="made no progress from any start"):
        attack(head(), tokens(), method, key=KEY, throw=True)
