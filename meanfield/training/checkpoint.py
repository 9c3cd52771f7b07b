"""A training run on disk: where it is and what it has recorded, in one file of plain arrays."""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .identity import Opaque, told
from .record import Row


_FORMAT = 2


def digest(**parts: Any) -> str:
    """SHA-256 of the named parts of a run: what a checkpoint belongs to.

    Raises:
      ValueError: a part holds something that cannot be looked into.
    """
    found = hashlib.sha256()
    for name, part in parts.items():
        try:
            for piece in told((name, part)):
                found.update(piece)
        except Opaque as error:
            raise ValueError(
                f"`checkpoint` cannot tell this `{name}` from another one: it holds {error}, which "
                "cannot be looked into. Use functions, equinox modules, numbers and arrays, or do "
                "without a checkpoint."
            ) from error
    return found.hexdigest()


def save(
    path: str | os.PathLike, owner: str, state: PyTree, rows: Sequence[Row], every: int
) -> None:
    """Writes a state and its records in one go: whoever is interrupted leaves the former file.

    Args:
      owner: the digest of the run.
      state: arrays, of which only the leaves are kept.
      rows: with the same entries in each.
      every: the number of steps between them.
    """
    path = Path(path)
    arrays: dict[str, Any] = {
        f"state_{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))
    }
    arrays |= {f"row_{name}": np.stack([row[name] for row in rows]) for name in rows[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as stream:
        np.savez(stream, allow_pickle=False, format=_FORMAT, owner=owner, every=every, **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def load(path: str | os.PathLike, owner: str, like: PyTree) -> tuple[PyTree, list[Row], int]:
    """The state and the records of a run, and the number of steps between them.

    Args:
      owner: the digest of the run that asks.
      like: a state of that run, for its structure and types.

    Raises:
      ValueError: the file is not a checkpoint, or belongs to another run.
    """
    stored = _arrays(path)
    if str(stored.get("owner")) != owner:
        raise ValueError(
            f"`checkpoint` {path} belongs to another run: network, data, loss, method, batches or "
            "key differ. Give the same arguments to go on, or another path to begin anew."
        )
    leaves, structure = jax.tree.flatten(like)
    found = [_as(stored[f"state_{i}"], leaf) for i, leaf in enumerate(leaves)]
    columns = {k.removeprefix("row_"): v for k, v in stored.items() if k.startswith("row_")}
    count = len(columns["steps"])
    rows = [{name: np.asarray(column[r]) for name, column in columns.items()} for r in range(count)]
    return jax.tree.unflatten(structure, found), rows, int(stored["every"])


def _arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = dict(file.items())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"`checkpoint` {path} is not a training run: {error}") from error
    if stored.get("format") != _FORMAT:
        raise ValueError(f"`checkpoint` {path} is not a training run of this version.")
    return stored


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as an array of numpy; keys by their data."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _as(array: np.ndarray, leaf: Any) -> Any:
    """An array of the file as the kind of leaf that it was."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    return jnp.asarray(array.view(leaf.dtype) if array.dtype.kind == "V" else array)
