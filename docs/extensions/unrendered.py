"""TeX that a page would show as it is written fails the build.

A formula is torn, for instance, where one of its lines starts like a list: `- p + q$` or `1) x$`.
"""

import re

from docutils import nodes
from sphinx.util import logging


STRAY = re.compile(r"\$|\\[()\[\]]|\\[a-zA-Z]+|[_^]\{")
ESCAPED = re.compile(r"\\[(\[]")  # Markdown takes these for brackets, and drops the backslash
CODE_AND_FORMULAS = re.compile(r"<!--.*?-->|(`+|\$+).+?\1", re.DOTALL)

SHOWN_AS_WRITTEN = nodes.literal, nodes.math, nodes.FixedTextElement, nodes.image
log = logging.getLogger(__name__)


def is_prose(node: nodes.Node) -> bool:
    """Whether a node is text outside of code and formulas."""
    while isinstance(node, nodes.Node):
        if isinstance(node, SHOWN_AS_WRITTEN):
            return False
        node = node.parent  # pyright: ignore
    return True


def unrendered(doctree: nodes.document) -> list[nodes.Text]:
    """The texts of a page that hold a dollar or a command of TeX."""
    return [
        text
        for text in doctree.findall(nodes.Text)
        if STRAY.search(text.astext()) and is_prose(text.parent)
    ]


def escaped(text: str) -> list[str]:
    r"""The lines of a Markdown text that mark a formula by `\(` or `\[`."""
    prose = CODE_AND_FORMULAS.sub("", text)
    return [line for line in prose.splitlines() if ESCAPED.search(line)]


def check_source(app, page: str, source: list[str]) -> None:
    if str(app.env.doc2path(page)).endswith(".md"):
        for line in escaped(source[0]):
            log.warning("write formulas between dollars: %r", line[:80], location=page)


def check(app, doctree: nodes.document, page: str) -> None:
    for text in unrendered(doctree):
        log.warning("TeX was not rendered: %r", text.astext()[:80], location=text.parent)


def setup(app):
    app.connect("source-read", check_source)
    app.connect("doctree-resolved", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
