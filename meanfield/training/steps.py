"""Many steps of a method in one compiled loop, on all data or on mini-batches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .loss import Data
from .method import AbstractMethod, apart
from .problem import TrainingProblem


class FlowState(eqx.Module):
    """Where a run is; all that is needed to go on.

    Attributes:
      trained, method: what is trained, and what the method remembers.
      step: the number of steps made.
      evaluations: the number of evaluations of the risk.
      unsettled: the number of steps whose inner search ended early.
      path_length: the sum of the lengths of all steps.
      least_ratio: the least squared slope divided by the risk, over the beginnings of all steps;
        infinite on mini-batches, where it is not known.
      finite: false once the risk or its gradient was not.
      differentiable: false once the gradient was NaN at a finite risk.
    """

    trained: PyTree
    method: PyTree
    step: Int[Array, ""]
    evaluations: Int[Array, ""]
    unsettled: Int[Array, ""]
    path_length: Float[Array, ""]
    least_ratio: Float[Array, ""]
    finite: Bool[Array, ""]
    differentiable: Bool[Array, ""]


def at_start(method: AbstractMethod, trained: PyTree, dtype) -> FlowState:
    zero, yes = jnp.zeros((), jnp.int32), jnp.array(True)
    length, ratio = jnp.zeros((), dtype), jnp.full((), jnp.inf, dtype)
    return FlowState(trained, method.init(trained), zero, zero, zero, length, ratio, yes, yes)


class Batches(eqx.Module):
    """Mini-batches without repetition within an epoch; the examples left over sit it out.

    Args:
      size: of a batch.
      key: the order of an epoch depends on it and on the number of the epoch alone.
    """

    size: int = eqx.field(static=True)
    key: PRNGKeyArray

    def order(self, epoch: Int[Array, ""], count: int) -> Int[Array, " N"]:
        return jr.permutation(jr.fold_in(self.key, epoch), count)


@eqx.filter_jit
def steps_until(
    problem: TrainingProblem,
    method: AbstractMethod,
    state: FlowState,
    until: Int[Array, ""],
    data: Data,
    batches: Batches | None,
) -> FlowState:
    """The state after step number `until`, or where the risk ceased to be finite."""
    if batches is not None:
        return _steps_on_batches(problem, method, state, until, data, batches)
    return jax.lax.while_loop(
        lambda at: (at.step < until) & at.finite,
        lambda at: _stepped(problem, method, at, data, whole=True),
        state,
    )


def _steps_on_batches(problem, method, state, until, data: Data, batches: Batches) -> FlowState:
    count = len(jax.tree.leaves(data)[0])
    an_epoch = count // batches.size

    def step(carry: tuple[FlowState, Int[Array, " N"]]):
        at, order = carry
        epoch, place = jnp.divmod(at.step, an_epoch)
        order = jax.lax.cond(place == 0, lambda: batches.order(epoch, count), lambda: order)
        chosen = jax.lax.dynamic_slice_in_dim(order, place * batches.size, batches.size)
        batch = jax.tree.map(lambda leaf: leaf[chosen], data)
        return _stepped(problem, method, at, batch, whole=False), order

    begun = (state, batches.order(state.step // an_epoch, count))
    return jax.lax.while_loop(lambda c: (c[0].step < until) & c[0].finite, step, begun)[0]


def _stepped(
    problem: TrainingProblem, method: AbstractMethod, at: FlowState, data: Data, *, whole: bool
) -> FlowState:
    step = method.advance(problem, at.trained, at.method, data)
    length = jnp.sqrt(problem.squared_length(apart(step.trained, at.trained)))
    ratio = ratio_of(step.squared_slope, step.risk) if whole else at.least_ratio
    return FlowState(
        trained=step.trained,
        method=step.state,
        step=at.step + 1,
        evaluations=at.evaluations + step.evaluations,
        unsettled=at.unsettled + jnp.where(step.settled, 0, 1),
        path_length=at.path_length + length,
        least_ratio=jnp.minimum(at.least_ratio, ratio),
        finite=jnp.isfinite(step.risk) & jnp.isfinite(step.squared_slope),
        differentiable=~(jnp.isfinite(step.risk) & jnp.isnan(step.squared_slope)),
    )


def ratio_of(squared_slope: Float[Array, ""], risk: Float[Array, ""]) -> Float[Array, ""]:
    """The squared slope divided by the risk; infinite, and so no least one, at zero risk."""
    return jnp.where(risk == 0, jnp.inf, squared_slope / jnp.where(risk == 0, 1, risk))
