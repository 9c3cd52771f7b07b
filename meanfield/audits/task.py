"""One row of an audit as an independent, picklable task with an idempotent result."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.measure import Ball

from .attending import LARGEST, HeadStack, head_facts, stack_heads
from .constants import bucket, finite, head_constants, layer_constant, layer_upper, local_record
from .contexts import attention_of, contexts
from .document import plain
from .growth import ladder
from .inputs import Window
from .record import Bounds, GlobalBound, Head, Local, Row, Warn, WorstToken
from .settings import AuditSettings


@dataclass(frozen=True, eq=False)
class AuditTask:
    """One layer at one input. Any process that can read the model can run it, in any order.

    Attributes:
      model: a path, the name of a shipped model, or a name given by `contexts.remember`.
      layer: which layer.
      input: the index of the input in the audit.
      window: the input itself.
      settings: what to measure.
      seed: the data of the random key of this row.
    """

    model: str
    layer: int
    input: int
    window: Window
    settings: AuditSettings
    seed: tuple[int, ...]


@dataclass
class _Bench:
    """What the measurements of one row share."""

    task: AuditTask
    attention: Any
    mu: Any
    padded: Any
    key: Any
    warnings: list[Warn] = field(default_factory=list)

    @property
    def steps(self) -> tuple[float, int]:
        return self.task.settings.rtol, self.task.settings.max_steps

    def warn(self, code: str, message: str) -> None:
        self.warnings.append(Warn(code, message, f"layer {self.task.layer}"))

    def attempt(self, code: str, measure: Callable[[], Any], otherwise: Any) -> Any:
        """A measurement, or `otherwise` and a warning: one failure does not cost the row."""
        try:
            return measure()
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            text = str(error).strip() or type(error).__name__
            self.warn(code, text.splitlines()[0][:200])
            return otherwise


def run_task(task: AuditTask) -> dict:
    """The row of a task as JSON values: the same task gives the same row, whoever runs it."""
    with jax.enable_x64(task.settings.dtype == "f64"):
        return plain(_row(_bench(task)))


def _bench(task: AuditTask) -> _Bench:
    dtype, n = task.settings.dtype, len(task.window.tokens)
    mu = _context(task, n)
    return _Bench(
        task=task,
        attention=attention_of(task.model, task.layer, dtype),
        mu=mu,
        padded=mu.pad(bucket(mu.size, mu.size)),
        key=jax.random.wrap_key_data(jnp.asarray(task.seed, jnp.uint32)),
    )


def _context(task: AuditTask, length: int):
    mu = contexts(task.model, task.window, length, task.settings.dtype)[task.layer]
    return mu.merge() if task.settings.dedup else mu


def _row(bench: _Bench) -> Row:
    task, metrics = bench.task, bench.task.settings.metrics
    local, shares = _local(bench)
    stack = stack_heads(bench.attention)
    heads = _heads(bench, stack)
    curve = _growth(bench, local.value) if "growth" in metrics else ((), ())
    return Row(
        input=task.input,
        layer=task.layer,
        tokens=len(task.window.tokens),
        atoms=int(np.sum(np.asarray(bench.mu.atoms.present))),
        radius=float(bench.mu.radius),
        score_min=_extreme(min, [head.score_min for head in heads]),
        score_max=_extreme(max, [head.score_max for head in heads]),
        local=local,
        heads=heads,
        bounds=_bounds(bench, bench.attention) if "bounds" in metrics else None,
        worst_tokens=_worst(task, shares),
        shares=shares,
        lengths=curve[0],
        constants=curve[1],
        warnings=tuple(bench.warnings),
    )


def _local(bench: _Bench) -> tuple[Local, tuple[float, ...]]:
    def measure():
        sol = layer_constant(bench.attention, bench.padded, bench.key, *bench.steps)
        upper = layer_upper(bench.attention, bench.padded)
        shares = np.asarray(sol.shares, np.float64).reshape(-1)[: len(bench.task.window.tokens)]
        return local_record(sol, upper), _rounded(shares)

    missing = Local(None, None, None, None, None, None, None, "not measured")
    local, shares = bench.attempt("local", measure, (missing, ()))
    if local.value is None and local is not missing:
        bench.warn("not-finite", "the local constant overflows; try --dtype f64.")
    return local, shares


def _rounded(shares: np.ndarray) -> tuple[float, ...]:
    if not np.all(np.isfinite(shares)):
        return ()
    return tuple(round(float(share), 6) for share in shares)


def _worst(task: AuditTask, shares: tuple[float, ...]) -> tuple[WorstToken, ...]:
    order = sorted(range(len(shares)), key=lambda i: (-shares[i], i))[: task.settings.worst]
    return tuple(WorstToken(i, task.window.tokens[i], shares[i]) for i in order)


def _heads(bench: _Bench, stack: HeadStack) -> tuple[Head, ...]:
    metrics = bench.task.settings.metrics
    constants = facts = None
    if "heads" in metrics:
        constants = bench.attempt("heads", lambda: _head_constants(bench, stack), None)
    if "entropy" in metrics and bench.padded.size > LARGEST:
        bench.warn("entropy", f"entropy is measured up to {LARGEST} tokens only.")
    elif "entropy" in metrics:
        facts = bench.attempt("entropy", lambda: _facts(bench, stack), None)
    bounds = [None] * stack.count
    if "bounds" in metrics and "heads" in metrics:
        bounds = [_bounds(bench, head) for head in bench.attention.heads]
    return tuple(_head(h, constants, facts, bounds[h]) for h in range(stack.count))


def _head_constants(bench: _Bench, stack: HeadStack) -> dict[str, np.ndarray]:
    found = head_constants(stack.arrays, stack.rest, bench.padded, bench.key, *bench.steps)
    return {name: np.asarray(values) for name, values in found.items()}


def _facts(bench: _Bench, stack: HeadStack):
    tokens = jnp.asarray(float(len(bench.task.window.tokens)), bench.padded.points.dtype)
    return jax.tree.map(np.asarray, head_facts(stack.arrays, stack.rest, bench.padded, tokens))


def _head(h: int, constants, facts, bounds: Bounds | None) -> Head:
    smooth, split = (constants and finite(constants[name][h]) for name in ("smooth", "split"))
    return Head(
        head=h,
        value=None if smooth is None or split is None else max(smooth, split),
        smooth=smooth,
        split=split,
        score_min=facts and finite(facts.score_min[h]),
        score_max=facts and finite(facts.score_max[h]),
        entropy=facts and finite(facts.entropy[h]),
        max_attention=facts and finite(facts.max_attention[h]),
        bounds=bounds,
    )


def _bounds(bench: _Bench, f) -> Bounds:
    ball, n = Ball(float(bench.mu.radius)), len(bench.task.window.tokens)
    return Bounds(
        radius=float(ball.radius),
        tokens=_bound(bench, f, ball, p=2.0, n=n),
        mean_field=_bound(bench, f, ball, p=2.0, n=None),
        uniform=_bound(bench, f, ball, p=float("inf"), n=None),
    )


def _bound(bench: _Bench, f, ball: Ball, *, p: float, n: int | None) -> GlobalBound:
    from meanfield.lipschitz import lipschitz_bound

    def measure():
        bound = lipschitz_bound(f, ball, p=p, n=n)
        return GlobalBound(finite(bound.log_value / np.log(10)), bound.theorem)

    return bench.attempt("bound", measure, GlobalBound(None, None))


def _growth(bench: _Bench, whole: float | None) -> tuple[tuple[int, ...], tuple]:
    """The local constant of the layer along prefixes; the last one is the whole window."""
    task, n = bench.task, len(bench.task.window.tokens)
    if task.window.kind != "text":
        return (), ()
    lengths = ladder(n, task.settings.growth_from)
    values = [bench.attempt("growth", lambda m=m: _prefix(bench, m), None) for m in lengths[:-1]]
    return lengths, (*values, whole)


def _prefix(bench: _Bench, length: int) -> float | None:
    mu = _context(bench.task, length)
    padded = mu.pad(bucket(mu.size, bench.padded.size))
    return finite(layer_constant(bench.attention, padded, bench.key, *bench.steps).value)


def _extreme(choose: Callable, values: list[float | None]) -> float | None:
    return choose((value for value in values if value is not None), default=None)
