"""The measurements of each head of a layer."""

import jax
import jax.numpy as jnp
import numpy as np

from .attending import LARGEST, HeadStack, head_facts, stack_heads
from .bench import Bench
from .constants import finite, head_constants
from .record import Bounds, Head
from .sensitivity import global_bounds


def head_rows(bench: Bench) -> tuple[Head, ...]:
    """Constants, entropy, scores and bounds of every head that is audited."""
    every, settings = bench.attention.heads, bench.task.settings
    chosen = range(len(every)) if settings.heads is None else sorted(set(settings.heads))
    heads, metrics = [every[h] for h in chosen], settings.metrics
    stack = stack_heads(heads)
    constants = facts = None
    if "heads" in metrics:
        constants = bench.attempt("heads", lambda: _head_constants(bench, stack), None)
    if "entropy" in metrics and bench.padded.size > LARGEST:
        bench.warn("entropy", f"entropy is measured up to {LARGEST} tokens only.")
    elif "entropy" in metrics:
        facts = bench.attempt("entropy", lambda: _facts(bench, stack), None)
    bounds = [None] * stack.count
    if "bounds" in metrics and "heads" in metrics:
        bounds = [global_bounds(bench, head) for head in heads]
    return tuple(_head(h, i, constants, facts, bounds[i]) for i, h in enumerate(chosen))


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
