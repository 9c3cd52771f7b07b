"""Figures: each function takes a result and axes, draws, and returns the axes; nothing is shown.

matplotlib is imported when the first figure is drawn.
"""

from .audit import (
    growth as growth,
    heads as heads,
    layers as layers,
    worst_tokens as worst_tokens,
)
from .overview import overview_png as overview_png
from .transport import coupling as coupling, coupling_matrix as coupling_matrix
