"""Untrusted strings made visible: tokens, file names and tensor names before any writer sees them.

Terminals, spreadsheets, Markdown and browsers each give some characters power. Control, format and
surrogate characters become visible escapes here; each writer then escapes its own syntax.
"""

import unicodedata


_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_FORMULA = ("=", "+", "-", "@")


def visible(text: str) -> str:
    r"""`text` with every invisible character written out: ESC as `\x1b`, a bidi mark as `\u202e`.

    Leading and trailing spaces, which tokenizers use to mark words, are shown as `␣`.
    """
    body = text.strip(" ")
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    if not body:
        return "␣" * len(text)
    return "␣" * before + "".join(map(_visible, body)) + "␣" * after


def shorten(text: str, width: int = 24) -> str:
    """`text` cut to `width` characters, the last one an ellipsis if something was lost."""
    return text if len(text) <= width else text[: width - 1] + "…"


def markdown(text: str) -> str:
    """A visible string that Markdown (tables included) shows as it is."""
    safe = visible(text)
    for character in "\\`*_{}[]<>#!|~&$@":
        safe = safe.replace(character, "\\" + character)
    return safe


def cell(text: str) -> str:
    """A visible string that a spreadsheet does not run as a formula."""
    safe = visible(text)
    return "'" + safe if safe.startswith(_FORMULA) else safe


def _visible(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    wide_space = character != " " and unicodedata.category(character) == "Zs"
    if wide_space or unicodedata.category(character) in _INVISIBLE:
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    return character
