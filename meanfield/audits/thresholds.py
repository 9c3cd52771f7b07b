"""Verdicts: thresholds such as `local.max>50` and comparisons with an earlier audit.

An expression is METRIC@AT[LAYER][HEAD].STATISTIC OPERATOR NUMBER; it names what must *not* hold. It
is parsed, never evaluated as code. A value that is missing never passes, nor does an attack whose
search stalled. AT is a fraction of a token's mass or a radius; without it all of them count.
"""

import dataclasses
import math
import operator
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .record import (
    Audit,
    Check,
    Growth,
    LayerSummary,
    PeelPoint,
    RadiusPoint,
    Row,
    Whole,
)
from .summary import score_range


_GRAMMAR = re.compile(
    r"""\s*(?P<metric>[a-z_]+)
        (?:@(?P<at>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?))?
        (?:\[(?P<layer>\d{1,6})\])?(?:\[(?P<head>\d{1,6})\])?
        (?:\.(?P<statistic>[a-z]+))?
        \s*(?P<operator>>=|<=|>|<)
        \s*(?P<limit>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*""",
    re.VERBOSE,
)
_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_STATISTICS = {"max": max, "min": min, "median": statistics.median}
_LAYER_METRICS: dict[str, Callable[[LayerSummary], float | None]] = {
    "local": lambda layer: layer.local.value,
    "smooth": lambda layer: layer.local.smooth,
    "split": lambda layer: layer.local.split,
    "upper": lambda layer: layer.local.upper,
    "entropy": lambda layer: layer.entropy,
    "max_attention": lambda layer: layer.max_attention,
    "sink": lambda layer: layer.sink,
    "share": lambda layer: layer.worst_tokens[0].share if layer.worst_tokens else None,
}
# A summary tells these of its worst input; a threshold looks at every input.
_ROW_METRICS: dict[str, Callable[[Row], float | None]] = {
    "radius": lambda row: row.radius,
    "score_range": score_range,
}
_PEELS = ("peel", "whole_peel")
_RADII = ("shift", "certificate", "gap", "whole_shift")
_WHOLE = ("whole", "whole_peel", "whole_shift")
METRIC_NAMES = (
    *_LAYER_METRICS,
    *_ROW_METRICS,
    "heads",
    "growth",
    *_PEELS[:1],
    *_RADII[:3],
    *_WHOLE,
)


class ThresholdError(ValueError):
    """A threshold that cannot be read."""


@dataclass(frozen=True)
class Threshold:
    """What must not hold, e.g. `local[3].max > 50`."""

    expression: str
    metric: str
    layer: int | None
    head: int | None
    at: float | None
    statistic: str
    operator: str
    limit: float


def parse(expression: str) -> Threshold:
    """Reads an expression such as `local.max>50`, `heads[3][5]>=20`, `growth[0] > 0.5`.

    Raises:
      ThresholdError: the expression does not follow the grammar.
    """
    match = _GRAMMAR.fullmatch(expression)
    if match is None:
        raise ThresholdError(
            "a threshold looks like 'local.max>50', 'heads[3][5]>20', 'growth[0]>0.5' or "
            f"'peel@0.01[3]>500'; got {expression!r}."
        )
    part = match.groupdict()
    statistic, limit = part["statistic"] or "max", float(part["limit"])
    for value, allowed in ((part["metric"], METRIC_NAMES), (statistic, tuple(_STATISTICS))):
        if value not in allowed:
            raise ThresholdError(
                f"{value!r} in the threshold {expression!r} must be one of {', '.join(allowed)}."
            )
    if not math.isfinite(limit):
        raise ThresholdError(f"the limit of {expression!r} must be finite.")
    if part["head"] is not None and part["metric"] != "heads":
        raise ThresholdError(f"only `heads` takes a second index; got {expression!r}.")
    if part["at"] is not None and part["metric"] not in (*_PEELS, *_RADII):
        raise ThresholdError(
            f"only {', '.join((*_PEELS, *_RADII))} take @FRACTION or @RADIUS; got {expression!r}."
        )
    if part["layer"] is not None and part["metric"] in _WHOLE:
        raise ThresholdError(f"{part['metric']!r} is of all layers together; got {expression!r}.")
    return Threshold(
        expression=expression.strip(),
        metric=part["metric"],
        layer=None if part["layer"] is None else int(part["layer"]),
        head=None if part["head"] is None else int(part["head"]),
        at=None if part["at"] is None else float(part["at"]),
        statistic=statistic,
        operator=part["operator"],
        limit=limit,
    )


def judge(
    audit: Audit,
    fail_on: Sequence[str] = (),
    *,
    baseline: Audit | None = None,
    regress: float = 0.1,
) -> Audit:
    """The audit with its checks: each expression of `fail_on`, and each layer against a baseline.

    Args:
      audit: what was measured.
      fail_on: expressions that must not hold.
      baseline: an earlier audit of the same layers.
      regress: the fraction by which a local constant may exceed the baseline's.

    Raises:
      ThresholdError: an expression cannot be read.
    """
    checks = [check(parse(expression), audit) for expression in fail_on]
    if baseline is not None:
        checks += regressions(audit, baseline, regress)
    return dataclasses.replace(audit, checks=tuple(checks))


