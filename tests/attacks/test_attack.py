"""Attacks within a budget: small ones find the local constant, none beats a bound, laws hold."""

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

KEY = jr.key(5)
FEW = {"starts": 2, "steps": 40}


@pytest.fixture(scope="module")
def problem():
    return head(), tokens()


@pytest.fixture(scope="module")
def shifted(problem):
    return attack(*problem, mf.TokenShift(budget=1e-5, **FEW), key=KEY)


@pytest.fixture(scope="module")
def split(problem):
    return attack(*problem, mf.MassSplitting(budget=0.3, domain=BALL, **FEW), key=KEY)


def test_a_small_shift_has_the_ratio_of_the_local_constant(problem, shifted):
    local = mf.local_lipschitz(*problem, key=KEY, splitting=False, upper=False)
    assert shifted.ratio == pytest.approx(float(local.smooth), rel=1e-4)
    assert shifted.result == mf.RESULTS.successful


def test_distances_are_those_of_exact_transport(problem, split):
    f, mu = problem
    assert split.distance_in == pytest.approx(float(mf.wasserstein(mu, split.measure)), rel=1e-9)
    out = mf.wasserstein(f(mu), f(split.measure))
    assert split.distance_out == pytest.approx(float(out), rel=1e-9)
    assert split.ratio == pytest.approx(ratio_of(f, mu, split.measure), rel=1e-9)


def test_budget_and_domain_hold(problem, split):
    assert split.distance_in <= 0.3 * (1 + 1e-9)
    assert jnp.all(BALL.contains(split.measure.points))
    assert split.radius <= BALL.radius * (1 + 1e-9)
    moved = np.asarray(split.measure.points) - np.asarray(problem[1].points)[split.origin]
    assert np.linalg.norm(moved, axis=1).max() == pytest.approx(float(split.displacement))


def test_no_attack_exceeds_the_bound_of_the_domain(problem, split):
    assert split.ratio <= mf.lipschitz_bound(problem[0], BALL).value


def test_splitting_beats_every_move_in_the_cancelling_family():
    f, mu = cancelling(6, 20, 0.02)
    budget, near = 1e-5, {"max_displacement": 1e-3} | FEW
    move = attack(f, mu, mf.TokenShift(budget, **FEW), key=KEY)
    halves = attack(f, mu, mf.MassSplitting(budget, free_mass=False, **near), key=KEY)
    assert move.ratio == pytest.approx(6.50, rel=2e-3)
    assert halves.ratio == pytest.approx(30.037, rel=1e-3)


def test_peeling_within_a_budget_beats_moves_by_far():
    f, mu = cancelling(5, 5, 0.1)
    move = attack(f, mu, mf.TokenShift(0.03, domain=mf.Ball(mu.radius)), key=KEY)
    free = attack(f, mu, mf.MassSplitting(0.03, domain=mf.Ball(mu.radius)), key=KEY)
    assert move.ratio == pytest.approx(3.20, rel=0.01)
    assert free.ratio > 79.9  # found by an earlier search, without a domain
    assert free.distance_in <= 0.03 * (1 + 1e-9)


@pytest.mark.parametrize("p", [1, math.inf])
def test_small_attacks_in_other_distances_find_their_slopes(problem, p):
    f, mu = problem
    slopes = mf.lipschitz.slopes(f, mu, p, key=KEY)
    move = attack(f, mu, mf.TokenShift(1e-5, p=p), key=KEY)
    assert move.ratio <= slopes.move * (1 + 1e-3)
    assert move.ratio >= slopes.move * 0.99


def test_causal_attention_is_attacked_within_its_positions(key):
    f = mf.CausalAttention(head())
    mu = mf.ConditionalMeasure.from_sequence(tokens().points)
    local = mf.local_lipschitz(f, mu, key=key, splitting=False, upper=False)
    move = attack(f, mu, mf.TokenShift(1e-5, **FEW), key=KEY)
    assert move.ratio == pytest.approx(float(local.smooth), rel=1e-4)
    split = attack(f, mu, mf.MassSplitting(0.3, domain=BALL, **FEW), key=KEY)
    out = mf.conditional_wasserstein(f(mu), f(split.measure))
    assert split.distance_out == pytest.approx(float(out), rel=1e-9)
    assert split.distance_in <= 0.3 * (1 + 1e-9)
    assert split.ratio <= mf.lipschitz_bound(f, BALL).value


