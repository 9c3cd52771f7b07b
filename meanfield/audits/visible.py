"""Untrusted strings made visible: tokens, file names and tensor names, before any writer sees them.

Terminals, spreadsheets, browsers and fonts give some characters power over what surrounds them.
Control, format and surrogate characters become visible escapes; doing so twice changes nothing.
"""

import unicodedata


_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""`text` with every invisible character written out: ESC as `\x1b`, a bidi mark as `\u202e`.

    Leading and trailing spaces, which tokenizers use to mark words, are shown as `␣`.
    """
    body = text.strip(" ")
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    if not body:
        return "␣" * len(text)
    return "␣" * before + "".join(map(_visible, body)) + "␣" * after


def _visible(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    category = unicodedata.category(character)
    wide_space = character != " " and category == "Zs"
    return _code(ord(character)) if wide_space or category in _INVISIBLE else character


def _code(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