def check(threshold: Threshold, audit: Audit) -> Check:
    """Whether the audit stays clear of a threshold; missing values fail, and so does NaN."""
    values = _values(threshold, audit)
    if not values or any(value is None or math.isnan(value) for value in values):
        return Check(threshold.expression, None, threshold.limit, False)
    value = float(_STATISTICS[threshold.statistic](values))
    violated = _OPERATORS[threshold.operator](value, threshold.limit)
    return Check(threshold.expression, value, threshold.limit, not violated)


def is_culprit(check: Check, layer: LayerSummary, rows: Sequence[Row] = ()) -> bool:
    """Whether a check that failed is about this layer, or failed because of it (`rows` of it)."""
    if f"[{layer.layer}]" in check.expression:
        return True
    try:
        threshold = parse(check.expression)
    except ThresholdError:
        return False  # a comparison with a baseline, which names its layer
    if threshold.layer is not None or threshold.metric in _WHOLE:
        return False
    measure = _LAYER_METRICS.get(threshold.metric, lambda _: None)
    own = [row for row in rows if row.layer == layer.layer]
    each = _ROW_METRICS.get(threshold.metric, lambda _: None)
    values = [measure(layer), *map(each, own), *_attacked(threshold, own)]
    violates = _OPERATORS[threshold.operator]
    return any(value is not None and violates(value, threshold.limit) for value in values)


def regressions(audit: Audit, baseline: Audit, allowed: float) -> tuple[Check, ...]:
    """One check per layer: the local constant may exceed the baseline's by a fraction."""
    old = {layer.layer: layer.local.value for layer in baseline.layers}
    checks = []
    for layer in audit.layers:
        before, now = old.get(layer.layer), layer.local.value
        limit = 0.0 if before is None else before * (1 + allowed)
        name = f"local[{layer.layer}] > baseline + {allowed:.3g}"
        passed = before is not None and now is not None and now <= limit
        checks.append(Check(name, now, limit, passed))
    return tuple(checks)


def fraction(text: str) -> float:
    """`10%` or `0.1` as 0.1.

    Raises:
      ThresholdError: not a nonnegative number.
    """
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise ThresholdError(f"--regress takes a fraction such as 10% or 0.1; got {text!r}.")
    return value


def _values(threshold: Threshold, audit: Audit) -> list[float | None]:
    def chosen(record: LayerSummary | Growth | Row) -> bool:
        return threshold.layer is None or record.layer == threshold.layer

    if threshold.metric == "whole":
        return [row.local.value for row in audit.whole]
    if threshold.metric in (*_PEELS, *_RADII):
        whole = threshold.metric in _WHOLE
        return _attacked(threshold, audit.whole if whole else list(filter(chosen, audit.rows)))
    if threshold.metric in _ROW_METRICS:
        return [_ROW_METRICS[threshold.metric](row) for row in audit.rows if chosen(row)]
    if threshold.metric == "growth":
        return [growth.exponent for growth in audit.growth if chosen(growth)]
    if threshold.metric == "heads":
        return [
            head.value
            for row in audit.rows
            if chosen(row)
            for head in row.heads
            if threshold.head is None or head.head == threshold.head
        ]
    return [_LAYER_METRICS[threshold.metric](layer) for layer in audit.layers if chosen(layer)]


def _attacked(threshold: Threshold, rows: Sequence[Row | Whole]) -> list[float | None]:
    """What attacks and certificates say in some rows; empty for other metrics.

    A row in which a fraction or a radius is missing counts as one missing value.
    """

    def here(at: float) -> bool:
        return threshold.at is None or math.isclose(at, threshold.at, rel_tol=1e-9)

    each: list[list[float | None]] = []
    if threshold.metric in _PEELS:
        each = [[_peeled(p) for p in _points(row) if here(p.fraction)] for row in rows]
    elif threshold.metric in _RADII:
        value = _AT_RADIUS[threshold.metric.removeprefix("whole_")]
        each = [[value(p) for p in row.radii if here(p.radius)] for row in rows]
    return [number for found in each for number in found or [None]]


def _points(row: Row | Whole) -> tuple[PeelPoint, ...]:
    return () if row.peeling is None else row.peeling.points


def _peeled(point: PeelPoint) -> float | None:
    return None if point.stalled else point.ratio


def _shifted(point: RadiusPoint) -> float | None:
    return None if point.stalled else point.attack


def certified(point: RadiusPoint) -> float | None:
    """The certificate of a radius as a number; None where none is finite."""
    log10 = None if point.certificate is None else point.certificate.log10
    return None if log10 is None or log10 > 300 else 10**log10


def gap(point: RadiusPoint) -> float | None:
    """How many times the certificate exceeds the attack; None where one is missing."""
    above, below = certified(point), point.attack
    return None if above is None or not below else above / below


_AT_RADIUS: dict[str, Callable[[RadiusPoint], float | None]] = {
    "shift": _shifted,
    "certificate": certified,
    "gap": gap,
}
