"""The local constant of attention with every choice, against dense decompositions."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest
from dense_svd import dense_matrices, exact_constants
from random_maps import random_measure, self_attention

import meanfield as mf


DRAWS = 16
# chi-square without a cap and entmax 3/2 answer by the same formulas as the ones tried
CHOICES = {
    "capped softmax": mf.Softmax(cap=2.0),
    "capped chi-square": mf.ChiSquare(0.5, cap=2.0),
    "entmax 1.3": mf.Entmax(1.3),
    "top mass": mf.TopMass(0.4),
    "sigmoid": mf.Sigmoid(-0.3),
    "linear": mf.Linear(),
    "doubly stochastic": mf.DoublyStochastic(),
}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("choice", CHOICES)
def test_agrees_with_a_dense_decomposition(choice, seed):
    def one(key):
        f = eqx.tree_at(lambda f: f.choice, self_attention(key), CHOICES[choice])
        mu = random_measure(jr.fold_in(key, 1))
        found = mf.local_lipschitz(f, mu, key=key, rtol=1e-7, upper=False, throw=False)
        return found, mu.weights, *dense_matrices(f, mu)

    keys = jr.split(jr.key(seed), DRAWS)
    found, masses, J, query = eqx.filter_jit(jax.vmap(one))(keys)
    exact = np.array([exact_constants(*draw) for draw in zip(J, query, masses, strict=True)])
    np.testing.assert_allclose(found.smooth, exact[:, 0], rtol=1e-6)
    # top mass: shares do not answer to scores, a split atom goes where its query goes
    np.testing.assert_allclose(found.split, exact[:, 1], rtol=1e-6, atol=1e-12)
    assert np.all(found.lower <= exact.max(axis=1))