def test_a_loss_and_a_direction_are_objectives(problem):
    f, mu = problem
    u = jnp.array([1.0, 0.0, 0.0])
    before = float(f(mu).mean @ u)
    push = mf.TokenShift(1e-3, objective=mf.TargetDirection(u), **FEW)
    loss = mf.TokenShift(1e-3, objective=mf.TaskLoss(lambda image: image.mean @ u), **FEW)
    pushed, raised = attack(f, mu, push, key=KEY), attack(f, mu, loss, key=KEY)
    steepest = jax.grad(lambda x: f(mu.with_points(x)).mean @ u)(mu.points)
    gain = 1e-3 * np.sqrt(np.sum(np.sum(np.asarray(steepest) ** 2, 1) / np.asarray(mu.weights)))
    assert pushed.objective == pytest.approx(gain, rel=5e-3)
    assert raised.objective - before == pytest.approx(gain, rel=5e-3)


def test_a_loss_that_rose_was_no_stalled_search(problem):
    f, mu = problem
    loss = mf.TaskLoss(lambda image: jax.nn.softplus(image.mean @ jnp.array([1.0, -1.0, 0.5])))
    found = attack(f, mu, mf.TokenShift(0.1, objective=loss, **FEW), key=KEY)
    assert found.ratio < 0.99 * found.local
    assert found.objective == pytest.approx(float(loss.loss(f(found.measure))), rel=1e-9)
    assert found.objective > 1.1 * loss.loss(f(mu))
    assert found.result == mf.RESULTS.successful


def test_a_loss_that_cannot_rise_says_so(problem):
    flat = mf.TaskLoss(lambda image: jnp.asarray(1.0, image.points.dtype))
    found = attack(*problem, mf.TokenShift(0.1, objective=flat, **FEW), key=KEY)
    assert found.result == mf.RESULTS.search_stalled


def test_a_loss_sees_images_in_the_precision_of_the_measure(problem):
    f, mu = jax.tree.map(lambda x: x.astype(jnp.float32), problem)
    seen = set()

    def loss(image):
        seen.add(image.points.dtype)
        return image.mean[0]

    attack(f, mu, mf.TokenShift(0.1, objective=mf.TaskLoss(loss), **FEW), key=KEY)
    assert seen == {jnp.dtype(jnp.float32)}


def test_padding_with_nan_changes_nothing(problem, split):
    f, mu = problem
    points = jnp.concatenate([mu.points, jnp.full((2, 3), jnp.nan)])
    padded = mf.Measure(points, jnp.append(mu.weights, jnp.zeros(2)))
    again = attack(f, padded, mf.MassSplitting(budget=0.3, domain=BALL, **FEW), key=KEY)
    assert again.ratio == split.ratio


def test_order_changes_nothing(problem, split):
    f, mu = problem
    turned = mf.Measure(mu.points[::-1], mu.weights[::-1])
    again = attack(f, turned, mf.MassSplitting(budget=0.3, domain=BALL, **FEW), key=KEY)
    assert again.ratio == split.ratio


def test_how_equal_atoms_are_written_changes_nothing(problem, split):
    f, mu = problem
    again = attack(f, mu.split(1, [0.25, 0.75]), mf.MassSplitting(0.3, domain=BALL, **FEW), key=KEY)
    assert again.ratio == pytest.approx(float(split.ratio), rel=1e-6)


def test_float32_finds_what_float64_finds(problem):
    f, mu = jax.tree.map(lambda x: x.astype(jnp.float32), problem)
    method = mf.TokenShift(1e-2, domain=BALL, **FEW)
    narrow, wide = attack(f, mu, method, key=KEY), attack(*problem, method, key=KEY)
    assert narrow.ratio.dtype == jnp.float32
    assert narrow.ratio == pytest.approx(float(wide.ratio), rel=1e-3)


def test_a_map_that_moves_nothing_is_no_stalled_search():
    still = mf.SelfAttention(jnp.zeros((3, 3)), jnp.zeros((3, 3)))
    found = attack(still, tokens(), mf.TokenShift(0.1, **FEW), key=KEY)
    assert found.ratio == 0 and found.local == 0
    assert found.result == mf.RESULTS.successful  # nothing can move, and the local constant says so


@pytest.mark.parametrize("radius", [1e-3, 0.03])
def test_no_attack_in_a_small_ball_beats_its_certificate(problem, radius):
    f, mu = problem
    upper = mf.certify(f, mu, radius).value
    inside = mf.MassSplitting(radius / 5, max_displacement=radius, **FEW)
    found = attack(f, mu, inside, key=KEY)
    assert found.displacement <= radius * (1 + 1e-9)
    assert 0.99 * found.local <= found.ratio <= upper
