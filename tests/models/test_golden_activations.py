"""Every family computes what its reference implementation computes."""

import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_files import FAMILIES, GOLDEN

import meanfield as mf
from meanfield.measure import ConditionalMeasure, Measure


# one of each kind of block; the others differ in names and sizes
KINDS = ("bert", "mpnet", "gpt2", "qwen2", "dinov2")
CAUSAL = ("gpt2", "llama", "llama3", "mistral", "qwen2", "qwen3")


def reference(family):
    return np.load(GOLDEN / family / "reference.npz")


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_the_reference(family):
    golden = reference(family)
    hidden = mf.models.load(GOLDEN / family).hidden(golden["inputs"])
    assert hidden.dtype == jnp.float32
    np.testing.assert_allclose(hidden, golden["hidden"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", [f for f in FAMILIES if "logits" in reference(f)])
def test_logits_are_those_of_the_reference(family):
    golden = reference(family)
    logits = mf.models.load(GOLDEN / family).logits(golden["inputs"])
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["mpnet", "gpt2"])
def test_float64_agrees_to_its_own_precision(family):
    if not jax.config.read("jax_enable_x64"):
        with pytest.raises(mf.models.ModelError, match="needs jax.config.update"):
            mf.models.load(GOLDEN / family, dtype="float64")
        return
    golden = reference(family)
    hidden = mf.models.load(GOLDEN / family, dtype="float64").hidden(golden["inputs"])
    assert hidden.dtype == jnp.float64
    np.testing.assert_allclose(hidden, golden["hidden"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_contexts_are_the_normed_states_with_equal_masses(family):
    model, inputs = mf.models.load(GOLDEN / family), reference(family)["inputs"]
    hidden = model.hidden(inputs)
    contexts = model.contexts(inputs)
    assert len(contexts) == len(model.layers) == 2
    for layer, state, mu in zip(model.layers, hidden, contexts, strict=False):
        assert isinstance(mu, ConditionalMeasure if model.ordered else Measure)
        assert mu.points.dtype == state.dtype
        expected = state if layer.norm is None else layer.norm.point(state)
        np.testing.assert_allclose(mu.atoms.points, expected, atol=1e-5)
        np.testing.assert_allclose(mu.atoms.weights, np.full(len(state), 1 / len(state)), rtol=1e-6)


push = eqx.filter_jit(lambda f, mu: f(mu).atoms.points)


@pytest.mark.parametrize("family", KINDS)
def test_a_block_carries_the_measure_before_it_to_the_one_after(family):
    model, inputs = mf.models.load(GOLDEN / family), reference(family)["inputs"]
    hidden = model.hidden(inputs)
    mu = ConditionalMeasure.from_sequence(hidden[0]) if model.ordered else Measure(hidden[0])
    np.testing.assert_allclose(push(model.layers[0].block, mu), hidden[1], atol=1e-5)


@pytest.mark.parametrize("family", CAUSAL)
def test_causal_states_do_not_depend_on_what_comes_later(family):
    model, ids = mf.models.load(GOLDEN / family), reference(family)["inputs"]
    other = np.concatenate([ids[:33], 63 - ids[33:]])
    seen, changed = model.hidden(ids), model.hidden(other)
    np.testing.assert_array_equal(seen[:, :33], changed[:, :33])
    assert np.all(np.abs(seen[2, 33:] - changed[2, 33:]).max(-1) > 1e-3)


def test_lengths_of_different_padding_agree():
    model, ids = mf.models.load(GOLDEN / "llama"), reference("llama")["inputs"]
    full, longer = model.hidden(ids[:64]), model.hidden(ids)  # no padding, and 70 padded to 128
    np.testing.assert_allclose(full, longer[:, :64], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_models_travel_to_other_processes(family):
    model, inputs = mf.models.load(GOLDEN / family), reference(family)["inputs"]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.hidden(inputs), model.hidden(inputs))
    if model.head is not None:
        np.testing.assert_array_equal(again.logits(inputs), model.logits(inputs))


def test_roberta_gives_padding_tokens_the_padding_position():
    model = mf.models.load(GOLDEN / "roberta")
    places = model.embedding.places(np.array([5, 6, 1, 7, 1]))
    np.testing.assert_array_equal(places, [2, 3, 1, 4, 1])
