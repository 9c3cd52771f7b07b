"""The record of an audit: plain frozen dataclasses that are also the JSON document."""

from dataclasses import dataclass, field

from .attack_record import (
    GlobalBound as GlobalBound,
    Peeling as Peeling,
    PeelPoint as PeelPoint,
    RadiusPoint as RadiusPoint,
)


SCHEMA = "meanfield.audit/3"


@dataclass(frozen=True)
class WorstToken:
    """A token and its share of the squared norm of the worst direction."""

    index: int
    token: str
    share: float


@dataclass(frozen=True)
class Local:
    """The local Lipschitz constant of one layer at one input (regularity.md notation in the docs).

    `value = max(smooth, split)`; `lower <= value <= upper`, `lower` certified by a tangent.
    """

    value: float | None
    smooth: float | None
    split: float | None
    lower: float | None
    upper: float | None
    residual: float | None
    iterations: int | None
    status: str


@dataclass(frozen=True)
class Bounds:
    """Global bounds on the ball of the observed radius: n equal atoms, any measure, W_infinity."""

    radius: float
    tokens: GlobalBound
    mean_field: GlobalBound
    uniform: GlobalBound


@dataclass(frozen=True)
class Head:
    """One attention head at one input.

    `entropy` is divided by its greatest possible value; `max_attention` is the largest share that a
    query gives to one token, `sink` the largest share that one token gets from all queries.
    """

    head: int
    value: float | None
    smooth: float | None
    split: float | None
    score_min: float | None
    score_max: float | None
    entropy: float | None
    max_attention: float | None
    sink: float | None
    bounds: Bounds | None


@dataclass(frozen=True)
class Warn:
    """Something missing or noteworthy: a code for programs, a sentence for people, a place."""

    code: str
    message: str
    where: str


@dataclass(frozen=True)
class Row:
    """Everything measured on one layer at one input; a row is the unit of work and of resuming."""

    input: int
    layer: int
    tokens: int
    atoms: int
    radius: float
    score_min: float | None
    score_max: float | None
    local: Local
    heads: tuple[Head, ...]
    bounds: Bounds | None
    worst_tokens: tuple[WorstToken, ...]
    shares: tuple[float, ...]
    lengths: tuple[int, ...]
    constants: tuple[float | None, ...]
    peeling: Peeling | None
    radii: tuple[RadiusPoint, ...]
    warnings: tuple[Warn, ...]


@dataclass(frozen=True)
class Whole:
    """All blocks of the model as one map, at one input: what enters the first is moved or split.

    Its local constant composes the blocks, residual connections and perceptrons included; it is
    not a product of the constants of the layers.
    """

    input: int
    tokens: int
    atoms: int
    radius: float
    local: Local
    worst_tokens: tuple[WorstToken, ...]
    shares: tuple[float, ...]
    peeling: Peeling | None
    radii: tuple[RadiusPoint, ...]
    warnings: tuple[Warn, ...]


@dataclass(frozen=True)
class Jump:
    """The local constant grew by `factor` between prefixes of `before` and `after` tokens."""

    before: int
    after: int
    factor: float


@dataclass(frozen=True)
class Growth:
    """How a layer's constant grows with the number of tokens: about n^exponent.

    `low` and `high` are a 95 % interval, from `method` ("bootstrap" over inputs or "residuals").
    """

    layer: int
    exponent: float | None
    low: float | None
    high: float | None
    method: str | None
    lengths: tuple[int, ...]
    constants: tuple[float, ...]
    jumps: tuple[Jump, ...]


@dataclass(frozen=True)
class Input:
    """One window of text, one image or one array of hidden states."""

    name: str
    kind: str
    sha256: str
    tokens: tuple[str, ...]
    start: int
    total: int


@dataclass(frozen=True)
class Model:
    """What was audited: where from, which files, how large.

    `assumed` are fields that weights without a config.json did not tell.
    """

    name: str
    path: str
    family: str
    causal: bool
    layers: int
    heads: int
    dim: int
    parameters: int
    max_tokens: int | None
    hashes: dict[str, str]
    config: dict[str, str | int | float | bool | None]
    assumed: dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Check:
    """A threshold or a comparison with a baseline; a missing value never passes."""

    expression: str
    value: float | None
    limit: float
    passed: bool


@dataclass(frozen=True)
class Run:
    """How the audit was made: enough to reproduce it."""

    version: str
    python: str
    jax: str
    numpy: str
    platform: str
    device: str
    dtype: str
    seed: tuple[int, ...]
    command: str | None
    started: str
    elapsed: float
    digest: str
    settings: dict[str, str | int | float | bool | None | list[str] | list[int] | list[float]]


@dataclass(frozen=True)
class LayerSummary:
    """One layer over all inputs: the worst input's row, with the median and least of the others.

    `peeling` is that of the input with the largest ratio, `radii` those of the worst input.

    What is said of heads is said of those that were audited; `heads_sum` is null unless all were.
    """

    layer: int
    input: int
    radius: float
    score_range: float | None
    local: Local
    median: float | None
    least: float | None
    worst_head: int | None
    head_value: float | None
    heads_sum: float | None
    entropy: float | None
    max_attention: float | None
    sink: float | None
    bounds: Bounds | None
    worst_tokens: tuple[WorstToken, ...]
    peeling: Peeling | None
    radii: tuple[RadiusPoint, ...]


@dataclass(frozen=True)
class Audit:
    """An audit of every attention layer and head of a model on given inputs.

    `rows` are the measurements; `layers` and `growth` summarise them; `whole` are the measurements
    of all blocks together; `checks` are the verdicts.
    """

    schema: str
    status: str
    model: Model
    run: Run
    inputs: tuple[Input, ...]
    layers: tuple[LayerSummary, ...]
    growth: tuple[Growth, ...]
    checks: tuple[Check, ...]
    warnings: tuple[Warn, ...]
    rows: tuple[Row, ...] = field(repr=False)
    whole: tuple[Whole, ...] = field(repr=False)

    @property
    def complete(self) -> bool:
        """Whether every row was computed."""
        return self.status == "complete"

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def __repr__(self) -> str:
        worst = [layer for layer in self.layers if layer.local.value is not None]
        top = max(worst, key=lambda layer: layer.local.value or 0.0, default=None)
        story = "no rows" if top is None else f"worst layer {top.layer}: {top.local.value:.4g}"
        return f"Audit({self.model.name}, {len(self.layers)} layers, {story}, {self.status})"
