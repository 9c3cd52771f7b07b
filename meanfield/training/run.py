r"""The record of a training run, and the theorem on convergence read off it.

Along a gradient flow $d/dt\, \mathrm{risk} = -|\partial|^2$. Where the squared slope is at least m
times the risk, $\mathrm{risk}_t \le \mathrm{risk}_0 e^{-m t}$, and the path is no longer than
$\frac{2}{\sqrt m} (\sqrt{\mathrm{risk}_0} - \sqrt{\mathrm{risk}_t})$.
"""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from meanfield.measure import RESULTS

from .resnet import MeanFieldResNet


Column = Float[np.ndarray, " R"]


# A path s times too long proves tau * (curvature along the steps) > 2 (1 - 1 / s), docs:
# theory/training; short steps are borne.
_SLACK = 1.1


class BallTest(eqx.Module):
    r"""The hypotheses and the conclusions of the theorem on convergence, on one run.

    If the ratio is at least `constant` on the ball around the start of a radius above `radius`,
    the flow stays inside, converges, and the risk falls by $e^{-m t}$. The run has seen only the
    points on its way: the test can refute the hypotheses on the ball, not prove them.

    Attributes:
      constant: m.
      radius: $2 \sqrt{\mathrm{risk}_0 / m}$.
      travelled: the largest distance to the start.
      excess: the largest $\log (\mathrm{risk}_t / \mathrm{risk}_0) + m t$; at most 0 for the flow.
      inside: whether `travelled` is at most `radius`.
    """

    constant: float
    radius: float
    travelled: float
    excess: float
    inside: bool


class Training(eqx.Module):
    r"""What a training run found, at each of its R records; the first is the start.

    Attributes:
      net: the network at the last record.
      steps, times: of the records; the time is the number of steps times the step size, NaN for
        methods that do not follow the flow.
      risk, slope: the risk and $|\partial\, \mathrm{risk}|$ on all data.
      certified: a lower bound on the ratio that is proved; NaN where none was computed.
      index_distance, distance: to the start in the metric of training, with particles paired by
        index (an upper bound) and optimally: the conditional distance, together with the length of
        the displacement of a trained embedding or readout.
      layer_distance: $W_2$ to the start in each layer, shape (R, L).
      path_length: the length of the path so far.
      least_ratio: the least ratio met so far: over every step if steps see all data, over the
        records if they see mini-batches.
      evaluations: the number of evaluations of the risk and its gradient so far.
      unsettled: the number of steps so far whose inner search ended early.
      particles: shape (R, L, M, p), if they were asked for.
      result: a `RESULTS`.
    """

    net: MeanFieldResNet
    steps: Int[np.ndarray, " R"]
    times: Column
    risk: Column
    slope: Column
    certified: Column
    index_distance: Column
    distance: Column
    layer_distance: Float[np.ndarray, "R L"]
    path_length: Column
    least_ratio: Column
    evaluations: Int[np.ndarray, " R"]
    unsettled: Int[np.ndarray, " R"]
    particles: Float[np.ndarray, "R L M p"] | None
    result: RESULTS

    @property
    def polyak_lojasiewicz(self) -> Column:
        """The squared slope divided by the risk: the rate at which the flow lowers log risk; NaN
        where the risk is zero."""
        return self.slope**2 / np.where(self.risk == 0, np.nan, self.risk)

    @property
    def rate(self) -> Float[np.ndarray, " intervals"]:
        r"""$-\Delta \log \mathrm{risk} / \Delta t$ between records; NaN once the risk is zero."""
        log_risk = np.log(np.where(self.risk == 0, np.nan, self.risk))
        return -np.diff(log_risk) / np.diff(self.times)

    @property
    def path_bound(self) -> Column:
        r"""$\frac{2}{\sqrt m} (\sqrt{\mathrm{risk}_0} - \sqrt{\mathrm{risk}_t})$ with the least
        ratio m met so far: no gradient flow with such ratios has a longer path. Zero where the
        risk is above that of the start."""
        return _path_bound(self.risk, self.least_ratio)

    def ball(self, constant: float | None = None) -> BallTest:
        """The theorem on convergence with the ratio m = `constant`, by default the least met."""
        m = float(self.least_ratio[-1]) if constant is None else constant
        if not m > 0:
            raise ValueError(f"`constant` must be a positive ratio of slope^2 to risk; got {m}.")
        radius = 2 * float(np.sqrt(self.risk[0] / m))
        travelled = float(np.max(self._known_distance))
        seen = self.risk > 0
        excess = np.log(self.risk[seen] / self.risk[0]) + m * self.times[seen]
        return BallTest(
            m, radius, travelled, float(np.max(excess, initial=-np.inf)), travelled <= radius
        )

    @property
    def _known_distance(self) -> Column:
        return self.index_distance if np.any(np.isnan(self.distance)) else self.distance

    def __repr__(self) -> str:
        ended = RESULTS[self.result]
        return (
            f"Training({self.steps[-1]} steps, risk {self.risk[0]:.3g} -> {self.risk[-1]:.3g}, "
            f"distance {self._known_distance[-1]:.3g}, path {self.path_length[-1]:.3g}: "
            f"{ended.split(':')[0].split('. ')[0]})"
        )


def _path_bound(risk: Column, least_ratio: Column) -> Column:
    root = np.sqrt(np.where(risk >= 0, risk, np.nan))
    fallen, steep = np.maximum(root[0] - root, 0), least_ratio > 0
    bound = 2 * fallen / np.sqrt(np.where(steep, least_ratio, 1))
    return np.where(fallen > 0, np.where(steep, bound, np.inf), fallen)


def result_of(columns: dict[str, np.ndarray], *, ended: Any, path_tested: bool) -> Any:
    """How a run ended: the first of what went wrong."""
    if ended != RESULTS.successful:
        return ended
    bound = _path_bound(columns["risk"], columns["least_ratio"])[-1]
    theorem = path_tested and np.all(columns["risk"] >= 0)
    if theorem and not columns["path_length"][-1] <= _SLACK * bound:
        return RESULTS.step_beyond_stability
    if columns["unsettled"][-1]:
        return RESULTS.inner_steps_exhausted
    return RESULTS.successful
