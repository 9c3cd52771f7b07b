"""The local constant of every kind of map, on 312 random draws, against dense decompositions."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from dense_svd import dense_matrices, exact_constants
from precision import rounded
from random_maps import random_pair

import meanfield as mf


# Biases, grouped heads, soft caps, norms, rotary and relative positions, windows are inside these.
KINDS = """self-attention l2-attention multihead rotary relative-bias causal causal-window
layer-norm rms-norm mlp affine residual composition""".split()
DRAWS = 24

pytestmark = pytest.mark.slow
every_kind = pytest.mark.parametrize("kind", KINDS)


def fast_to_compile(one):
    """The map of a batch of keys: most of the time here goes into compiling, so less of that."""
    return jax.jit(jax.vmap(one), compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def drawn(kind, seed):
    """For each draw: the solution, the exact smooth and split constants, and |J t|, |D t|, |t|
    in the mass-weighted norm for the tangent t found."""

    def one(key):
        f, mu = random_pair(kind, key)
        found = mf.local_lipschitz(f, mu, key=key, rtol=1e-7, throw=False)
        return found, mu.masses, *dense_matrices(f, mu)

    keys = jr.split(jr.key(seed), DRAWS)
    found, masses, J, query = fast_to_compile(one)(keys)
    exact = [exact_constants(*draw) for draw in zip(J, query, masses, strict=True)]
    flat = found.tangent.reshape(DRAWS, masses[0].size, -1)
    images = [jnp.einsum("bnemd,bmd->bne", matrix, flat) for matrix in (J, query)]
    weights = masses.reshape(DRAWS, -1, 1)
    norms = [np.sqrt(np.sum(weights * v**2, axis=(1, 2))) for v in (*images, flat)]
    return found, np.array(exact).T, norms


@every_kind
def test_agrees_with_a_dense_decomposition(kind, seed):
    found, (smooth, split), _ = drawn(kind, seed)
    assert bool(jnp.all(found.result == mf.RESULTS.successful))
    np.testing.assert_allclose(found.smooth, smooth, rtol=rounded(1e-6))
    np.testing.assert_allclose(found.split, split, rtol=rounded(1e-6))


@every_kind
def test_value_is_the_larger_of_smooth_and_split(kind, seed):
    found, exact, _ = drawn(kind, seed)
    np.testing.assert_array_equal(found.value, jnp.maximum(found.smooth, found.split))
    np.testing.assert_allclose(found.value, exact.max(axis=0), rtol=rounded(1e-6))


@every_kind
def test_lower_value_upper(kind, seed):
    found, exact, _ = drawn(kind, seed)
    assert bool(jnp.all((found.lower <= found.value) & (found.value <= found.upper)))
    oracle = 1 + rounded(0.0)  # the rounding of the matrix and of its norm
    assert np.all(found.lower <= exact.max(axis=0) * oracle)
    assert np.all(exact.max(axis=0) <= found.upper * oracle)
    assert bool(jnp.all(jnp.isfinite(found.upper)))


@every_kind
def test_the_tangent_has_length_one_and_attains_the_value(kind, seed):
    found, _, (moved, pulled, length) = drawn(kind, seed)
    np.testing.assert_allclose(length, 1, rtol=rounded(1e-10))
    attained = np.where(found.smooth >= found.split, moved, pulled)
    np.testing.assert_allclose(attained, found.value, rtol=rounded(1e-10))


@every_kind
def test_shares_are_a_probability_and_the_worst_atom_has_most(kind, seed):
    found, _, _ = drawn(kind, seed)
    shares = found.shares.reshape(DRAWS, -1)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=rounded(1e-10))
    assert np.all(shares >= 0)
    np.testing.assert_array_equal(found.atom, np.argmax(shares, axis=1))


@pytest.mark.parametrize("kind", ["self-attention", "causal-window"])
def test_float32_agrees_with_float64(kind, seed):
    def one(key):
        f, mu = random_pair(kind, key)
        single = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_array(x) else x, (f, mu))
        return mf.local_lipschitz(*single, key=key, upper=False, throw=False)

    found = fast_to_compile(one)(jr.split(jr.key(seed), DRAWS))
    _, exact, _ = drawn(kind, seed)
    assert found.value.dtype == jnp.float32
    np.testing.assert_allclose(found.value, exact.max(axis=0), rtol=1e-4)
