"""Texts, ids and images that a model cannot take end in one clear line."""

import numpy as np
import pytest
from model_files import GOLDEN, assert_one_line, copy_of, edit_tensors

import meanfield as mf
from meanfield.models import ModelError


@pytest.fixture(scope="module")
def gpt():
    return mf.models.load("shakespeare-gpt")


@pytest.fixture(scope="module")
def vit():
    return mf.models.load("digits-vit")


def refused(call, inputs, pattern):
    with pytest.raises(ModelError, match=pattern) as caught:
        call(inputs)
    assert_one_line(caught.value)


def test_an_empty_text_is_refused(gpt):
    refused(gpt.tokenize, "", "`text` must hold at least one token; got an empty text")


def test_lone_surrogates_are_refused(gpt):
    refused(gpt.tokenize, "a\ud800", "`text` must be valid Unicode")


@pytest.mark.parametrize("text", ["<script>", "[/red]", "\x1b[2J", r"$\bad$", "\u202eabc", "a\0b"])
def test_strange_texts_are_only_text(text, gpt):
    ids = gpt.tokenize(text)
    assert len(gpt.tokens(ids)) == len(ids) == len(text)
    assert np.all(np.isfinite(gpt.hidden(ids)))


@pytest.mark.parametrize(
    ("ids", "pattern"),
    [
        ([65], "must lie in 0..64, the vocabulary of the model; got 65 at index 0"),
        ([0, 1, -1], "got -1 at index 2"),
        ([2**40], "got 1099511627776"),
        ([], "n >= 1"),
        ([[1, 2]], "integers of shape .n,."),
        ([1.0], "integers of shape .n,.*float64"),
        (3, "integers of shape .n,."),
        (["a"], "integers of shape .n,."),
        (list(range(65)), "has 65 tokens; the model has positions for 64.*ids\\[:64\\]"),
    ],
)
def test_ids_the_model_does_not_know_are_refused(ids, pattern, gpt):
    refused(gpt.hidden, ids, pattern)
    refused(gpt.contexts, ids, pattern)


def test_the_longest_text_is_taken(gpt):
    assert gpt.hidden(np.zeros(64, int)).shape == (3, 64, 64)


def test_roberta_has_fewer_positions_than_rows():
    model = mf.models.load(GOLDEN / "roberta")
    assert model.max_tokens == 94
    assert model.hidden(np.full(94, 5)).shape == (3, 94, 16)
    refused(model.hidden, np.full(95, 5), "has 95 tokens; the model has positions for 94")


@pytest.mark.parametrize(
    ("image", "pattern"),
    [
        (np.zeros((8, 8)), r"shape \(1, 8, 8\) \(channels, height, width\); got float64 of shape"),
        (np.zeros((3, 8, 8)), r"shape \(1, 8, 8\)"),
        (np.zeros((1, 8, 9)), r"shape \(1, 8, 8\)"),
        (np.full((1, 8, 8), np.nan), "must be finite"),
        (np.full((1, 8, 8), "x"), "must be numbers"),
    ],
)
def test_images_of_another_shape_are_refused(image, pattern, vit):
    refused(vit.hidden, image, pattern)


def test_image_models_read_no_text(vit):
    refused(vit.tokenize, "seven", "takes images; it reads no text")


def test_models_without_a_head_or_tokenizer_say_so():
    model = mf.models.load(GOLDEN / "bert")
    refused(model.logits, [1, 2], "has no head")
    refused(model.tokenize, "a text", "came with no tokenizer")
    assert model.tokens([1, 2]) == ["#1", "#2"]


def test_weights_too_large_for_float32_are_named_by_their_layer(tmp_path):
    def blow_up(tensors):
        name = "transformer.h.0.mlp.c_proj.weight"
        tensors[name] = tensors[name] * np.float32(1e38)

    model = mf.models.load(edit_tensors(copy_of("gpt2", tmp_path), blow_up))
    refused(model.hidden, np.arange(60), "enters layer 1 is NaN or infinite")


@pytest.mark.parametrize("dtype", ["float16", "double", ""])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ModelError, match="'float32' or 'float64'"):
        mf.models.load("digits-vit", dtype=dtype)
