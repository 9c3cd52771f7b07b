"""The attack that types a token several times."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from ..models import Transformer
from .attack import AbstractAttackMethod
from .settings import checked_count, checked_exponent
from .texts import Ids, Reader, TokenAttack, busiest, checked_ids, token_attack


class TokenRepetition(AbstractAttackMethod):
    r"""Type one token k times in place of once: the splitting that a real text can do.

    Among the tokens with the largest share in the worst direction, the one whose repetition has the
    largest ratio is taken, for each count.

    Args:
      counts: one k or several, at least 2.
      index: which token; the best of `candidates` by default.
      layer: the attention of one layer, from its context to its output; from what enters the first
        layer to what leaves the last by default.
      p: 1, 2 or jnp.inf.
      candidates: how many tokens are tried.

    Raises:
      ValueError: counts below 2; in the search, no candidate whose text gives its tokens back.
    """

    counts: tuple[int, ...]
    index: int | None
    layer: int | None
    p: float
    candidates: int = eqx.field(static=True)

    def __init__(
        self,
        counts: int | Sequence[int] = 2,
        index: int | None = None,
        layer: int | None = None,
        p: float | int = 2,
        candidates: int = 4,
    ):
        listed = [counts] if isinstance(counts, int) else list(counts)
        if not listed or min(listed) < 2:
            raise ValueError(f"`counts` must be whole numbers of at least 2; got {counts}.")
        self.counts = tuple(int(count) for count in listed)
        self.index, self.layer, self.p = index, layer, checked_exponent(p)
        self.candidates = checked_count("candidates", candidates)

    def search(self, f: Transformer, mu: Ids, key: PRNGKeyArray) -> TokenAttack:
        reader = Reader(f, self.layer, self.p)
        ids = checked_ids(reader, mu)
        if self.index is not None and not 0 <= self.index < len(ids):
            raise ValueError(f"`index` must lie in 0..{len(ids) - 1}; got {self.index}.")
        if self.index is None:
            order = busiest(reader, ids, reader.tangent(ids, key))
        else:
            order = [self.index]
        original, found = reader.states(ids), []
        for count in self.counts:
            typed = [(_repeated(ids, i, count), (i,)) for i in order]
            typed = [pair for pair in typed if reader.typed(pair[0]) is not None]
            if not typed:
                raise ValueError(
                    f"`counts`: no token of the text can be typed {count} times; the tokenizer "
                    "reads other tokens, or the text becomes too long. Give a smaller count."
                )
            tried = token_attack(reader, original, typed[: self.candidates])
            found.append(typed[int(np.argmax(tried.ratio))])
        return token_attack(reader, original, found)


def _repeated(ids: Ids, index: int, count: int) -> Ids:
    return np.concatenate([ids[:index], np.full(count, ids[index], ids.dtype), ids[index + 1 :]])
