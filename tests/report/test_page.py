"""The page: self-contained, without scripts, whatever the tokens are."""

import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from audit_specimen import HOSTILE, attacked, specimen

from meanfield.audits.summary import summarise_layer
from meanfield.report import html
from meanfield.report.attacks import radius_table
from meanfield.report.table import headline
from meanfield.report.text import markdown


PAGES = {
    "plain": specimen(layers=6, heads=12),
    "hostile": specimen(HOSTILE),
    "one layer": specimen(layers=1, heads=1, inputs=1),
    "attacked": attacked(layers=6, heads=12),
    "hostile attacked": attacked(HOSTILE),
    "partial": specimen(status="partial", checks=()),
    "empty": specimen(layers=0, status="partial", checks=()),
}


class Seen(HTMLParser):
    """All elements, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_script_no_link_and_no_foreign_element(name):
    seen = Seen(html(PAGES[name]))
    assert not {"script", "img", "iframe", "object", "link", "a", "base", "form"} & set(
        seen.elements
    )
    assert not [a for a in seen.attributes if a[1].startswith("on") or a[1] in ("href", "src")]
    policy = [v for _, n, v in seen.attributes if n == "content" and "default-src 'none'" in v]
    assert len(policy) == 1


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_closed_and_has_its_nine_sections(name):
    page = html(PAGES[name])
    for tag in ("section", "table", "details", "span", "svg", "figure", "dl"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>")
    assert re.findall(r"<h2><span>(\d)</span>", page) == list("123456789")


def test_hostile_tokens_are_shown_as_text():
    page = html(specimen(HOSTILE))
    seen = Seen(page)
    for token in ("<script>alert(1)</script>", "$\\bad$", "[/red]", "{{ 7*7 }}", "&amp;", "=1+1"):
        assert token in seen.text
    for shown in ("\\x1b[2J", "\\u202eevil", "\\x00", "\\ud800"):
        assert shown in seen.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800]", page)


def test_model_and_file_names_are_escaped_too():
    audit = specimen()
    name = "<img src=x onerror=alert(1)>\x1b]0;x\x07"

    evil = dataclasses.replace(
        audit, model=dataclasses.replace(audit.model, name=name, path=name, hashes={name: name})
    )
    seen = Seen(html(evil))
    assert "img" not in seen.elements and name[:28] in seen.text


def test_the_numbers_are_on_the_page():
    seen = Seen(html(specimen()))
    assert "7.25" in seen.text and "10^120.5" in seen.text
    assert "changes past position 64" in seen.text and "not part of this run" in seen.text


def test_attacks_and_certificates_are_on_the_page():
    page = html(attacked())
    seen = Seen(page)
    for text in (
        "A little mass, sent far",
        "Within a radius",
        "91.5",
        "7.26 ≤ 14.9",
        "attacks.csv",
    ):
        assert text in seen.text
    assert "50.5?" not in seen.text and "166?" in seen.text  # a search that stalled is marked
    assert "7.98 ≤ 58.0*" in seen.text  # tokens that come near each other
    assert radius_table(attacked()).rows[-1][1].startswith("≥ ")  # nothing proved of all blocks
    assert page.count("<svg") == 3 and "not part of this run" not in seen.text
    assert 'polyline class="curve dashed"' in page


def test_a_page_is_written_whole(tmp_path):
    path = tmp_path / "index.html"
    assert path.write_text("old") and html(specimen(), path) == path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_a_browser_draws_the_page(tmp_path, name, width):
    page, picture = tmp_path / "index.html", tmp_path / "page.png"
    html(PAGES[name], page)
    subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars"),
            *(f"--window-size={width},2400", f"--screenshot={picture}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    from matplotlib.image import imread

    pixels = imread(picture)
    assert pixels.shape[:2] == (2400, width)
    assert 0.01 < (pixels[..., :3].std(axis=2) > 0.02).mean() < 0.6  # coloured, but not a blank
    assert (pixels[..., :3].mean(axis=2) < 0.5).mean() > 0.005  # there is text


def _windows(audit):
    """The audit with inputs that are windows of one file; the second is the worst."""
    inputs = [
        dataclasses.replace(source, name="/home/somebody/book.txt", start=254 * i, total=900)
        for i, source in enumerate(audit.inputs)
    ]
    return dataclasses.replace(audit, inputs=tuple(inputs))


def test_absolute_paths_are_cut_unless_they_are_asked_for():
    audit = _windows(specimen())
    model = dataclasses.replace(audit.model, path="/home/somebody/models/bert")
    command = "meanfield audit /home/somebody/models/bert --text=/home/somebody/book.txt"
    run = dataclasses.replace(audit.run, command=command)
    audit = dataclasses.replace(audit, model=model, run=run)
    assert "/home/" not in html(audit) and "/home/" not in markdown(audit)
    assert "meanfield audit bert --text=book.txt" in html(audit)
    assert "/home/somebody/models/bert" in html(audit, paths=True)


def test_the_headline_names_the_window_of_its_position():
    assert "of book.txt from token 254." in headline(_windows(specimen()))
    assert "of text" not in headline(specimen(inputs=1))


def test_a_partial_audit_claims_nothing_of_layers_that_were_not_measured():
    words = "Layer 3 is the most sensitive of the 4 layers measured before the run ended early:"
    assert headline(specimen(status="partial")).startswith(words)
    assert "ended early" not in headline(specimen())


def test_radius_scores_and_bounds_of_a_line_are_of_one_input():
    audit = specimen()
    for layer in audit.layers:
        row = next(r for r in audit.rows if (r.layer, r.input) == (layer.layer, layer.input))
        others = [r for r in audit.rows if r.layer == layer.layer and r is not row]
        far = [dataclasses.replace(r, radius=9 * r.radius, score_max=1e3) for r in others]
        told = summarise_layer([row, *far])
        assert (told.radius, told.bounds) == (row.radius, row.bounds)
        assert told.score_range == row.score_max - row.score_min
