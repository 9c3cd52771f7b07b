"""Docstrings are written in the marks of the Markdown pages; Sphinx reads them as reST."""

import re
import textwrap


MARKS = re.compile(
    r"""
    \{cite(?::[pt])?\}`(?P<citation>[^`]+)`   # {cite}`key`
    | (?P<code>``.+?``|`[^`]+`)               # `mu.points`, left alone
    | \$\$(?P<display>.+?)\$\$                # a displayed formula
    | \$(?!\s)(?P<inline>.+?)(?<!\s)\$        # a formula in the text
    | (?P<bar>\|)                             # |x|, which reST takes for a substitution
    """,
    re.VERBOSE | re.DOTALL,
)


def rewritten(match: re.Match) -> str:
    if match["code"]:
        plural = match.string[match.end() : match.end() + 1].isalnum()  # `Measure`s
        return match["code"] + (r"\ " if plural else "")
    if match["citation"]:
        return f":cite:p:`{match['citation']}`"
    if match["inline"]:
        return rf"\ :math:`{' '.join(match['inline'].split())}`\ "
    if match["display"]:
        return displayed(match["display"], indent_at(match.string, match.start()))
    return r"\|"


def indent_at(text: str, position: int) -> str:
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip())]


def displayed(formula: str, indent: str) -> str:
    body = textwrap.indent(textwrap.dedent(formula).strip(), f"{indent}   ")
    return f"\n\n{indent}.. math::\n\n{body}\n\n{indent}"


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Rewrite `$...$`, `$$...$$`, `{cite}` and bars in the marks of reStructuredText."""
    lines[:] = MARKS.sub(rewritten, "\n".join(lines)).split("\n")


SHORT = {  # as they are written, for what they are
    "jaxlib._jax.": "",
    "Key[Array, ''] | UInt32[Array, '2'] | UInt32[Array, '4']": "PRNGKeyArray",
}


def shorten(app, what, name, obj, options, signature, returned):
    for long, short in SHORT.items():
        signature, returned = (text and text.replace(long, short) for text in (signature, returned))
    return signature, returned


def setup(app):
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon
    return {"version": "1", "parallel_read_safe": True}
