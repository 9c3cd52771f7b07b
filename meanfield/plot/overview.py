"""One picture of an audit, for a paper draft or a pull request."""

import io

from meanfield.audits.record import Audit

from .attacks import peeling, radii
from .audit import growth, heads, layers, worst_tokens


def overview_png(audit: Audit) -> bytes:
    """The four figures of an audit on one sheet, as PNG bytes; six with attacks, certificates."""
    # no pyplot: a figure of our own needs no display and leaves the caller's settings alone
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    attacked = _attacked(audit)
    draws = (layers, heads, growth, worst_tokens, *((peeling, radii) if attacked else ()))
    rows = len(draws) // 2
    figure = Figure(figsize=(12, 4 * rows))
    edge = 0.02 * 2 / rows  # faster than a layout
    figure.subplots_adjust(0.06, 3.5 * edge, 0.98, 1 - edge, wspace=0.16, hspace=0.2)
    FigureCanvasAgg(figure)
    for draw, ax in zip(draws, figure.subplots(rows, 2).flat, strict=True):
        draw(audit, ax)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": "meanfield"})
    return stream.getvalue()


def _attacked(audit: Audit) -> bool:
    return any(row.peeling is not None or row.radii for row in (*audit.layers, *audit.whole))
