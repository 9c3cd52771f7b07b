"""The audit of a model: rows computed here or by any executor, then summarised."""

import dataclasses
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, wait
from datetime import UTC, datetime
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from meanfield.models import Architecture

from .bench import AuditTask
from .contexts import remember
from .document import plain, restore
from .growth import summarise
from .identity import from_files, hashes_of, name_of
from .inputs import InputError, Window, windows
from .limits import Deadline, check_memory, live
from .model_record import model_record
from .record import SCHEMA, Audit, Model, Row, Run, Warn, Whole
from .resume import Journal, digest
from .settings import AuditSettings
from .summary import summarise_layer
from .task import run_task


Progress = Callable[[int, int, str], None]

# What the key of a row of all blocks is folded with: no layer has this number.
_ALL_BLOCKS = 2**32 - 1


def audit(
    model: Any,
    inputs: Any,
    *,
    key: PRNGKeyArray,
    settings: AuditSettings | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    journal: str | os.PathLike | None = None,
    resume: bool = False,
    command: str | None = None,
) -> Audit:
    """How sensitive every attention layer and head of a model is to its tokens.

    Args:
      model: a transformer (`mf.models.load`), the path of a checkpoint, or a shipped model's name.
      inputs: a text, token ids (n,), an image, hidden states (layers, n, d); a sequence of these;
        or a mapping from names to these.
      key: starts the Lanczos searches; it is recorded as a seed.
      settings: what to measure and within which limits.
      executor: runs the rows; any `concurrent.futures.Executor` (processes must use `spawn`).
        None runs them one after another in this process.
      progress: called as progress(rows done, rows in all, what is next).
      journal: a file to which every finished row is appended at once.
      resume: go on with an existing `journal` of the same audit.
      command: the command line, for the record.

    Returns:
      An `Audit`; its status is "partial" if the time limit passed, Ctrl-C was pressed, or memory
      ran out after some rows: those are kept.

    Raises:
      ModelError, InputError, ResumeError, LimitError: one line that says what, where, how to fix.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    settings = settings or AuditSettings()
    loaded = _loaded(model)
    hashes = hashes_of(loaded)
    name = name_of(loaded, hashes)
    remember(name, loaded)
    found = windows(loaded, inputs, settings)
    layers = _layers(loaded, settings)
    facts = model_record(loaded, name, hashes)
    _check_heads(facts.heads, settings)
    itemsize = 4 if settings.dtype == "f32" else 8
    longest = max(len(window.tokens) for window in found)
    _check_blocks(loaded, settings)
    times = live(settings, facts.layers)
    check_memory(loaded, longest, facts.heads, itemsize, settings.memory_limit, times)
    seed = tuple(int(word) for word in np.asarray(jax.random.key_data(key)).reshape(-1))
    mark = digest(
        facts.hashes["tensors"],
        facts.config,
        [w.sha256 for w in found],
        _resume_settings(settings),
        seed,
    )
    book = Journal(journal, mark, resume=resume)
    architecture = getattr(loaded, "architecture", None)
    tasks = _tasks(name, architecture, found, layers, settings, key)
    _compute(tasks, book, executor, progress, Deadline(settings.time_limit))
    run = _run(settings, seed, command, started, time.monotonic() - clock, mark)
    return assemble(book, found, facts, run, layers, settings, expected=len(tasks))


def _loaded(model: Any):
    return from_files(model) if isinstance(model, (str, os.PathLike)) else model


def _layers(model, settings: AuditSettings) -> tuple[int, ...]:
    count = len(model.layers)
    chosen = tuple(range(count)) if settings.layers is None else settings.layers
    outside = [layer for layer in chosen if not 0 <= layer < count]
    if outside or not chosen:
        raise InputError(f"`layers` must be among 0..{count - 1}; got {list(chosen)}.")
    return tuple(dict.fromkeys(chosen))


def _check_heads(count: int, settings: AuditSettings) -> None:
    chosen = range(count) if settings.heads is None else settings.heads
    if not chosen or not all(0 <= head < count for head in chosen):
        raise InputError(f"`heads` must be among 0..{count - 1}; got {list(chosen)}.")


def _check_blocks(model, settings: AuditSettings) -> None:
    blocks = all(getattr(layer, "block", None) is not None for layer in model.layers)
    if "whole" in settings.metrics and not blocks:
        raise InputError(
            f"`whole` needs the blocks of a model as maps; {type(model).__name__} has layers "
            "without `block`. Leave --whole out."
        )


def _tasks(
    name: str,
    architecture: Architecture | None,
    found: Sequence[Window],
    layers: Sequence[int],
    settings: AuditSettings,
    key: PRNGKeyArray,
) -> list[AuditTask]:
    """One task for each input and layer, each with a key of its own; all blocks come last."""
    places = [*layers, *([None] if "whole" in settings.metrics else [])]
    return [
        AuditTask(name, layer, i, window, settings, _seed(key, i, layer), architecture)
        for i, window in enumerate(found)
        for layer in places
    ]


def _seed(key: PRNGKeyArray, i: int, layer: int | None) -> tuple[int, ...]:
    place = _ALL_BLOCKS if layer is None else layer
    own = jax.random.fold_in(jax.random.fold_in(key, i), place)
    return tuple(int(word) for word in np.asarray(jax.random.key_data(own)).reshape(-1))


def _compute(
    tasks: Sequence[AuditTask],
    book: Journal,
    executor: Executor | None,
    progress: Progress | None,
    deadline: Deadline,
) -> None:
    """Runs what the journal lacks until it is done, the time is over, or Ctrl-C is pressed."""
    missing = [task for task in tasks if (task.input, task.layer) not in book.rows]
    report = progress or (lambda done, total, what: None)
    results = _here(missing, deadline) if executor is None else _away(missing, executor, deadline)
    report(len(book.rows), len(tasks), "")
    try:
        for row in results:
            book.add(row)
            place = f"layer {row['layer']}" if "layer" in row else "all blocks"
            report(len(book.rows), len(tasks), f"input {row['input']}, {place}")
    except KeyboardInterrupt:
        results.close()
    except (MemoryError, RuntimeError) as error:
        if not book.rows:
            raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        warnings.warn(f"the audit stopped early: {text}", RuntimeWarning, stacklevel=3)


def _here(tasks: Sequence[AuditTask], deadline: Deadline) -> Generator[dict, None, None]:
    for task in tasks:
        if deadline.passed:
            return
        yield run_task(task)


def _away(
    tasks: Sequence[AuditTask], executor: Executor, deadline: Deadline
) -> Generator[dict, None, None]:
    """The rows as they are finished; those of workers that died are computed here, at the end."""
    places, lost = {}, []
    for task in tasks:
        try:
            places[executor.submit(run_task, task)] = task
        except BrokenExecutor:
            lost.append(task)
    waiting = set(places)
    try:
        while waiting and not deadline.passed:
            done, waiting = wait(waiting, deadline.left, FIRST_COMPLETED)
            for future in done:
                if isinstance(future.exception(), BrokenExecutor):
                    lost.append(places[future])
                else:
                    yield future.result()
    finally:
        for future in waiting:
            future.cancel()
    if lost and not deadline.passed:
        warnings.warn(
            f"a worker of `executor` died (memory, or a signal?); {len(lost)} rows that it and the "
            "others had not finished are computed in this process.",
            RuntimeWarning,
            stacklevel=2,
        )
        yield from _here(lost, deadline)


def assemble(
    book: Journal,
    found: Sequence[Window],
    facts: Model,
    run: Run,
    layers: Sequence[int],
    settings: AuditSettings,
    *,
    expected: int,
) -> Audit:
    """The audit made of the rows of a journal, complete or not."""
    places = sorted(place for place in book.rows if place[1] is not None)
    rows = tuple(restore(Row, book.rows[place]) for place in places)
    inputs = sorted(i for i, layer in book.rows if layer is None)
    whole = tuple(restore(Whole, book.rows[i, None]) for i in inputs)
    by_layer = [(layer, [row for row in rows if row.layer == layer]) for layer in layers]
    by_layer = [(layer, group) for layer, group in by_layer if group]
    growth = tuple(summarise(layer, group, jump=settings.jump) for layer, group in by_layer)
    return Audit(
        schema=SCHEMA,
        status="complete" if len(book.rows) == expected else "partial",
        model=facts,
        run=run,
        inputs=tuple(window.record for window in found),
        layers=tuple(summarise_layer(group, facts.heads) for _, group in by_layer),
        growth=growth,
        checks=(),
        warnings=(*_warnings([*rows, *whole]), *_jumps(growth, found)),
        rows=rows,
        whole=whole,
    )


def _warnings(rows: Sequence[Row | Whole]) -> Iterator[Warn]:
    """The warnings of all rows, equal ones once."""
    yield from dict.fromkeys(warning for row in rows for warning in row.warnings)


def _jumps(growth, found: Sequence[Window]) -> Iterator[Warn]:
    patches = all(window.kind == "image" for window in found)
    for record in growth:
        for jump in record.jumps:
            where = "with few patches" if patches else f"near position {jump.before}"
            yield Warn(
                "jump",
                f"behaviour changes {where}: the local constant grows {jump.factor:.1f} times "
                f"between {jump.before} and {jump.after} tokens.",
                f"layer {record.layer}",
            )


def _run(settings, seed, command, started, elapsed: float, mark: str) -> Run:
    from meanfield import __version__

    return Run(
        version=__version__,
        python=platform.python_version(),
        jax=jax.__version__,
        numpy=np.__version__,
        platform=f"{sys.platform} {platform.machine()}",
        device=jax.devices()[0].device_kind,
        dtype=settings.dtype,
        seed=seed,
        command=command,
        started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        elapsed=round(elapsed, 3),
        digest=mark,
        settings=plain(settings),
    )


def _resume_settings(settings: AuditSettings) -> dict:
    """What changes a number; limits do not."""
    fields = plain(dataclasses.replace(settings, time_limit=None, memory_limit=None))
    return {name: value for name, value in fields.items() if name[-6:] != "_limit"}
