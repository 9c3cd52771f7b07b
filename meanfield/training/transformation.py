"""Any optimiser of optax as a method, fed with gradients in the metric of the masses."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from .loss import Data
from .method import AbstractMethod, Step
from .problem import TrainingProblem


if TYPE_CHECKING:
    import optax


class Optax(AbstractMethod):
    r"""An optax transformation of the gradient field g, the derivative divided by the mass.

    `Optax(optax.sgd(tau))` is `Euler(tau)`, and with momentum the same scale holds. Adam and its
    like divide by the size of the gradient, so that the masses cancel: their learning rate is then
    how far each number of a particle moves in a step, whatever the depth and the width, and epsilon
    is compared with g. Transformations that act on each number alone do not see how a measure is
    written; `optax.clip_by_global_norm` does, since it adds up particles without their masses.

    A checkpoint cannot tell two transformations with states of one shape apart.

    Steps of optimisers do not follow the flow: a run has no `times`.

    Args:
      transformation: an `optax.GradientTransformation`.
    """

    transformation: "optax.GradientTransformation" = eqx.field(static=True)

    @property
    def duration(self) -> Any:
        return None

    @property
    def description(self) -> str:
        """Of the transformation only that it is one: functions have no settings to read."""
        return "Optax"

    def init(self, trained: PyTree) -> PyTree:
        return self.transformation.init(trained)

    def advance(self, problem: TrainingProblem, trained: PyTree, state: PyTree, data: Data) -> Step:
        risk, field = problem.risk_and_field(trained, data)
        update, state = self.transformation.update(field, state, trained)
        after = jax.tree.map(lambda theta, v: theta + v, trained, update)
        return Step(after, state, risk, problem.squared_length(field), 1)
