"""Markdown, CSV and the model card: hostile tokens stay text."""

import csv
import dataclasses
import io
import re

import pytest
from audit_specimen import HOSTILE, attacked, specimen

from meanfield.audits import judge
from meanfield.report import attacks_csv, heads_csv, html, markdown, model_card
from meanfield.report.escape import cell, markdown as escaped, shorten
from meanfield.report.numbers import interval, number, percent, power
from meanfield.report.table import flags, headline, layer_rows, layer_table, verdict
from meanfield.report.text import attack_line


AUDITS = [specimen(), attacked(HOSTILE), *(specimen([token, "x", "y"]) for token in HOSTILE)]


@pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: ascii(audit.inputs[0].tokens[0]))
def test_every_table_of_the_markdown_keeps_its_columns(audit):
    for text in (markdown(audit), model_card(audit)):
        assert text.replace("\n", "").isprintable()
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            bars = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()]
            assert len(set(bars)) == 1
        assert "<script" not in re.sub(r"\\<", "", text)


@pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: ascii(audit.inputs[0].tokens[0]))
def test_no_cell_of_the_csv_is_a_formula(audit):
    rows = list(csv.reader(io.StringIO(heads_csv(audit))))
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == 1 + len(audit.rows) * (1 + audit.model.heads)
    for row in rows[1:]:
        for text in row:
            assert not text.startswith(("=", "+", "@")) and "\x1b" not in text
            if text.startswith("-"):
                float(text)  # a minus sign belongs to a number or it is escaped


def test_csv_numbers_are_whole_and_missing_ones_are_empty():
    rows = list(csv.DictReader(io.StringIO(heads_csv(specimen()))))
    assert float(rows[0]["local"]) == 4.0 and rows[0]["head"] == ""
    assert rows[3]["head"] == "2" and rows[3]["entropy"] == ""
    assert rows[0]["log10_bound_uniform"] == "" and float(rows[0]["log10_bound_tokens"]) == 4.2


@pytest.mark.parametrize("text, safe", [("a|b", "a\\|b"), ("`x`", "\\`x\\`"), ("<b>", "\\<b\\>")])
def test_markdown_syntax_is_escaped(text, safe):
    assert escaped(text) == safe


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@SUM(1)"])
def test_formulas_are_quoted(text):
    assert cell(text) == "'" + text


@pytest.mark.parametrize(
    "value, shown",
    [
        (None, "–"),
        (0.0, "0"),
        (31.64, "31.6"),
        (4830.2, "4830"),
        (2.6e-6, "2.60×10^-6"),
        (1.0, "1.00"),
    ],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_powers_beyond_any_float_are_shown_as_powers():
    assert power(765.3) == "10^765.3" and power(2.0) == "100" and power(None) == "–"
    assert percent(0.896) == "90%" and interval(0.1, 0.3) == "[0.10, 0.30]"
    assert shorten("x" * 30, 5) == "xxxx…"


def test_the_headline_names_the_worst_layer_and_its_token():
    text = headline(specimen(["[CLS]", "a", "b"]))
    assert "Layer 3" in text and "7.25 times" in text and "90%" in text and "“[CLS]”" in text


def test_flags_and_verdicts():
    audit = specimen()
    assert (
        flags(audit, audit.layers[0], audit.growth[0]) == "changes past position 64 (×3.8 by 128)"
    )
    assert flags(audit, audit.layers[1], audit.growth[1]) == ""
    assert verdict(audit) == "passed" and verdict(specimen(checks=())) == "measured"
    assert verdict(specimen(status="partial")) == "incomplete"
    assert len(layer_rows(audit)) == 4


def test_columns_without_a_number_are_left_out():
    known = specimen()
    bare = dataclasses.replace(
        known,
        layers=tuple(dataclasses.replace(x, entropy=None, heads_sum=None) for x in known.layers),
    )
    one, other = (markdown(audit).splitlines()[4] for audit in (known, bare))
    assert "entropy" in one and "Σ heads" in one
    assert "entropy" not in other and "Σ heads" not in other and "local" in other
    assert '<td class="n main">4.25</td>' in html(bare)


def test_the_table_has_columns_of_attacks_and_a_line_of_all_blocks():
    header, rows = layer_table(attacked())
    assert header[-4:] == ["peel 0.01", "shift 0.001", "certified 0.001", "flag"]
    assert rows[3][-4:-1] == ["91.5", "7.26", "14.9"]
    assert rows[-1][0] == "all" and rows[-1][header.index("local")] == "2.12"
    plain, lines = layer_table(specimen())
    assert "flag" in plain and len(plain) == len(header) - 3 and len(lines) == len(rows) - 1


def test_a_failed_check_of_all_blocks_is_flagged_on_their_line():
    _, rows = layer_table(judge(attacked(), ["whole>1", "peel@0.01>85"]))
    assert rows[-1][-1] == "whole>1" and rows[3][-1] == "peel@0.01>85" and not rows[2][-1]


def test_the_csv_of_attacks_has_a_line_for_every_number():
    audit = attacked(["=1+1", "x", "y"])
    rows = list(csv.DictReader(io.StringIO(attacks_csv(audit))))
    assert len(rows) == 8 * (4 + 3 + 3) + 2 * (4 + 3)
    peel = next(row for row in rows if row["what"] == "peel")
    assert float(peel["at"]) == 1.0 and float(peel["value"]) == 8.0 and peel["token"] == "'=1+1"
    vacuous = [r for r in rows if r["what"] == "certificate" and not r["value"]]
    assert {r["at"] for r in vacuous} == {"0.1"} and {r["layer"] for r in vacuous} == {"1"}
    assert {r["note"] for r in rows if r["layer"] == "1" and r["at"] == "0.001"} >= {"stalled"}
    assert attacks_csv(specimen()) is None


def test_the_headline_tells_what_little_mass_does_and_what_all_blocks_do():
    text = headline(attacked())
    assert "1% of one token's mass" in text and "91.5 times in layer 3" in text
    assert "All blocks together amplify a small move 2.12 times" in text


def test_columns_are_told_about_what_was_measured():
    line = attack_line(attacked())
    assert "peel 0.01" in line and "0.001" in line and "every block" in line
    assert attack_line(specimen()) is None
