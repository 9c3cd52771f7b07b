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

from .record import Row


_FORMAT = 1


def digest(text: str, arrays: PyTree) -> str:
    """SHA-256 of a description and of arrays with their types: what a checkpoint belongs to."""
    found = hashlib.sha256(text.encode())
    for leaf in jax.tree.leaves(arrays):
        array = _plain(leaf)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def save(path: str | os.PathLike, owner: str, state: PyTree, rows: Sequence[Row]) -> None:
    """Writes a state and its records in one go: whoever is interrupted leaves the former file.

    Args:
      owner: the digest of the run.
      state: arrays, of which only the leaves are kept.
      rows: with the same entries in each.
    """
    path = Path(path)
    arrays: dict[str, Any] = {
        f"state_{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))
    }
    arrays |= {f"row_{name}": np.stack([row[name] for row in rows]) for name in rows[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as stream:
        np.savez(stream, allow_pickle=False, format=_FORMAT, owner=owner, **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def load(path: str | os.PathLike, owner: str, like: PyTree) -> tuple[PyTree, list[Row]]:
    """The state and the records of a run.

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
    return jax.tree.unflatten(structure, found), rows


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
