"""Attention with one score matrix, and the laws that every map between measures keeps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from attention_by_loops import pushforward
from random_maps import (
    DIM,
    UNORDERED,
    apply,
    as_installed,
    assert_close,
    every_kind,
    every_unordered_kind,
    random_measure,
    random_pair,
)

import meanfield as mf
from meanfield.attention import AbstractPointMap


attention_kinds = pytest.mark.parametrize(
    "kind", ["self-attention", "l2-attention", "multihead-soft-cap", "causal-window"]
)


def double_atoms(mu, far):
    """mu with as many absent atoms as it has atoms, lying at `far`; in every fibre, if it has."""
    points = jnp.concatenate([mu.points, jnp.full_like(mu.points, far)], axis=-2)
    weights = jnp.concatenate([mu.weights, jnp.zeros_like(mu.weights)], axis=-1)
    return eqx.tree_at(lambda mu: (mu.points, mu.weights), mu, (points, weights))


def shuffle_atoms(mu, key):
    """mu with its atoms (those of each fibre) in another order, and that order."""
    order = jr.permutation(key, mu.points.shape[-2])
    arrays = mu.points[..., order, :], mu.weights[..., order]
    return eqx.tree_at(lambda mu: (mu.points, mu.weights), mu, arrays), order


@pytest.mark.parametrize("kind", ["self-attention", "l2-attention"])
def test_agrees_with_the_definition(kind, key):
    f, mu = random_pair(kind, key)
    assert_close(apply(f, mu).points, pushforward(f, mu))


def test_without_scores_every_query_gets_the_mean(key):
    mu, V = random_measure(key), jr.normal(key, (3, DIM))
    f = mf.SelfAttention(jnp.zeros((DIM, DIM)), V)
    assert_close(f(mu).points, np.tile(np.asarray(V @ mu.mean), (8, 1)))


def test_a_dirac_is_sent_to_the_value_of_its_point(key):
    f, _ = random_pair("self-attention", key)
    x = jr.normal(key, (1, DIM))
    assert_close(f(mf.Measure(x, [0.3])).points[0], f.V @ x[0] + f.c)


def test_a_query_of_shape_d_is_answered_in_shape_e(key):
    f, mu = random_pair("self-attention", key)
    x = jr.normal(key, (3, DIM))
    assert_close(f.at(mu, x[1]), f.at(mu, x)[1])


def test_scores_far_beyond_the_exponent_range_stay_finite(key):
    f, mu = random_pair("self-attention", key)
    hard = eqx.tree_at(lambda f: f.A, f, 1e6 * f.A)
    winners = jnp.argmax((mu.points @ hard.A.T + hard.a) @ mu.points.T, axis=1)
    assert_close(hard(mu).points, mu.points[winners] @ f.V.T + f.c)


@pytest.mark.slow
def test_shares_are_a_conditional_law_of_the_atoms(key):
    f, mu = random_pair("multihead", key)
    shares = f.weights(mu.pad(10))
    assert shares.shape == (4, 10, 10)
    assert_close(shares.sum(axis=-1), np.ones((4, 10)))
    assert_close(shares[:, :, 8:], np.zeros((4, 10, 2)))


def test_scores_are_those_of_the_definition(key):
    f, mu = random_pair("self-attention", key)
    assert_close(f.scores(mu)[0], (mu.points @ f.A.T + f.a) @ mu.points.T)


@every_kind
def test_absent_atoms_change_nothing(kind, key):
    f, mu = random_pair(kind, key)
    k = mu.points.shape[-2]
    assert_close(apply(f, double_atoms(mu, 50.0)).points[..., :k, :], apply(f, mu).points)


@every_kind
def test_splitting_atoms_before_or_after_is_the_same(kind, key):
    f, mu = random_pair(kind, key)
    assert_close(apply(f, mu.split(2)), apply(f, mu).split(2))


@pytest.mark.slow
@every_kind
def test_merged_duplicates_give_the_same_image(kind, key):
    f, mu = random_pair(kind, key)
    image = apply(f, mu.split(2).merge())
    assert_close(image.points[..., ::2, :], apply(f, mu).points)
    assert_close(image.masses[..., ::2], mu.masses)


@every_kind
def test_the_order_of_atoms_is_carried_along(kind, key):
    f, mu = random_pair(kind, key)
    shuffled, order = shuffle_atoms(mu, key)
    assert_close(apply(f, shuffled).points, apply(f, mu).points[..., order, :])


@every_kind
def test_total_mass_does_not_matter_and_is_kept(kind, key):
    f, mu = random_pair(kind, key)
    which = "weights" if kind in UNORDERED else "base"
    heavier = eqx.tree_at(lambda mu: getattr(mu, which), mu, 7 * getattr(mu, which))
    assert_close(apply(f, heavier).points, apply(f, mu).points)
    assert_close(apply(f, heavier).masses, 7 * mu.masses)


@every_kind
def test_float32_agrees_with_float64(kind, key):
    f, mu = random_pair(kind, key)
    single = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_array(x) else x, (f, mu))
    points = apply(*single).points
    assert points.dtype == jnp.float32
    # float32 rounding, times scores of size ten in an exponent
    scale = float(jnp.max(jnp.abs(apply(f, mu).points)))
    assert_close(points, apply(f, mu).points, rtol=0, atol=1e-5 * scale)


@every_unordered_kind
def test_point_maps_and_no_others_ignore_their_context(kind, key):
    f, mu = random_pair(kind, key)
    other = random_measure(jr.fold_in(key, 99))
    same = np.allclose(f.at(other, mu.points), apply(f, mu).points)
    assert same == isinstance(f, AbstractPointMap)


@attention_kinds
def test_a_batch_of_measures_is_mapped_by_vmap(kind, key):
    f, mu = random_pair(kind, key)
    mus = mf.stack([mu, double_atoms(mu, 3.0).split(1) if kind in UNORDERED else mu.pad(6)])
    images = eqx.filter_jit(eqx.filter_vmap(lambda mu: f(mu)))(mus)
    size = mu.size
    assert_close(images.points[:, :size], jnp.stack([apply(f, mu).points] * 2))


@attention_kinds
def test_gradients_in_the_masses_are_finite_where_a_mass_is_zero(kind, key):
    f, mu = random_pair(kind, key)
    gradient = jax.jit(jax.grad(lambda mu: jnp.sum(f(mu).points ** 2)))(double_atoms(mu, 2.0))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))


@pytest.mark.float64
@pytest.mark.slow
@attention_kinds
def test_gradients_in_points_and_masses_agree_with_differences(kind, key):
    f, mu = random_pair(kind, key)

    def energy(mu):
        return jnp.sum(f(mu).points ** 2)

    direction = jax.tree.map(lambda leaf: jr.normal(key, leaf.shape), mu)
    _, slope = jax.jit(lambda mu: jax.jvp(energy, (mu,), (direction,)))(mu)
    step = 1e-6  # error of central differences: step^2 in truncation, 1e-16 / step in rounding
    ahead = jax.tree.map(lambda x, v: x + step * v, mu, direction)
    behind = jax.tree.map(lambda x, v: x - step * v, mu, direction)
    assert_close((energy(ahead) - energy(behind)) / (2 * step), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wrong", [np.ones((3, 2)), [[1.0, 2.0]], None])
def test_a_map_refuses_what_is_not_a_measure(wrong):
    f = mf.SelfAttention(jnp.eye(2), jnp.eye(2))
    name = type(wrong).__name__
    with as_installed(), pytest.raises(TypeError, match=f"Measure.*got {name}.*mf.Measure"):
        f(wrong)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"A": np.ones((2, 3)), "V": np.eye(3)}, ["`A`", "(3, 3)", "got (2, 3)"]),
        ({"A": np.ones(2), "V": np.eye(2)}, ["`A`", "2 axes", "got shape (2,)"]),
        ({"A": np.eye(2), "V": np.ones((2, 3))}, ["`V`", "(2, 2)", "got (2, 3)"]),
        ({"A": np.eye(2), "V": np.eye(2), "a": np.ones(3)}, ["`a`", "(2,)", "got (3,)"]),
        ({"A": np.eye(2), "V": np.eye(2), "c": np.ones(3)}, ["`c`", "(2,)", "got (3,)"]),
    ],
)
def test_arrays_of_wrong_shape_are_refused_by_name(arrays, words):
    with as_installed(), pytest.raises(ValueError) as error:
        mf.SelfAttention(**{name: jnp.asarray(array) for name, array in arrays.items()})
    assert all(word in str(error.value) for word in words), str(error.value)
