"""From the tokenizer files of a model folder to the ids that the original tokenizer gives.

Which class made the files decides what is done around their vocabulary. Files of a class that is
not known here are told, never read as if they were of another.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .document import read_json
from .error import ModelError
from .tokenizer import AbstractTokenizer, HubTokenizer, UnreadTokenizer


_MAKE = (
    "Make tokenizer.json once, in an environment with transformers: "
    "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
)
_SENTENCE_PIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_CLASS_OF = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}
_WORD_PIECES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer")
_BYTE_PAIRS = ("RobertaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer")
_ANGLES = {
    "bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>",
    "mask": "<mask>",
}  # fmt: skip
_SQUARES = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
_SPECIAL = {
    **dict.fromkeys(_WORD_PIECES, _SQUARES),
    "MPNetTokenizer": _ANGLES | {"unk": "[UNK]"},
    "RobertaTokenizer": _ANGLES,
    "GPT2Tokenizer": dict.fromkeys(("unk", "bos", "eos"), "<|endoftext|>"),
    "Qwen2Tokenizer": dict.fromkeys(("eos", "pad"), "<|endoftext|>"),
}
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
Settings = dict[str, Any]


def find_tokenizer(
    folder: Path, family: str | None = None
) -> tuple[AbstractTokenizer | None, tuple[Path, ...]]:
    """The tokenizer of a model folder and its files; None where there are none.

    Read are tokenizer.json, vocab.txt (WordPiece) and vocab.json with merges.txt (byte-level BPE).

    Args:
      folder: where the files are.
      family: the model's, for files that do not say which class made them.

    Raises:
      ModelError: a tokenizer file is damaged, or lacks a token that it needs.
    """
    readers = (
        (("tokenizer.json",), lambda paths: _whole(paths[0])),
        (("vocab.txt",), lambda paths: _from_vocabulary(paths, family, _WORD_PIECES, _word_piece)),
        (
            ("vocab.json", "merges.txt"),
            lambda paths: _from_vocabulary(paths, family, _BYTE_PAIRS, _byte_pairs),
        ),
    )
    for names, read in readers:
        paths = tuple(folder / name for name in names)
        if all(path.is_file() for path in paths):
            return _guarded(read, paths), paths
    pieces = [folder / name for name in _SENTENCE_PIECE if (folder / name).is_file()]
    if pieces:
        return UnreadTokenizer(f"{pieces[0]}: SentencePiece files are not read. {_MAKE}"), ()
    return None, ()


def _guarded(read: Callable, paths: tuple[Path, ...]) -> AbstractTokenizer:
    try:
        tokenizer = read(paths)
        if isinstance(tokenizer, UnreadTokenizer):
            return tokenizer
        tokenizer.encode("a")  # a template that names a missing token panics here, not before
        return HubTokenizer(tokenizer)
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the library raises bare Exception, or panics
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{paths[0]}: cannot be read as a tokenizer ({reason}). Download it again."
        ) from None


def _whole(path: Path) -> Any:
    from tokenizers import Tokenizer

    _check_template(read_json(path), path)
    return Tokenizer.from_file(str(path))


def _check_template(written: Settings, path: Path) -> None:
    """Refuses a template whose tokens are not in the vocabulary."""
    model, added = written.get("model"), written.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict):
        return
    added = added if isinstance(added, list) else []
    known = set(vocabulary) | {t.get("content") for t in added if isinstance(t, dict)}
    for token in _template_tokens(written.get("post_processor")):
        if token not in known:
            raise ModelError(
                f"{path}: cannot be read as a tokenizer: its template names the token "
                f"{token[:40]!r}, which is not in its vocabulary. Download it again."
            )


def _template_tokens(processor: Any) -> Iterator[str]:
    if isinstance(processor, list):
        for part in processor:
            yield from _template_tokens(part)
    elif isinstance(processor, dict):
        yield from _template_tokens(processor.get("processors"))
        pieces = processor.get("single")
        for piece in pieces if isinstance(pieces, list) else ():
            special = piece.get("SpecialToken") if isinstance(piece, dict) else None
            if isinstance(special, dict) and isinstance(special.get("id"), str):
                yield special["id"]


def _from_vocabulary(
    paths: tuple[Path, ...], family: str | None, known: tuple[str, ...], read: Callable
) -> Any:
    folder = paths[0].parent
    settings = _settings(folder)
    kind = _class_name(settings, folder, family)
    if kind not in known:
        made = f"of {kind}" if kind else "of a class that no file names"
        names = " and ".join(path.name for path in paths)
        return UnreadTokenizer(f"{folder}: {names} {made} cannot be read as it would. {_MAKE}")
    special = _special_tokens(settings, kind)
    tokenizer = read(paths, settings, kind, {name: _text(t) for name, t in special.items()})
    if not isinstance(tokenizer, UnreadTokenizer):
        _add(tokenizer, special, settings, folder)
    return tokenizer


def _optional(path: Path) -> Settings:
    return read_json(path) if path.is_file() else {}


def _settings(folder: Path) -> Settings:
    return {
        **_optional(folder / "special_tokens_map.json"),
        **_optional(folder / "tokenizer_config.json"),
    }


def _class_name(settings: Settings, folder: Path, family: str | None) -> str | None:
    written = _optional(folder / "config.json")
    told = settings.get("tokenizer_class") or written.get("tokenizer_class")
    if told is None:
        return _CLASS_OF.get(str(family or written.get("model_type")))
    return str(told)[:60].removesuffix("Fast")


def _special_tokens(settings: Settings, kind: str) -> dict[str, Any]:
    told = {name: settings.get(f"{name}_token") for name in _SPECIAL[kind]}
    return {name: told[name] or default for name, default in _SPECIAL[kind].items()}


def _text(token: Any) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str) or not text:
        raise ModelError(f"tokenizer_config.json: {str(token)[:40]!r} is no special token.")
    return text


def _flag(settings: Settings, name: str, default: bool) -> bool:
    value = settings.get(name)
    if value is not None and type(value) is not bool:
        raise ModelError(
            f"tokenizer_config.json: {name} must be true or false; got {str(value)[:40]!r}."
        )
    return default if value is None else value


def _word_piece(paths: tuple[Path, ...], settings: Settings, kind: str, special: dict) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    if settings.get("do_basic_tokenize") is False or settings.get("never_split"):
        return UnreadTokenizer(f"{paths[0]}: made without basic tokenization. {_MAKE}")
    with paths[0].open(encoding="utf-8") as lines:
        vocabulary = {line.rstrip("\n"): id for id, line in enumerate(lines)}
    _require(vocabulary, special, ("unk", "cls", "sep"), paths[0])
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=_flag(settings, "tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=_flag(settings, "do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = _framed(vocabulary, special)
    return tokenizer


def _byte_pairs(paths: tuple[Path, ...], settings: Settings, kind: str, special: dict) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    if settings.get("add_bos_token") or settings.get("add_eos_token"):
        return UnreadTokenizer(f"{paths[0]}: adds tokens at the ends of a text. {_MAKE}")
    vocabulary, merges = models.BPE.read_file(*map(str, paths))
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="")
    )
    space = _flag(settings, "add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
        words = pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated")
        letters = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    if kind == "RobertaTokenizer":
        _require(vocabulary, special, ("cls", "sep"), paths[0])
        tokenizer.post_processor = _framed(vocabulary, special)
    return tokenizer


def _require(vocabulary: dict, special: dict, names: tuple[str, ...], path: Path) -> None:
    for name in names:
        if special[name] not in vocabulary:
            raise ModelError(
                f"{path}: cannot be read as a tokenizer: the token {special[name][:40]!r} is not "
                "in it. It is incomplete, or its special tokens have other names: download it "
                "with its tokenizer_config.json."
            )


def _framed(vocabulary: dict[str, int], special: dict[str, str]) -> Any:
    """One token before every text and one after it."""
    from tokenizers import processors

    first, last = special["cls"], special["sep"]
    return processors.TemplateProcessing(
        single=[first, "$A", last],
        special_tokens=[(token, vocabulary[token]) for token in {first, last}],
    )


def _add(tokenizer: Any, special: dict, settings: Settings, folder: Path) -> None:
    """Added tokens get the ids that the files say; special ones stand for themselves in a text."""
    texts = {_text(token) for token in special.values()}
    numbered = _numbered(settings, folder, texts)
    for _, token in sorted(numbered.items()):
        tokenizer.add_tokens([token])
    tokenizer.add_special_tokens([_added(token, special=True) for token in special.values()])
    more = settings.get("additional_special_tokens") or []
    tokenizer.add_special_tokens([_added(token, special=True) for token in more])
    for id, token in numbered.items():
        if tokenizer.token_to_id(token.content) != id:
            raise ModelError(
                f"{folder}: the added token {token.content[:40]!r} should have the id {id}, which "
                f"its vocabulary leaves no room for. {_MAKE}"
            )


def _numbered(settings: Settings, folder: Path, special: set[str]) -> dict[int, Any]:
    old = _optional(folder / "added_tokens.json")
    found = {id: _added(text, special=text in special) for text, id in old.items()}
    new = settings.get("added_tokens_decoder") or {}
    return found | {int(id): _added(token) for id, token in new.items()}


def _added(token: Any, special: bool = False) -> Any:
    from tokenizers import AddedToken

    told = token if isinstance(token, dict) else {}
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    flags = {"normalized": not special, "special": special}
    flags |= {name: bool(told[name]) for name in names if name in told}
    return AddedToken(_text(token), **flags)
