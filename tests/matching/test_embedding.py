"""Signed embeddings: the three-term identity, brute force, and their effect on matching."""

import itertools
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield.matching import (
    Alternation,
    GromovWasserstein,
    SignedDistance,
    SquaredDistance,
    distortion_interval,
    match,
    signed_embedding,
)
from meanfield.matching.embedding import _spectrum, three_terms


def dissimilarities(rng, n: int) -> np.ndarray:
    """Of any sign, and no metric."""
    d = np.triu(rng.normal(size=(n, n)), 1)
    return d + d.T


def weighted_stress(d, z, signs, a) -> float:
    near = np.einsum("ijk,k->ij", (z[:, None] - z) ** 2, signs)
    return a @ (d - near) ** 2 @ a


@pytest.mark.parametrize("dropped", [(0,), (1, 4), (0, 3, 8), (0, 1, 2, 3, 4, 5, 6, 7, 8)])
def test_the_stress_is_the_sum_of_three_terms(dropped, rng):
    d, a = dissimilarities(rng, 9), rng.dirichlet(np.ones(9))
    values, vectors = _spectrum(d, a)
    left = np.zeros(9)
    left[list(dropped)] = values[list(dropped)]
    b = vectors @ np.diag(values - left) @ vectors.T
    near = np.diag(b)[:, None] + np.diag(b) - 2 * b
    assert_allclose(three_terms(left, vectors, a), a @ (d - near) ** 2 @ a, rtol=1e-12)
    assert three_terms(left, vectors, a) >= 4 * (left @ left + left.sum() ** 2) - 1e-12


@pytest.mark.parametrize("c", [0.5, 1.0])
def test_what_is_dropped_is_the_middle_of_the_spectrum(c, rng):
    """Against all sets: the least of sum(l^2) + c (sum l)^2 is attained at consecutive values."""

    def objective(values):
        return values @ values + c * values.sum() ** 2

    for _ in range(100):
        n, k = 8, int(rng.integers(1, 8))
        values = np.sort(rng.normal(size=n) + rng.normal())
        best = min(objective(values[list(s)]) for s in itertools.combinations(range(n), n - k))
        middle = min(objective(values[i : i + n - k]) for i in range(k + 1))
        assert_allclose(middle, best, rtol=1e-12)


def test_the_stress_told_is_that_of_the_points_and_below_every_other_choice(rng):
    d, a = dissimilarities(rng, 9), rng.dirichlet(np.ones(9))
    values, vectors = _spectrum(d, a)
    plain = signed_embedding(d, 4, a, bend=False)
    bent = signed_embedding(d, 4, a)
    for found in (plain, bent):
        stress = weighted_stress(d, np.asarray(found.points), found.signature, a)
        assert_allclose(found.stress, stress, rtol=1e-12)
        assert_allclose(found.dissimilarities, found.dissimilarities.T)
    classical = values.copy()
    classical[:4] = 0
    assert bent.stress <= plain.stress <= three_terms(classical, vectors, a) + 1e-12
    assert not plain.bent


def test_distances_in_three_dimensions_need_three(rng):
    x, a = rng.normal(size=(30, 3)), rng.dirichlet(np.ones(30))
    found = signed_embedding(np.sum((x[:, None] - x) ** 2, axis=-1), 3, a)
    assert (found.signature == 1).all() and found.bound < 1e-12
    assert_allclose(found.points.T @ a, 0, atol=1e-12)


def test_the_bound_is_above_the_exact_error(rng):
    """The error of the rounded points, in rational numbers."""
    for rank in (2, 3, 7):
        d, a = dissimilarities(rng, 7), rng.dirichlet(np.ones(7))
        found = signed_embedding(d, rank, a)
        z = [[Fraction(float(c)) for c in row] for row in np.asarray(found.points)]
        signs, w = [int(sign) for sign in found.signature], [Fraction(weight) for weight in a]

        def error(i, j, d=d, z=z, signs=signs):
            squares = [(u - v) ** 2 for u, v in zip(z[i], z[j], strict=True)]
            return Fraction(d[i, j]) - sum(s * q for s, q in zip(signs, squares, strict=True))

        pairs = itertools.product(range(7), repeat=2)
        exact = sum(w[i] * w[j] * error(i, j) ** 2 for i, j in pairs) / sum(w) ** 2
        assert Fraction(found.bound) ** 2 >= exact
        assert found.bound <= np.sqrt(float(exact)) * (1 + 1e-9) + 1e-13


