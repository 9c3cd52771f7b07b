"""Any optimiser of optax as a method, fed with gradients in the metric of the masses."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

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

    Those that ask for the risk (`optax.contrib.reduce_on_plateau`) are given it, on the data of the
    step. Those that search along a line (`optax.lbfgs()`) add up products of numbers, and work in
    the unit of each mass, $u = \sqrt{m}\, \theta$, where sums of products are those of the metric:
    they see the measure alone.

    Steps of optimisers do not follow the flow: a run has no `times`.

    Args:
      transformation: an `optax.GradientTransformation`.

    Raises:
      TypeError: something else; or, in the run, a transformation that asks for more.
    """

    transformation: "optax.GradientTransformation" = eqx.field(static=True)

    def __check_init__(self):
        if not is_transformation(self.transformation):
            raise TypeError(
                "`transformation` must be one of optax, such as optax.adam(1e-2); got "
                f"{self.transformation!r:.80}."
            )

    @property
    def duration(self) -> Any:
        return None

    def init(self, trained: PyTree) -> PyTree:
        # as a copy: a search keeps its gradient beside the parameters, and both are updated
        return jax.tree.map(jnp.asarray, self.transformation.init(trained))

    def advance(self, problem: TrainingProblem, trained: PyTree, state: PyTree, data: Data) -> Step:
        risk, field = problem.risk_and_field(trained, data)
        here = jax.tree.map(_present, trained, problem.masses)
        try:
            update, after = self._update(field, state, here, {"value": risk})
        except TypeError:  # it asks for more, as line searches do
            update, after = self._searched(problem, field, state, here, risk, data)
        trained = jax.tree.map(lambda theta, v: theta + v.astype(theta.dtype), trained, update)
        after = jax.tree.map(_as_before, after, state)
        return Step(trained, after, risk, problem.squared_length(field), 1)

    def _update(self, field: PyTree, state: PyTree, here: PyTree, extra: dict[str, Any]):
        import optax

        transformation = optax.with_extra_args_support(self.transformation)
        return transformation.update(field, state, here, **extra)

    def _searched(self, problem: TrainingProblem, field, state, here, risk, data: Data):
        """The update in coordinates where the metric is that of the numbers."""
        roots = jax.tree.map(jnp.sqrt, problem.masses)
        u, gradient = (
            jax.tree.map(lambda v, root: v * root, each, roots) for each in (here, field)
        )

        def value_fn(u: PyTree) -> Array:
            return problem.risk(jax.tree.map(_divided, u, roots), data)

        extra = {"value": risk, "grad": gradient, "value_fn": value_fn}
        update, state = self._update(gradient, state, u, extra)
        return jax.tree.map(_divided, update, roots), state


def is_transformation(thing: Any) -> bool:
    """Whether something is a transformation of optax."""
    return callable(getattr(thing, "init", None)) and callable(getattr(thing, "update", None))


def _present(theta: Array, mass: Array) -> Array:
    """What is trained, zero where there is no mass: norms of parameters must not see it."""
    return jnp.where(mass > 0, theta, 0)


def _divided(v: Array, root: Array) -> Array:
    return jnp.where(root > 0, v / jnp.where(root > 0, root, 1), 0)


def _as_before(new: Array, old: Array) -> Array:
    return jnp.asarray(new, jnp.result_type(old))
