"""Two images side by side: before and after an attack, with a coupling between them."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..attention import AnyMeasure
from ..measure import ConditionalMeasure
from .room import length


class Matching(eqx.Module):
    """A coupling that sends shares of each atom of the image after to atoms of the image before.

    It holds shares rather than masses, so that it stays a coupling while masses change.

    Args:
      rows, cols: flat indices of atoms before and after.
      shares: the share of the mass of atom `cols` that comes from atom `rows`.
    """

    rows: Int[Array | np.ndarray, "*starts K"]
    cols: Int[Array | np.ndarray, "*starts K"]
    shares: Float[Array | np.ndarray, "*starts K"]


class Comparison(eqx.Module):
    """The images F(mu) and F(nu) with a matching of their atoms.

    Args:
      before, after: the two measures.
      matching: a coupling; the distance it costs is never below the Wasserstein distance.
      p: the exponent.
    """

    before: AnyMeasure
    after: AnyMeasure
    matching: Matching
    p: float = eqx.field(static=True)

    @property
    def moves(self) -> Float[Array, "K e"]:
        """How far each matched part moved."""
        after, before = self.after.atoms.points, self.before.atoms.points
        moves = after[self.matching.cols] - before[self.matching.rows]
        return jnp.where(self.masses[:, None] > 0, moves, 0.0)

    @property
    def masses(self) -> Float[Array, " K"]:
        """The mass of each matched part."""
        return self.after.atoms.weights[self.matching.cols] * self.matching.shares

    @property
    def distance(self) -> Float[Array, ""]:
        """What the matching costs, in the $L^p$ sense."""
        return length(self.moves, self.masses, self.p)


def own_atoms(mu: AnyMeasure, copies: int) -> Matching:
    """The matching of each copy with the atom that it is a copy of.

    It has as many entries as an optimal one, so that one program serves both.
    """
    n = mu.masses.size
    fibres, k = mu.masses.shape if isinstance(mu, ConditionalMeasure) else (1, n)
    spare = (0, fibres * (k - 1))
    rows = np.pad(np.repeat(np.arange(n, dtype=np.int32), copies), spare)
    cols = np.pad(np.arange(n * copies, dtype=np.int32), spare)
    return Matching(rows, cols, np.pad(np.ones(n * copies), spare))
