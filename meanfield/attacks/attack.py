"""The attack: a measure found near another one, whose images lie far apart."""

import abc
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..attention import AnyMeasure
from ..measure import RESULTS


class Attack(eqx.Module):
    r"""A measure nu near mu, found by search, with its exact distances.

    No attack exceeds a Lipschitz constant that holds on a domain with both measures: `ratio` is a
    lower bound of it, up to rounding. It proves nothing about other measures: that the search found
    no more does not mean that there is no more.

    Attributes:
      ratio: $W_p(F(\mu), F(\nu)) / W_p(\mu, \nu)$, by exact transport on both sides in float64.
        A curve of attacks (`MassPeeling`) has one entry for each fraction, here and below.
      distance_in, distance_out: the two distances (conditional ones for conditional measures).
      measure: nu (of a curve, the last).
      origin: for each atom of nu, the flat index of the atom of mu that it is a copy of; -1 for
        padding.
      displacement: the longest move of an atom.
      radius: the largest norm of an atom of nu; it lies in the domain of the method, if any.
      objective: what the search made large, at nu.
      local: the local constant that the search started from (without the split part for a method
        that does not split), for W_2; a small budget leads to it.
      history: the best objective after each step, of the best start.
      result: how the search ended; `search_stalled` if no start made progress and the ratio is
        below `local`, or if a loss ended no higher than where nothing moves.
      stats: `steps` and `coupling_ratio`, the ratio of the costs of the couplings that keep each
        copy with its atom; for curves `fractions`, `atom`, `targets` and `stalled`, one a fraction.
    """

    ratio: Float[Array, "*curve"]
    distance_in: Float[Array, "*curve"]
    distance_out: Float[Array, "*curve"]
    measure: AnyMeasure
    origin: Int[np.ndarray, "*n"]
    displacement: Float[Array, "*curve"]
    radius: Float[Array, "*curve"]
    objective: Float[Array, "*curve"]
    local: Float[Array, ""]
    history: Float[Array, "*curve steps"]
    result: RESULTS
    stats: dict[str, Any]

    def __repr__(self) -> str:
        values = np.asarray(self.ratio)
        shown = f"{values:.4g}" if values.ndim == 0 else np.array2string(values, precision=4)
        return f"Attack(ratio={shown}, local={float(self.local):.4g}, atoms={self.origin.size})"


class AbstractAttackMethod(eqx.Module):
    """How a nearby measure is searched. The settings are its fields."""

    @abc.abstractmethod
    def search(self, f: Any, mu: Any, key: PRNGKeyArray) -> Any:
        """The attack on f at mu; failures of the search are in `.result`, not raised."""


def attack(
    f: Any, mu: Any, method: AbstractAttackMethod | Any, *, key: PRNGKeyArray, throw: bool = False
) -> Any:
    r"""A measure near mu, within a budget and a domain, whose image under f is far from f(mu).

    $$\text{maximise } W_p(F(\mu), F(\nu)) \text{ over } \nu \text{ on the domain with }
    W_p(\mu, \nu) \le \epsilon.$$

    by projected gradient ascent from many starts, the exact local tangent among them; or another
    objective with the same constraints. Distances are then computed by exact transport in float64;
    maps and measures in half precision are searched in float32.

    Args:
      f: an in-context map; a model for attacks that change its tokens.
      mu: a `Measure`, or a `ConditionalMeasure` for maps that depend on positions, of any mass;
        token ids for attacks on tokens.
      method: `TokenShift`, `MassSplitting`, `MassPeeling`, `TokenRepetition`, `TokenSubstitution`.
      key: for the random starts.
      throw: whether to raise where the search stalled; otherwise `.result` says it.

    Returns:
      an `Attack`, or a `TokenAttack`.

    Raises:
      TypeError, ValueError: what does not fit together, before any search. An attack runs on the
        host and cannot be traced.
      RuntimeError: the search stalled (with `throw`).
    """
    if not isinstance(method, AbstractAttackMethod):
        raise TypeError(
            "`method` must be an attack method such as mf.TokenShift(budget=0.1); got "
            f"{method!r:.80}."
        )
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((f, mu, method))):
        raise TypeError(
            "`attack` searches and solves transport on the host and cannot be traced. Call it "
            "outside `jax.jit`, `jax.vmap` and `jax.grad`, for one measure at a time."
        )
    found = method.search(f, mu, key)
    if throw:
        found = found.result.error_if(found, found.result != RESULTS.successful)
    return found
