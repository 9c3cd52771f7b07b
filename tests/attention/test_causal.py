"""Causal attention sees what is not after it, and forgets what the window leaves behind."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from attention_by_loops import pushforward
from random_maps import DIM, apply, assert_close, multihead, random_pair, random_sequence

import meanfield as mf


def moved_after(mu, position, key):
    """mu with other points at all later positions."""
    later = jnp.arange(mu.size)[:, None, None] > position
    return mu.with_points(jnp.where(later, jr.normal(key, mu.points.shape), mu.points))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "causal-window"])
def test_agrees_with_the_definition(kind, key):
    f, mu = random_pair(kind, key)
    assert_close(apply(f, mu).points, pushforward(f, mu))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "causal-window", "causal-block"])
@pytest.mark.parametrize("position", [0, 2])
def test_later_tokens_do_not_change_earlier_outputs(kind, position, key):
    f, mu = random_pair(kind, key)
    moved = moved_after(mu, position, jr.fold_in(key, 1))
    before = slice(0, position + 1)
    assert_close(apply(f, moved).points[before], apply(f, mu).points[before])
    assert not np.allclose(apply(f, moved).points[position + 1], apply(f, mu).points[position + 1])


@pytest.mark.slow
def test_the_outputs_of_a_prefix_are_the_prefix_of_the_outputs(key):
    f, mu = random_pair("causal", key)
    assert_close(apply(f, mu.restrict(2)).points, apply(f, mu).points[:2])


def test_outputs_forget_what_lies_before_the_window(key):
    f, mu = mf.CausalAttention(multihead(key), window=2), random_sequence(key)
    moved = mu.with_points(mu.points.at[:2].add(1.0))
    assert_close(apply(f, moved).points[3], apply(f, mu).points[3])
    assert not np.allclose(apply(f, moved).points[2], apply(f, mu).points[2])


def test_a_window_as_long_as_the_sequence_hides_nothing(key):
    f, mu = multihead(key), random_sequence(key)
    assert_close(
        apply(mf.CausalAttention(f, window=4), mu).points, apply(mf.CausalAttention(f), mu).points
    )


def test_a_window_of_one_position_sees_its_own_fibre_only(key):
    f, mu = multihead(key), random_sequence(key)
    alone = apply(f, mf.Measure(mu.points[2], mu.weights[2])).points
    assert_close(apply(mf.CausalAttention(f, window=1), mu).points[2], alone)


def test_atoms_of_one_position_see_each_other(key):
    f, mu = mf.CausalAttention(multihead(key)), random_sequence(key)
    moved = mu.with_points(mu.points.at[1, 1].add(1.0))
    assert not np.allclose(apply(f, moved).points[1, 0], apply(f, mu).points[1, 0])


def test_the_last_position_sees_what_unmasked_attention_sees(key):
    f, mu = multihead(key), random_sequence(key)
    assert_close(apply(mf.CausalAttention(f), mu).points[-1], apply(f, mu).points[-1])


def test_absent_positions_in_the_middle_are_not_seen(key):
    f, mu = mf.CausalAttention(multihead(key)), random_sequence(key)
    gone = eqx.tree_at(lambda mu: mu.base, mu, mu.base.at[1].set(0.0))
    moved = gone.with_points(gone.points.at[1].set(40.0))
    seen = np.array([0, 2, 3])
    assert_close(apply(f, moved).points[seen], apply(f, gone).points[seen])


def test_before_any_mass_outputs_are_finite(key):
    f, mu = mf.CausalAttention(multihead(key)), random_sequence(key)
    late = eqx.tree_at(lambda mu: mu.base, mu, mu.base.at[:2].set(0.0))
    assert bool(jnp.all(jnp.isfinite(apply(f, late).points)))
    alone = mf.ConditionalMeasure(late.points[2:], late.weights[2:], late.base[2:])
    assert_close(apply(f, late).points[2:], pushforward(f, alone))


@pytest.mark.slow
def test_shares_are_lower_triangular_and_rows_sum_to_one(key):
    f, mu = mf.CausalAttention(multihead(key), window=2), random_sequence(key, k=1)
    shares = np.asarray(f.weights(mu))
    assert_close(shares.sum(-1), np.ones((4, 4)))
    distance = np.arange(4)[:, None] - np.arange(4)
    hidden = np.broadcast_to((distance < 0) | (distance >= 2), shares.shape)
    assert_close(shares[hidden], np.zeros(hidden.sum()))
    assert shares[~hidden].min() > 0


def test_causal_attention_refuses_a_measure_without_order(key):
    with pytest.raises(ValueError, match="`mu` must be a ConditionalMeasure.*got a Measure"):
        mf.CausalAttention(multihead(key))(mf.Measure(jnp.zeros((3, DIM))))


def test_a_window_must_be_positive(key):
    with pytest.raises(ValueError, match="`window` must be at least 1; got 0"):
        mf.CausalAttention(multihead(key), window=0)
