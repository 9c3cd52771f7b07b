"""Measures: what they are made of, ways to write the same one, and what the border refuses."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import assert_close, random_measure

import meanfield as mf


X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 7.0]])
W = np.array([0.5, 0.0, 1.5])
NOUNS = ["mass", "mean", "covariance", "radius"]


def nouns(mu):
    return [getattr(mu, noun) for noun in NOUNS]


def joined(mu):
    """The atoms with mass, equal ones joined, in the order of their coordinates."""
    points, where = np.unique(np.asarray(mu.points), axis=0, return_inverse=True)
    weights = np.bincount(where.ravel(), weights=np.asarray(mu.weights), minlength=len(points))
    return points[weights > 0], weights[weights > 0]


def same_measure(mu, nu):
    assert_close(joined(mu), joined(nu))


def test_weights_are_equal_and_sum_to_one_by_default():
    assert_close(mf.Measure(X).weights, np.full(3, 1 / 3))


def test_integer_points_become_floats():
    assert mf.Measure([[1, 2]]).points.dtype == jnp.result_type(float)


@pytest.mark.parametrize(
    "dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.float64)]
)
def test_weights_take_the_dtype_of_the_points(dtype):
    mu = mf.Measure(X.astype(dtype), W)
    assert mu.points.dtype == mu.weights.dtype == mu.mean.dtype == dtype


def test_mean_and_covariance_carry_the_weights():
    mu = mf.Measure(X, W)
    assert_close(mu.mass, 2.0)
    assert_close(mu.mean, np.average(X, axis=0, weights=W))
    assert_close(mu.covariance, np.cov(X.T, aweights=W, ddof=0))


def test_radius_is_the_norm_of_the_farthest_atom_with_mass():
    assert_close(mf.Measure(X, [1.0, 1.0, 0.0]).radius, np.sqrt(13.0))


def test_size_dim_and_layout_of_a_plain_measure():
    mu = mf.Measure(X, W)
    assert (mu.size, mu.dim, mu.positions) == (3, 2, None)
    assert mu.atoms is mu
    assert_close(mu.masses, W)


@pytest.mark.parametrize("noun", NOUNS)
def test_what_lies_in_an_absent_atom_changes_nothing(noun, key):
    mu = random_measure(key)
    garbage = mf.Measure(mu.pad(11).points.at[8:].set(1e9), mu.pad(11).weights)
    assert_close(getattr(garbage, noun), getattr(mu, noun))


@pytest.mark.parametrize("noun", NOUNS)
def test_even_nan_in_an_absent_atom_changes_nothing(noun, key):
    mu = random_measure(key)
    hidden = mf.Measure(mu.pad(9).points.at[8:].set(jnp.nan), mu.pad(9).weights)
    assert_close(getattr(hidden, noun), getattr(mu, noun))


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda mu: mu.split(3),
        lambda mu: mu.split(2, [0.9, 0.1]),
        lambda mu: mu.split(-1, [0.2, 0.3, 0.5]),
        lambda mu: mu.pad(13),
        lambda mu: mu.pad(13).restrict(8),
        lambda mu: mu.merge(),
        lambda mu: mu.split(2).merge(),
    ],
    ids=["split", "split-one", "split-last", "pad", "pad-restrict", "merge", "split-merge"],
)
def test_the_same_measure_can_be_written_in_many_ways(rewrite, key):
    mu = random_measure(key)
    same_measure(rewrite(mu), mu)
    assert_close(nouns(rewrite(mu)), nouns(mu))


def test_split_puts_the_copies_of_an_atom_side_by_side(key):
    mu = random_measure(key, n=3)
    assert_close(mu.split(2).points, np.repeat(mu.points, 2, axis=0))
    assert_close(mu.split(1, [0.9, 0.1]).weights[1:3], mu.weights[1] * np.array([0.9, 0.1]))


def test_merge_leaves_the_mass_of_equal_atoms_with_the_first():
    mu = mf.Measure([[1.0], [2.0], [1.0], [1.0]], [0.1, 0.2, 0.3, 0.4])
    assert_close(mu.merge().weights, [0.8, 0.2, 0.0, 0.0])


def test_merge_does_not_revive_an_absent_atom():
    mu = mf.Measure([[1.0], [1.0], [1.0]], [0.0, 0.2, 0.3])
    assert_close(mu.merge().weights, [0.0, 0.5, 0.0])


def test_merge_with_a_tolerance_joins_chains_of_near_atoms_and_keeps_all_mass():
    mu = mf.Measure([[0.0], [0.9], [1.8], [5.0]], [1.0, 2.0, 3.0, 4.0])
    assert_close(mu.merge(tol=1.0).weights, [6.0, 0.0, 0.0, 4.0])


def test_restrict_keeps_the_first_atoms_with_the_mass_they_have():
    mu = mf.Measure(X, W).restrict(2)
    assert_close(mu, mf.Measure(X[:2], W[:2]))


def test_pushforward_moves_points_and_keeps_mass(key):
    mu = random_measure(key)
    image = mu.pushforward(lambda x: jnp.stack([x[0] ** 2, x @ x]))
    assert_close(image.points[:, 1], np.sum(np.asarray(mu.points) ** 2, axis=1))
    assert_close(image.weights, mu.weights)
    assert image.dim == 2


def test_pushforward_of_a_split_measure_is_the_split_pushforward(key):
    mu = random_measure(key)
    assert_close(mu.split(2).pushforward(jnp.sin), mu.pushforward(jnp.sin).split(2))


@pytest.mark.slow
def test_stack_pads_to_the_largest_and_vmaps(key):
    small, large = random_measure(key, n=3), random_measure(jr.fold_in(key, 1), n=6)
    both = mf.stack([small, large])
    assert both.points.shape == (2, 6, 5)
    assert_close(jax.vmap(lambda mu: mu.mean)(both), jnp.stack([small.mean, large.mean]))


@pytest.mark.parametrize("noun", [*NOUNS, "size", "dim"])
def test_a_batch_needs_no_vmap(noun, key):
    mus = mf.stack([random_measure(k, n=4) for k in jr.split(key, 3)])
    each = [getattr(jax.tree.map(lambda leaf, i=i: leaf[i], mus), noun) for i in range(3)]
    assert_close(getattr(mus, noun) * np.ones(1), np.stack(each) if noun in NOUNS else [each[0]])


def test_a_batch_is_split_padded_merged_and_pushed_like_each_measure(key):
    mus = mf.stack([random_measure(k, n=4) for k in jr.split(key, 3)])

    def rewrite(mu):
        return mu.split(2).merge().pad(9).pushforward(jnp.tanh).restrict(8)

    assert_close(jax.jit(rewrite)(mus), jax.jit(jax.vmap(rewrite))(mus))


def test_every_way_of_writing_works_under_jit(key):
    mu = random_measure(key)

    def rewrite(mu):
        return mu.split(2).split(1, [0.3, 0.7]).pad(20).merge().pushforward(jnp.cos).restrict(18)

    assert_close(jax.jit(rewrite)(mu), rewrite(mu))


def test_gradients_flow_through_points_and_weights():
    gradient = jax.grad(lambda mu: mu.mean[0])(mf.Measure(X, [0.5, 0.5, 1.0]))
    assert_close(gradient.points[:, 0], [0.25, 0.25, 0.5])
    assert_close(gradient.weights, (X[:, 0] - 2.5) / 2)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: mf.Measure([1.0, 2.0]), ["`points`", "(n, d)", "(2,)"]),
        (lambda: mf.Measure(X, [1.0, 2.0]), ["`weights`", "(3,)", "(2,)"]),
        (lambda: mf.Measure(X, [1.0, -2.0, 1.0]), ["`weights`", "nonnegative", "-2.0"]),
        (lambda: mf.Measure(X, [1.0, np.nan, 1.0]), ["`weights`", "finite", "nan"]),
        (lambda: mf.Measure(X, [1.0, np.inf, 1.0]), ["`weights`", "finite", "inf"]),
        (lambda: mf.Measure(X).pad(2), ["`n`", "at least", "3", "got 2"]),
        (lambda: mf.Measure(X).split(0), ["`copies`", "at least 1", "got 0"]),
        (lambda: mf.Measure(X).split(3, [0.5, 0.5]), ["`index`", "3 atoms", "got 3"]),
        (lambda: mf.Measure(X).split(0, [0.5, 0.4]), ["`fractions`", "sum to 1", "0.9"]),
        (lambda: mf.Measure(X).split(0, [1.5, -0.5]), ["`fractions`", "nonnegative", "-0.5"]),
        (lambda: mf.Measure(X).restrict(4), ["`n`", "at most", "3", "got 4"]),
        (lambda: mf.stack([]), ["`measures`", "at least one", "none"]),
        (lambda: mf.stack([mf.Measure(X), mf.Measure(X[:, :1])]), ["`measures`", "[1, 2]"]),
    ],
)
def test_bad_input_is_refused_by_name_with_what_was_expected_and_got(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_empty_measure_has_no_mass():
    mu = mf.Measure(np.zeros((0, 3)))
    assert (mu.size, float(mu.mass), float(mu.radius)) == (0, 0.0, 0.0)
