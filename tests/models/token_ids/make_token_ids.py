"""Writes small vocabularies in the originals' formats and the ids that the originals give.

    python -m venv golden && golden/bin/pip install torch==2.13.0 transformers
    golden/bin/python tests/models/token_ids/make_token_ids.py

200 texts in 12 scripts; WordPiece with every combination of its flags, byte-level BPE as RoBERTa,
GPT-2 and Qwen2 use it. `ids.json` maps each variant to its settings and its ids of every text.
"""

import itertools
import json
import random
import shutil
import tempfile
from pathlib import Path

import transformers as tf
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer


HERE = Path(__file__).parent
WORDS = {
    "Latin": "The café's naïve résumé, 1234567 Ångström: don't they've WE'LL über-groß ﬁn",
    "Greek": "Η ταχεία ΑΛΕΠΟΎ πηδά πάνω από το σκυλί, ΣΊΣΥΦΟΣ",
    "Cyrillic": "Съешь ещё этих мягких французских булок, Йод і їжак",
    "Arabic": "العَرَبِيَّة لغة جميلة، ١٢٣ والخط العربي",
    "Hebrew": "שָׁלוֹם עולם, זה משפט בעברית",
    "Devanagari": "हिन्दी में यह एक वाक्य है। १२३ क्षत्रिय",
    "Bengali": "আমি বাংলায় গান গাই, কেমন আছো",
    "Thai": "ภาษาไทยไม่มีช่องว่าง ระหว่างคำ",
    "Han": "我爱北京天安门，中文分词 𠀀 龍",
    "Kana": "これはテストです。カタカナ が ガ パピプ",
    "Hangul": "한국어 문장입니다, 한글 가나다",
    "Georgian": "ქართული ენა არის ლამაზი Ქ",
}
EXTRA = (
    "🙂 👩‍👩‍👧 emoji", "tabs\tand\nnew\r\nlines", "  many   spaces  ", "<s> </s> <mask> text",
    "[MASK] of [CLS] and [SEP]", "a <|endoftext|> b", "<|im_start|>user\nhi<|im_end|>",
    "control\u0007chars\u200b zero\u00a0width", "e\u0301 versus \u00e9", "x" * 120,
    "3.14e-10 %$#@!",
    "<added> and <ADDED>", "new word here", "[UNK] [PAD] <pad> <unk>", "\ud7ff\ue000 private",
)  # fmt: skip
FLAGS = {
    "do_lower_case": (True, False),
    "strip_accents": (None, True, False),
    "tokenize_chinese_chars": (True, False),
}


def texts(draw: random.Random) -> list[str]:
    """Texts of each script alone, mixtures, and those that are special to tokenizers."""
    scripts = [line.split() for line in WORDS.values()]
    found = [*WORDS.values(), *EXTRA]
    while len(found) < 200:
        one = draw.choice(scripts)
        two = one if draw.random() < 0.6 else draw.choice(scripts)
        words = [draw.choice(draw.choice((one, two))) for _ in range(draw.randint(1, 7))]
        found.append(draw.choice((" ", "  ", "\n", "-")).join(words))
    return found


def train(lines: list[str]) -> None:
    """The vocabularies, from the texts themselves."""
    for kind in ("bert", "bytes"):
        shutil.rmtree(HERE / kind, ignore_errors=True)
        (HERE / kind).mkdir()
    pieces = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    pieces.train_from_iterator(lines, vocab_size=700, min_frequency=2, show_progress=False)
    pieces.save_model(str(HERE / "bert"))
    pairs = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<|endoftext|>", "<mask>"]
    pairs.train_from_iterator(
        lines, vocab_size=600, min_frequency=2, show_progress=False, special_tokens=special
    )
    pairs.save_model(str(HERE / "bytes"))


def variants():
    """(name, class, folder of the vocabulary, files of settings) of each."""
    for values in itertools.product(*FLAGS.values()):
        settings = dict(zip(FLAGS, values, strict=True))
        yield "bert " + str(values), tf.BertTokenizer, "bert", {"tokenizer_config.json": settings}
    size = len((HERE / "bert" / "vocab.txt").read_text(encoding="utf-8").split("\n")) - 1
    added = {"added_tokens.json": {"<added>": size, "new word": size + 1}}
    yield "bert added", tf.BertTokenizer, "bert", added
    yield "roberta", tf.RobertaTokenizer, "bytes", {}
    space = {"tokenizer_config.json": {"add_prefix_space": True}}
    yield "roberta space", tf.RobertaTokenizer, "bytes", space
    yield "gpt2", tf.GPT2Tokenizer, "bytes", {}
    size = len(json.loads((HERE / "bytes" / "vocab.json").read_text(encoding="utf-8")))
    chat = {
        str(size + i): {
            "content": text, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True,
        }
        for i, text in enumerate(("<|im_start|>", "<|im_end|>"))
    }  # fmt: skip
    told = {"tokenizer_config.json": {"added_tokens_decoder": chat}}
    yield "qwen2", tf.Qwen2Tokenizer, "bytes", told


def main() -> None:
    lines = texts(random.Random(0))
    train(lines)
    found = {}
    for name, kind, vocabulary, files in variants():
        files = {f: dict(settings) for f, settings in files.items()}
        files.setdefault("tokenizer_config.json", {})["tokenizer_class"] = kind.__name__
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(HERE / vocabulary, folder, dirs_exist_ok=True)
            for file, settings in files.items():
                (Path(folder) / file).write_text(json.dumps(settings))
            ids = [kind.from_pretrained(folder)(text)["input_ids"] for text in lines]
        found[name] = {"vocabulary": vocabulary, "files": files, "ids": ids}
    found = {"transformers": tf.__version__, "texts": lines, "variants": found}
    (HERE / "ids.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
