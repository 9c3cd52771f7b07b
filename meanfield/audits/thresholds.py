"""Verdicts: thresholds such as `local.max>50` and comparisons with an earlier audit.

An expression is METRIC[LAYER][HEAD].STATISTIC OPERATOR NUMBER; it names what must *not* hold. It is
parsed, never evaluated as code. A value that is missing never passes.
"""

import dataclasses
import math
import operator
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .record import Audit, Check, Growth, LayerSummary, Row


_GRAMMAR = re.compile(
    r"""\s*(?P<metric>[a-z_]+)
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
    "radius": lambda layer: layer.radius,
    "score_range": lambda layer: layer.score_range,
    "entropy": lambda layer: layer.entropy,
    "max_attention": lambda layer: layer.max_attention,
    "sink": lambda layer: layer.sink,
    "share": lambda layer: layer.worst_tokens[0].share if layer.worst_tokens else None,
}
METRIC_NAMES = (*_LAYER_METRICS, "heads", "growth")


class ThresholdError(ValueError):
    """A threshold that cannot be read."""


@dataclass(frozen=True)
class Threshold:
    """What must not hold, e.g. `local[3].max > 50`."""

    expression: str
    metric: str
    layer: int | None
    head: int | None
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
            f"a threshold looks like 'local.max>50', 'heads[3][5]>20' or 'growth[0]>0.5'; "
            f"got {expression!r}."
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
    return Threshold(
        expression=expression.strip(),
        metric=part["metric"],
        layer=None if part["layer"] is None else int(part["layer"]),
        head=None if part["head"] is None else int(part["head"]),
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
    """Whether the audit stays clear of a threshold; missing values fail."""
    values = _values(threshold, audit)
    if not values or any(value is None for value in values):
        return Check(threshold.expression, None, threshold.limit, False)
    value = float(_STATISTICS[threshold.statistic](values))
    violated = _OPERATORS[threshold.operator](value, threshold.limit)
    return Check(threshold.expression, value, threshold.limit, not violated)


def is_culprit(check: Check, layer: LayerSummary) -> bool:
    """Whether a check that failed is about this layer, or failed because of it."""
    if f"[{layer.layer}]" in check.expression:
        return True
    try:
        threshold = parse(check.expression)
    except ThresholdError:
        return False  # a comparison with a baseline, which names its layer
    value = _LAYER_METRICS.get(threshold.metric, lambda _: None)(layer)
    if value is None or threshold.layer is not None:
        return False
    return _OPERATORS[threshold.operator](value, threshold.limit)


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
