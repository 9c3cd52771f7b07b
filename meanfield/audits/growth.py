"""How a layer's local constant grows with the number of tokens: n^exponent, and where it breaks.

The exponent is the slope of log(constant) on log(n) over a ladder of prefixes. Its interval comes
from resampling inputs, or from the residuals of the fit when there are too few inputs.
"""

from collections.abc import Sequence

import numpy as np

from .record import Growth, Jump, Row


# Lengths of prefixes and the local constant at each.
Curve = tuple[tuple[int, ...], tuple[float, ...]]

_RESAMPLES = 1000
_ENOUGH_INPUTS = 3


def ladder(tokens: int, start: int = 16) -> tuple[int, ...]:
    """The prefix lengths start, 2 start, 4 start, ... up to `tokens`, which is always the last."""
    rungs = [start * 2**step for step in range(40) if start * 2**step < tokens]
    if rungs and tokens < 1.25 * rungs[-1]:
        rungs.pop()
    return (*rungs, tokens)


def jumps(curves: Sequence[Curve], factor: float) -> tuple[Jump, ...]:
    """The steps of the ladder over which the constant grows by more than `factor`.

    The growth of a step is the geometric mean over the inputs that take it: one word that is met
    late is not a change of behaviour, a position that no training text reached is.
    """
    ratios: dict[tuple[int, int], list[float]] = {}
    for lengths, constants in curves:
        steps = zip(lengths, lengths[1:], constants, constants[1:], strict=False)
        for before, after, low, high in steps:
            ratios.setdefault((before, after), []).append(np.log(high / low))
    means = {step: float(np.exp(np.mean(logs))) for step, logs in sorted(ratios.items())}
    return tuple(Jump(*step, growth) for step, growth in means.items() if growth > factor)


def residual_interval(curve: Curve) -> tuple[float, float] | None:
    """Student's 95 % interval of the slope; None with fewer than three points."""
    from scipy.special import stdtrit  # Student quantiles, without the weight of scipy.stats

    lengths, constants = curve
    count = len(lengths)
    if count < 3:
        return None
    x = np.log(lengths) - np.mean(np.log(lengths))
    y = np.log(constants) - np.mean(np.log(constants))
    exponent = float(x @ y / (x @ x))
    spread = np.sum((y - exponent * x) ** 2) / (count - 2)
    half = float(stdtrit(count - 2, 0.975) * np.sqrt(spread / (x @ x)))
    return exponent - half, exponent + half


def bootstrap_interval(curves: Sequence[Curve], seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the pooled slope when inputs are drawn with replacement."""
    top, bottom = np.array([_moments(curve) for curve in curves]).T
    draw = np.random.default_rng(seed).integers(len(curves), size=(_RESAMPLES, len(curves)))
    slopes = top[draw].sum(axis=1) / bottom[draw].sum(axis=1)
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(low), float(high)


def pooled_slope(curves: Sequence[Curve]) -> float:
    """One slope for several curves, each with its own level (inputs differ in level)."""
    top, bottom = np.sum([_moments(curve) for curve in curves], axis=0)
    return float(top / bottom)


def _moments(curve: Curve) -> tuple[float, float]:
    """<x, log c> and <x, x> for the centred logarithms x of the lengths."""
    lengths, constants = curve
    x = np.log(lengths) - np.mean(np.log(lengths))
    return float(x @ np.log(constants)), float(x @ x)


def summarise(layer: int, rows: Sequence[Row], *, jump: float, seed: int = 0) -> Growth:
    """The growth of one layer over the rows of all inputs."""
    curves = [curve for curve in map(_curve, rows) if len(curve[0]) >= 2]
    if not curves:
        return Growth(layer, None, None, None, None, (), (), ())
    lengths, constants = _level(curves)
    interval, method = _interval(curves, seed)
    return Growth(
        layer=layer,
        exponent=pooled_slope(curves),
        low=interval and interval[0],
        high=interval and interval[1],
        method=method,
        lengths=lengths,
        constants=constants,
        jumps=jumps(curves, jump),
    )


def _curve(row: Row) -> Curve:
    pairs = [(n, c) for n, c in zip(row.lengths, row.constants, strict=True) if c]
    return tuple(n for n, _ in pairs), tuple(c for _, c in pairs)


def _level(curves: Sequence[Curve]) -> Curve:
    """The geometric mean over inputs at every prefix length."""
    values: dict[int, list[float]] = {}
    for lengths, constants in curves:
        for n, constant in zip(lengths, constants, strict=True):
            values.setdefault(n, []).append(np.log(constant))
    order = sorted(values)
    return tuple(order), tuple(float(np.exp(np.mean(values[n]))) for n in order)


def _interval(curves: Sequence[Curve], seed: int) -> tuple[tuple[float, float] | None, str | None]:
    if len(curves) >= _ENOUGH_INPUTS:
        return bootstrap_interval(curves, seed), "bootstrap"
    interval = residual_interval(curves[0]) if len(curves) == 1 else None
    if len(curves) == 2:
        interval = residual_interval(_level(curves))
    return interval, None if interval is None else "residuals"
