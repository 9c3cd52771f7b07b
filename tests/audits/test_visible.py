"""Invisible characters become visible, once and for all writers."""

import unicodedata

import pytest
from audit_specimen import HOSTILE
from hypothesis import given, strategies as st

from meanfield.audits.visible import visible


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("\x00", "\\x00"),
        ("\n", "\\n"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("\u2028", "\\u2028"),
        ("a\u00a0b", "a\\xa0b"),
        (" the", "␣the"),
        ("  ", "␣␣"),
        ("", ""),
        ("[CLS]", "[CLS]"),
        ("中文 é", "中文 é"),
    ],
)
def test_examples(text, shown):
    assert visible(text) == shown


@given(st.text(st.characters(), max_size=40))
def test_nothing_invisible_is_left_and_doing_it_twice_changes_nothing(text):
    shown = visible(text)
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not hidden & {unicodedata.category(c) for c in shown}
    assert visible(shown) == shown
    shown.encode("utf-8")


def test_the_hostile_tokens_have_no_power_over_a_terminal():
    assert all(visible(token).isprintable() for token in HOSTILE)
