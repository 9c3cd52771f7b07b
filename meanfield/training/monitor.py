r"""Laws while a network is trained in steps: what each step adds to them, term by term.

For a law h of degree two and a step u from theta, without any error but rounding,

    h(theta + u) = h(theta) + <grad h(theta), u> + h_2(u),   h_2 the quadratic part of h.

Along the gradient the middle term vanishes, because h is conserved: one step of gradient descent
adds eta^2 h_2(grad E). What else appears is the work of momentum, preconditioning, weight decay.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree


class LawMonitor(eqx.Module):
    r"""The drift of conserved quantities in a training loop, and where it comes from.

    >>> monitor = LawMonitor.start(layer_laws, params)
    >>> for batch in batches:
    ...     updates, state = optimizer.update(gradient(params, batch), state, params)
    ...     monitor = monitor.update(params, updates)  # before they are applied
    ...     params = optax.apply_updates(params, updates)

    A pytree: it may be carried through `jit` and `scan`.

    Attributes:
      laws: from parameters to a dictionary of laws, each of degree two or less.
      initial, current: the laws at the first parameters and at the present ones.
      turned: the sum of the terms $\langle \nabla h(\theta), u \rangle$, zero for steps along the
        gradient.
      added: the sum of the terms $h_2(u)$: for gradient descent, $\sum_k \eta_k^2 h_2(\nabla E_k)$.
      steps: how many.
    """

    laws: Callable[[Any], dict[str, Array]] = eqx.field(static=True)
    initial: dict[str, Float[Array, "..."]]
    current: dict[str, Float[Array, "..."]]
    turned: dict[str, Float[Array, "..."]]
    added: dict[str, Float[Array, "..."]]
    steps: Int[Array, ""]

    @classmethod
    def start(cls, laws: Callable[[Any], dict[str, Array]], params: PyTree) -> "LawMonitor":
        """A monitor before the first step.

        Args:
          laws: such as `layer_laws`, `lambda net: layer_laws(net.attention)`, or any function whose
            values are quadratic in the parameters.
          params: the parameters at the start.
        """
        now = laws(params)
        zeros = jax.tree.map(jnp.zeros_like, now)
        return cls(laws, now, now, zeros, zeros, jnp.zeros((), int))

    @property
    def drift(self) -> dict[str, Float[Array, "..."]]:
        """How far the laws have gone: current - initial."""
        return jax.tree.map(jnp.subtract, self.current, self.initial)

    @property
    def predicted(self) -> dict[str, Float[Array, "..."]]:
        """The drift from the steps alone, turned + added: equal to `drift` up to rounding."""
        return jax.tree.map(jnp.add, self.turned, self.added)

    def update(self, params: PyTree, updates: PyTree) -> "LawMonitor":
        """After a step from `params` to `params + updates` (trees as `optax.apply_updates` takes
        them: None where nothing changes)."""
        after = eqx.apply_updates(params, updates)
        turned, added = law_terms(self.laws, params, updates)
        return LawMonitor(
            self.laws,
            self.initial,
            self.laws(after),
            jax.tree.map(jnp.add, self.turned, turned),
            jax.tree.map(jnp.add, self.added, added),
            self.steps + 1,
        )


def law_terms(
    laws: Callable[[Any], dict[str, Array]], params: PyTree, direction: PyTree
) -> tuple[dict[str, Array], dict[str, Array]]:
    r"""$\langle \nabla h(\theta), u \rangle$ and $h_2(u)$ of every law, for a direction u.

    With a gradient of a loss as the direction, the first tells whether h is conserved: it is then
    zero up to rounding, for networks of any size.
    """
    moving, fixed = eqx.partition(params, eqx.is_inexact_array)
    nothing = jax.tree.map(jnp.zeros_like, moving)
    step = eqx.combine(eqx.filter(direction, eqx.is_inexact_array), nothing)

    def slope(params):
        return jax.jvp(lambda p: laws(eqx.combine(p, fixed)), (params,), (step,))[1]

    turned, twice = jax.jvp(slope, (moving,), (step,))
    return turned, jax.tree.map(lambda x: x / 2, twice)
