"""From inputs to the points that enter the first layer: token ids, or patches of an image."""

import abc
from collections.abc import Callable

import numpy as np

from .error import ModelError
from .tensor import Table


class AbstractEmbedding(abc.ABC):
    """What a model does with its input before the first layer, on the host."""

    max_tokens: int
    dim: int

    @abc.abstractmethod
    def __call__(self, inputs) -> np.ndarray:
        """The points (n, d) of an input, before any norm.

        Raises:
          ModelError: an input that the model cannot take.
        """


class TokenEmbedding(AbstractEmbedding):
    """Rows of a table of tokens, plus rows of a table of positions, plus a constant.

    Args:
      word: the table of tokens, one row an id.
      max_tokens: the longest input.
      position: the table of positions, or None.
      places: the row of the position table for each id, given all ids; 0, 1, ... by default.
      constant: shape (d,), added to all (the embedding of segment 0), or None.
    """

    def __init__(
        self,
        word: Table,
        max_tokens: int,
        position: Table | None = None,
        places: Callable[[np.ndarray], np.ndarray] | None = None,
        constant: np.ndarray | None = None,
    ):
        self.word, self.position, self.max_tokens = word, position, max_tokens
        self.places, self.constant, self.dim = places, constant, word.shape[1]

    def __call__(self, inputs) -> np.ndarray:
        ids = self.checked(inputs)
        points = self.word.rows(ids)
        if self.position is not None:
            where = np.arange(len(ids)) if self.places is None else self.places(ids)
            points = points + self.position.rows(where)
        return points if self.constant is None else points + self.constant

    def checked(self, inputs) -> np.ndarray:
        """Token ids as an integer array (n,), every one of which the model knows."""
        ids = np.asarray(inputs)
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
            raise ModelError(
                f"`ids` must be integers of shape (n,) with n >= 1; got {ids.dtype} of shape "
                f"{ids.shape}. Use model.tokenize(text)."
            )
        vocabulary = self.word.shape[0]
        if np.any(bad := (ids < 0) | (ids >= vocabulary)):
            raise ModelError(
                f"`ids` must lie in 0..{vocabulary - 1}, the vocabulary of the model; got "
                f"{ids[bad][0]} at index {int(bad.argmax())}. Is the tokenizer another model's?"
            )
        if len(ids) > self.max_tokens:
            raise ModelError(
                f"`ids` has {len(ids)} tokens; the model has positions for {self.max_tokens}. "
                f"Shorten the text or take a window: ids[:{self.max_tokens}]."
            )
        return ids


class AfterPadding:
    """RoBERTa's positions: real tokens count from padding + 1, padding tokens stay at padding."""

    def __init__(self, padding: int):
        self.padding = padding

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        real = ids != self.padding
        return np.cumsum(real) * real + self.padding


class PatchEmbedding(AbstractEmbedding):
    """A class token, then a linear image of each square patch, plus a row for each position.

    Args:
      kernel, bias: shapes (d, c, p, p) and (d,).
      class_token: shape (d,).
      position: shape (1 + patches, d).
      grid: how many patches there are along height and width.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray,
        class_token: np.ndarray,
        position: np.ndarray,
        grid: tuple[int, int],
    ):
        self.kernel, self.bias, self.grid = kernel, bias, grid
        self.class_token, self.position = class_token, position
        self.max_tokens, self.dim = position.shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""
        _, channels, p, _ = self.kernel.shape
        return channels, self.grid[0] * p, self.grid[1] * p

    def __call__(self, inputs) -> np.ndarray:
        image = np.asarray(inputs)
        if image.shape != self.image_shape or image.dtype.kind not in "iuf":
            raise ModelError(
                f"`image` must be numbers of shape {self.image_shape} (channels, height, width); "
                f"got {image.dtype} of shape {image.shape}."
            )
        if not np.all(np.isfinite(image)):
            raise ModelError("`image` must be finite; it holds NaN or infinite values.")
        (rows, columns), p = self.grid, self.kernel.shape[-1]
        cells = image.astype(self.kernel.dtype).reshape(-1, rows, p, columns, p)
        patches = np.einsum("cipjq,dcpq->ijd", cells, self.kernel, optimize=True) + self.bias
        tokens = np.concatenate([self.class_token[None], patches.reshape(rows * columns, -1)])
        return tokens + self.position
