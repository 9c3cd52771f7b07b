"""The growth figure of the page as inline SVG: one line per layer on doubly logarithmic axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meanfield.audits.record import Growth
from meanfield.plot.palette import layer_colors


# ever finer divisions of a decade
_STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(n / 10 for n in range(10, 100)))
WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 74, 14, 44


@dataclass(frozen=True)
class Curve:
    """A polyline in the coordinates of the figure, with a label at its right end."""

    label: str
    color: str
    path: str
    dots: tuple[tuple[float, float, str], ...]
    end: tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A grid line and its label."""

    place: float
    label: str


@dataclass(frozen=True)
class Figure:
    """Everything the template draws."""

    curves: tuple[Curve, ...]
    guides: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[tuple[float, float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class _Axes:
    low_n: int
    high_n: int
    low: float
    high: float

    def x(self, n: float | int) -> float:
        t = math.log(n / self.low_n) / math.log(self.high_n / self.low_n)
        return round(LEFT + t * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        t = math.log(value / self.low) / math.log(self.high / self.low)
        return round(HEIGHT - BOTTOM - t * (HEIGHT - TOP - BOTTOM), 1)


def growth_figure(growths: Sequence[Growth]) -> Figure | None:
    """The figure of the layers that have a curve; None if none has."""
    drawn = [growth for growth in growths if len(growth.lengths) >= 2]
    if not drawn:
        return None
    colors = dict(zip([g.layer for g in growths], layer_colors(len(growths)), strict=True))
    axes = _axes(drawn)
    curves = _spread([_curve(axes, growth, colors[growth.layer]) for growth in drawn])
    return Figure(
        curves=curves,
        guides=tuple(_guide(axes, drawn, power) for power in (0.25, 0.5)),
        x_ticks=tuple(Tick(axes.x(n), str(n)) for n in _lengths(drawn)),
        y_ticks=tuple(Tick(axes.y(v), f"{v:.3g}") for v in _nice(axes.low, axes.high)),
        marks=tuple(_mark(axes, growth, jump) for growth in drawn for jump in growth.jumps),
    )


def _axes(growths: Sequence[Growth]) -> _Axes:
    lengths, values = _lengths(growths), [v for g in growths for v in g.constants]
    return _Axes(lengths[0], lengths[-1], min(values) / 1.25, max(values) * 1.25)


def _lengths(growths: Sequence[Growth]) -> list[int]:
    return sorted({n for growth in growths for n in growth.lengths})


def _curve(axes: _Axes, growth: Growth, color: str) -> Curve:
    points = list(zip(growth.lengths, growth.constants, strict=True))
    dots = tuple(
        (axes.x(n), axes.y(v), f"layer {growth.layer}, n = {n}: {v:.3g}") for n, v in points
    )
    path = " ".join(f"{x},{y}" for x, y, _ in dots)
    slope = "" if growth.exponent is None else f" · {growth.exponent:.2f}"
    return Curve(f"{growth.layer}{slope}", color, path, dots, dots[-1][:2])


def _spread(curves: Sequence[Curve], gap: float = 13.0) -> tuple[Curve, ...]:
    """Labels moved apart so that none hides another."""
    placed, last = [], -math.inf
    for curve in sorted(curves, key=lambda curve: curve.end[1]):
        last = max(curve.end[1], last + gap)
        placed.append(Curve(curve.label, curve.color, curve.path, curve.dots, (curve.end[0], last)))
    return tuple(placed)


def _guide(axes: _Axes, growths: Sequence[Growth], power: float) -> Curve:
    """A line of slope `power` from the geometric middle of the left ends, cut to the frame."""
    starts = [math.log(growth.constants[0]) for growth in growths]
    base = math.exp(sum(starts) / len(starts))
    reach = min(axes.high_n, axes.low_n * (axes.high / base) ** (1 / power))
    left = axes.x(axes.low_n), axes.y(base)
    right = axes.x(reach), axes.y(base * (reach / axes.low_n) ** power)
    path = f"{left[0]},{left[1]} {right[0]},{right[1]}"
    # the label below the line, away from its end, where those of the layers are
    x, y = (round(0.35 * start + 0.65 * stop, 1) for start, stop in zip(left, right, strict=True))
    return Curve("n^¼" if power == 0.25 else "n^½", "", path, (), (x, y))


def _mark(axes: _Axes, growth: Growth, jump) -> tuple[float, float, str]:
    value = growth.constants[growth.lengths.index(jump.after)]
    return axes.x(jump.after), axes.y(value), f"layer {growth.layer} jumps ×{jump.factor:.1f}"


def _nice(low: float, high: float) -> list[float]:
    """Round values between two others: at least three of them, and no more than are needed."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in _STEPS:
        found = [s * 10.0**e for e in decades for s in steps if low <= s * 10.0**e <= high]
        if len(found) >= 3:
            return found
    return [round(low, 12), round(high, 12)]
