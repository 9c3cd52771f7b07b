"""A task, and the bench on which its row is measured: what all measurements of a row share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.models import Architecture

from .constants import bucket
from .contexts import attention_of, contexts, find, first_context, whole_of
from .inputs import Window
from .record import Warn
from .settings import AuditSettings


@dataclass(frozen=True, eq=False)
class AuditTask:
    """One layer, or all blocks as one map, at one input.

    Any process that can read the model can run it, in any order.

    Attributes:
      model: a path, the name of a shipped model, or a name given by `contexts.remember`.
      layer: which layer; None for all blocks.
      input: the index of the input in the audit.
      window: the input itself.
      settings: what to measure.
      seed: the data of the random key of this row.
      architecture: what `models.load` is told of weights without a config.json.
    """

    model: str
    layer: int | None
    input: int
    window: Window
    settings: AuditSettings
    seed: tuple[int, ...]
    architecture: Architecture | None = None


@dataclass
class Bench:
    """What the measurements of one row share."""

    task: AuditTask
    model: Any
    attention: Any
    mu: Any
    padded: Any
    key: Any
    warnings: list[Warn] = field(default_factory=list)

    @property
    def steps(self) -> tuple[float, int]:
        """The tolerance and the limit of the Lanczos searches."""
        return self.task.settings.rtol, self.task.settings.max_steps

    @functools.cached_property
    def radius(self) -> float:
        """The largest norm of a token, on the host: nothing to compile."""
        atoms = self.mu.atoms
        norms = np.linalg.norm(np.asarray(atoms.points), axis=-1)
        return float(np.max(norms, where=np.asarray(atoms.weights) > 0, initial=0.0))

    @property
    def chosen(self) -> list[int]:
        """Which heads are audited."""
        some = self.task.settings.heads
        return list(range(len(self.attention.heads))) if some is None else sorted(set(some))

    @functools.cached_property
    def heads(self) -> list[Any]:
        """The heads that are audited, as maps."""
        every = self.attention.heads
        return [every[h] for h in self.chosen]

    def warn(self, code: str, message: str) -> None:
        """Notes what is missing from this row."""
        layer = self.task.layer
        where = "all blocks" if layer is None else f"layer {layer}"
        self.warnings.append(Warn(code, message, where))

    def attempt(self, code: str, measure: Callable[[], Any], otherwise: Any) -> Any:
        """A measurement, or `otherwise` and a warning: one failure does not cost the row."""
        try:
            return measure()
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            text = str(error).strip() or type(error).__name__
            self.warn(code, text.splitlines()[0][:200])
            return otherwise


def set_up(task: AuditTask) -> Bench:
    """The attention and the context of a task, padded to a size that has a program already."""
    dtype, n = task.settings.dtype, len(task.window.tokens)
    model = find(task.model, task.architecture)
    mu = context_of(task, n)
    whole = task.layer is None
    return Bench(
        task=task,
        model=model,
        attention=whole_of(task.model, dtype)
        if whole
        else attention_of(task.model, task.layer, dtype),
        mu=mu,
        padded=mu.pad(bucket(mu.size, mu.size)),
        key=jax.random.wrap_key_data(jnp.asarray(task.seed, jnp.uint32)),
    )


def context_of(task: AuditTask, length: int):
    """What enters the task's layer when only `length` tokens of its window do."""
    if task.layer is None:
        mu = first_context(task.model, task.window, task.settings.dtype)
    else:
        mu = contexts(task.model, task.window, length, task.settings.dtype)[task.layer]
    return mu.merge() if task.settings.dedup else mu
