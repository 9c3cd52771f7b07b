"""Token labels that the font can draw; matplotlib must never read them as mathematics."""

from functools import lru_cache

from meanfield.audits.visible import visible


_LONGEST = 18


def safe_label(token: str) -> str:
    """`token` made visible, cut, and with `U+4E2D` for what the font lacks.

    Draw it with `parse_math=False`.
    """
    shown = visible(token)
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    return "".join(c if ord(c) in _glyphs() else f"U+{ord(c):04X}" for c in shown)


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """The characters of the default font."""
    from matplotlib.font_manager import FontProperties, findfont, get_font  # slow to import

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
