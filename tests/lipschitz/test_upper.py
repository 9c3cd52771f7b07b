"""The interval around a local constant, [lower, upper], where scores are large: attention of random
draws is nearly one-hot, which is where rounding and cancellation show."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from dense_svd import dense_matrices, exact_constants

import meanfield as mf
from meanfield.lipschitz import upper_at


DRAWS, SIZE, DIM = 500, 6, 3
DTYPES = (jnp.float32, jnp.float64)


def in_dtype(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_array(x) else x, tree)


def peaked_pair(key, heads):
    """Scores up to some hundred, weights equal or six orders apart; numbers of float32 exactly."""
    keys = jr.split(key, 9)
    scale = jnp.exp(jr.uniform(keys[0], maxval=5.0))
    spread = 3.0 * jr.bernoulli(keys[1])
    mu = mf.Measure(jr.normal(keys[2], (SIZE, DIM)), jnp.exp(spread * jr.normal(keys[3], (SIZE,))))
    if heads == 1:
        f = mf.SelfAttention(scale * jr.normal(keys[4], (DIM, DIM)), jr.normal(keys[5], (2, DIM)))
    else:
        shapes = [(heads, 2, DIM)] * 3 + [(heads, DIM, 2)]
        maps = [jr.normal(k, s) for k, s in zip(keys[4:8], shapes, strict=True)]
        bias = jr.normal(keys[8], (heads, 2))
        f = mf.MultiheadAttention(scale * maps[0], *maps[1:], value_bias=bias, query_bias=bias)
    return in_dtype((f, mu), jnp.float32)


@functools.cache
def drawn(heads, seed):
    """For each draw and dtype the solution, and the exact constant by a dense decomposition."""

    def one(key):
        f, mu = peaked_pair(key, heads)
        found = [
            mf.local_lipschitz(*in_dtype((f, mu), dtype), key=key, rtol=1e-3, throw=False)
            for dtype in DTYPES
        ]
        wide = in_dtype((f, mu), jnp.float64)
        return found, wide[1].weights, *dense_matrices(*wide)

    run = jax.jit(jax.vmap(one), compiler_options={"xla_backend_optimization_level": 0})
    found, masses, J, query = run(jr.split(jr.key(seed), DRAWS))
    exact = [max(exact_constants(*draw)) for draw in zip(J, query, masses, strict=True)]
    return found, np.array(exact)


@pytest.fixture(params=[1, 3], ids=["self-attention", "multihead"])
def draws(request, seed):
    """The solutions in float32 and float64, and the exact constants."""
    if not jax.config.read("jax_enable_x64"):
        pytest.skip("the oracle needs float64")
    return drawn(request.param, seed)


@pytest.mark.slow
def test_lower_value_upper_in_both_dtypes(draws):
    found, exact = draws
    for sol in found:
        lower, value, upper = (np.asarray(x, np.float64) for x in (sol.lower, sol.value, sol.upper))
        assert np.all((lower <= value) & (value <= upper))
        assert np.all((lower <= exact) & (exact <= upper))


@pytest.mark.slow
def test_float32_has_the_upper_bound_of_float64(draws):
    # rounded upwards from float64: at most 3.5 units of the last place above
    (single, double), _ = draws
    quotient = np.asarray(single.upper, np.float64) / np.asarray(double.upper)
    assert np.all((quotient >= 1) & (quotient <= 1 + 4 * np.finfo(np.float32).eps))


@pytest.mark.slow
def test_the_draws_are_peaked_and_the_bound_is_not_vacuous(draws):
    (_, double), exact = draws
    quotient = np.asarray(double.upper) / exact
    assert np.median(quotient) < 2.5
    assert quotient.min() < 1.05


TRANSFORMED = {
    "jit": lambda upper, x: jax.jit(upper)(x[0]),
    "vmap of jit": lambda upper, x: jax.vmap(jax.jit(upper))(x)[0],
    "jit of vmap": lambda upper, x: jax.jit(jax.vmap(upper))(x)[0],
    "map": lambda upper, x: jax.jit(lambda x: jax.lax.map(upper, x))(x)[0],
}


@pytest.mark.float64
@pytest.mark.slow
@pytest.mark.filterwarnings("error:Explicitly requested dtype")
@pytest.mark.parametrize("transformed", TRANSFORMED.values(), ids=TRANSFORMED)
def test_float64_survives_every_transformation(transformed, key):
    f, mu = peaked_pair(key, 3)

    def upper(x):
        return upper_at(f, mf.Measure(x, mu.weights))

    with jax.enable_x64(False):
        got = transformed(upper, jnp.stack([mu.points, 2 * mu.points]))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, upper(mu.points), rtol=2e-7)
    wide = in_dtype((f, mu), jnp.float64)
    assert float(upper_at(*wide)) <= float(got) <= float(upper_at(*wide)) * (1 + 5e-7)


@pytest.mark.float64
@pytest.mark.slow
def test_the_gradient_of_the_bound_is_that_of_finite_differences(key):
    f, mu = in_dtype(peaked_pair(key, 3), jnp.float64)
    f = eqx.tree_at(lambda f: f.query_proj, f, f.query_proj / 20)
    direction = jr.normal(key, mu.points.shape)
    upper = jax.jit(lambda t: upper_at(f, mf.Measure(mu.points + t * direction, mu.weights)))
    step = 1e-6
    difference = (upper(step) - upper(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(upper)(0.0), difference, rtol=1e-5)


@pytest.mark.slow
def test_atoms_without_mass_may_be_nan(key):
    f, mu = peaked_pair(key, 3)
    broken = mf.Measure(mu.points.at[2].set(jnp.nan), mu.weights.at[2].set(0))
    clean = mf.Measure(mu.points.at[2].set(0), mu.weights.at[2].set(0))
    assert upper_at(f, broken) == upper_at(f, clean)
