"""Escapes of each writer, on top of `visible`: Markdown, spreadsheet formulas, length."""

from meanfield.audits.visible import visible as visible


_FORMULA = ("=", "+", "-", "@")


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
