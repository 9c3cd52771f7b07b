"""Conditional measures: fibres over positions, and the same laws as for plain measures."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import assert_close, random_sequence

import meanfield as mf


X = np.arange(12.0).reshape(3, 2, 2)


def test_a_sequence_has_one_whole_atom_at_each_position():
    mu = mf.ConditionalMeasure.from_sequence(X[:, 0])
    assert mu.points.shape == (3, 1, 2)
    assert_close(mu.weights, np.ones((3, 1)))
    assert_close(mu.base, np.full(3, 1 / 3))


def test_fibre_weights_and_base_are_equal_by_default():
    mu = mf.ConditionalMeasure(X)
    assert_close(mu.weights, np.full((3, 2), 0.5))
    assert_close(mu.base, np.full(3, 1 / 3))


def test_masses_are_base_times_fibre_weights(key):
    mu = random_sequence(key)
    assert_close(mu.masses, np.asarray(mu.base)[:, None] * np.asarray(mu.weights))
    assert_close(mu.mass, mu.base.sum())


def test_atoms_are_flat_and_know_their_positions(key):
    mu = random_sequence(key, s=3, k=2)
    assert_close(mu.atoms.points, np.asarray(mu.points).reshape(6, 5))
    assert_close(mu.atoms.weights, np.asarray(mu.masses).ravel())
    assert mu.positions.tolist() == [0, 0, 1, 1, 2, 2]


def test_fibres_are_plain_measures_along_the_leading_axis(key):
    mu = random_sequence(key)
    assert isinstance(mu.fibres, mf.Measure)
    assert_close(mu.fibres.mean[1], mf.Measure(mu.points[1], mu.weights[1]).mean)


@pytest.mark.parametrize(
    "dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.float64)]
)
def test_weights_and_base_take_the_dtype_of_the_points(dtype):
    mu = mf.ConditionalMeasure(X.astype(dtype))
    assert mu.weights.dtype == mu.base.dtype == mu.masses.dtype == dtype


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda mu: mu.split(3),
        lambda mu: mu.split(2).merge(),
        lambda mu: mu.pad(9),
        lambda mu: mu.pad(9).restrict(4),
    ],
    ids=["split", "split-merge", "pad", "pad-restrict"],
)
def test_the_same_conditional_measure_can_be_written_in_many_ways(rewrite, key):
    mu, same = random_sequence(key), rewrite(random_sequence(key))
    nouns = ["mass", "mean", "covariance", "radius"]
    assert_close([getattr(same.atoms, n) for n in nouns], [getattr(mu.atoms, n) for n in nouns])
    assert_close(same.fibres.mean[: mu.size], mu.fibres.mean)


def test_atoms_of_different_positions_are_never_merged():
    mu = mf.ConditionalMeasure(np.ones((2, 2, 3))).merge()
    assert_close(mu.masses, [[0.5, 0.0], [0.5, 0.0]])


def test_pushforward_moves_points_in_every_fibre(key):
    mu = random_sequence(key)
    assert_close(mu.pushforward(lambda x: x[:1] * 2).points, 2 * np.asarray(mu.points)[..., :1])


def test_restrict_keeps_the_first_positions(key):
    mu = random_sequence(key)
    assert_close(mu.restrict(2).atoms, mu.atoms.restrict(4))


def test_radius_does_not_see_absent_positions():
    mu = mf.ConditionalMeasure(X, base=[1.0, 1.0, 0.0])
    assert_close(mu.radius, np.linalg.norm(X[1, 1]))


@pytest.mark.slow
def test_stack_pads_positions_and_vmaps(key):
    short, long = random_sequence(key, s=2), random_sequence(jr.fold_in(key, 1), s=5)
    both = mf.stack([short, long])
    means = jax.jit(jax.vmap(lambda mu: mu.atoms.mean))(both)
    assert_close(means, jnp.stack([short.atoms.mean, long.atoms.mean]))


def test_a_batch_is_rewritten_like_each_measure(key):
    mus = mf.stack([random_sequence(k) for k in jr.split(key, 3)])

    def rewrite(mu):
        return mu.split(2).pad(6).pushforward(jnp.tanh).restrict(5)

    assert_close(jax.jit(rewrite)(mus), jax.jit(jax.vmap(rewrite))(mus))
    assert_close(mus.atoms, jax.jit(jax.vmap(lambda mu: mu.atoms))(mus))


def test_works_under_jit_and_grad(key):
    mu = random_sequence(key)

    def spread(mu):
        return jnp.trace(mu.merge().pad(6).atoms.covariance)

    gradient = jax.jit(jax.grad(spread))(mu)
    centred = mu.points - mu.atoms.mean
    assert_close(gradient.points, 2 * mu.masses[..., None] * centred / mu.mass)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: mf.ConditionalMeasure(X[0]), ["`points`", "(s, k, d)", "(2, 2)", "from_sequence"]),
        (lambda: mf.ConditionalMeasure(X, np.ones(3)), ["`weights`", "(3, 2)", "got (3,)"]),
        (lambda: mf.ConditionalMeasure(X, -np.ones((3, 2))), ["`weights`", "nonnegative", "-1.0"]),
        (lambda: mf.ConditionalMeasure(X, base=np.ones(2)), ["`base`", "(3,)", "got (2,)"]),
        (lambda: mf.ConditionalMeasure(X, base=[1, -2, 1]), ["`base`", "nonnegative", "-2.0"]),
        (lambda: mf.ConditionalMeasure(X, base=[1, np.nan, 1]), ["`base`", "finite", "nan"]),
        (lambda: mf.ConditionalMeasure.from_sequence(X[0, 0]), ["`x`", "(s, d)", "got (2,)"]),
        (lambda: mf.ConditionalMeasure(X).pad(2), ["`s`", "at least", "3", "got 2"]),
        (lambda: mf.ConditionalMeasure(X).restrict(4), ["`s`", "at most", "3", "got 4"]),
        (lambda: mf.ConditionalMeasure(X).split(0), ["`copies`", "at least 1", "got 0"]),
    ],
)
def test_bad_input_is_refused_by_name_with_what_was_expected_and_got(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert all(word in str(error.value) for word in words), str(error.value)
