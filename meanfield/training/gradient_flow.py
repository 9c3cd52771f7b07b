r"""Training as the gradient flow of the risk for the conditional transport distance (barboni2024).

$\partial_t \mu = \mathrm{div}_\theta(\mu\, g[\mu])$: every particle moves against the gradient
field, layers and particles keep their mass. Methods differ in how they follow this in steps.
"""

import os
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from meanfield.measure import RESULTS

from .checkpoint import digest, load, save
from .loss import Data, Loss
from .method import AbstractMethod, Euler, Heun
from .problem import TrainingProblem, training_problem
from .progress import Report, reporting
from .record import Record, Row, row_of
from .resnet import MeanFieldResNet
from .run import Training, result_of
from .steps import Batches, FlowState, at_start, steps_until


class _Run(eqx.Module):
    """The arguments of a run, checked: all that its steps and records need."""

    problem: TrainingProblem
    method: AbstractMethod
    start: PyTree
    data: Data
    batches: Batches | None
    record: Record
    every: int


def gradient_flow(
    net: MeanFieldResNet,
    loss: Loss,
    data: Data,
    method: AbstractMethod,
    steps: int,
    *,
    batch_size: int | None = None,
    key: PRNGKeyArray | None = None,
    record_every: int | None = None,
    record: Record = Record(),
    checkpoint: str | os.PathLike | None = None,
    progress: bool | Report = False,
    throw: bool = True,
) -> Training:
    r"""Trains a network by the gradient flow of its risk in the conditional transport distance.

    Between two records all steps run in one compiled loop. Where the path of `Euler` or `Heun` on
    all data is by a tenth longer than that of a flow with its slopes could be
    (`Training.path_bound`), the steps are too large to follow it, and `.result` says so.

    Args:
      net: the network at the start. Its particles move, and the arrays of its embedding and
        readout unless they are `Fixed`.
      loss: of one prediction and one target: `SquaredError()`, `CrossEntropy()` or a function.
      data: (x, y), whose leading axis counts the N examples.
      method: `Euler(step)`, `Heun(step)`, `Proximal(step)` or `Optax(transformation)`.
      steps: how many, counted from the start of the run also where it resumes.
      batch_size: the number of examples a step sees, drawn without repetition within an epoch (the
        N mod batch_size examples that are left over sit out the epoch); all where it is None.
      key: for the mini-batches.
      record_every: the number of steps between records; by default a fiftieth of `steps`.
      record: what to record beyond the risk and the slope.
      checkpoint: a file that holds the run, written at each record. If it exists, the run goes on
        where it ended, to the last bit as if it had not been interrupted.
      progress: True for a bar on stderr, or a function called as progress(done, steps, words).
      throw: whether to raise where the risk ceases to be finite; otherwise `.result` says it, and
        the run ends at the last record before.

    Raises:
      ValueError: settings that do not fit, data of different lengths or of shapes that the network
        or the loss do not take, a risk that is not finite at the start, a checkpoint of another
        run.
      RuntimeError: the risk ceased to be finite (with `throw=True`).

    Warns:
      RuntimeWarning: the path is too long for a gradient flow, or inner searches ended early.

    References: {cite}`barboni2024`.
    """
    every = max(1, steps // 50) if record_every is None else record_every
    _check_counts(steps, every)
    if method.duration is not None and not method.duration > 0:
        raise ValueError(f"`step` must be positive; got {method.duration}.")
    batches = _batches(_examples(data), batch_size, key)
    problem, start = training_problem(net, loss)
    method = _with_arrays(method, net.params.points.dtype)
    data = jax.tree.map(jnp.asarray, data)
    _check_fit(problem, start, data)
    run = _Run(problem, method, start, data, batches, record, every)
    with reporting(progress) as report:
        state, rows, finite = _followed(run, steps, checkpoint, report)
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    tested = isinstance(method, Euler | Heun) and batches is None
    result = result_of(columns, finite=finite, path_tested=tested)
    _tell(result, int(state.step), throw)
    return Training(
        net=problem.net(state.trained),
        particles=columns.pop("particles", None),
        result=result,
        **columns,
    )


def _followed(
    run: _Run, steps: int, checkpoint: str | os.PathLike | None, report: Report
) -> tuple[FlowState, list[Row], bool]:
    """The last state with a finite risk, all records, and whether the run came to its end."""
    owner = "" if checkpoint is None else _owner(run)
    state, rows = _begun(run, steps, checkpoint, owner)
    while state.step < steps:
        report(int(state.step), steps, f"risk {float(rows[-1]['risk']):.3g}")
        until = min(steps, (int(state.step) // run.every + 1) * run.every)
        after = steps_until(run.problem, run.method, state, jnp.array(until), run.data, run.batches)
        row = _row(run, after)
        if not (after.finite and np.isfinite(row["risk"])):
            return state, rows, False
        state, rows = after, [*rows, row]
        if checkpoint is not None:
            save(checkpoint, owner, state, rows)
    return state, rows, True


def _begun(
    run: _Run, steps: int, checkpoint: str | os.PathLike | None, owner: str
) -> tuple[FlowState, list[Row]]:
    """The start, or where the checkpoint ended."""
    state = at_start(run.method, run.start, run.start.params.points.dtype)
    if checkpoint is None or not os.path.exists(checkpoint):
        row = _row(run, state)
        if not np.isfinite(row["risk"]):
            raise ValueError(
                f"the risk must be finite at the start; got {row['risk']}. Look for NaN or "
                "infinity in `data` and in `net.params.points`, and at `loss` itself."
            )
        return state, [row]
    state, rows = load(checkpoint, owner, state)
    if state.step > steps:
        raise ValueError(
            f"`checkpoint` {checkpoint} is {state.step} steps far already, `steps` is {steps}. Ask "
            "for at least as many, or give another path to begin anew."
        )
    return state, rows


def _row(run: _Run, state: FlowState) -> Row:
    return row_of(run.problem, run.method, state, run.start, run.data, run.record)


def _owner(run: _Run) -> str:
    arrays = (run.problem, run.start, run.data, run.batches)
    kinds = eqx.tree_pformat((arrays, run.record))
    words = f"{run.method.description} {kinds} {run.every}"
    return digest(words, eqx.filter(arrays, eqx.is_array))


def _with_arrays(method: AbstractMethod, dtype: Any) -> AbstractMethod:
    """The method with its numbers as arguments of the program, in the precision of the run."""

    def convert(leaf):
        return jnp.asarray(leaf, dtype) if isinstance(leaf, float) else leaf

    return jax.tree.map(convert, method)


def _check_counts(steps: int, every: int) -> None:
    for name, count in (("steps", steps), ("record_every", every)):
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1; got {count}.")


def _examples(data: Data) -> int:
    """The number of examples."""
    lengths = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(lengths) == 1:
        return lengths.pop()
    raise ValueError(
        f"`data` must be (x, y) with as many examples in x as in y; got {sorted(lengths)}."
    )


def _check_fit(problem: TrainingProblem, start: PyTree, data: Data) -> None:
    """Raises ValueError, with the shapes, where the network or the loss do not take the data."""
    try:
        jax.eval_shape(problem.risk, start, data)
    except (TypeError, ValueError) as error:
        x, y = ([jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(part)] for part in data)
        raise ValueError(
            f"`net` and `loss` must take `data`; got inputs of shape {x} and targets of shape {y} "
            f"each, and particles of shape {start.params.points.shape}: {error}"
        ) from error


def _batches(count: int, size: int | None, key: PRNGKeyArray | None) -> Batches | None:
    if size is None:
        return None
    if key is None:
        raise ValueError("`key` must be given with `batch_size`: it draws the mini-batches.")
    if not 1 <= size <= count:
        raise ValueError(
            f"`batch_size` must be from 1 to the number of examples {count}; got {size}."
        )
    return Batches(size, key)


def _tell(result: Any, step: int, throw: bool) -> None:
    if result == RESULTS.successful:
        return
    if result == RESULTS.risk_not_finite and throw:
        raise RuntimeError(f"{RESULTS[result]} The last finite record is that of step {step}.")
    warnings.warn(RESULTS[result], RuntimeWarning, stacklevel=3)
