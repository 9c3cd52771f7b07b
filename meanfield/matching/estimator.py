"""Matching in the manner of scikit-learn: fit, transform, score."""

from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from ..measure import Measure
from .alternation import Alternation
from .match import Match
from .problem import AbstractMatchingProblem, CostRegularized
from .scores import foscttm
from .solve import match


class Matcher:
    """A map from one space to another, learnt from two unpaired samples.

    It is cloned, piped and searched over by scikit-learn like its own transformers; the second
    sample takes the place of `y`. Cross-validation cuts both samples by the same rows, and so asks
    for paired ones, as `score` does.

    Args:
      problem: what is minimised.
      solver: how.
      key: for samples and random starts.

    Attributes (after `fit`):
      `match_`: the `Match`.
      `transform_`: its transform, shape (q, p).
      `n_features_in_`: p.
    """

    match_: Match
    transform_: np.ndarray
    n_features_in_: int

    def __init__(
        self,
        problem: AbstractMatchingProblem = CostRegularized(),
        solver: Alternation = Alternation(),
        *,
        key: PRNGKeyArray | None = None,
    ):
        self.problem, self.solver, self.key = problem, solver, key

    def fit(
        self, x: Any, y: Any, sample_weight: Any = None, target_weight: Any = None
    ) -> "Matcher":
        """Match two samples: x of shape (n, p), y of shape (m, q), rows in any order.

        Weights are equal by default, and where those of one sample alone are given, the other has
        equal ones of the same sum.

        Raises:
          ValueError: as `match`.
          RuntimeError: the match collapsed or did not settle.
        """
        x, y = np.asarray(x), np.asarray(y)
        mu = Measure(x, _weights(sample_weight, target_weight, len(x)))
        nu = Measure(y, _weights(target_weight, sample_weight, len(y)))
        self.match_ = match(mu, nu, self.problem, self.solver, key=self.key)
        self.transform_ = np.asarray(self.match_.transform)
        self.n_features_in_ = mu.dim
        return self

    def transform(self, x: Any) -> np.ndarray:
        """Points of the first space in the second, shape (k, q): `Match.map`."""
        return np.asarray(self._fitted.map(x))

    def inverse_transform(self, y: Any) -> np.ndarray:
        """Points of the second space in the first, shape (k, p): `Match.inverse_map`."""
        return np.asarray(self._fitted.inverse_map(y))

    def fit_transform(
        self, x: Any, y: Any, sample_weight: Any = None, target_weight: Any = None
    ) -> np.ndarray:
        """Match, and map the sample x."""
        return self.fit(x, y, sample_weight, target_weight).transform(x)

    def score(self, x: Any, y: Any) -> float:
        """One minus the mean fraction of samples closer than the true match, for paired rows: one
        is perfect, one half is chance."""
        return 1 - float(foscttm(self.transform(x), np.asarray(y)))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings, as scikit-learn's `clone` asks for them."""
        return {"problem": self.problem, "solver": self.solver, "key": self.key}

    def set_params(self, **params: Any) -> "Matcher":
        """Other settings."""
        unknown = sorted(set(params) - set(self.get_params()))
        if unknown:
            raise ValueError(f"`set_params` takes problem, solver and key; got {unknown[0]!r}.")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn, which alone calls this, asks of its estimators."""
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True, two_d_labels=True),
            transformer_tags=TransformerTags(),
        )

    def __repr__(self) -> str:
        names = f"{type(self.problem).__name__}, {type(self.solver).__name__}"
        found = f", fitted: {self.match_!r}" if hasattr(self, "match_") else ""
        return f"Matcher({names}{found})"

    @property
    def _fitted(self) -> Match:
        if not hasattr(self, "match_"):
            raise ValueError("This Matcher has not been fitted. Call `fit(x, y)` first.")
        return self.match_


def _weights(given: Any, other: Any, size: int) -> Any:
    """The weights of a sample, or equal ones with the sum of those of the other."""
    if given is not None or other is None:
        return given
    return np.full(size, np.sum(np.asarray(other, np.float64)) / max(size, 1))
