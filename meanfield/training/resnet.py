r"""The residual network as a measure of parameters over (layer, particle) (barboni2024).

A layer is a measure mu_k of particles with a mass h_k, a network the conditional measure
sum_k h_k delta_k x mu_k, and a state moves by the mean of a residual over each layer in turn.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from meanfield.measure import ConditionalMeasure, Measure

from .ends import act
from .residuals.hidden_layer import SingleHiddenLayer
from .residuals.residual import AbstractResidual, absent_at_zero


Input = Shaped[Array, "..."] | Measure
State = Float[Array, " d"] | Measure


class MeanFieldResNet(eqx.Module):
    r"""$x_{k+1} = x_k + h_k \sum_j a_{kj}\, \psi(\theta_{kj}, x_k)$ for k = 0, ..., L - 1, between
    an embedding and a readout {cite}`barboni2024`.

    With $h_k = 1/L$ and $a_{kj} = 1/M$, the defaults, this is the Euler scheme with L steps of
    $x'(s) = \int \psi(\theta, x(s))\, d\mu(\theta | s)$, and a ResNet whose branches are scaled by
    1 / (L M). The network is a function of the measure: particles and layers without mass are
    absent, and neither the order of the particles of a layer nor splitting one changes it.

    Args:
      residual: psi: `SingleHiddenLayer()`, `LinearInFeatures(features)`, `DeepLinear()` or
        `AttentionHeads(key_size)`.
      params: points theta of shape (L, M, p), weights a of shape (L, M) and base h of shape (L,).
      embedding, readout: maps applied before and after, on points or by pushforward on measures;
        trained, unless wrapped in `Fixed`. The identity by default.
      checkpointed: whether the backward pass computes each layer again rather than keep what it
        made: memory for the states of all layers only.

    Attributes:
      depth, width: L and M, absent layers and particles included.
    """

    residual: AbstractResidual
    params: ConditionalMeasure
    embedding: Callable[..., Any] = eqx.nn.Identity()
    readout: Callable[..., Any] = eqx.nn.Identity()
    checkpointed: bool = eqx.field(default=False, static=True)

    @classmethod
    def random(
        cls,
        *,
        dim: int,
        depth: int,
        width: int,
        key: PRNGKeyArray,
        residual: AbstractResidual = SingleHiddenLayer(),
        tied: bool = False,
        embedding: Callable[..., Any] = eqx.nn.Identity(),
        readout: Callable[..., Any] = eqx.nn.Identity(),
        checkpointed: bool = False,
    ) -> "MeanFieldResNet":
        """A network at the start of training, with layers and particles of equal mass.

        Args:
          dim: of the states.
          depth, width: L and M.
          residual: what the particles are; it also says how they are drawn.
          tied: whether every layer begins with the same particles. The fluctuations of a trained
            network are then of order 1 / sqrt(M), against 1 / sqrt(L M) for independent layers.
        """
        particles = residual.random((1 if tied else depth, width), dim, key=key)
        points = jnp.broadcast_to(particles, (depth, *particles.shape[1:]))
        return cls(residual, ConditionalMeasure(points), embedding, readout, checkpointed)

    @property
    def depth(self) -> int:
        return self.params.points.shape[-3]

    @property
    def width(self) -> int:
        return self.params.points.shape[-2]

    def __call__(self, x: Input) -> Any:
        """The output for one input, a point of shape (d_in,) or a `Measure` of tokens. What
        comes out of the embedding is taken in the precision of the particles, whole numbers too.

        Raises:
          ValueError: the dimension of the states does not match the particles.
        """
        return act(self.readout, self._last(self._first(x)))

    @eqx.filter_jit
    def outputs(self, xs: PyTree) -> Any:
        """The outputs for a batch: shape (N, d_in), or a `Measure` of shapes (N, n, d)."""
        return jax.vmap(self)(xs)

    @eqx.filter_jit
    def hidden(self, x: Input) -> Any:
        """All states of one input, stacked: x_0, ..., x_L, of shape (L + 1, d)."""
        first = self._first(x)

        def step(at, layer):
            after = self.layer(at, layer)
            return after, after

        _, later = jax.lax.scan(step, first, self.layers)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    @property
    def layers(self) -> tuple[Float[Array, "L M p"], Float[Array, "L M"]]:
        """What each layer takes: its particles, and their masses h_k a_kj."""
        return self.params.points, self.params.masses

    def layer(self, x: State, layer: tuple[Float[Array, "M p"], Float[Array, " M"]]) -> State:
        """The next state, x + sum_j m_j psi(theta_j, x), for particles and masses of one layer."""
        particles, masses = layer
        velocity = self.residual.drift(absent_at_zero(particles, masses), masses, x)
        return x.with_points(x.points + velocity) if isinstance(x, Measure) else x + velocity

    def with_points(self, points: Float[Array, "L M p"]) -> "MeanFieldResNet":
        """The network with its particles elsewhere, at the same masses."""
        return self.with_params(self.params.with_points(points))

    def with_params(self, params: ConditionalMeasure) -> "MeanFieldResNet":
        """The network of another measure of particles, of any depth and width."""
        return MeanFieldResNet(
            self.residual, params, self.embedding, self.readout, self.checkpointed
        )

    def _first(self, x: Input) -> Any:
        first: Any = _in_precision(self.params.points.dtype, act(self.embedding, x))
        dim = getattr(first, "points", first).shape[-1]
        size = self.residual.size(dim)
        if size != self.params.dim:
            raise ValueError(
                f"states of dimension {dim} need particles of size {size} for "
                f"{type(self.residual).__name__}; got `params` with points of shape "
                f"{self.params.points.shape}. Look at the dimension of the inputs and `embedding`."
            )
        return first

    def _last(self, first: State) -> State:
        def step(at, layer):
            return self.layer(at, layer)

        once = jax.checkpoint(step) if self.checkpointed else step
        return jax.lax.scan(lambda at, layer: (once(at, layer), None), first, self.layers)[0]


def _in_precision(dtype: Any, first: Input) -> State:
    """A state in the dtype of the particles, whole numbers too."""
    if isinstance(first, Measure):
        return Measure(_real(dtype, first.points), _real(dtype, first.weights))
    return _real(dtype, first)


def _real(dtype: Any, array: Array) -> Array:
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"states must be real; got {array.dtype}. Look at `data` and `embedding`.")
    return array.astype(dtype)
