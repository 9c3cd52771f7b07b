"""Matching in the manner of scikit-learn: fit, transform, score."""

import importlib
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from ..measure import Measure
from .alternation import Alternation
from .match import Match
from .parts import nested, replaced
from .problem import AbstractMatchingProblem, CostRegularized
from .scores import foscttm
from .solve import match
from .table import names_of, table_of


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
      `feature_names_in_`: the columns of x, if it was a data frame.
    """

    match_: Match
    transform_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
        problem: AbstractMatchingProblem = CostRegularized(),
        solver: Alternation = Alternation(),
        *,
        key: PRNGKeyArray | None = None,
    ):
        self.problem, self.solver, self.key = problem, solver, key

    def fit(
        self, x: Any, y: Any = None, sample_weight: Any = None, target_weight: Any = None
    ) -> "Matcher":
        """Match two samples: x of shape (n, p), y of shape (m, q), rows in any order.

        Weights are equal by default, and where those of one sample alone are given, the other has
        equal ones of the same sum.

        Raises:
          ValueError: as `match`.
          RuntimeError: the match collapsed or did not settle.
        """
        names = names_of(x), names_of(y)
        x, y = table_of("x", x), table_of("y", y)
        mu = Measure(x, _weights(sample_weight, target_weight, len(x)))
        nu = Measure(y, _weights(target_weight, sample_weight, len(y)))
        self.match_ = match(mu, nu, self.problem, self.solver, key=self.key)
        self.transform_ = np.asarray(self.match_.transform)
        self.n_features_in_ = mu.dim
        self._names_in(names[0])
        self._names_out = names[1]
        return self

    def transform(self, x: Any) -> Any:
        """Points of the first space in the second, shape (k, q): `Match.map`; a data frame where
        `set_output` asked for one.

        Raises:
          ValueError: other features than those of `fit`.
        """
        sol = self._fitted
        self._check_names(names_of(x))
        mapped = np.asarray(sol.map(self._of_width(table_of("x", x))))
        return self._framed(mapped, x)

    def inverse_transform(self, y: Any) -> np.ndarray:
        """Points of the second space in the first, shape (k, p): `Match.inverse_map`."""
        return np.asarray(self._fitted.inverse_map(table_of("y", y)))

    def fit_transform(
        self, x: Any, y: Any = None, sample_weight: Any = None, target_weight: Any = None
    ) -> Any:
        """Match, and map the sample x."""
        return self.fit(x, y, sample_weight, target_weight).transform(x)

    def score(self, x: Any, y: Any) -> float:
        """One minus the mean fraction of samples closer than the true match, for paired rows: one
        is perfect, one half is chance."""
        return 1 - float(foscttm(np.asarray(self.transform(x)), table_of("y", y)))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings, as scikit-learn's `clone` asks for them; where `deep`, those of the parts
        too, like `solver__epsilon` or `problem__regularizer__strength`."""
        own = {"problem": self.problem, "solver": self.solver, "key": self.key}
        if not deep:
            return own
        return own | nested("problem", self.problem) | nested("solver", self.solver)

    def set_params(self, **params: Any) -> "Matcher":
        """Other settings, parts before settings of parts.

        Raises:
          ValueError: a setting that there is not, or a value out of range.
        """
        for path in sorted(params, key=lambda path: path.count("__")):
            name, _, rest = path.partition("__")
            if name not in ("problem", "solver", "key"):
                raise ValueError(
                    f"Invalid parameter {path!r} for estimator {self!r}: `set_params` takes "
                    "problem, solver, key and settings of parts, like solver__epsilon."
                )
            value = params[path]
            setattr(self, name, replaced(getattr(self, name), rest, value) if rest else value)
        return self

    def set_output(self, *, transform: str | None = None) -> "Matcher":
        """What `transform` returns: "default" for arrays, "pandas" or "polars" for data frames."""
        if transform is not None:
            if transform not in ("default", "pandas", "polars"):
                raise ValueError(
                    f"`transform` must be 'default', 'pandas' or 'polars'; got {transform!r}."
                )
            self._output = transform
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the columns of the second sample, or matcher0, matcher1, ..."""
        sol = self._fitted
        if self._names_out is not None:
            return self._names_out
        return np.asarray([f"matcher{k}" for k in range(sol.nu.dim)], dtype=object)

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

    def _names_in(self, names: np.ndarray | None) -> None:
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _check_names(self, names: np.ndarray | None) -> None:
        known = getattr(self, "feature_names_in_", None)
        if known is not None and names is not None and list(names) != list(known):
            raise ValueError(
                "The feature names should match those that were passed during fit, in their order: "
                f"{list(known)}; got {list(names)}."
            )

    def _of_width(self, x: np.ndarray) -> np.ndarray:
        if x.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {x.shape[1]} features, but Matcher is expecting {self.n_features_in_} "
                "features as input."
            )
        return x

    def _framed(self, mapped: np.ndarray, x: Any) -> Any:
        kind = getattr(self, "_output", "default")
        if kind == "default":
            return mapped
        frames = importlib.import_module(kind)
        if kind == "polars":
            return frames.DataFrame(mapped, schema=list(self.get_feature_names_out()))
        index = getattr(x, "index", None)
        return frames.DataFrame(mapped, columns=self.get_feature_names_out(), index=index)

    @property
    def _fitted(self) -> Match:
        if not hasattr(self, "match_"):
            raise _not_fitted("This Matcher is not fitted. Call `fit(x, y)` first.")
        return self.match_


def _not_fitted(words: str) -> Exception:
    """scikit-learn's error where it is installed, which is a ValueError."""
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return ValueError(words)
    return NotFittedError(words)


def _weights(given: Any, other: Any, size: int) -> Any:
    """The weights of a sample, or equal ones with the sum of those of the other."""
    if given is not None or other is None:
        return given
    return np.full(size, np.sum(np.asarray(other, np.float64)) / max(size, 1))
