"""The attack that types another token of the vocabulary in place of one."""

import equinox as eqx
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ..models import Transformer
from .attack import AbstractAttackMethod
from .settings import checked_count, checked_exponent
from .texts import Ids, Reader, TokenAttack, as_float32, busiest, checked_ids, token_attack


# How many tokens of the vocabulary are tried at one position until enough of them can be typed.
_LOOKED_UP = 500


class TokenSubstitution(AbstractAttackMethod):
    r"""Replace tokens by others of the vocabulary, along the worst direction.

    A substitute v of the token at i moves what enters the first layer by $\Delta_{iv}$. Those with
    the largest $|\langle t_i, \Delta_{iv} \rangle| / |\Delta_{iv}|$, t the tangent, are typed;
    the model reads them, and the one with the largest real ratio is kept. One after another for
    `count` > 1; the attack has one entry for each number of substitutions.

    Args:
      count: how many tokens are replaced.
      layer, p: see `TokenRepetition`.
      candidates: how many texts the model reads for each.
      positions: how many tokens of the text are looked at, by their share in the tangent.

    Raises:
      ValueError: in the search, no candidate whose text gives its tokens back.
    """

    count: int = eqx.field(static=True)
    layer: int | None
    p: float
    candidates: int = eqx.field(static=True)
    positions: int = eqx.field(static=True)

    def __init__(
        self,
        count: int = 1,
        layer: int | None = None,
        p: float | int = 2,
        candidates: int = 16,
        positions: int = 4,
    ):
        self.count, self.layer, self.p = checked_count("count", count), layer, checked_exponent(p)
        self.candidates = checked_count("candidates", candidates)
        self.positions = checked_count("positions", positions)

    def search(self, f: Transformer, mu: Ids, key: PRNGKeyArray) -> TokenAttack:
        reader = Reader(f, self.layer, self.p)
        ids = checked_ids(reader, mu)
        original, found, changed = reader.states(ids), [], ()
        tangent = reader.tangent(ids, key)
        for _ in range(self.count):
            typed = self._typed(reader, ids, tangent, changed)
            tried = token_attack(reader, original, typed)
            ids, changed = typed[int(np.argmax(tried.ratio))]
            found.append((ids, changed))
        return token_attack(reader, original, found)

    def _typed(self, reader: Reader, ids: Ids, tangent, changed: tuple[int, ...]):
        """The most promising texts with one more token replaced."""
        each = -(-self.candidates // self.positions)
        typed = []
        for i in busiest(reader, ids, tangent):
            if i in changed:
                continue
            typed += _texts(reader, ids, i, tangent[i], changed, each)
            if len(typed) >= self.candidates:
                break
        if not typed:
            raise ValueError("`mu`: no token of the text can be replaced so that it can be typed.")
        return typed


def _texts(reader: Reader, ids: Ids, i: int, direction, changed: tuple[int, ...], most: int):
    """At most so many texts with another token at i, in the order of their promise."""
    found, free = [], reader.free(ids)
    framed = {int(ids[j]) for j in range(len(ids)) if j not in free}  # [CLS] can be typed, too
    for v in np.argsort(-_promise(reader, ids, i, direction))[:_LOOKED_UP]:
        other = np.array(ids)
        other[i] = v
        if v != ids[i] and v not in framed and reader.typed(other) is not None:
            found.append((other, (*changed, i)))
        if len(found) == most:
            break
    return found


def _promise(reader: Reader, ids: Ids, i: int, direction) -> Float[np.ndarray, " v"]:
    """The cosine of the tangent with the move that each token of the vocabulary makes."""
    table, model = reader.embedding.word, reader.model
    words = table.rows(np.arange(table.shape[0]))
    points = words + (reader.embedding(ids)[i] - words[ids[i]])
    if model.entry is not None:
        points = np.asarray(model.entry.point(as_float32(points)))
    moves = points - points[ids[i]]
    size = np.linalg.norm(moves, axis=1)
    return np.where(size > 0, np.abs(moves @ direction) / np.where(size > 0, size, 1), -1.0)
