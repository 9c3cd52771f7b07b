"""What an architecture file makes of a checkpoint, before it becomes a `Transformer`."""

import dataclasses
from collections.abc import Callable

import numpy as np

from meanfield.attention import AbstractPointMap

from .embedding import AbstractEmbedding
from .layer import Layer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a model (see `Transformer`), and the tensors that it needs no place for.

    Args:
      ignorable: patterns of tensor names that may be in the file and are not used: buffers and
        poolers (heads of tasks are known to `Checkpoint.finish`).
    """

    embedding: AbstractEmbedding
    layers: tuple[Layer, ...]
    ignorable: tuple[str, ...]
    entry: AbstractPointMap | None = None
    final_norm: AbstractPointMap | None = None
    head: Callable[[np.ndarray], np.ndarray] | None = None
    causal: bool = False
    ordered: bool = False
