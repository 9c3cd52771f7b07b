"""Tables that estimators are given: what is no table of finite real numbers is refused by name."""

from typing import Any

import numpy as np
from jaxtyping import Float


def table_of(name: str, given: Any) -> Float[np.ndarray, "n d"]:
    """A table of numbers, integers and booleans converted.

    Raises:
      TypeError: a sparse matrix.
      ValueError: strings, complex numbers, NaN, another number of axes, no rows or columns.
    """
    if given is None:
        raise ValueError(
            f"Matcher requires y to be passed, but the target y is None: `{name}` is a sample."
        )
    if hasattr(given, "toarray"):
        raise TypeError(f"`{name}` is sparse, and points are dense: pass `{name}.toarray()`.")
    table = np.asarray(given)
    if np.iscomplexobj(table):
        raise ValueError(f"Complex data not supported: `{name}` is {table.dtype}.")
    if table.dtype.kind not in "fiub":
        table = _converted(name, table)
    if table.ndim != 2:
        raise ValueError(
            f"Expected 2D array for `{name}`, got shape {table.shape}. Reshape your data: "
            "`.reshape(-1, 1)` makes one feature of a vector."
        )
    for count, word in zip(table.shape, ("sample(s)", "feature(s)"), strict=True):
        if not count:
            raise ValueError(
                f"`{name}` has 0 {word} (shape={table.shape}) while a minimum of 1 is required."
            )
    table = table if table.dtype.kind == "f" else table.astype(np.float64)
    if not np.isfinite(table).all():
        raise ValueError(
            f"`{name}` contains NaN or infinity. Leave these rows out, or repair them."
        )
    return table


def names_of(given: Any) -> np.ndarray | None:
    """The names of the columns of a data frame, if all of them are strings."""
    columns = getattr(given, "columns", None)
    if columns is None or not len(columns) or not all(isinstance(name, str) for name in columns):
        return None
    return np.asarray(list(columns), dtype=object)


def _converted(name: str, table: np.ndarray) -> np.ndarray:
    try:
        return table.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must hold numbers; got {table.dtype}: {error}. Encode categories first."
        ) from error
