"""One picture of an audit, for a paper draft or a pull request."""

import io

from meanfield.audits.record import Audit

from .audit import growth, heads, layers, worst_tokens


def overview_png(audit: Audit) -> bytes:
    """The four figures of an audit on one sheet, as PNG bytes."""
    # no pyplot: a figure of our own needs no display and leaves the caller's settings alone
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8))
    figure.subplots_adjust(0.06, 0.07, 0.98, 0.98, wspace=0.16, hspace=0.2)  # faster than a layout
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    for draw, ax in zip((layers, heads, growth, worst_tokens), axes.flat, strict=True):
        draw(audit, ax)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": "meanfield"})
    return stream.getvalue()
