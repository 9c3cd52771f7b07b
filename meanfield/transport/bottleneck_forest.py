"""Carrying the same mass along a forest: any coupling, with at most n + m - 1 entries."""

import numpy as np
from jaxtyping import Int


Array = np.ndarray


class Forest:
    """Trees on rows 0..n-1 and columns n..n+m-1; each node knows its parent and the mass to it."""

    def __init__(self, nodes: int):
        self.parent = [-1] * nodes
        self.mass = [0] * nodes

    def add(self, i: int, j: int, mass: int) -> None:
        """Carry mass from i to j: by a new edge, or around the cycle that the edge would close."""
        up_i, up_j = self._up(i), self._up(j)
        if up_i[-1] != up_j[-1]:
            self._link(i, j, mass)
            return
        while len(up_i) > 1 and len(up_j) > 1 and up_i[-2] == up_j[-2]:
            up_i.pop()
            up_j.pop()
        givers = up_i[1:-1:2] + up_j[1:-1:2]  # edges that lose what the others gain
        weakest = min(givers, key=self.mass.__getitem__, default=i)
        moved = min(mass, self.mass[weakest]) if givers else mass
        for node in up_i[:-1:2] + up_j[:-1:2]:
            self.mass[node] += moved
        for node in givers:
            self.mass[node] -= moved
        if moved < mass:
            self.parent[weakest] = -1
            self._link(i, j, mass - moved)

    def edges(self) -> tuple[list[int], list[int], list[int]]:
        """Both ends and the mass of the edges that have some."""
        kept = [node for node, mass in enumerate(self.mass) if mass > 0 and self.parent[node] >= 0]
        return kept, [self.parent[node] for node in kept], [self.mass[node] for node in kept]

    def _up(self, node: int) -> list[int]:
        path = [node]
        while (node := self.parent[node]) >= 0:
            path.append(node)
        return path

    def _link(self, i: int, j: int, mass: int) -> None:
        """An edge between two trees; the tree of i is hung on i."""
        above, carried = j, mass
        while i >= 0:
            next_up, next_carried = self.parent[i], self.mass[i]
            self.parent[i], self.mass[i] = above, carried
            above, carried, i = i, next_carried, next_up


def on_a_forest(
    rows: Int[Array, " k"], cols: Int[Array, " k"], masses: Int[Array, " k"], shape: tuple[int, int]
) -> tuple[Int[Array, " e"], Int[Array, " e"], Int[Array, " e"]]:
    """The entries of a coupling with the same marginals, on a forest in the support of this one.

    Around a cycle of pairs mass can be moved, alternately more and less, until one pair has none;
    whole numbers keep this exact.
    """
    n, m = shape
    forest = Forest(n + m)
    for k in np.argsort(-masses, kind="stable").tolist():
        forest.add(int(rows[k]), int(cols[k]) + n, int(masses[k]))
    one, other, kept = (np.asarray(ends, np.int64) for ends in forest.edges())
    return np.minimum(one, other), np.maximum(one, other) - n, kept
