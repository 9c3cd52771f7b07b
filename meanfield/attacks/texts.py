"""Attacks that a user can type: what they return, and how a text is measured before and after."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..attention import AnyMeasure, Composition
from ..lipschitz import local_lipschitz
from ..measure import RESULTS, ConditionalMeasure, Measure
from ..models import ModelError, Transformer
from ..models.embedding import TokenEmbedding
from .distances import exact_distance
from .ending import ending


Ids = Int[np.ndarray, " _"]


class TokenAttack(eqx.Module):
    r"""A text near another one, with its real ratio $W_p(\text{outputs}) / W_p(\text{inputs})$.

    Attributes:
      ratio, distance_in, distance_out: one entry for each attack of a curve. The states are those
        that the model computes, the distances are exact, in float64 on the host.
      ids: the ids of each attacked text.
      text: each attacked text; tokenizing it gives `ids` back.
      positions: for each, the positions of the original text that were changed.
      tried: how many texts the model read.
      result: `successful`, or `not_finite` where a text leaves the states as they were.
    """

    ratio: Float[np.ndarray, " k"]
    distance_in: Float[np.ndarray, " k"]
    distance_out: Float[np.ndarray, " k"]
    ids: tuple[Ids, ...]
    text: tuple[str, ...] = eqx.field(static=True)
    positions: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    tried: int = eqx.field(static=True)
    result: RESULTS

    def __repr__(self) -> str:
        return f"TokenAttack(ratio={np.array2string(self.ratio, precision=4)}, text={self.text!r})"


class Reader:
    """A model that reads texts and tells what enters and what leaves: the whole of its layers, or
    the attention of one."""

    def __init__(self, model: Transformer, layer: int | None, p: float):
        if not isinstance(model, Transformer):
            raise TypeError(
                "`f` must be a model of mf.models.load for an attack on tokens; got "
                f"{type(model).__name__}."
            )
        if not isinstance(model.embedding, TokenEmbedding) or model.tokenizer is None:
            raise TypeError("`f` must be a model of text with its tokenizer.")
        if layer is not None and not 0 <= layer < len(model.layers):
            raise ValueError(f"`layer` must lie in 0..{len(model.layers) - 1}; got {layer}.")
        self.model, self.layer, self.p, self.tried = model, layer, p, 0
        self.embedding = model.embedding
        self.head, self.tail = _frame(model)

    def free(self, ids: Ids) -> range:
        """The positions of what is typed: not those that the tokenizer adds around it."""
        return range(self.head, len(ids) - self.tail)

    def states(self, ids: Ids) -> tuple[AnyMeasure, AnyMeasure]:
        """The measures that enter and leave."""
        self.tried += 1
        if self.layer is not None:
            context = self.model.contexts(ids)[self.layer]
            return context, _applied(self.model.layers[self.layer].attention, context)
        hidden = self.model.hidden(ids)
        return self._measure(hidden[0]), self._measure(hidden[-1])

    def _measure(self, points: Array) -> AnyMeasure:
        return ConditionalMeasure.from_sequence(points) if self.model.ordered else Measure(points)

    def distances(self, before, after) -> tuple[float, float]:
        """The exact distances of what enters and of what leaves.

        Position by position in models with positions; texts of different lengths are compared with
        positions forgotten.
        """
        same = before[0].masses.size == after[0].masses.size
        found = [
            exact_distance(*((x, y) if same else (x.atoms, y.atoms)), self.p)
            for x, y in zip(before, after, strict=True)
        ]
        return found[0], found[1]

    def tangent(self, ids: Ids, key: PRNGKeyArray) -> Float[np.ndarray, "n d"]:
        """The worst direction of what enters the first layer, token by token, scaled by masses."""
        layers = self.model.layers
        if self.layer is None:
            maps = [layer.block for layer in layers]
        else:
            last = layers[self.layer]
            norm = [] if last.norm is None else [last.norm]
            maps = [*(layer.block for layer in layers[: self.layer]), *norm, last.attention]
        mu = self._measure(self.model.hidden(ids)[0])
        found = local_lipschitz(
            Composition(maps), mu, key=key, splitting=False, upper=False, rtol=1e-2, throw=False
        )
        return np.asarray(found.tangent).reshape(-1, self.model.dim)

    def text(self, ids: Ids) -> str:
        """What is typed to get the ids, without what the tokenizer adds."""
        return self.model.decode(ids[self.head : len(ids) - self.tail])

    def typed(self, ids: Ids) -> str | None:
        """The text of the ids, if tokenizing it gives them back; else None."""
        if len(ids) > self.model.max_tokens:
            return None
        text = self.text(ids)
        try:
            again = self.model.tokenize(text)
        except ModelError:
            return None
        return text if np.array_equal(again, ids) else None


def _frame(model: Transformer) -> tuple[int, int]:
    """How many tokens the tokenizer puts before and after any text: [CLS] and [SEP], for one."""
    try:
        one, other = model.tokenize("a"), model.tokenize("b")
    except ModelError:
        return 0, 0
    if len(one) != len(other):
        return 0, 0
    differ = np.flatnonzero(one != other)
    return int(differ[0]), int(len(one) - 1 - differ[-1])


@eqx.filter_jit
def _applied(f, mu):
    return f(mu)


def checked_ids(reader: Reader, ids) -> Ids:
    """The ids of the text to attack.

    Raises:
      ModelError: they are no ids of the model.
      ValueError: their text does not give them back (a window that begins inside a word).
    """
    known = reader.embedding.checked(ids).astype(np.int32)
    if reader.typed(known) is None:
        raise ValueError(
            "`mu` must be the ids of a text, which model.tokenize(text) gives back; the text of "
            "these ids has others. Cut the text, not its ids."
        )
    return known


def token_attack(reader: Reader, original, found: list[tuple[Ids, tuple[int, ...]]]) -> TokenAttack:
    """The attack of a list of ids and positions, measured against the original states."""
    pairs = [reader.distances(original, reader.states(ids)) for ids, _ in found]
    before, after = np.array(pairs).T
    ratio = after / np.where(before > 0, before, np.nan)
    return TokenAttack(
        ratio=ratio,
        distance_in=before,
        distance_out=after,
        ids=tuple(ids for ids, _ in found),
        text=tuple(reader.text(ids) for ids, _ in found),
        positions=tuple(positions for _, positions in found),
        tried=reader.tried,
        result=ending(False, *ratio),
    )


def busiest(reader: Reader, ids: Ids, tangent: Float[np.ndarray, "n d"]) -> list[int]:
    """The positions of what is typed by their share in the tangent, the largest first."""
    return sorted(reader.free(ids), key=lambda i: -float(np.linalg.norm(tangent[i])))


def as_float32(points: np.ndarray) -> Array:
    """Points on the device, in the precision that models compute in."""
    return jnp.asarray(points, jnp.float32)
