"""The record of a comparison of two models: plain frozen dataclasses that are also the JSON."""

import json
from dataclasses import dataclass, field

from .document import plain
from .record import Model


COMPARISON_SCHEMA = "meanfield.model_comparison/1"


@dataclass(frozen=True)
class LayerComparison:
    r"""One layer of two models as two measures of n particles of mass 1/n.

    Attributes:
      layer, weight: its number, and its weight $\theta$ in the total.
      distance: $W_2$ between the two measures, the least over all matchings.
      index_distance: the same with every particle matched to that of its own number.
      relative: the distance over the mean of the two norms; 0 is equal, about 1.4 unrelated
        ($\sqrt 2$ for orthogonal particles of equal norms), 2 the most possible.
      norms: $(\frac{1}{n} \sum_i |a_i|^2)^{1/2}$ of both models.
      offset: the distance between the constants that the layers add besides their particles.
      matching: particle i of the first model is particle `matching[i]` of the second.
      moves: the distance of each particle of the first model to its match.
      distances: between all particles, shape (n, n); null where there are many.
    """

    layer: int
    weight: float
    distance: float
    index_distance: float
    relative: float
    norms: tuple[float, ...]
    offset: float
    matching: tuple[int, ...] = field(repr=False)
    moves: tuple[float, ...] = field(repr=False)
    distances: tuple[tuple[float, ...], ...] | None = field(repr=False)

    @property
    def permuted(self) -> tuple[int, ...]:
        """The particles whose match has another number."""
        return tuple(i for i, j in enumerate(self.matching) if i != j)

    @property
    def farthest(self) -> int:
        """The particle that is farthest from its match."""
        return max(range(len(self.moves)), key=self.moves.__getitem__)

    @property
    def share(self) -> float:
        """How much of the squared distance the farthest particle carries."""
        total = sum(move**2 for move in self.moves)
        return self.moves[self.farthest] ** 2 / total if total else 0.0


@dataclass(frozen=True)
class ModelComparison:
    r"""Two checkpoints of one architecture, compared as measures of heads or of neurons.

    Attributes:
      schema: the version of this record.
      particles: "head" or "neuron".
      models: what was compared.
      distance: $(\sum_l \theta_l W_2^2(\mu_l, \nu_l))^{1/2}$, the conditional Wasserstein distance.
      index_distance: the same with every particle matched to that of its own number.
      relative: the distance over the mean norm of the two models.
      layers: each layer that has weight.
    """

    schema: str
    particles: str
    models: tuple[Model, ...] = field(repr=False)
    distance: float
    index_distance: float
    relative: float
    layers: tuple[LayerComparison, ...]

    @property
    def permuted(self) -> int:
        """How many particles have a match with another number."""
        return sum(len(layer.permuted) for layer in self.layers)

    def to_json(self) -> str:
        """The comparison as a JSON document: stable key order, finite numbers only."""
        return json.dumps(plain(self), indent=1, allow_nan=False) + "\n"

    def __repr__(self) -> str:
        names = " and ".join(model.name for model in self.models)
        return (
            f"ModelComparison({names}: distance {self.distance:.4g} ({self.relative:.2%} of the "
            f"norm), {self.index_distance:.4g} in order, {self.permuted} {self.particles}s moved)"
        )
