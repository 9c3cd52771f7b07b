"""Multi-head attention against its definition, feature by feature, and head by head."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from attention_by_loops import bucket, pushforward, turned
from precision import rounded
from random_maps import (
    DIM,
    apply,
    as_installed,
    assert_close,
    l2_attention,
    multihead,
    norms,
    random_measure,
    random_sequence,
    relative_bias,
    slopes,
)

import meanfield as mf
from meanfield.attention import RelativeBias, Rotary


FEATURES = {
    "plain": {"biases": False},
    "biases": {},
    "scale": {"scale": 1.3},
    "rotary": {"rotary": Rotary(theta=50.0)},
    "part-rotary": {"rotary": Rotary(theta=50.0, dims=2)},
    "given-frequencies": {"rotary": Rotary(frequencies=jnp.array([1.0, 0.2]))},
    "linear-bias": {"score_bias": slopes()},
    "soft-cap": {"soft_cap": 0.8},
}


@pytest.mark.slow
@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_agrees_with_the_definition(feature, key):
    f, mu = multihead(key, **FEATURES[feature]), random_sequence(key)
    assert_close(apply(f, mu).points, pushforward(f, mu))


def test_all_features_together_agree_with_the_definition(key):
    rotary, bias = Rotary(theta=9.0), relative_bias(key)
    f = multihead(key, rotary=rotary, score_bias=bias, soft_cap=2.0, scale=0.7, **norms(key))
    mu = random_sequence(key)
    assert_close(apply(f, mu).points, pushforward(f, mu))


def test_each_feature_changes_the_answer(key):
    mu, images = random_sequence(key), []
    for feature in FEATURES.values():
        images.append(np.asarray(apply(multihead(key, **feature), mu).points))
    gaps = [np.abs(a - b).max() for i, a in enumerate(images) for b in images[:i]]
    assert min(gaps) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_agrees_with_dot_product_attention_of_jax(causal, key):
    f, x = multihead(key, biases=False), jr.normal(key, (9, DIM))
    q, k, v = (jnp.einsum("hkd,nd->nhk", w, x) for w in (f.query_proj, f.key_proj, f.value_proj))
    v = jnp.pad(v, [(0, 0), (0, 0), (0, 1)])  # it wants values of the size of keys
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=causal)[..., :3]
    expected = jnp.einsum("hev,nhv->ne", f.output_proj, mixed)
    g = mf.CausalAttention(f) if causal else f
    points = g(mf.ConditionalMeasure.from_sequence(x)).points[:, 0]
    assert_close(points, expected, rtol=0, atol=1e-6)  # its softmax is in float32


@pytest.mark.slow
@pytest.mark.parametrize("make", [multihead, l2_attention], ids=["multihead", "l2"])
def test_heads_add_up_to_the_whole_without_its_output_bias(make, key):
    f, mu = make(key), random_measure(key)
    parts = sum(apply(head, mu).points for head in f.heads)
    bias = getattr(f, "output_bias", None)
    assert_close(parts, apply(f, mu).points - (0 if bias is None else bias))


def test_heads_with_every_feature_add_up_under_a_causal_mask(key):
    bias = relative_bias(key)
    f = multihead(key, rotary=Rotary(), score_bias=bias, soft_cap=2.0, **norms(key))
    causal, mu = mf.CausalAttention(f, window=3), random_sequence(key)
    parts = sum(apply(head, mu).points for head in causal.heads)
    assert_close(parts, apply(causal, mu).points - f.output_bias)


def test_the_one_head_of_self_attention_leaves_its_constant_out(key):
    f = mf.SelfAttention(jnp.eye(2), jnp.eye(2), c=jnp.ones(2))
    mu = random_measure(key, d=2)
    assert_close(f.heads[0](mu).points, f(mu).points - 1)


def test_one_head_with_a_given_matrix_is_self_attention(key):
    f = multihead(key, biases=False).heads[3]
    A = f.key_proj[0].T @ f.query_proj[0] / 2  # 1 / sqrt(k), k = 4
    same = mf.SelfAttention(A, f.output_proj[0] @ f.value_proj[0])
    mu = random_measure(key)
    assert_close(apply(f, mu).points, apply(same, mu).points)


def test_rotary_turns_are_products_of_complex_numbers(key):
    rotary, features = Rotary(theta=11.0, dims=4), jr.normal(key, (1, 7, 6))
    out = rotary.rotate(features, 3 * jnp.arange(7))
    expected = [turned(rotary, np.asarray(features[0, i]), 3 * i) for i in range(7)]
    assert_close(out[0], np.array(expected))


def test_rotary_scores_depend_on_differences_of_positions_only(key):
    q, k = jr.normal(key, (2, 1, 1, 6))

    def score(t, s):
        at_t, at_s = Rotary().rotate(q, jnp.array([t])), Rotary().rotate(k, jnp.array([s]))
        return jnp.sum(at_t * at_s)

    assert_close(score(7, 3), score(1004, 1000))
    assert abs(score(7, 3) - score(3, 7)) > 1e-3


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets, longest", [(32, 128), (8, 20), (12, 9)])
@pytest.mark.parametrize(
    "dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.float64)]
)
def test_relative_positions_fall_into_the_buckets_of_t5(buckets, longest, bidirectional, dtype):
    table = jnp.arange(buckets, dtype=dtype)[:, None]
    bias = RelativeBias(table, bidirectional, max_distance=longest)
    ahead = np.arange(-400, 401)
    got = bias(jnp.array([400]), 400 + jnp.asarray(ahead))[0, 0]
    assert got.tolist() == [bucket(bias, int(a)) for a in ahead]


def test_random_heads_split_the_dimension(key):
    f = mf.MultiheadAttention.random(dim=12, heads=3, key=key)
    assert f.query_proj.shape == (3, 4, 12)
    assert f.output_proj.shape == (3, 12, 4)


@pytest.mark.parametrize("extra", [{"rotary": Rotary()}, {"score_bias": slopes()}])
def test_scores_of_positions_refuse_a_measure_without_order(extra, key):
    with pytest.raises(ValueError, match="`mu` must be a ConditionalMeasure.*got a Measure"):
        multihead(key, **extra)(random_measure(key))


def test_queries_must_come_in_the_layout_of_the_positions(key):
    with pytest.raises(ValueError, match=r"`x` must have shape \(s, m, d\) with s = 4.*got \(3, 1"):
        multihead(key).at(random_sequence(key), jnp.zeros((3, 1, DIM)))


@pytest.mark.parametrize(
    "name, shape, words",
    [
        ("query_proj", (3, 4, DIM), ["3 heads", "multiple", "2 heads"]),
        ("key_proj", (2, 4, 6), ["`key_proj`", "(2, 4, 5)", "got (2, 4, 6)"]),
        ("value_proj", (1, 3, DIM), ["`value_proj`", "(2, 3, 5)", "got (1, 3, 5)"]),
        ("output_proj", (4, DIM, 2), ["`output_proj`", "(4, 5, 3)", "got (4, 5, 2)"]),
        ("query_proj", (4, DIM), ["`query_proj`", "3 axes", "got shape (4, 5)"]),
        ("query_bias", (2, 4), ["`query_bias`", "(4, 4)", "got (2, 4)"]),
        ("key_bias", (4, 4), ["`key_bias`", "(2, 4)", "got (4, 4)"]),
        ("value_bias", (2, 4), ["`value_bias`", "(2, 3)", "got (2, 4)"]),
        ("output_bias", (3,), ["`output_bias`", "(5,)", "got (3,)"]),
    ],
)
def test_wrong_shapes_are_refused_by_name_with_what_was_expected_and_got(name, shape, words, key):
    good = multihead(key)
    arrays = {n: getattr(good, n) for n in ("query_proj", "key_proj", "value_proj", "output_proj")}
    with as_installed(), pytest.raises(ValueError) as error:
        mf.MultiheadAttention(**(arrays | {name: jnp.zeros(shape)}))
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("name", ["key_proj", "value_proj", "output_proj"])
def test_l2_attention_refuses_heads_of_wrong_shape_by_name(name, key):
    good = l2_attention(key)
    arrays = {n: getattr(good, n) for n in ("query_proj", "key_proj", "value_proj", "output_proj")}
    with as_installed(), pytest.raises(ValueError, match=rf"`{name}` must .*got \(2, 9, 9\)"):
        mf.L2Attention(**(arrays | {name: jnp.zeros((2, 9, 9))}))


def test_a_map_is_a_pytree_whose_weights_can_be_trained(key):
    f, mu = multihead(key), random_measure(key)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda f: jnp.sum(f(mu).points ** 2)))(f)
    sizes = [float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)]
    assert len(sizes) == 8  # four projections, four biases
    assert min(sizes[:5] + sizes[6:]) > 1e-6  # a bias common to all keys has no effect
    assert sizes[5] < rounded(1e-12)
