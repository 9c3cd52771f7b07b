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

    @property
    @abc.abstractmethod
    def vanishes_at_rest(self) -> bool:
        """Whether it is zero where nothing moves, and grows like the moves. A search without a
        budget then climbs it over the distance moved; otherwise the number itself."""

    @abc.abstractmethod
    def __call__(self, images: Comparison) -> Float[Array, ""]:
        """The number; it must be differentiable in the image after."""


class OutputDisplacement(AbstractObjective):
    r"""The distance between the images, $W_p(F(\mu), F(\nu))$.

    The search climbs the cost of a coupling of the two images, first that of each copy with its own
    atom, then an optimal one; the result is measured by exact transport.
    """

    @property
    def vanishes_at_rest(self) -> bool:
        return True

    def __call__(self, images: Comparison) -> Float[Array, ""]:
        return images.distance


class TaskLoss(AbstractObjective):
    """A loss of the image after the attack.

    Args:
      loss: from a measure, the image F(nu), to a number, traced by JAX. Close over labels and over
        the rest of a model.

    Raises:
      TypeError: a loss that cannot be called.
    """

    loss: Callable[[Any], Any]

    def __check_init__(self):
        if not callable(self.loss):
            raise TypeError(
                f"`loss` must be a function of a measure; got {type(self.loss).__name__}."
            )

    @property
    def vanishes_at_rest(self) -> bool:
        return False

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

    Raises:
      ValueError: a direction that is not a vector, or (in the search) of another dimension.
    """

    direction: Float[Array, " e"]

    def __init__(self, direction: Any):
        given = jnp.asarray(direction)
        real = jnp.issubdtype(given.dtype, jnp.floating)
        self.direction = given if real else given.astype(jnp.result_type(float))
        if self.direction.ndim != 1:
            raise ValueError(
                f"`direction` must be a vector; got an array of shape {self.direction.shape}."
            )

    @property
    def vanishes_at_rest(self) -> bool:
        return True

    def __call__(self, images: Comparison) -> Float[Array, ""]:
        moves = images.moves
        if moves.shape[-1] != self.direction.shape[0]:
            raise ValueError(
                f"`direction` must have the dimension of the outputs, {moves.shape[-1]}; got "
                f"{self.direction.shape[0]}."
            )
        return jnp.sum(images.masses * (moves @ self.direction.astype(moves.dtype)))


def check_objective(objective: Any) -> AbstractObjective:
    """The objective itself.

    Raises:
      TypeError: it is none.
    """
    if not isinstance(objective, AbstractObjective):
        raise TypeError(
            "`objective` must be mf.OutputDisplacement(), mf.TaskLoss(loss) or "
            f"mf.TargetDirection(u); got {objective!r:.80}."
        )
    return objective
