"""The transformer: embeddings, then layers that are maps between measures."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from meanfield.attention import AbstractPointMap
from meanfield.measure import ConditionalMeasure, Measure

from .architecture import Architecture
from .embedding import AbstractEmbedding
from .error import ModelError
from .layer import Layer
from .tokenizer import AbstractTokenizer


# lengths are padded to a multiple of this by absent atoms, so that one program serves many
_BUCKET = 128
_WIDE_BUCKET = 512


@dataclasses.dataclass(frozen=True, eq=False)
class Card:
    """What is known of a model besides its weights."""

    family: str
    path: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    parameters: int
    architecture: Architecture | None = None
    assumed: dict[str, Any] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file that the model was read from."""
        found = {}
        for path in self.files:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found


class Transformer(eqx.Module):
    """A pretrained transformer as maps between measures, in inference mode.

    Args:
      card: family, config, files.
      embedding: from inputs to points.
      entry: the norm of the embeddings, or None.
      layers: the layers, first to last.
      final_norm: the norm after the last layer, or None (post-norm models).
      head: from normed states (n, d) to logits, on the host; None where the file has none.
      tokenizer: from text to ids; None for images.
      causal: whether a position sees only what is not after it.
      ordered: whether the layers need positions: contexts are then `ConditionalMeasure`s.
    """

    card: Card
    embedding: AbstractEmbedding
    entry: AbstractPointMap | None
    layers: tuple[Layer, ...]
    final_norm: AbstractPointMap | None = None
    head: Callable[[np.ndarray], np.ndarray] | None = None
    tokenizer: AbstractTokenizer | None = None
    causal: bool = eqx.field(default=False, static=True)
    ordered: bool = eqx.field(default=False, static=True)

    def __repr__(self) -> str:
        size = f"{len(self.layers)} layers, d={self.dim}, {self.parameters:,} parameters"
        return f"Transformer({self.family}, {size}, {self.path.name})"

    @property
    def family(self) -> str:
        """The model_type, such as "bert"."""
        return self.card.family

    @property
    def config(self) -> dict[str, Any]:
        """The fields of config.json that were used, each checked."""
        return self.card.config

    @property
    def architecture(self) -> Architecture | None:
        """What `load` was told of weights without a config.json."""
        return self.card.architecture

    @property
    def assumed(self) -> dict[str, Any]:
        """Fields that were neither told nor read off the tensors (only with `architecture`)."""
        return self.card.assumed

    @property
    def ignored(self) -> tuple[str, ...]:
        """Tensors of the files that belong to heads of tasks, which no hidden state depends on."""
        return self.card.ignored

    @property
    def path(self) -> Path:
        """Where the model was read from."""
        return self.card.path

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return self.card.parameters

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file that the model was read from."""
        return self.card.hashes

    @property
    def dim(self) -> int:
        """The dimension d of the points."""
        return self.embedding.dim

    @property
    def max_tokens(self) -> int:
        """The longest input, special tokens included."""
        return self.embedding.max_tokens

    def tokenize(self, text: str) -> Int[np.ndarray, " n"]:
        """The ids of a text, with the special tokens of the model, without padding.

        Raises:
          ModelError: the model takes images, or the text holds no token. (A text that is too long
            is refused by `hidden` and `contexts`, not here: take a window of the ids.)
        """
        words = self._words()
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ModelError(
                f"`text` must be valid Unicode; got {text[:40]!r} with lone surrogates."
            ) from None
        return np.array(words.encode(text), np.int32)

    def tokens(self, inputs) -> list[str]:
        """What to call each token: pieces of text for ids, the class token and cells for images."""
        if self.tokenizer is not None:
            return self.tokenizer.tokens([int(i) for i in inputs])
        rows, columns = getattr(self.embedding, "grid", (0, 0))
        if rows:
            return ["[CLS]", *(f"{i},{j}" for i in range(rows) for j in range(columns))]
        return [f"#{int(i)}" for i in inputs]

    def hidden(self, inputs) -> Float[Array, "states n d"]:
        """What enters the first layer, the second, ..., and what leaves the last block.

        Args:
          inputs: token ids (n,), or an image (c, h, w).

        Raises:
          ModelError: an id or a length the model does not know, an image of another shape.
        """
        n, states, _ = self._run(inputs)
        return jnp.asarray(np.stack([np.asarray(state)[:n] for state in states]))

    def contexts(
        self, inputs, *, keep: Sequence[int] | None = None
    ) -> tuple[Measure | ConditionalMeasure, ...]:
        """The measure that enters the attention of each layer: n atoms of mass 1/n.

        In pre-norm models it is the image of the layer's input under its norm.

        Args:
          inputs: token ids (n,), or an image (c, h, w).
          keep: for images, which tokens enter (0 is the class token); the others are left out
            before the first layer, those kept have the positions they had. All by default.

        Raises:
          ModelError: as `hidden`; or `keep` with a model of text, or not of distinct tokens.
        """
        n, _, contexts = self._run(inputs, keep)
        kind = ConditionalMeasure.from_sequence if self.ordered else Measure
        return tuple(kind(jnp.asarray(np.asarray(points)[:n])) for points in contexts)

    def _run(
        self, inputs, keep: Sequence[int] | None = None
    ) -> tuple[int, list[Array], list[Array]]:
        """The length n, the padded states between blocks and the padded contexts."""
        points = self.embedding(inputs)
        if keep is not None:
            points = points[self._checked(keep, len(points))]
        mu = self._padded(points)
        if self.entry is not None:
            mu = _push(self.entry, mu)
        states, contexts = [_rows(mu)], []
        for layer in self.layers:
            context, mu = _advance(layer, mu)
            states.append(_rows(mu))
            contexts.append(context)
        self._check_finite(states, len(points))
        return len(points), states, contexts

    def _checked(self, keep: Sequence[int], count: int) -> list[int]:
        if not hasattr(self.embedding, "grid"):
            raise ModelError("`keep` is for images; of a text give fewer ids: ids[:n].")
        if not keep or len(set(keep)) < len(keep) or not set(keep) <= set(range(count)):
            raise ModelError(
                f"`keep` must be distinct token numbers among 0..{count - 1}; got {list(keep)[:8]}."
            )
        return list(keep)

    def _check_finite(self, states: list[Array], n: int) -> None:
        for l, state in enumerate(states):
            if not np.all(np.isfinite(np.asarray(state)[:n])):
                raise ModelError(
                    f"{self.path}: what enters layer {l} is NaN or infinite for this input. The "
                    "weights are too large for float32, or not those of this architecture."
                )

    def _padded(self, points: np.ndarray) -> Measure | ConditionalMeasure:
        n, dim = points.shape
        bucket = _BUCKET if n <= _WIDE_BUCKET else _WIDE_BUCKET
        size = -(-n // bucket) * bucket
        padded = np.zeros((size, dim), points.dtype)
        padded[:n] = points
        weights = np.zeros(size, points.dtype)
        weights[:n] = 1 / n
        if self.ordered:
            return ConditionalMeasure.from_sequence(padded, base=weights)
        return Measure(padded, weights)

    def logits(self, inputs) -> np.ndarray:
        """The logits of an input: (n, vocabulary), or (classes,) for images (see `read_out`)."""
        n, states, _ = self._run(inputs)
        return self.read_out(np.asarray(states[-1])[:n])

    def read_out(self, states: Float[Array | np.ndarray, "n d"]) -> np.ndarray:
        """The logits for what leaves the last block, such as `hidden(ids)[-1]`.

        Raises:
          ModelError: the checkpoint has no head.
        """
        if self.head is None:
            raise ModelError(
                f"{self.path}: this {self.family} checkpoint has no head to make logits with."
            )
        if self.final_norm is not None:
            normed = _push(self.final_norm, self._padded(np.asarray(states)))
            states = np.asarray(_rows(normed))[: len(states)]
        return self.head(np.asarray(states))

    def generate(self, ids, count: int) -> Int[np.ndarray, " n"]:
        """The ids followed by `count` more, each the most likely next one."""
        ids = [int(i) for i in ids]
        for _ in range(count):
            ids.append(int(np.argmax(self.logits(np.array(ids, np.int32))[-1])))
        return np.array(ids, np.int32)

    def decode(self, ids) -> str:
        """The text of token ids."""
        return self._words().decode([int(i) for i in ids])

    def _words(self) -> AbstractTokenizer:
        if self.tokenizer is None:
            what = "takes images" if hasattr(self.embedding, "grid") else "came with no tokenizer"
            raise ModelError(f"{self.path}: this {self.family} model {what}; it reads no text.")
        return self.tokenizer


def _rows(mu: Measure | ConditionalMeasure) -> Array:
    return mu.points.reshape(-1, mu.dim)


@eqx.filter_jit
def _push(f: AbstractPointMap, mu):
    return f(mu)


@eqx.filter_jit
def _advance(layer: Layer, mu):
    """The context of the layer's attention and what leaves the layer."""
    context = mu if layer.norm is None else layer.norm(mu)
    return _rows(context), layer.block(mu)
