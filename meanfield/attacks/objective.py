"""What an attack wants: to move the output far, to raise a loss, to push in a direction."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .comparison import Comparison


class AbstractObjective(eqx.Module):
    """A number to be made large, of the images before and after."""

    @abc.abstractmethod
    def __call__(self, images: Comparison) -> Float[Array, ""]:
        """The number; it must be differentiable in the image after."""


class OutputDisplacement(AbstractObjective):
    r"""The distance between the images, $W_p(F(\mu), F(\nu))$.

    The search climbs the cost of a coupling of the two images, first that of each copy with its own
    atom, then an optimal one; the result is measured by exact transport.
    """

    def __call__(self, images: Comparison) -> Float[Array, ""]:
        return images.distance


class TaskLoss(AbstractObjective):
    """A loss of the image after the attack.

    Args:
      loss: from a measure, the image F(nu), to a number, traced by JAX. Close over labels and over
        the rest of a model.
    """

    loss: Callable[[Any], Any]

    def __call__(self, images: Comparison) -> Float[Array, ""]:
        value = jnp.asarray(self.loss(images.after))
        if value.ndim:
            raise ValueError(f"`loss` must return a number; got an array of shape {value.shape}.")
        return value


class TargetDirection(AbstractObjective):
    r"""How far the image moves in a direction, $\int \langle u, y' - y \rangle\, d\pi(y, y')$: the
    displacement of its mean times the mass.

    Args:
      direction: u, shape (e,).
    """

    direction: Float[Array, " e"]

    def __call__(self, images: Comparison) -> Float[Array, ""]:
        return jnp.sum(images.masses * (images.moves @ self.direction))
