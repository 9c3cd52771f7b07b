"""Inline SVG figures on doubly logarithmic axes: polylines, ticks, labels, all in pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


# ever finer divisions of a decade
_STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(n / 10 for n in range(10, 100)))
WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 74, 14, 44
_MOST_TICKS = 9


@dataclass(frozen=True)
class Curve:
    """A polyline in the coordinates of the figure, with a label at its right end."""

    label: str
    color: str
    path: str
    dots: tuple[tuple[float, float, str], ...]
    end: tuple[float, float]
    dashed: bool = False


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
    x_name: str
    y_name: str
    title: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Axes:
    """From numbers to pixels, both logarithmic."""

    least: float | int
    most: float | int
    low: float
    high: float

    def x(self, value: float | int) -> float:
        """The pixel of an abscissa."""
        t = math.log(value / self.least) / math.log(self.most / self.least)
        return round(LEFT + t * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float | int) -> float:
        """The pixel of an ordinate."""
        t = math.log(value / self.low) / math.log(self.high / self.low)
        return round(HEIGHT - BOTTOM - t * (HEIGHT - TOP - BOTTOM), 1)

    def curve(
        self,
        points: Sequence[tuple[float | int, float | int]],
        label: str,
        color: str,
        notes: Sequence[str],
        *,
        dashed: bool = False,
    ) -> Curve:
        """The polyline through some points, each with a note."""
        places = [(self.x(x), self.y(y)) for x, y in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        dots = tuple((x, y, note) for (x, y), note in zip(places, notes, strict=True))
        return Curve(label, color, path, dots, places[-1], dashed)

    @property
    def y_ticks(self) -> tuple[Tick, ...]:
        """Round ordinates."""
        return tuple(Tick(self.y(v), _label(v)) for v in nice(self.low, self.high))

    def x_ticks(self, values: Sequence[float | int]) -> tuple[Tick, ...]:
        """The given abscissae, every second, third, ... of them where there are many."""
        step = -(-len(values) // _MOST_TICKS)
        return tuple(Tick(self.x(v), _label(v)) for v in values[::step])


def _label(value: float | int) -> str:
    """`10,000` rather than 1e+04; very small and very large ones as powers."""
    if 1e3 <= value < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def axes_around(xs: Sequence[float | int], ys: Sequence[float | int]) -> Axes:
    """Axes that hold all points, with a little room above and below."""
    least, most = min(xs), max(xs)
    if least == most:  # one abscissa stands in the middle
        least, most = least / 2, most * 2
    return Axes(least, most, min(ys) / 1.25, max(ys) * 1.25)


def spread(curves: Sequence[Curve], gap: float = 13.0) -> tuple[Curve, ...]:
    """Labels moved apart so that none hides another."""
    placed, last = [], -math.inf
    for curve in sorted(curves, key=lambda curve: curve.end[1]):
        last = max(curve.end[1], last + gap) if curve.label else last
        end = (curve.end[0], last) if curve.label else curve.end
        placed.append(replace(curve, end=end))
    return tuple(placed)


def nice(low: float, high: float) -> list[float]:
    """Round values between two others: at least three of them, and no more than are needed."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in _STEPS:
        found = [s * 10.0**e for e in decades for s in steps if low <= s * 10.0**e <= high]
        if len(found) >= 3:
            step = -(-len(found) // _MOST_TICKS)
            return found[::step]
    return [round(low, 12), round(high, 12)]
