"""The measurements of each head of a layer."""

from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np

from .attending import LARGEST, HeadStack, head_facts, stack_heads
from .bench import Bench
from .bounds import RowBounds
from .constants import finite, head_constants
from .record import Bounds, Head


def head_rows(bench: Bench, bounds: Future[RowBounds]) -> tuple[Head, ...]:
    """Constants, entropy, scores and bounds of every head that is audited; the bounds are waited
    for last."""
    metrics, stack = bench.task.settings.metrics, stack_heads(bench.heads)
    constants = facts = None
    if "heads" in metrics:
        constants = bench.attempt("heads", lambda: _head_constants(bench, stack), None)
    if "entropy" in metrics and bench.padded.size > LARGEST:
        bench.warn("entropy", f"entropy is measured up to {LARGEST} tokens only.")
    elif "entropy" in metrics:
        facts = bench.attempt("entropy", lambda: _facts(bench, stack), None)
    above, chosen = bounds.result().heads, enumerate(bench.chosen)
    return tuple(_head(h, i, constants, facts, above[i]) for i, h in chosen)


def _head_constants(bench: Bench, stack: HeadStack) -> dict[str, np.ndarray]:
    found = head_constants(stack.arrays, stack.rest, bench.padded, bench.key, *bench.steps)
    return {name: np.asarray(values) for name, values in found.items()}


def _facts(bench: Bench, stack: HeadStack):
    tokens = jnp.asarray(float(len(bench.task.window.tokens)), bench.padded.points.dtype)
    return jax.tree.map(np.asarray, head_facts(stack.arrays, stack.rest, bench.padded, tokens))


def _head(h: int, i: int, constants, facts, bounds: Bounds | None) -> Head:
    """The record of head h, the i-th of those audited."""
    smooth, split = (constants and finite(constants[name][i]) for name in ("smooth", "split"))
    return Head(
        head=h,
        value=None if smooth is None or split is None else max(smooth, split),
        smooth=smooth,
        split=split,
        score_min=facts and finite(facts.score_min[i]),
        score_max=facts and finite(facts.score_max[i]),
        entropy=facts and finite(facts.entropy[i]),
        max_attention=facts and finite(facts.max_attention[i]),
        sink=facts and finite(facts.sink[i]),
        bounds=bounds,
    )
