"""Norms that certificates rest on: what is proved is true, and what is false is not proved."""

import numpy as np
import pytest

from meanfield.lipschitz.certificates.centre import _norm_sum
from meanfield.lipschitz.certificates.norms import (
    below,
    chebyshev_level,
    power_norms,
    top_eigenvalue,
)


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


def gram(rng, k=12):
    x = rng.standard_normal((k, k))
    return x @ x.T


def test_cholesky_proves_levels_above_the_norm_only(rng):
    for _ in range(50):
        g = gram(rng)
        top = np.linalg.eigvalsh(g)[-1]
        assert below(g, top * (1 + 1e-9)) and not below(g, top * (1 - 1e-9))
        assert top <= top_eigenvalue(g) <= top * (1 + 1e-6)


def test_an_eigenvalue_of_zero_is_proved_too():
    assert top_eigenvalue(np.zeros((3, 3))) == 0


def test_traces_of_powers_bound_the_norm(rng):
    grams = np.stack([gram(rng) * 10.0**e for e in range(-30, 30, 3)])
    top = np.linalg.eigvalsh(grams)[:, -1]
    bounds = power_norms(grams)
    assert np.all(top <= bounds) and np.all(bounds <= top * 12 ** (1 / 16) * (1 + 1e-9))


def test_sums_of_norms_are_bounded_and_nearly_reached(rng):
    for _ in range(20):
        blocks = rng.standard_normal((6, 4, 5))
        e = rng.standard_normal((4000, 4))
        e /= np.linalg.norm(e, axis=1, keepdims=True)
        reached = np.linalg.norm(np.einsum("jsr,es->ejr", blocks, e), axis=2).sum(1).max()
        assert reached <= _norm_sum(blocks, 40) <= 1.05 * reached


def test_the_randomised_test_is_above_the_norm_and_near_it(rng):
    values = np.concatenate([rng.random(400), [1.5]])
    for _ in range(20):
        level = chebyshev_level(lambda x: x * values, 401, 1.2, rng)
        assert 1.5 <= level <= 1.5 * 1.05 * 1.1


def test_the_randomised_test_fails_as_seldom_as_it_says(rng):
    # with a failure probability of 0.5 for one draw it does fail, but not more often
    values = np.concatenate([np.zeros(50), [1.0]])
    levels = [
        chebyshev_level(lambda x: x * values, 51, 0.3, rng, failure=0.5, draws=1)
        for _ in range(300)
    ]
    assert 0 < np.mean(np.array(levels) < 1.0) <= 0.5
