"""How the flow is followed in steps: the interface of the methods, and the two explicit ones."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .loss import Data
from .problem import TrainingProblem


class Step(eqx.Module):
    """What a step makes.

    Attributes:
      trained, state: what is trained and what the method remembers, after the step.
      risk, squared_slope: before the step, on the data of the step.
      evaluations: the number of evaluations of the risk.
      settled: false where an inner search ended before it reached its tolerance.
    """

    trained: PyTree
    state: PyTree
    risk: Float[Array, ""]
    squared_slope: Float[Array, ""]
    evaluations: Int[Array, ""] | int
    settled: Bool[Array, ""] | bool = True


class AbstractMethod(eqx.Module):
    """A way to follow the gradient flow in steps."""

    @property
    @abc.abstractmethod
    def duration(self) -> Any:
        """The time of the flow that a step takes; None if steps do not follow the flow."""

    @abc.abstractmethod
    def init(self, trained: PyTree) -> PyTree:
        """What the method remembers before the first step."""

    @abc.abstractmethod
    def advance(self, problem: TrainingProblem, trained: PyTree, state: PyTree, data: Data) -> Step:
        """One step."""


class AbstractExplicit(AbstractMethod):
    """A method that takes steps of one length and remembers nothing."""

    step: eqx.AbstractVar[float | Float[Array, ""]]

    @property
    def duration(self) -> Any:
        return self.step

    def init(self, trained: PyTree) -> PyTree:
        return None


class Euler(AbstractExplicit):
    r"""$\theta_{kj} \leftarrow \theta_{kj} - \tau g(k, \theta_{kj})$, explicit, of order 1.

    This is gradient descent with the learning rate $\tau / (h_k a_{kj})$, which for L layers of M
    equal particles is $\tau L M$.

    Args:
      step: tau, in the time of the flow.
    """

    step: float | Float[Array, ""]

    def advance(self, problem: TrainingProblem, trained: PyTree, state: PyTree, data: Data) -> Step:
        risk, field = problem.risk_and_field(trained, data)
        after = moved(trained, field, -self.step)
        return Step(after, state, risk, problem.squared_length(field), 1)


class Heun(AbstractExplicit):
    r"""$\theta \leftarrow \theta - \frac\tau2 (g(\theta) + g(\theta - \tau g(\theta)))$, the
    explicit trapezoidal scheme, of order 2.

    Args:
      step: tau, in the time of the flow.
    """

    step: float | Float[Array, ""]

    def advance(self, problem: TrainingProblem, trained: PyTree, state: PyTree, data: Data) -> Step:
        risk, here = problem.risk_and_field(trained, data)
        _, there = problem.risk_and_field(moved(trained, here, -self.step), data)
        mean = jax.tree.map(lambda g, h: (g + h) / 2, here, there)
        after = moved(trained, mean, -self.step)
        return Step(after, state, risk, problem.squared_length(here), 2)


def moved(trained: PyTree, direction: PyTree, step: Any) -> PyTree:
    """The point `step` times the direction away."""
    return jax.tree.map(lambda theta, v: theta + step * v, trained, direction)


def apart(after: PyTree, before: PyTree) -> PyTree:
    """The direction from one point to another."""
    return jax.tree.map(jnp.subtract, after, before)
