"""The documentation's build sees TeX that a page would show as it is written."""

import importlib.util
import pathlib

import pytest


pytest.importorskip("myst_parser")  # comes with what builds the documentation

from docutils.core import publish_doctree
from myst_parser.parsers.docutils_ import Parser


PATH = pathlib.Path(__file__).parents[2] / "docs" / "extensions" / "unrendered.py"
SPEC = importlib.util.spec_from_file_location("unrendered", PATH)
EXTENSION = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(EXTENSION)


def found(page: str) -> list[str]:
    settings = {"myst_enable_extensions": ["amsmath", "dollarmath"], "report_level": 5}
    doctree = publish_doctree(page, parser=Parser(), settings_overrides=settings)
    return [str(text) for text in EXTENSION.unrendered(doctree)]


@pytest.mark.parametrize(
    "page",
    [
        "For $p > 0$ we have $s \\le p \\log(p/q)\n- p + q$, with equality at one.",
        "The norms obey $s_k^2 \\le t^2 + (L -\n1) \\delta$.",
        "It is \\alpha that counts.",
        "A title with $x",
        "It is $$a = b\n- c$$ that counts.",
        "Read x_{1} here.",
    ],
)
def test_formulas_that_are_torn_or_not_marked_are_found(page):
    assert found(page)


@pytest.mark.parametrize(
    "page",
    [
        "For $p > 0$ we have $s \\le p \\log(p/q) - p + q$.",
        "$$\na = b\n- c\n$$\n",
        "\\begin{align}\na &= b\n\\end{align}\n",
        "Type `$x` and `\\alpha`.\n\n```sh\n$ echo $HOME\n```\n",
        "<!-- $x \\alpha -->\nA comment is not shown; some_name and 2^3 are words.",
    ],
)
def test_rendered_formulas_and_code_are_let_through(page):
    assert found(page) == []


@pytest.mark.parametrize("page", ["It is \\(x\\) that counts.", "See\n\\[x\n\\]\n"])
def test_formulas_between_brackets_are_found(page):
    assert EXTENSION.escaped(page)


@pytest.mark.parametrize(
    "page", ["`\\(x\\)` is code", "$a \\\\[2pt] b$", "$$\n\\big\\[\n$$", "f(x)[0]"]
)
def test_brackets_in_code_and_formulas_are_let_through(page):
    assert EXTENSION.escaped(page) == []
