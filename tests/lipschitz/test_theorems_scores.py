"""The sizes that theorems read are above what scores do on the domain, and not far above."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from dense_constants import pick
from precision import EPS, rounded
from test_theorems_heads import BALL, HEADS, PLAIN, POSITIONED, RADIUS, D, multihead

import meanfield as mf
from meanfield.lipschitz.ellipsoid import enclosing
from meanfield.lipschitz.heads import attention_sizes
from meanfield.lipschitz.scores import score_sizes


DRAWS, ATOMS = 40, 12
KINDS = {name: make for name, make in {**PLAIN, **POSITIONED}.items() if "causal" not in name}


def boundary(key):
    y = jr.normal(key, (ATOMS, D))
    return RADIUS * y / jnp.linalg.norm(y, axis=1, keepdims=True)


@eqx.filter_jit
def observed(fs, points):
    """For every draw and head: the largest |d s / d y|, half the largest distance of two
    d s / d x of a query, and the largest oscillation of its scores."""

    def one(f, x):
        S = f.scores(mf.ConditionalMeasure.from_sequence(x))
        dS = jax.jacfwd(lambda z: f.scores(mf.ConditionalMeasure.from_sequence(z)))(x)
        other = ~jnp.eye(ATOMS, dtype=bool)
        i, j = jnp.nonzero(other, size=ATOMS * (ATOMS - 1))
        along_key = jnp.linalg.norm(dS[:, i, j, j], axis=-1).max(axis=1)
        by_query = dS[:, i, j, i].reshape(HEADS, ATOMS, ATOMS - 1, D)
        apart = jnp.linalg.norm(by_query[:, :, :, None] - by_query[:, :, None], axis=-1)
        oscillation = S.max(axis=2) - S.min(axis=2)
        return along_key, apart.max(axis=(1, 2, 3)) / 2, oscillation.max(axis=1)

    return eqx.filter_vmap(one)(fs, points)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_sizes_of_scores_are_above_all_samples_and_near_the_largest(name):
    keys = jr.split(jr.key(3), DRAWS)
    fs, points = eqx.filter_vmap(KINDS[name])(keys), jax.vmap(boundary)(keys)
    seen = [np.asarray(part) for part in observed(fs, points)]
    around = enclosing(BALL, D)
    sizes = [score_sizes(pick(fs, k), around, ATOMS) for k in range(DRAWS)]
    for part, field in zip(seen, ("key", "query", "oscillation"), strict=True):
        bound = np.array([[getattr(head, field) for head in heads] for heads in sizes])
        assert np.all(bound >= part), field
        assert (bound / part).min() < 3, field


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_head_is_aligned_where_its_key_slopes_do_not_depend_on_the_key(name):
    f = KINDS[name](jr.key(4))
    x = boundary(jr.key(5))
    dS = jax.jit(jax.jacfwd(lambda z: f.scores(mf.ConditionalMeasure.from_sequence(z))))(x)
    slopes = jnp.stack([dS[:, 0, j, j] for j in range(1, ATOMS)])
    aligned = bool(jnp.all(jnp.std(slopes, axis=0) < 1e3 * EPS))
    assert all(head.aligned == aligned for head in score_sizes(f, enclosing(BALL, D), ATOMS))


def test_sizes_of_values_are_those_of_the_products_and_of_their_balanced_factors(key):
    f = multihead(key)
    sizes, whole = attention_sizes(f, BALL, 1), []
    for h in range(HEADS):
        O, V = np.asarray(f.output_proj[h]), np.asarray(f.value_proj[h // f.group])
        U, S, _ = np.linalg.svd(O @ V)
        whole.append(U[:, : len(V)] * np.sqrt(S[: len(V)]))
        assert sizes.heads[h].value == pytest.approx(S[0], rel=rounded(1e-12))
        assert sizes.inner[h].spread == pytest.approx(RADIUS * np.sqrt(S[0]), rel=rounded(1e-11))
    assert sizes.output == pytest.approx(np.linalg.norm(np.hstack(whole), 2), rel=rounded(1e-11))


def test_the_sharp_column_is_above_that_of_two_diracs_at_half_and_at_the_whole_radius():
    f = mf.SelfAttention(40.0 * jnp.eye(1), jnp.eye(1))
    (sizes,) = score_sizes(f, enclosing(mf.Ball(1.0), 1), 1)
    x, weights = np.array([0.5, 1.0]), np.array([1 - 1e-12, 1e-12])
    likes = np.exp(40.0 * np.outer(x, x))
    column = weights @ (likes / (likes @ weights)[:, None])
    assert np.log(column[1]) == pytest.approx(10, rel=1e-3)  # kappa = 40 / 4
    assert 10 < sizes.log_column < 10 + 7 < sizes.oscillation == pytest.approx(80)
