"""Formulas become MathML when the site is built: pages need neither scripts nor a network."""

import re

import latex2mathml.converter
from docutils import nodes
from sphinx.util import logging


# What latex2mathml does not know, in terms of what it knows.
REWRITES = [
    (re.compile(r"\\[bB]igg?[lrm]?\s*(?=\\[{}])"), ""),
    (re.compile(r"\\arg(?![a-zA-Z])"), r"\\operatorname{arg}"),
]
UNDER = re.compile(r"\\(min|max|sup|inf|lim)\s*_")
UNREAD = re.compile(r">\\[^<]*<")
log = logging.getLogger(__name__)


def convert(node, display: str) -> str:
    formula = node.astext()
    for pattern, known in REWRITES:
        formula = pattern.sub(known, formula)
    if display == "block":
        formula = UNDER.sub(r"\\\1\\limits_", formula)
    page = latex2mathml.converter.convert(formula, display=display)
    if UNREAD.search(page):
        log.warning("latex2mathml cannot read %r", node.astext(), location=node)
    return page


def visit_inline(writer, node) -> None:
    writer.body.append(f'<span class="math">{convert(node, "inline")}</span>')
    raise nodes.SkipNode


def visit_block(writer, node) -> None:
    writer.body.append(f'<div class="math">{convert(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True}
