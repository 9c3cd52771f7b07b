"""Figures of signed embeddings and of matched mass, without a screen."""

import matplotlib


matplotlib.use("Agg")

import numpy as np
import pytest

import meanfield as mf


def test_an_embedding_is_seen_against_what_it_stands_for():
    d = np.triu(np.random.default_rng(0).normal(size=(8, 8)), 1)
    found = mf.matching.signed_embedding(d + d.T, 3)
    ax = mf.plot.embedded_dissimilarities(found, d + d.T)
    dots = ax.collections[1].get_offsets()
    np.testing.assert_allclose(dots[:, 0], d[np.triu_indices(8, 1)])
    np.testing.assert_allclose(dots[:, 1], found.dissimilarities[np.triu_indices(8, 1)])
    assert "minus" in ax.get_ylabel()


@pytest.mark.slow
def test_matched_mass_is_that_of_the_marginals():
    rng = np.random.default_rng(0)
    mu, nu = (mf.Measure(rng.gamma(1.0, size=(n, d)), np.ones(n)) for n, d in ((9, 3), (7, 2)))
    problem = mf.matching.UnbalancedGromovWasserstein(1.0)
    sol = mf.match(mu, nu, problem, mf.Alternation(0.2, axes=1))
    for side in (0, 1):
        ax = mf.plot.matched_mass(sol, side)
        shares = np.asarray(sol.coupling.marginals[side])
        np.testing.assert_allclose(ax.collections[0].get_array(), shares, rtol=1e-6)
