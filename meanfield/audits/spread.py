"""An order of the cells of a grid every beginning of which is spread evenly over it.

The growth of an image's constants is measured on fewer and fewer of its patches. In this order each
smaller set of patches shows the whole image, coarser; the first rows would show its upper edge.
"""

import functools

import numpy as np


@functools.cache
def spread(rows: int, columns: int) -> tuple[int, ...]:
    """All cells row * columns + column: from the middle, each time the one farthest from those
    before it (the first of several)."""
    cells = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
    order = [(rows // 2) * columns + columns // 2]
    distance = _squared(cells, order[0])
    for _ in range(len(cells) - 1):
        order.append(int(np.argmax(distance)))
        distance = np.minimum(distance, _squared(cells, order[-1]))
    return tuple(order)


def _squared(cells: np.ndarray, cell: int) -> np.ndarray:
    """Squared distances to one cell, which itself is marked as taken."""
    away = np.sum((cells - cells[cell]) ** 2, axis=1)
    away[cell] = -1
    return away
