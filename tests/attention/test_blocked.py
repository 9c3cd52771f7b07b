"""Long contexts go in blocks: the same numbers, memory in proportion to the length."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from random_maps import KINDS, UNORDERED, assert_close, random_measure, random_sequence

import meanfield as mf
from meanfield.attention import attending, derivative
from meanfield.lipschitz import jacobian


kinds = pytest.mark.parametrize(
    "kind", ["self-attention", "multihead-soft-cap", "relative-bias", "causal-window"]
)


@pytest.fixture
def in_blocks(monkeypatch):
    """Blocks of 32 queries and heads one at a time, as for long contexts."""
    monkeypatch.setattr(attending, "_WHOLE", 100)
    monkeypatch.setattr(attending, "_BLOCK", 1)
    monkeypatch.setattr(attending, "_BATCHED", 0)


def draw(kind, key):
    """A random map at 40 atoms: one block of 32 queries and one that is padded."""
    mu = random_measure(key, n=40) if kind in UNORDERED else random_sequence(key, s=20)
    return KINDS[kind](key), mu


def image(kind, key):
    f, mu = draw(kind, key)
    return eqx.filter_jit(lambda f, mu: f(mu))(f, mu).points


def products(kind, key):
    """J v, D v, J^T w and D^T w at random fields."""
    f, mu = draw(kind, key)

    def all_four(f, mu):
        d = jacobian(f, mu)
        v, w = jr.normal(key, d.points.shape), jr.normal(key, d.outputs.shape)
        return d.smooth(v), d.split(v), d.smooth_transpose(w), d.split_transpose(w)

    return eqx.filter_jit(all_four)(f, mu)


@kinds
def test_blocks_give_the_same_image(kind, key, request):
    whole = image(kind, key)
    request.getfixturevalue("in_blocks")
    assert_close(image(kind, key), whole)


@pytest.mark.slow
@kinds
def test_blocks_give_the_same_derivative(kind, key, request):
    whole = products(kind, key)
    request.getfixturevalue("in_blocks")
    assert_close(products(kind, key), whole)


@pytest.mark.slow
def test_shares_made_again_give_the_same_derivative(key, monkeypatch):
    kept = products("multihead-soft-cap", key)
    monkeypatch.setattr(derivative, "_KEPT", 0)
    assert_close(products("multihead-soft-cap", key), kept)


@pytest.mark.slow
def test_blocks_give_the_same_local_constant(key, request):
    f, mu = draw("causal-window", key)

    def constant(f, mu):
        return mf.local_lipschitz(f, mu, key=key, rtol=1e-6, upper=False).value

    whole = constant(f, mu)
    request.getfixturevalue("in_blocks")
    jax.clear_caches()
    assert_close(constant(f, mu), whole, rtol=1e-10)


def temporary_bytes(f, n, dim=16):
    """What one application needs beside its input and output, at a sequence of length n."""
    x = jax.ShapeDtypeStruct((n, dim), jnp.float32)
    run = jax.jit(lambda x: f(mf.ConditionalMeasure.from_sequence(x)).points)
    return run.lower(x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_memory_grows_in_proportion_to_the_length(causal, key):
    f = mf.MultiheadAttention.random(dim=16, heads=4, key=key)
    f = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), f)
    f = mf.CausalAttention(f) if causal else f
    short, long = temporary_bytes(f, 8192), temporary_bytes(f, 16384)
    assert long < 2.2 * short
    assert long < 4 * 16384**2 / 8  # far below one head's matrix of shares


@pytest.mark.slow
def test_derivative_memory_grows_in_proportion_to_the_length(key):
    f = mf.MultiheadAttention.random(dim=16, heads=4, key=key)

    def bytes_at(n):
        def push_and_pull(x):
            d = jacobian(f, mf.Measure(x))
            return d.smooth_transpose(d.smooth(x))

        x = jax.ShapeDtypeStruct((n, 16), jnp.result_type(float))
        return jax.jit(push_and_pull).lower(x).compile().memory_analysis().temp_size_in_bytes

    assert bytes_at(16384) < 2.2 * bytes_at(8192)