def test_the_embedding_is_a_function_of_the_measure(rng):
    d, a = dissimilarities(rng, 8), rng.dirichlet(np.ones(8))
    found = signed_embedding(d, 3, a)
    order = rng.permutation(8)
    moved = signed_embedding(d[np.ix_(order, order)], 3, a[order])
    assert_allclose(moved.dissimilarities, found.dissimilarities[np.ix_(order, order)], atol=1e-9)
    twice = np.repeat(np.arange(8), [2, *[1] * 7])
    split = signed_embedding(d[np.ix_(twice, twice)], 3, np.r_[0.3 * a[0], 0.7 * a[0], a[1:]])
    assert_allclose(split.dissimilarities[1:, 1:], found.dissimilarities, atol=1e-9)
    padded = np.full((9, 9), np.nan)
    padded[:8, :8] = d
    absent = signed_embedding(padded, 3, np.r_[5 * a, 0.0])
    assert_allclose(absent.dissimilarities[:8, :8], found.dissimilarities, atol=1e-9)
    assert_allclose(absent.stress, found.stress) and not absent.points[8].any()


def test_no_coupling_changes_its_distortion_by_more_than_the_bounds(rng):
    for rank in (2, 4, 6):
        d, e = dissimilarities(rng, 8), dissimilarities(rng, 7)
        plan = rng.dirichlet(np.full(56, 0.1)).reshape(8, 7)
        a, b = plan.sum(axis=1), plan.sum(axis=0)
        one, two = signed_embedding(d, rank, a), signed_embedding(e, rank, b)

        def distortion(d, e, plan=plan):
            return np.einsum("ikjl,ij,kl->", (d[:, :, None, None] - e) ** 2, plan, plan)

        low, high = distortion_interval(
            distortion(one.dissimilarities, two.dissimilarities), one, two
        )
        assert low <= distortion(d, e) <= high
        assert high < np.inf and (rank < 6 or low > 0)


@pytest.mark.slow
def test_signed_distances_are_matched_by_moments(rng):
    d, e = dissimilarities(rng, 14), dissimilarities(rng, 11)
    a, b = rng.dirichlet(np.ones(14)), rng.dirichlet(np.ones(11))
    one, two = signed_embedding(d, 4, a), signed_embedding(e, 3, b)
    cost = SignedDistance(one.signature, two.signature)
    sol = match(one.measure, two.measure, GromovWasserstein(cost), Alternation(0.2, axes=2))
    plan, gaps = np.asarray(sol.coupling.matrix), None
    gaps = (one.dissimilarities[:, :, None, None] - two.dissimilarities) ** 2
    assert_allclose(sol.value, np.einsum("ikjl,ij,kl->", gaps, plan, plan), rtol=1e-9)
    assert_allclose(plan.sum(axis=0), b, atol=1e-4)
    outer = np.outer(a, b)
    product = np.einsum("ikjl,ij,kl->", gaps, outer, outer)
    assert not sol.collapsed and sol.value < 0.9 * product
    low, high = distortion_interval(sol.value, one, two)
    truth = np.einsum("ikjl,ij,kl->", (d[:, :, None, None] - e) ** 2, plan, plan)
    assert low <= truth <= high
    assert_allclose(sol.map(one.points), sol.coupling.barycentric(two.points), atol=1e-6)


@pytest.mark.slow
def test_positive_signs_are_squared_distances(rng):
    from meanfield import Measure

    mu, nu = Measure(skewed_points(rng, 14, 3)), Measure(skewed_points(rng, 11, 2) + 1)
    solver = Alternation(0.2, axes=1, tolerance=1e-6, marginal_tolerance=1e-9)
    plain = match(mu, nu, GromovWasserstein(SquaredDistance()), solver)
    cost = SignedDistance(np.ones(3), np.ones(2))
    signed = match(mu, nu, GromovWasserstein(cost), solver)
    assert_allclose(signed.value, plain.value, rtol=1e-5)
    assert_allclose(signed.transform, plain.transform, atol=1e-3)
    assert_allclose(signed.objective, plain.objective, rtol=1e-6)
    assert_allclose(signed.epsilon, plain.epsilon) and signed.task.x.dtype == jnp.float64
    assert_allclose(signed.map(mu.points), plain.map(mu.points), atol=1e-3)


BAD = {
    "shape": (np.ones((3, 2)), {}, "shape"),
    "diagonal": (np.eye(3), {}, "zero diagonal"),
    "asymmetric": (np.triu(np.ones((3, 3)), 1), {}, "symmetric"),
    "nan": (np.full((3, 3), np.nan), {}, "finite"),
    "rank": (np.zeros((3, 3)), {"rank": 4}, "`rank`"),
    "weights": (np.zeros((3, 3)), {"weights": [1.0, -1, 1]}, "`weights`"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_dissimilarity_is_refused(kind):
    d, settings, words = BAD[kind]
    with pytest.raises(ValueError, match=words):
        signed_embedding(d, **{"rank": 1, **settings})


def test_signs_that_do_not_fit_are_refused(rng):
    from meanfield import Measure

    mu, nu = Measure(rng.normal(size=(5, 3))), Measure(rng.normal(size=(4, 2)))
    with pytest.raises(ValueError, match="sign for each coordinate"):
        match(mu, nu, GromovWasserstein(SignedDistance([1, -1], [1, 1])))
    with pytest.raises(ValueError, match="1 or -1"):
        SignedDistance([0.5], [1])
