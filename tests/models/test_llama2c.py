"""llama2.c files: the format with its interleaved rotary pairs, its tokenizer, and a real model."""

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from model_files import GOLDEN, assert_one_line, copy_of, edit_config, shared_data, unpack

import meanfield as mf
from meanfield.models import ModelError
from meanfield.models.llama2c_tokenizer import Llama2cTokenizer


ORDER = (
    ("input_layernorm", 0),
    ("self_attn.q_proj", 4),
    ("self_attn.k_proj", 2),
    ("self_attn.v_proj", 0),
    ("self_attn.o_proj", 0),
    ("post_attention_layernorm", 0),
    ("mlp.gate_proj", 0),
    ("mlp.down_proj", 0),
    ("mlp.up_proj", 0),
)


def interleaved(rows, heads):
    """Rows of half-split rotary heads put in the order of neighbouring pairs."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def llama2c_bytes():
    """The golden Llama in the format of llama2.c."""
    tensors = unpack(GOLDEN / "llama" / "model.safetensors")
    parts = [tensors["model.embed_tokens.weight"]]
    for name, heads in ORDER:
        for l in range(2):
            rows = tensors[f"model.layers.{l}.{name}.weight"]
            parts.append(interleaved(rows, heads) if heads else rows)
    rotary = np.zeros((96, 4), np.float32)
    parts += [tensors["model.norm.weight"], rotary, tensors["lm_head.weight"]]
    head = struct.pack("<7i", 16, 24, 2, 4, 2, -64, 96)
    return head + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@pytest.fixture
def binary(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(llama2c_bytes())
    return path


def test_it_is_the_same_model_as_in_safetensors(binary, tmp_path):
    same = mf.models.load(edit_config(copy_of("llama", tmp_path), rms_norm_eps=1e-5))
    model, ids = mf.models.load(binary), np.arange(40)
    assert (model.family, model.max_tokens, model.causal) == ("llama", 96, True)
    assert model.parameters == same.parameters
    np.testing.assert_allclose(model.hidden(ids), same.hidden(ids), atol=1e-5)
    np.testing.assert_allclose(model.logits(ids), same.logits(ids), atol=1e-5)


@pytest.mark.parametrize("change", [-4, -1, 1, 4])
def test_the_size_must_be_exact(change, binary):
    raw = binary.read_bytes()
    binary.write_bytes(raw[:change] if change < 0 else raw + bytes(change))
    with pytest.raises(ModelError, match="bytes by its header; it has") as caught:
        mf.models.load(binary)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    "header",
    [(0,) * 7, (-1,) * 7, (2**31 - 1,) * 7, (16, 24, 2, 3, 2, 64, 96), (16, 24, 2, 4, 3, 64, 96),
     (12, 24, 2, 4, 2, 64, 96)],
)  # fmt: skip
def test_headers_that_no_model_has_are_refused(header, binary):
    binary.write_bytes(struct.pack("<7i", *header) + bytes(100))
    with pytest.raises(ModelError, match="which no model has"):
        mf.models.load(binary)


def test_weights_that_are_not_finite_are_refused(binary):
    raw = bytearray(binary.read_bytes())
    raw[28:32] = struct.pack("<f", np.nan)
    binary.write_bytes(raw)
    with pytest.raises(ModelError, match="embed_tokens.*1 value.*index .0, 0."):
        mf.models.load(binary)


@pytest.mark.parametrize("dim", [60, 128, 640])
def test_dimensions_that_look_like_other_formats_are_read(dim, binary):
    # 60 is '<', 128 and 640 begin like a pickle: the size decides, not the first byte
    binary.write_bytes(struct.pack("<7i", dim, 24, 2, 2, 2, 64, 96) + bytes(100))
    with pytest.raises(ModelError, match="bytes by its header; it has"):
        mf.models.load(binary)


PIECES = [(b"<unk>", 0), (b"\n<s>\n", 0), (b"\n</s>\n", 0)]
PIECES += [(f"<0x{byte:02X}>".encode(), 0) for byte in range(256)]
PIECES += [(b" ", -9), (b"a", -9), (b"b", -9), (b"ab", -3), (b" a", -2), (b"abb", -1)]


def vocabulary_bytes(pieces=PIECES):
    records = (struct.pack("<fi", score, len(piece)) + piece for piece, score in pieces)
    return struct.pack("<i", 5) + b"".join(records)


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(vocabulary_bytes())
    return Llama2cTokenizer(path, len(PIECES))


def test_the_best_merge_comes_first(tokenizer):
    # " a" (-2) beats "ab" (-3), then nothing makes "b"
    assert tokenizer.tokens(tokenizer.encode("ab")) == ["\n<s>\n", " a", "b"]
    assert tokenizer.tokens(tokenizer.encode("babb"))[1:] == [" ", "b", "abb"]


def test_unknown_characters_are_bytes(tokenizer):
    ids = tokenizer.encode("a\u00e9")
    assert ids[-2:] == [0xC3 + 3, 0xA9 + 3]
    assert tokenizer.decode(ids) == "a\u00e9"


def test_an_empty_text_is_refused(tokenizer):
    with pytest.raises(ModelError, match="at least one token"):
        tokenizer.encode("")


@pytest.mark.parametrize("cut", [3, 4, 9, -1])
def test_a_damaged_vocabulary_is_refused(cut, tmp_path):
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(vocabulary_bytes()[:cut])
    with pytest.raises(ModelError, match="tokenizer.bin: (ends before|piece)"):
        Llama2cTokenizer(path, len(PIECES))
    path.write_bytes(vocabulary_bytes() + b"x")
    with pytest.raises(ModelError, match="1 bytes follow the last"):
        Llama2cTokenizer(path, len(PIECES))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes_raise_nothing_else(data, tmp_path):
    raw = bytearray(llama2c_bytes())
    raw[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped.bin"
    path.write_bytes(raw)
    try:
        mf.models.load(path)
    except ModelError as error:
        assert_one_line(error)


@pytest.fixture(scope="module")
def stories():
    shared_data("stories260K", "tok512.bin")
    return mf.models.load(shared_data("stories260K", "stories260K.bin"))


STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
)


@pytest.mark.slow
def test_stories260k_tells_its_story(stories):
    ids = stories.generate([1], 61)
    assert stories.decode(ids) == STORY
    np.testing.assert_array_equal(stories.tokenize(STORY), ids)


def test_stories260k_is_known_by_its_numbers(stories):
    assert (len(stories.layers), stories.dim, stories.max_tokens) == (5, 64, 512)
    assert stories.parameters == 260_032
    assert sorted(stories.hashes) == ["stories260K.bin", "tok512.bin"]
    assert stories.hashes["stories260K.bin"].startswith("b0a507e7ad0f")
    assert json.dumps(stories.config)
