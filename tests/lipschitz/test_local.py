"""The local constant: what it is made of, closed forms, and laws of measures."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from dense_svd import dense_constants_of
from precision import rounded
from random_maps import (
    DIM,
    affine,
    multihead,
    random_measure,
    random_pair,
    random_sequence,
    self_attention,
)

import meanfield as mf


def local(f, mu, **options):
    """To a relative residual of 1e-7, whose square is beyond what the tests look at."""
    options = {"key": jr.key(0), "rtol": 1e-7, "upper": False} | options
    return mf.local_lipschitz(f, mu, **options)


def close(got, expected, rtol=1e-8):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rounded(rtol))


def cancelling_pair(delta, w2, light):
    """Two atoms of masses (light, 1 - light) in the plane, and attention with V = e1 e1^T, for
    which a move of the light atom as a query and as a key cancel."""
    log_ratio = np.log((1 - light) / light)
    w = np.array([1.0, w2])
    size = np.linalg.norm(w)
    x1 = w * log_ratio / size**2 + 3 * np.array([-w2, 1.0]) / size
    A = np.stack([w / delta, -w2 * x1 / (x1 @ x1)])
    points = np.stack([x1, x1 - np.array([delta, 0.0])])
    f = mf.SelfAttention(jnp.asarray(A), jnp.diag(jnp.array([1.0, 0.0])))
    return f, mf.Measure(points, [light, 1 - light])


CANCELLING = [
    ((5, 5, 0.1), 3.13, 6.37),
    ((6, 20, 0.02), 6.50, 30.0),
    ((8, 60, 0.005), 9.44, 120),
    ((12, 300, 5e-4), 20.8, 900),
]


@pytest.mark.slow
@pytest.mark.parametrize("parameters, smooth, split", CANCELLING)
def test_two_tokens_gain_without_bound_from_splitting(parameters, smooth, split):
    found = local(*cancelling_pair(*parameters))
    close(found.smooth, smooth, rtol=5e-3)  # three digits are known
    close(found.split, split, rtol=5e-3)
    assert found.value == found.split
    assert found.atom == found.split_atom


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_through_two_layers_a_split_is_what_duplicates_do(seed):
    """The split part of a deep map: the query moves while the contexts of all layers are frozen."""
    first, mu = cancelling_pair(5, 5, 0.1)
    A, V = jr.normal(jr.key(seed), (2, 2, 2))
    f = mf.Composition([first, mf.Residual(mf.SelfAttention(0.3 * A, V))])
    found = local(f, mu)
    assert found.split > 1.4 * found.smooth
    close(local(f, mu.split(2), splitting=False).smooth, found.value)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [p for p, _, _ in CANCELLING[:2]])
def test_moving_duplicates_does_what_splitting_does(parameters):
    f, mu = cancelling_pair(*parameters)
    found = local(f, mu)
    uneven = mu.split(int(found.split_atom), [0.9, 0.1])
    for duplicated in (mu.split(2), uneven):
        close(local(f, duplicated, splitting=False).value, found.value)
        close(dense_constants_of(f, duplicated)[0], found.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["self-attention", "causal"])
def test_moving_duplicates_is_never_less_and_never_more(kind, key):
    f, mu = random_pair(kind, key)
    close(dense_constants_of(f, mu.split(2))[0], local(f, mu).value)


def test_without_splitting_the_value_is_the_smooth_part():
    f, mu = cancelling_pair(5, 5, 0.1)
    found = local(f, mu, splitting=False)
    assert found.value == found.smooth
    assert found.split == 0
    close(found.smooth, local(f, mu).smooth)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multihead-soft-cap", "causal"])
def test_splitting_and_merging_equal_atoms_do_not_change_the_constant(kind, key):
    f, mu = random_pair(kind, key)
    found = local(f, mu)
    for same in (mu.split(2), mu.split(2).merge()):
        again = local(f, same)
        close([again.value, again.split], [found.value, found.split])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multihead-soft-cap", "causal"])
def test_padding_changes_neither_the_constant_nor_its_bound(kind, key):
    f, mu = random_pair(kind, key)
    found, padded = local(f, mu, upper=True), local(f, mu.pad(mu.size + 3), upper=True)
    for part in ("smooth", "split", "upper"):
        close(getattr(padded, part), getattr(found, part))


@pytest.mark.slow
def test_the_order_of_atoms_does_not_change_the_constant(key):
    f, mu = self_attention(key), random_measure(key)
    order = jr.permutation(key, mu.size)
    found, shuffled = local(f, mu), local(f, mf.Measure(mu.points[order], mu.weights[order]))
    close(shuffled.value, found.value)
    assert order[shuffled.split_atom] == found.split_atom


@pytest.mark.slow
def test_the_total_mass_does_not_change_the_constant(key):
    f, mu = self_attention(key), random_measure(key)
    close(local(f, mf.Measure(mu.points, 1e6 * mu.weights)).value, local(f, mu).value)


@pytest.mark.slow
def test_absent_atoms_have_no_share_and_no_tangent(key):
    f, mu = self_attention(key), random_measure(key)
    gone = mf.Measure(mu.points, mu.weights.at[3].set(0.0))
    found = local(f, gone)
    close(found.value, max(dense_constants_of(f, gone)))
    assert found.shares[3] == 0
    assert float(jnp.max(jnp.abs(found.tangent[3]))) == 0


def test_without_scores_the_constant_is_the_norm_of_the_value(key):
    f, mu = self_attention(key), random_measure(key)
    found = local(eqx.tree_at(lambda f: (f.A, f.a), f, (0 * f.A, 0 * f.a)), mu)
    close(found.smooth, np.linalg.norm(f.V, 2))
    assert found.split < 1e-12


def test_a_light_atom_that_all_attend_to_is_cheap_to_move(key):
    # all shares go to the light atom: J maps its move to all outputs, the norm is sqrt(1 / w) |V|
    light, V = 0.01, jr.normal(key, (2, 2))
    A = jnp.array([[0.0, 0.0], [80.0, 80.0]])
    mu = mf.Measure([[1.0, 0.0], [0.0, 1.0]], [1 - light, light])
    found = local(mf.SelfAttention(A, V), mu)
    close(found.value, np.linalg.norm(V, 2) * light**-0.5)
    assert found.atom == 1


@pytest.mark.slow
def test_a_constant_of_an_affine_map_is_its_norm_whichever_way(key):
    f, mu = affine(key), random_measure(key)
    found = local(f, mu)
    close([found.smooth, found.split], [np.linalg.norm(f.weight, 2)] * 2)


@pytest.mark.slow
def test_splitting_gains_nothing_in_the_atomless_limit(key):
    # one program for all sizes: the measure of n atoms is padded to 256
    f = mf.SelfAttention(2 * jr.normal(key, (2, 2)), jnp.eye(2))
    x = jr.normal(jr.fold_in(key, 9), (256, 2))
    sizes = jnp.array([2, 16, 256])
    masks = (jnp.arange(256) < sizes[:, None]).astype(float)
    found = jax.jit(jax.vmap(lambda w: local(f, mf.Measure(x, w), throw=False)))(masks)
    assert found.split[-1] <= 1.02 * found.smooth[-1]


@pytest.mark.slow
def test_causal_constants_are_monotone_in_the_prefix(key):
    # with equal weights: the derivative of a prefix is a corner of the whole derivative
    f, x = mf.CausalAttention(multihead(key)), jr.normal(key, (8, DIM))
    masks = jnp.tril(jnp.ones((8, 8)))

    def constant(base):
        mu = mf.ConditionalMeasure.from_sequence(x, base)
        return local(f, mu, splitting=False, throw=False).value

    values = jax.jit(jax.vmap(constant))(masks)
    assert np.all(np.diff(values) >= -1e-9 * values[1:])
    assert values[-1] > 1.05 * values[0]


@pytest.mark.slow
def test_a_batch_under_jit_gives_what_each_measure_gives(key):
    f = mf.CausalAttention(multihead(key))
    mus = [random_sequence(k) for k in jr.split(key, 3)]
    found = jax.jit(jax.vmap(lambda mu: local(f, mu, throw=False)))(mf.stack(mus))
    close(found.value, [local(f, mu).value for mu in mus])
    assert bool(jnp.all(found.result == mf.RESULTS.successful))
    assert found.tangent.shape == (3, 4, 2, DIM)


def test_two_seeds_find_one_constant(key):
    f, mu = self_attention(key), random_measure(key)
    close(local(f, mu, key=jr.key(1)).value, local(f, mu, key=jr.key(2)).value)


@pytest.mark.slow
def test_a_search_cut_short_says_so_and_is_still_a_lower_bound(key):
    f, mu = self_attention(key), random_measure(key)
    short = local(f, mu, max_steps=2, throw=False)
    assert short.result == mf.RESULTS.max_steps_reached
    assert 0 < short.value <= local(f, mu).value * (1 + 1e-12)
    with pytest.raises(RuntimeError, match="Raise `max_steps`"):
        local(f, mu, max_steps=2)


def test_a_derivative_that_is_not_finite_is_reported(key):
    f, mu = self_attention(key), random_measure(key)
    broken = mu.with_points(mu.points.at[0, 0].set(jnp.nan))
    assert local(f, broken, throw=False).result == mf.RESULTS.not_finite
    with pytest.raises(RuntimeError, match="not finite"):
        local(f, broken)


def test_a_solution_prints_what_a_person_asks_first(key):
    f, mu = self_attention(key), random_measure(key)
    text = repr(local(f, mu))
    assert text.startswith("LocalLipschitz(") and "smooth=" in text and "worst atom" in text
