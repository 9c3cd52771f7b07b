r"""What is trained, and in which metric: particles weigh what their mass is, all else weighs one.

Training moves the points of a network's measure, and the arrays of its embedding and readout, in
the metric $|v|_m^2 = \sum_{kj} h_k a_{kj} |v_{kj}|^2 + |v_{ends}|^2$. Its distance is that of
conditional transport as long as no two particles of a layer would rather change places. The
gradient in this metric is the derivative divided by the mass.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .ends import Fixed
from .loss import Data, Loss, risk
from .resnet import MeanFieldResNet


class TrainingProblem(eqx.Module):
    """The risk as a function of what is trained.

    Attributes:
      frozen: the network without its trained arrays.
      masses: the mass of each trained number, shaped to broadcast against it.
      loss: of one prediction and one target.
    """

    frozen: MeanFieldResNet
    masses: PyTree[Float[Array, "..."]]
    loss: Loss

    def net(self, trained: PyTree) -> MeanFieldResNet:
        return eqx.combine(trained, self.frozen)

    def risk(self, trained: PyTree, data: Data) -> Float[Array, ""]:
        return risk(self.net(trained), self.loss, data)

    def risk_and_field(self, trained: PyTree, data: Data) -> tuple[Float[Array, ""], PyTree]:
        """The risk and its gradient in the metric, zero where there is no mass."""
        value, gradient = jax.value_and_grad(self.risk)(trained, data)
        return value, jax.tree.map(_per_mass, gradient, self.masses)

    def squared_length(self, direction: PyTree) -> Float[Array, ""]:
        """$|v|_m^2$ of a direction of motion; what has no mass does not count, be it NaN."""

        def part(mass, v):
            return jnp.sum(jnp.where(mass > 0, mass * jnp.square(v), 0))

        parts = jax.tree.map(part, self.masses, direction)
        return jax.tree.reduce(jnp.add, parts)


def training_problem(net: MeanFieldResNet, loss: Loss) -> tuple[TrainingProblem, PyTree]:
    """The problem of training a network, and the trained arrays where they are now."""
    trained, frozen = eqx.partition(net, _is_trained(net))
    masses = jax.tree.map(lambda leaf: jnp.ones((), leaf.dtype), trained)
    masses = eqx.tree_at(lambda m: m.params.points, masses, net.params.masses[..., None])
    return TrainingProblem(frozen, masses, loss), trained


def _is_trained(net: MeanFieldResNet) -> PyTree[bool]:
    """True at the points of the particles, and at the arrays of the ends outside `Fixed`."""
    nothing = jax.tree.map(lambda _: False, net)
    return eqx.tree_at(
        lambda spec: (spec.params.points, spec.embedding, spec.readout),
        nothing,
        (True, _free(net.embedding), _free(net.readout)),
        is_leaf=lambda node: node is None,
    )


def _free(module: Any) -> PyTree[bool]:
    def free(node):
        return not isinstance(node, Fixed) and eqx.is_inexact_array(node)

    return jax.tree.map(free, module, is_leaf=lambda node: isinstance(node, Fixed))


def _per_mass(gradient: Array, mass: Array) -> Array:
    return jnp.where(mass > 0, gradient / jnp.where(mass > 0, mass, 1), 0)
