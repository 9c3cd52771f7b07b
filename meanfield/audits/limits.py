"""Limits of an audit: memory estimated before anything is computed, and time."""

import math
import re
import time

from .settings import AuditSettings


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
# Live copies of the (heads, n, n) matrix: shares, scores, their products in both directions.
_COPIES = 6
_ACTIVATIONS = 40
# Starts of an attack besides the random ones: along the tangent and where scores pull.
_OWN_STARTS = 4


class LimitError(ValueError):
    """An audit that would exceed its memory limit, or a limit that cannot be read."""


def estimate(model, n: int, heads: int, itemsize: int, times: int = 1) -> int:
    """Bytes that one row needs at n tokens: weights, activations, matrices of all heads.

    `times` is how often activations and matrices are live at once, see `live`.
    """
    live = _ACTIVATIONS * n * model.dim + _COPIES * heads * n * n
    return itemsize * (model.parameters + times * live)


def live(settings: AuditSettings, layers: int) -> int:
    """How many layers' activations are live at once: attacks climb from several starts together,
    and all blocks as one map keep those of every block."""
    starts = _OWN_STARTS + settings.attack_starts if "attack" in settings.metrics else 1
    deep = layers if "whole" in settings.metrics else 1
    # certificates are computed in float64
    return max(starts * deep, 2 if "certify" in settings.metrics else 1)


def check_memory(
    model, n: int, heads: int, itemsize: int, limit: int | None, times: int = 1
) -> None:
    """Refuses an audit whose estimate exceeds `limit` bytes and says which n fits.

    Raises:
      LimitError: the estimate exceeds the limit.
    """
    need = estimate(model, n, heads, itemsize, times)
    if limit is None or need <= limit:
        return
    fits = n
    while fits > 1 and estimate(model, fits, heads, itemsize, times) > limit:
        fits -= max(fits // 64, 1)
    advice = f"--max-tokens {fits} fits" if fits > 1 else "the weights alone exceed it"
    raise LimitError(
        f"{n} tokens need about {in_gib(need)} of memory (limit {in_gib(limit)}): {advice}; "
        "lower --max-tokens or raise --memory-limit."
    )


def check_weights(size: int, limit: int) -> None:
    """Refuses weight files larger than `limit` bytes before any of them is read.

    Raises:
      LimitError: they are larger.
    """
    if size > limit:
        raise LimitError(
            f"the weights alone are {in_gib(size)}, the memory limit is {in_gib(limit)}; raise "
            "--memory-limit."
        )


def in_gib(size: int) -> str:
    """Bytes in GiB or MiB."""
    return f"{size / 2**30:.2g} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"


def parse_memory(text: str) -> int:
    """`4GiB`, `500MB` or a number of bytes.

    Raises:
      LimitError: not such a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise LimitError(f"a memory limit looks like 4GiB or 500MB; got {text!r}.")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_time(text: str) -> float:
    """`90s`, `10m`, `1h` or a number of seconds.

    Raises:
      LimitError: not such a time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if match is None:
        raise LimitError(f"a time limit looks like 90s, 10m or 1h; got {text!r}.")
    return float(match[1]) * _SECONDS[match[2]]


class Deadline:
    """The moment after which no new row is started."""

    def __init__(self, limit: float | None):
        self._end = None if limit is None else time.monotonic() + limit

    @property
    def left(self) -> float | None:
        """Seconds left, at least zero; None without a limit."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.left == 0.0
