r"""Moments of two measures, and what they bound: no cross-moment can be larger."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..measure import Measure
from ..transport.mass import check_masses


class Moments(NamedTuple):
    r"""Second moments of the two measures that are matched, as shares of their mass, on the host.

    Any coupling has $\Gamma = E\, y x^\top$ with $|u^\top \Gamma v|^2 \le (u^\top S_y u)(v^\top S_x
    v)$, by Cauchy-Schwarz; the properties below are its consequences.
    """

    x: Float[np.ndarray, "p p"]
    y: Float[np.ndarray, "q q"]

    @property
    def largest_entry(self) -> float:
        """A bound on the entries of every cross-moment."""
        return float(np.sqrt(np.diag(self.x).max() * np.diag(self.y).max()))

    @property
    def largest_column(self) -> float:
        """A bound on the norms of the columns of every cross-moment (one for each feature of x)."""
        return float(np.sqrt(np.diag(self.x).max() * largest(self.y)))

    @property
    def largest_row(self) -> float:
        """A bound on the norms of the rows of every cross-moment (one for each feature of y)."""
        return float(np.sqrt(largest(self.x) * np.diag(self.y).max()))

    @property
    def largest_singular_value(self) -> float:
        """A bound on the singular values of every cross-moment."""
        return float(np.sqrt(largest(self.x) * largest(self.y)))

    @property
    def size(self) -> float:
        r"""$\sqrt{\operatorname{tr} S_x \operatorname{tr} S_y}$, a bound on $|\Gamma|_F$."""
        return float(np.sqrt(np.trace(self.x) * np.trace(self.y)))


class Cloud(NamedTuple):
    """The atoms of a measure on the host, in float64: centred points, shares and the centre.

    Absent atoms stand at the centre, whatever their points held.
    """

    points: Float[np.ndarray, "n d"]
    shares: Float[np.ndarray, " n"]
    centre: Float[np.ndarray, " d"]

    @property
    def moment(self) -> Float[np.ndarray, "d d"]:
        return (self.points.T * self.shares) @ self.points


def cloud(name: str, measure: Measure, center: bool) -> Cloud:
    """The atoms about their mean (or about the origin), refused where nothing can be matched."""
    weights = np.asarray(measure.weights, np.float64)
    present = weights > 0
    points = np.where(present[:, None], np.asarray(measure.points, np.float64), 0.0)
    if not present.any():
        raise ValueError(f"`{name}` must have mass; all of its {len(weights)} weights are zero.")
    if not np.isfinite(points).all():
        row = int(np.nonzero(~np.isfinite(points).all(axis=1))[0][0])
        raise ValueError(
            f"`{name}` must have finite points; atom {row} is {points[row][:5]}. Give it zero "
            "weight, or repair it."
        )
    shares = weights / weights.sum()
    mean = shares @ points
    centre = mean if center else np.zeros_like(mean)
    points = np.where(present[:, None], points - centre, 0.0)
    spread = np.abs(points).max()
    if not spread > 1e-12 * max(np.abs(mean).max(), 1e-300):
        raise ValueError(
            f"`{name}` must hold at least two different points; all of its atoms are equal, so "
            "that every coupling is as good as any other."
        )
    return Cloud(points, shares, centre)


def equal_masses(mu: Measure, nu: Measure) -> None:
    """Raise unless the masses agree.

    Raises:
      ValueError: they differ; the words name the problems that take any masses.
    """
    check_masses(
        mu,
        nu,
        "a finite price: `CostRegularized(..., rho=1.0)`, or `UnbalancedGromovWasserstein(rho)`",
    )


def largest(moment: Float[np.ndarray, "d d"]) -> float:
    """The largest eigenvalue."""
    return float(np.linalg.eigvalsh(moment)[-1])
