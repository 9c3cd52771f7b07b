"""What an audit measures and within which limits."""

import math
from dataclasses import dataclass


METRICS = ("local", "heads", "entropy", "bounds", "growth")
# Measured only when asked: they cost more than all the others together.
EXTRAS = ("attack", "certify", "whole")
DOMAINS = ("layernorm", "ball")
OVERFLOWS = ("truncate", "window", "error")
DTYPES = ("f32", "f64")


@dataclass(frozen=True)
class AuditSettings:
    """Settings of an audit; everything here that changes a number is part of the resume key.

    Attributes:
      layers: the layers to audit; None for all.
      heads: the heads to audit in each of them; None for all. The constants of a layer are always
        those of all its heads together.
      metrics: which of `METRICS` and `EXTRAS` to compute; "local" is always there. "attack" peels
        fractions of the worst token's mass off and moves tokens within each radius, "certify"
        proves a constant for each radius, "whole" measures all blocks of the model as one map (and
        attacks it, with "attack").
      max_tokens: the longest window of text, special tokens included.
      overflow: what happens to a longer text: `truncate`, cut into `window`s, or `error`.
      windows: most windows of one text; None for all.
      dedup: merge equal atoms of the first context into masses (they stay equal in every layer).
      dtype: `f32` or `f64`.
      rtol: relative residual at which the Lanczos search stops.
      max_steps: most Lanczos steps.
      worst: how many worst tokens are named.
      growth_from: the shortest prefix of the growth curve (images with few patches start lower).
      jump: ratio between consecutive prefixes above which a change of behaviour is flagged.
      fractions: of the worst token's mass, for the curve of the mass-peeling attack.
      radii: how far any token may move, in units of the points, for attacks and certificates.
      domain: where peeled mass may go: `layernorm`, what the norm before the layer can put out
        (the ball where there is none), or `ball`, that of the observed radius.
      attack_steps, attack_starts: of the searches of the attacks.
      time_limit: seconds after which no new row is started.
      memory_limit: bytes that the estimate of one row may not exceed.
    """

    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    metrics: tuple[str, ...] = METRICS
    max_tokens: int = 256
    overflow: str = "truncate"
    windows: int | None = None
    dedup: bool = False
    dtype: str = "f32"
    rtol: float = 1e-3
    max_steps: int = 100
    worst: int = 5
    growth_from: int = 16
    jump: float = 1.8
    fractions: tuple[float, ...] = (1.0, 0.1, 0.01, 1e-3, 1e-4)
    radii: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    domain: str = "layernorm"
    attack_steps: int = 120
    attack_starts: int = 4
    time_limit: float | None = None
    memory_limit: int | None = None

    def __post_init__(self):
        unknown = [metric for metric in self.metrics if metric not in (*METRICS, *EXTRAS)]
        if unknown:
            raise ValueError(
                f"`metrics` must be among {', '.join((*METRICS, *EXTRAS))}; got "
                f"{', '.join(unknown)}."
            )
        _check_among("overflow", self.overflow, OVERFLOWS)
        _check_among("dtype", self.dtype, DTYPES)
        _check_among("domain", self.domain, DOMAINS)
        if self.max_tokens < 2:
            raise ValueError(f"`max_tokens` must be at least 2; got {self.max_tokens}.")
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"`fractions` must lie in (0, 1]; got {list(self.fractions)}.")
        if not self.radii or not all(0 < radius < math.inf for radius in self.radii):
            raise ValueError(f"`radii` must be positive and finite; got {list(self.radii)}.")
        if min(self.attack_steps, self.attack_starts) < 1:
            raise ValueError(
                "`attack_steps` and `attack_starts` must be at least 1; got "
                f"{self.attack_steps} and {self.attack_starts}."
            )


def _check_among(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        choices = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise ValueError(f"`{name}` must be {choices}; got {value!r}.")
