"""Vocabulary files give the ids that the library they were made for gives."""

import json
import shutil
from pathlib import Path

import pytest
from model_files import assert_one_line

from meanfield.models import ModelError
from meanfield.models.tokenizer_files import find_tokenizer


TOKEN_IDS = Path(__file__).parent / "token_ids"
REFERENCE = json.loads((TOKEN_IDS / "ids.json").read_text())
FAMILIES = ("bert", "roberta", "gpt2", "qwen2")


def folder_of(name, folder):
    variant = REFERENCE["variants"][name]
    shutil.copytree(TOKEN_IDS / variant["vocabulary"], folder, dirs_exist_ok=True)
    for file, settings in variant["files"].items():
        (folder / file).write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("name", REFERENCE["variants"])
def test_ids_are_those_of_the_original(name, tmp_path):
    tokenizer, _ = find_tokenizer(folder_of(name, tmp_path))
    ids = REFERENCE["variants"][name]["ids"]
    assert len(ids) == len(REFERENCE["texts"]) == 200
    wrong = [
        (text, tokenizer.encode(text), expected)
        for text, expected in zip(REFERENCE["texts"], ids, strict=True)
        if tokenizer.encode(text) != expected
    ]
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_tells_the_class_where_no_file_does(family, tmp_path):
    name = next(name for name in REFERENCE["variants"] if name.startswith(family))
    folder = folder_of(name, tmp_path)
    (folder / "tokenizer_config.json").unlink()
    text = REFERENCE["texts"][0]
    tokenizer, _ = find_tokenizer(folder, family)
    assert tokenizer.encode(text) == REFERENCE["variants"][name]["ids"][0]


@pytest.mark.parametrize("kind", ["PhobertTokenizer", "BertJapaneseTokenizer", "CodeGenTokenizer"])
def test_files_of_other_classes_are_told(kind, tmp_path):
    for name in ("bert added", "gpt2"):
        folder = folder_of(name, tmp_path / name)
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
        tokenizer, _ = find_tokenizer(folder)
        with pytest.raises(ModelError, match=f"{kind} cannot be read.*tokenizer.json") as caught:
            tokenizer.encode("a text")
        assert_one_line(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"])
def test_sentence_pieces_say_how_to_make_a_file_that_is_read(name, tmp_path):
    (tmp_path / name).write_bytes(b"\n\x0e")
    tokenizer, _ = find_tokenizer(tmp_path)
    assert tokenizer.tokens([3]) == ["#3"]
    with pytest.raises(ModelError, match=r"AutoTokenizer.from_pretrained\(DIR\)"):
        tokenizer.encode("a text")


@pytest.mark.parametrize("token", ["[UNK]", "[CLS]", "[SEP]"])
def test_a_vocabulary_without_a_needed_token_is_refused(token, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "word"]
    (tmp_path / "vocab.txt").write_text("\n".join(w for w in words if w != token))
    with pytest.raises(ModelError, match="is not in it") as caught:
        find_tokenizer(tmp_path, "bert")
    assert_one_line(caught.value)


def test_a_template_that_names_a_missing_token_is_refused(tmp_path):
    path = folder_of("bert added", tmp_path) / "tokenizer.json"
    find_tokenizer(tmp_path)[0]._tokenizer.save(str(path))
    written = json.loads(path.read_text())
    piece = {"SpecialToken": {"id": "[GONE]", "type_id": 0}}
    written["post_processor"]["single"][0] = piece
    path.write_text(json.dumps(written))
    with pytest.raises(ModelError, match=r"\[GONE\]") as caught:
        find_tokenizer(tmp_path)
    assert_one_line(caught.value)


def test_a_byte_order_mark_is_no_token(tmp_path):
    tokenizer, _ = find_tokenizer(folder_of("gpt2", tmp_path))
    assert tokenizer.encode("\ufeffa text") == tokenizer.encode("a text")


def test_byte_pieces_are_shown_as_characters(tmp_path):
    tokenizer, _ = find_tokenizer(folder_of("gpt2", tmp_path))
    whole = "".join(tokenizer.tokens(tokenizer.encode("The café \u0451\n")))
    assert whole == "The café \\xd1\\x91\n"  # bytes that no piece joins are shown as such


def test_flags_are_true_or_false(tmp_path):
    folder = folder_of("bert added", tmp_path)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": "False"}')
    with pytest.raises(ModelError, match="do_lower_case must be true or false; got 'False'"):
        find_tokenizer(folder, "bert")
