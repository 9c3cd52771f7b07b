"""What a model is: its tensors, not the file that it was once read from."""

import hashlib
import os
import weakref
from typing import Any

import equinox as eqx
import jax
import numpy as np

from meanfield import models


# Models that nobody has changed since they were read here.
_AS_READ: dict[int, weakref.ref] = {}


def from_files(path: str | os.PathLike, **more) -> Any:
    """`mf.models.load`, and a note that the model is what the files say."""
    model = models.load(os.fspath(path), **more)
    if isinstance(model, eqx.Module):
        _AS_READ[id(model)] = weakref.ref(model)
    return model


def tensor_hash(model: Any) -> str:
    """SHA-256 of every tensor and number of a model, with their places."""
    found = hashlib.sha256()
    for place, leaf in jax.tree_util.tree_leaves_with_path(_parts(model)):
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float, complex)):
            array = np.ascontiguousarray(leaf)
            found.update(f"{jax.tree_util.keystr(place)} {array.dtype} {array.shape}".encode())
            found.update(memoryview(array.reshape(-1).view(np.uint8)))  # pyright: ignore[reportArgumentType]
    return found.hexdigest()


def as_read(model: Any, tensors: str) -> bool:
    """Whether the tensors of a model are those of its files, which may have to be read again."""
    if not isinstance(model, eqx.Module) or not getattr(model, "path", None):
        return True  # made by hand: it says itself what it is
    note = _AS_READ.get(id(model))
    if note is not None and note() is model:
        return True
    told: dict[str, Any] = {"architecture": model.architecture, "dtype": _dtype(model)}  # pyright: ignore
    try:
        again = models.load(os.fspath(model.path), **told)  # pyright: ignore
    except (OSError, ValueError):
        return False  # the files are gone or are others now
    return tensor_hash(again) == tensors


def hashes_of(model: Any) -> dict[str, str]:
    """The hash of the tensors, and those of the files where the tensors are theirs."""
    tensors = tensor_hash(model)
    files = dict(model.hashes) if as_read(model, tensors) else {}
    return {**files, "tensors": tensors}


def name_of(model: Any, hashes: dict[str, str]) -> str:
    """The path under which any process finds the model, or a name that only this one knows."""
    if getattr(model, "path", None) and len(hashes) > 1:
        return str(model.path)
    return f"in memory {hashes['tensors'][:12]}"


def _dtype(model: Any) -> str:
    kinds = {np.dtype(leaf.dtype).name for leaf in jax.tree.leaves(model) if hasattr(leaf, "dtype")}
    return "float64" if "float64" in kinds else "float32"


def _parts(model: Any) -> Any:
    """A pytree of what computes; objects that are none are asked for their layers."""
    if isinstance(model, eqx.Module):
        return model
    names = ("norm", "attention", "block")
    return [[getattr(layer, name, None) for name in names] for layer in model.layers]
