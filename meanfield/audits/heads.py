"""The measurements of each head of a layer."""

from collections.abc import Callable
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np

from .attending import LARGEST, HeadStack, head_facts, stack_heads
from .bench import Bench
from .constants import finite, head_constants
from .record import Bounds, Head
from .sensitivity import global_bounds


def begin_heads(bench: Bench) -> Callable[[], tuple[Head, ...]]:
    """Begins to measure the heads that are audited, and returns what ends it."""
    every, settings = bench.attention.heads, bench.task.settings
    chosen = range(len(every)) if settings.heads is None else sorted(set(settings.heads))
    heads, metrics = [every[h] for h in chosen], settings.metrics
    stack = stack_heads(heads)
    begun: dict[str, Future] = {}
    if "heads" in metrics:
        begun["heads"] = bench.begin(lambda: _head_constants(bench, stack))
    if "entropy" in metrics and bench.padded.size <= LARGEST:
        begun["entropy"] = bench.begin(lambda: _facts(bench, stack))

    def end() -> tuple[Head, ...]:
        """Constants, entropy, scores and bounds of every head."""
        found = {name: bench.attempt(name, part.result, None) for name, part in begun.items()}
        if "entropy" in metrics and "entropy" not in begun:
            bench.warn("entropy", f"entropy is measured up to {LARGEST} tokens only.")
        bounds = [None] * stack.count
        if "bounds" in metrics and "heads" in metrics:
            bounds = [global_bounds(bench, head) for head in heads]
        parts = found.get("heads"), found.get("entropy")
        return tuple(_head(h, i, *parts, bounds[i]) for i, h in enumerate(chosen))

    return end


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
