"""Two checkpoints as measures of heads: what no gauge can change, matched exactly."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gauges import (
    FAMILIES,
    GOLDEN,
    everywhere,
    head_order,
    load,
    louder,
    permuted,
    regauged,
    with_fields,
)
from scipy.optimize import linear_sum_assignment

import meanfield as mf
from meanfield.attention import CausalAttention, MultiheadAttention
from meanfield.audits import Heads, Neurons, compare_models
from meanfield.models import ModelError


@pytest.fixture(scope="module")
def bert():
    return load("bert")


@pytest.fixture(scope="module")
def roberta():
    return load("roberta")


def attention_of(layer):
    masked = isinstance(layer.attention, CausalAttention)
    return layer.attention.attention if masked else layer.attention


def same_function(f, g, key):
    x = jax.random.normal(key, (5, f.query_proj.shape[2]), f.query_proj.dtype)
    mu = mf.ConditionalMeasure.from_sequence(x)
    np.testing.assert_allclose(g(mu).points, f(mu).points, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_another_gauge_and_order_are_at_distance_zero(family, key):
    model, rng, orders = load(family), np.random.default_rng(0), []

    def change(f, _):
        first = orders[0] if orders and f.score_bias is not None else head_order(f, rng)
        orders.append(first)
        return permuted(regauged(f, rng), first)

    other = everywhere(model, MultiheadAttention, change)
    same_function(attention_of(model.layers[0]), attention_of(other.layers[0]), key)
    found = compare_models(model, other)
    assert found.relative < 1e-13
    assert [np.argsort(order).tolist() for order in orders] == [
        list(layer.matching) for layer in found.layers
    ]
    assert all(layer.offset < 1e-12 for layer in found.layers)
    moved = any(np.any(order != np.arange(len(order))) for order in orders)
    assert not moved or found.index_distance > 0.1


def dense_products(layer):
    """A_h and M_h of a post-norm layer with biases, written out: (heads, numbers)."""
    f = layer.attention
    query = np.concatenate([f.query_proj, f.query_bias[..., None]], axis=-1)
    A = np.einsum("hkd,hke->hde", f.key_proj, query) * f.query_proj.shape[1] ** -0.5
    M = np.einsum("hev,hvd->hed", f.output_proj, f.value_proj)
    return np.concatenate([A.reshape(len(A), -1), M.reshape(len(M), -1)], axis=1)


def test_distances_are_those_of_the_products_written_out(bert, roberta):
    found = compare_models(bert, roberta)
    for layer, one, two in zip(found.layers, bert.layers, roberta.layers, strict=True):
        a, b = dense_products(one), dense_products(two)
        squared = np.sum((a[:, None] - b) ** 2, axis=-1)
        np.testing.assert_allclose(layer.distances, np.sqrt(squared), rtol=1e-12)
        rows, cols = linear_sum_assignment(squared)
        assert layer.distance == pytest.approx(np.sqrt(squared[rows, cols].mean()), rel=1e-12)
        assert layer.norms[0] == pytest.approx(np.sqrt(np.mean(np.sum(a**2, axis=1))), rel=1e-12)


def test_the_total_is_the_conditional_wasserstein_distance(bert, roberta):
    base = np.array([0.3, 0.7])
    mu, nu = (
        mf.ConditionalMeasure(np.stack([dense_products(layer) for layer in m.layers]), base=base)
        for m in (bert, roberta)
    )
    expected = float(mf.conditional_wasserstein(mu, nu))
    assert compare_models(bert, roberta, base=base).distance == pytest.approx(expected, rel=1e-12)


def test_rotary_distances_are_means_over_all_relative_positions():
    model, period = load("qwen2"), 9
    turns = (
        2
        * np.pi
        / period
        * np.arange(1, model.layers[0].attention.attention.key_proj.shape[1] // 2 + 1)
    )
    assert len(turns) <= (period - 1) // 2  # distinct frequencies: means over a period are exact

    def change(f, l):
        return dataclasses.replace(f, rotary=mf.Rotary(frequencies=jnp.asarray(turns)))

    model = everywhere(model, MultiheadAttention, change)
    other = everywhere(model, MultiheadAttention, lambda f, _: scaled_keys(f))
    layer = compare_models(model, other).layers[0]
    products = [turned_products(m.layers[0], period) for m in (model, other)]
    squared = np.mean(np.sum((products[0] - products[1]) ** 2, axis=(2, 3)), axis=0)
    np.testing.assert_allclose(np.diagonal(layer.distances) ** 2, squared, rtol=1e-11)


def scaled_keys(f):
    """Another map: keys are scaled and nothing undoes it."""
    return dataclasses.replace(
        f, key_proj=f.key_proj * jnp.linspace(0.5, 1.5, f.key_proj.shape[1])[:, None]
    )


def turned_products(layer, period):
    """(K, b)^T R_delta (Q, b) of a pre-norm layer for each delta, written out."""
    f, gamma = layer.attention.attention, layer.norm.gamma
    full = [
        jnp.concatenate([w * gamma, b[..., None]], axis=-1)
        for w, b in ((f.query_proj, f.query_bias), (f.key_proj, f.key_bias))
    ]
    query, key = full[0], jnp.repeat(full[1], f.group, axis=0)
    steps = jnp.arange(period)
    columns = jnp.moveaxis(query, 2, 1)  # each column is a feature (heads, d + 1, k)
    turned = [f.rotary.rotate(columns, jnp.full(columns.shape[1], step)) for step in steps]
    return np.einsum("hkd,thek->thde", key, np.stack(turned)) * f.score_scale


@pytest.mark.slow
def test_coordinates_that_do_not_turn_have_a_gauge_of_their_own(key):
    def half_turning(f, _):
        return dataclasses.replace(f, rotary=mf.Rotary(dims=f.key_proj.shape[1] // 2))

    model, rng = (
        everywhere(load("llama"), MultiheadAttention, half_turning),
        np.random.default_rng(0),
    )
    r = attention_of(model.layers[0]).rotary.dims
    plane, free = rng.normal(size=(2, r // 2)), rng.normal(size=(r, r))
    a, b = np.diag(plane[0]), np.diag(plane[1])
    C = np.block([[np.block([[a, -b], [b, a]]), np.zeros((r, r))], [np.zeros((r, r)), free]])
    back = np.linalg.solve(C.T, np.eye(len(C)))
    gauge = {"query_proj": C, "key_proj": back}
    other = everywhere(
        model,
        MultiheadAttention,
        lambda f, _: dataclasses.replace(f, **{n: g @ getattr(f, n) for n, g in gauge.items()}),
    )
    same_function(attention_of(model.layers[0]), attention_of(other.layers[0]), key)
    assert compare_models(model, other).relative < 1e-13
    mixed = everywhere(  # the same matrix mixes what turns with what does not: another function
        model,
        MultiheadAttention,
        lambda f, _: dataclasses.replace(
            f, query_proj=C[::-1] @ f.query_proj, key_proj=back[::-1] @ f.key_proj
        ),
    )
    assert compare_models(model, mixed).relative > 0.1


def test_heads_that_do_nothing_or_do_the_same_are_the_exceptions(bert, key):
    """Equal functions at a positive distance: the theorem asks for M_h != 0 and distinct A_h."""

    def silent(f, _):
        return dataclasses.replace(f, output_proj=f.output_proj.at[0].set(0.0))

    def twin(f, _):
        same = {n: getattr(f, n).at[1].set(getattr(f, n)[0]) for n in twins}
        return dataclasses.replace(f, **same)

    twins = ("query_proj", "key_proj", "query_bias", "key_bias", "value_proj", "value_bias")
    silenced = everywhere(bert, MultiheadAttention, silent)
    louder_silence = louder(silenced, layer=0, head=0, factor=2.0)
    twinned = everywhere(bert, MultiheadAttention, twin)
    shifted = everywhere(
        twinned,
        MultiheadAttention,
        lambda f, _: dataclasses.replace(
            f, output_proj=f.output_proj.at[0].add(1.0).at[1].add(-1.0)
        ),
    )
    for one, two in ((silenced, louder_silence), (twinned, shifted)):
        same_function(one.layers[0].attention, two.layers[0].attention, key)
        assert compare_models(one, two).layers[0].distance > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("side", ["query", "key"])
def test_a_norm_of_queries_or_keys_sees_more_than_their_product(side, key):
    def one_plane_louder(f, _):
        planes = f.key_proj.shape[1] // 2
        scale = jnp.ones(2 * planes).at[jnp.array([0, planes])].set(2.0)
        norm = getattr(f, f"{side}_norm")
        undone = dataclasses.replace(norm, gamma=norm.gamma / scale)
        louder = scale[:, None] * getattr(f, f"{side}_proj")
        return dataclasses.replace(f, **{f"{side}_norm": undone, f"{side}_proj": louder})

    model = load("qwen3")
    other = everywhere(model, MultiheadAttention, one_plane_louder)
    x = mf.ConditionalMeasure.from_sequence(jax.random.normal(key, (5, model.dim)))
    one, two = (attention_of(m.layers[0])(x).points for m in (model, other))
    assert not np.allclose(one, two)
    assert compare_models(model, other).relative > 1e-3


def test_equal_heads_stay_where_they_are(bert):
    def all_equal(f, _):
        arrays = ("query_proj", "key_proj", "value_proj", "output_proj", "query_bias")
        return with_fields(f, **{n: jnp.stack(4 * [getattr(f, n)[0]]) for n in arrays})

    model = everywhere(bert, MultiheadAttention, all_equal)
    assert compare_models(model, model).permuted == 0


def test_what_changed_is_located(bert):
    found = compare_models(bert, louder(bert, layer=1, head=2, factor=1.5))
    assert found.layers[0].distance < 1e-14
    changed = found.layers[1]
    assert (changed.farthest, changed.share) == (2, pytest.approx(1.0))
    assert changed.permuted == ()
    assert changed.distance == changed.index_distance > 0


def test_near_models_keep_their_digits(bert):
    delta = 2.0**-40
    found = compare_models(bert, louder(bert, layer=0, head=1, factor=1 + delta)).layers[0]
    products = dense_products(bert.layers[0])[1]
    score = products[: bert.dim * (bert.dim + 1)]
    expected = delta * np.linalg.norm(score) / len(found.moves) ** 0.5
    assert found.distance == pytest.approx(expected, rel=1e-3)


def test_it_is_a_metric_below_the_distance_in_order(bert, roberta):
    third = louder(roberta, layer=0, head=0, factor=3.0)
    for kind in (Heads(), Neurons()):
        ab, ba, bc, ac = (
            compare_models(x, y, kind)
            for x, y in ((bert, roberta), (roberta, bert), (roberta, third), (bert, third))
        )
        assert ab.distance == pytest.approx(ba.distance, rel=1e-13)
        assert ac.distance <= ab.distance + bc.distance + 1e-12
        for found in (ab, bc, ac):
            assert found.distance <= found.index_distance
            assert all(layer.distance <= layer.index_distance for layer in found.layers)
            assert found.relative <= 2


def test_a_layer_without_weight_is_not_looked_at(bert):
    damaged = everywhere(
        bert,
        MultiheadAttention,
        lambda f, l: dataclasses.replace(f, query_proj=f.query_proj * (np.nan if l else 1)),
    )
    found = compare_models(bert, damaged, base=(2.0, 0.0))
    assert found.distance < 1e-14 and [layer.layer for layer in found.layers] == [0]
    with pytest.raises(ModelError, match="layer 1 must be finite"):
        compare_models(bert, damaged)


def test_weights_of_layers_weigh(bert, roberta):
    halves = [compare_models(bert, roberta, base=base).distance for base in ((1, 0), (0, 1))]
    both = compare_models(bert, roberta, base=(0.5, 0.5)).distance
    assert both == pytest.approx(np.hypot(*halves) / 2**0.5)
    assert compare_models(bert, roberta).distance == pytest.approx(both)


def test_a_norm_before_the_heads_is_folded_in(key):
    model, factor = load("gpt2"), np.linspace(0.5, 2.0, 16)
    layer = model.layers[0]
    norm, f = layer.norm, attention_of(layer)
    scaled = dataclasses.replace(norm, gamma=norm.gamma * factor, beta=norm.beta * factor)
    shifted = {n: getattr(f, n) / factor for n in ("query_proj", "key_proj", "value_proj")}
    other = eqx.tree_at(
        lambda m: (m.layers[0].norm, m.layers[0].attention.attention),
        model,
        (scaled, dataclasses.replace(f, **shifted)),
    )
    found = compare_models(model, other).layers[0]
    assert found.distance < 1e-13 and found.offset < 1e-13
    # a centred state sums to zero, so this adds nothing to a query
    query_proj, bias = f.query_proj + 1 / norm.gamma, f.query_bias - jnp.sum(norm.beta / norm.gamma)
    plain = dataclasses.replace(f, query_proj=query_proj, query_bias=bias)
    other = eqx.tree_at(lambda m: m.layers[0].attention.attention, model, plain)
    assert compare_models(model, other).layers[0].distance < 1e-13


def test_output_biases_are_told_apart_from_heads(bert):
    def change(f, l):
        return dataclasses.replace(f, output_bias=f.output_bias.at[0].add(0.25))

    found = compare_models(bert, everywhere(bert, MultiheadAttention, change))
    assert found.distance < 1e-14
    assert [layer.offset for layer in found.layers] == pytest.approx([0.25, 0.25])


def test_single_precision_gives_the_same_distances(bert, roberta):
    single = [mf.models.load(GOLDEN / name) for name in ("bert", "roberta")]
    assert single[0].layers[0].attention.query_proj.dtype == jnp.float32
    found, expected = compare_models(*single), compare_models(bert, roberta)
    assert found.distance == pytest.approx(expected.distance, rel=1e-6)
    assert found.layers[0].matching == expected.layers[0].matching


def test_models_of_which_one_is_zero_are_at_the_norm_of_the_other(bert):
    zero = everywhere(bert, MultiheadAttention, lambda f, _: jax.tree.map(jnp.zeros_like, f))
    found = compare_models(bert, zero)
    assert found.distance == pytest.approx(
        np.sqrt(np.mean([x.norms[0] ** 2 for x in found.layers]))
    )
    assert found.relative == pytest.approx(2.0)
    assert compare_models(zero, zero).relative == 0.0


@pytest.mark.parametrize(
    "one, two, what",
    [
        ("bert", "gpt2", "causality: False and True"),
        ("llama", "qwen2", "."),
        ("llama", "mistral", "the window of layer 0: none and 7"),
        ("qwen2", "qwen3", "layer 0: "),
        ("dinov2", "dinov2-swiglu", "the hidden neurons of layer 0|the gate of layer 0"),
        ("vit", "bert", "the place of norms of layer 0: before and after|number of layers"),
    ],
)
def test_other_architectures_are_refused_in_one_line(one, two, what):
    with pytest.raises(ModelError, match=f"one architecture; they differ in .*({what})") as error:
        compare_models(load(one), load(two))
    assert str(error.value).isprintable() and len(str(error.value)) < 200


@pytest.mark.parametrize("base", [(1.0,), (1.0, -1.0), (np.nan, 1.0), ((1.0, 1.0),)])
def test_other_bases_are_refused(base, bert):
    with pytest.raises(ModelError, match="`base` must be 2 nonnegative numbers"):
        compare_models(bert, bert, base=base)


def test_a_choice_with_other_invariants_is_refused(bert):
    other = everywhere(
        bert, MultiheadAttention, lambda f, _: dataclasses.replace(f, choice=mf.Sigmoid())
    )
    with pytest.raises(ModelError, match=r"softmax.*MultiheadAttention\(Sigmoid\)"):
        compare_models(other, other)


def test_the_record_is_json_with_a_version(bert, roberta):
    found = compare_models(bert, roberta)
    document = json.loads(found.to_json())
    assert document["schema"] == "meanfield.model_comparison/1"
    assert document["distance"] == found.distance
    assert document["layers"][0]["matching"] == list(found.layers[0].matching)
    assert [model["name"] for model in document["models"]] == ["bert", "roberta"]
    assert "heads moved" in repr(found)


def test_progress_is_told(bert):
    told = []
    compare_models(bert, bert, progress=lambda *what: told.append(what))
    assert told == [(1, 2, "layer 0"), (2, 2, "layer 1")]
