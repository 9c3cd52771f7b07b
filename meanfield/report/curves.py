"""The figures of the page: one line per layer against tokens, fractions of mass, and radii."""

import math
from collections.abc import Sequence

from meanfield.audits.record import Audit, Growth, LayerSummary, Peeling, RadiusPoint, Whole
from meanfield.audits.summary import worst_whole
from meanfield.audits.thresholds import certified
from meanfield.plot.palette import layer_colors

from .drawing import Axes, Curve, Figure, axes_around, spread


_INK = "currentColor"


def growth_figure(growths: Sequence[Growth]) -> Figure | None:
    """The figure of the layers that have a curve; None if none has."""
    drawn = [growth for growth in growths if len(growth.lengths) >= 2]
    if not drawn:
        return None
    colors = dict(zip([g.layer for g in growths], layer_colors(len(growths)), strict=True))
    lengths = sorted({n for growth in drawn for n in growth.lengths})
    axes = axes_around(lengths, [v for g in drawn for v in g.constants])
    return Figure(
        curves=spread([_curve(axes, growth, colors[growth.layer]) for growth in drawn]),
        guides=tuple(_guide(axes, drawn, power) for power in (0.25, 0.5)),
        x_ticks=axes.x_ticks(lengths),
        y_ticks=axes.y_ticks,
        marks=tuple(_mark(axes, growth, jump) for growth in drawn for jump in growth.jumps),
        x_name="tokens n",
        y_name="local constant",
        title="Local constant of each layer against the number of tokens",
    )


def _curve(axes: Axes, growth: Growth, color: str) -> Curve:
    points = list(zip(growth.lengths, growth.constants, strict=True))
    notes = [f"layer {growth.layer}, n = {n}: {v:.3g}" for n, v in points]
    slope = "" if growth.exponent is None else f" · {growth.exponent:.2f}"
    return axes.curve(points, f"{growth.layer}{slope}", color, notes)


def _guide(axes: Axes, growths: Sequence[Growth], power: float) -> Curve:
    """A line of slope `power` from the geometric middle of the left ends, cut to the frame."""
    starts = [math.log(growth.constants[0]) for growth in growths]
    base = math.exp(sum(starts) / len(starts))
    reach = min(axes.most, axes.least * (axes.high / base) ** (1 / power))
    left = axes.x(axes.least), axes.y(base)
    right = axes.x(reach), axes.y(base * (reach / axes.least) ** power)
    path = f"{left[0]},{left[1]} {right[0]},{right[1]}"
    # the label below the line, away from its end, where those of the layers are
    x, y = (round(0.35 * start + 0.65 * stop, 1) for start, stop in zip(left, right, strict=True))
    return Curve("n^¼" if power == 0.25 else "n^½", "", path, (), (x, y))


def _mark(axes: Axes, growth: Growth, jump) -> tuple[float, float, str]:
    value = growth.constants[growth.lengths.index(jump.after)]
    return axes.x(jump.after), axes.y(value), f"layer {growth.layer} jumps ×{jump.factor:.1f}"


def peeling_figure(audit: Audit) -> Figure | None:
    """What each layer does to a fraction of its worst token's mass; None without attacks."""
    drawn = [
        (name, color, points)
        for name, color, measured in _measured(audit)
        if (points := _ratios(measured.peeling))
    ]
    if not drawn:
        return None
    fractions = sorted({x for _, _, points in drawn for x, _ in points})
    axes = axes_around(fractions, [y for _, _, points in drawn for _, y in points])
    curves = [
        axes.curve(points, name, color, [f"{name}, fraction {x:g}: {y:.3g}" for x, y in points])
        for name, color, points in drawn
    ]
    return Figure(
        curves=spread(curves),
        guides=(),
        x_ticks=axes.x_ticks(fractions),
        y_ticks=axes.y_ticks,
        marks=(),
        x_name="fraction of the token's mass",
        y_name="ratio of distances",
        title="Ratio of distances after and before, against the fraction of mass that is peeled",
    )


def radius_figure(audit: Audit) -> Figure | None:
    """Attack and certificate of each layer against the radius; None where neither was asked."""
    drawn = [
        (name, color, points, above)
        for name, color, measured in _measured(audit)
        for points, above in _sides(measured.radii)
        if points
    ]
    if not drawn:
        return None
    radii = sorted({x for _, _, points, _ in drawn for x, _ in points})
    axes = axes_around(radii, [y for _, _, points, _ in drawn for _, y in points])
    curves = [
        axes.curve(points, name, color, _notes(name, points, above), dashed=above)
        for name, color, points, above in drawn
    ]
    return Figure(
        curves=spread(curves),
        guides=(),
        x_ticks=axes.x_ticks(radii),
        y_ticks=axes.y_ticks,
        marks=(),
        x_name="radius: how far any token may move",
        y_name="ratio of distances",
        title="Attacks (solid) and certificates (dashed) of each layer against the radius",
    )


def _measured(audit: Audit) -> list[tuple[str, str, LayerSummary | Whole]]:
    """The name and the colour of each layer, and of all blocks together."""
    colors = layer_colors(len(audit.layers))
    found: list[tuple[str, str, LayerSummary | Whole]] = [
        (str(layer.layer), color, layer) for layer, color in zip(audit.layers, colors, strict=True)
    ]
    whole = worst_whole(audit.whole)
    return [*found, *([("all", _INK, whole)] if whole is not None else [])]


def _ratios(peeling: Peeling | None) -> list[tuple[float, float]]:
    points = () if peeling is None else peeling.points
    return sorted((p.fraction, p.ratio) for p in points if p.ratio and not p.stalled)


def _sides(radii: Sequence[RadiusPoint]) -> list[tuple[list[tuple[float, float]], bool]]:
    """The attacks, and then the certificates, of some radii."""
    below = [(p.radius, p.attack) for p in radii if p.attack and not p.stalled]
    above = [(p.radius, value) for p in radii if (value := certified(p))]
    return [(sorted(below), False), (sorted(above), True)]


def _notes(name: str, points: Sequence[tuple[float, float]], above: bool) -> list[str]:
    kind = "certificate" if above else "attack"
    return [f"{name}, radius {x:g}, {kind}: {y:.3g}" for x, y in points]
