"""What an audit measures and within which limits."""

from dataclasses import dataclass


METRICS = ("local", "heads", "entropy", "bounds", "growth")
OVERFLOWS = ("truncate", "window", "error")
DTYPES = ("f32", "f64")


@dataclass(frozen=True)
class AuditSettings:
    """Settings of an audit; everything here that changes a number is part of the resume key.

    Attributes:
      layers: the layers to audit; None for all.
      heads: the heads to audit in each of them; None for all. The constants of a layer are always
        those of all its heads together.
      metrics: which of `METRICS` to compute; "local" is always there.
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
    time_limit: float | None = None
    memory_limit: int | None = None

    def __post_init__(self):
        unknown = [metric for metric in self.metrics if metric not in METRICS]
        if unknown:
            raise ValueError(
                f"`metrics` must be among {', '.join(METRICS)}; got {', '.join(unknown)}."
            )
        if self.overflow not in OVERFLOWS:
            raise ValueError(
                f"`overflow` must be one of {', '.join(OVERFLOWS)}; got {self.overflow!r}."
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"`dtype` must be f32 or f64; got {self.dtype!r}.")
        if self.max_tokens < 2:
            raise ValueError(f"`max_tokens` must be at least 2; got {self.max_tokens}.")
