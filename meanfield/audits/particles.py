"""What the particles of a layer are: its heads, its neurons."""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float

from meanfield.models import Layer

from .clouds import AbstractCloud


class AbstractParticles(eqx.Module):
    """A way to read a layer as a cloud of exchangeable particles and a constant."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What one particle is called."""

    @abc.abstractmethod
    def cloud(self, layer: Layer) -> AbstractCloud:
        """The particles of a layer, in coordinates that no gauge can change."""

    @abc.abstractmethod
    def offset(self, layer: Layer) -> Float[np.ndarray, " e"]:
        """The constant that the layer adds besides what its particles add."""
