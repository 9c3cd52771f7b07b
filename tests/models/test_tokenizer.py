"""Tokenizer files of all three kinds, and damaged ones."""

import json

import pytest
from model_files import assert_one_line

from meanfield.models import ModelError
from meanfield.models.tokenizer_files import find_tokenizer


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "token", "##s", "are", "atoms"]


@pytest.fixture
def word_piece(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path


def test_a_word_piece_vocabulary_is_enough(word_piece):
    tokenizer, files = find_tokenizer(word_piece, "bert")
    ids = tokenizer.encode("Tokens are ATOMS, 中")
    assert tokenizer.tokens(ids) == [
        "[CLS]", "token", "##s", "are", "atoms", "[UNK]", "[UNK]", "[SEP]"
    ]  # fmt: skip
    assert files == (word_piece / "vocab.txt",)


def test_case_is_kept_where_the_settings_say_so(word_piece):
    (word_piece / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    tokenizer, _ = find_tokenizer(word_piece, "bert")
    assert tokenizer.tokens(tokenizer.encode("atoms ATOMS")) == [
        "[CLS]", "atoms", "[UNK]", "[SEP]"
    ]  # fmt: skip


def test_byte_pairs_show_their_spaces(tmp_path):
    letters = ["a", "b", "\u0120", "\u010a", "ab", "\u0120ab"]
    (tmp_path / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(letters)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n\u0120 ab\n")
    tokenizer, files = find_tokenizer(tmp_path, "gpt2")
    ids = tokenizer.encode("ab ab\n")
    assert tokenizer.tokens(ids) == ["ab", " ab", "\n"]
    assert tokenizer.decode(ids) == "ab ab\n"
    assert [file.name for file in files] == ["vocab.json", "merges.txt"]


def test_padding_and_truncation_in_the_file_are_switched_off(word_piece):
    tokenizer, _ = find_tokenizer(word_piece, "bert")
    inner = tokenizer._tokenizer
    inner.enable_padding(length=8)
    inner.enable_truncation(4)
    inner.save(str(word_piece / "tokenizer.json"))
    again, files = find_tokenizer(word_piece)
    assert files == (word_piece / "tokenizer.json",)
    assert len(again.encode("are")) == 3
    assert len(again.encode("are " * 10)) == 12


def test_a_text_of_special_tokens_alone_is_refused(word_piece):
    tokenizer, _ = find_tokenizer(word_piece, "bert")
    for text in ("", "  \n"):
        with pytest.raises(ModelError, match="at least one token"):
            tokenizer.encode(text)


def test_ids_outside_the_vocabulary_have_a_number(word_piece):
    tokenizer, _ = find_tokenizer(word_piece, "bert")
    assert tokenizer.tokens([5, 99]) == ["token", "#99"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "Nothing"}}', "\0"])
def test_a_damaged_tokenizer_is_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="tokenizer.json: ") as caught:
        find_tokenizer(tmp_path)
    assert_one_line(caught.value)


def test_a_folder_without_tokenizer_has_none(tmp_path):
    assert find_tokenizer(tmp_path) == (None, ())
