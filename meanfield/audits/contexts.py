"""What enters the attention of each layer: for a window and its prefixes, cached by process."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.attention import AbstractAttention, CausalAttention, Composition
from meanfield.measure import ConditionalMeasure, Measure
from meanfield.models import Architecture, load

from .inputs import InputError, Window


_LOADED: dict[str, object] = {}


def remember(name: str, model) -> None:
    """Lets tasks of this process find a model that is already in memory by its name."""
    _keep(name, model)


def _keep(name: str, model) -> None:
    if _LOADED.get(name, model) is not model:  # another model from the same path
        for cache in (attention_of, contexts, whole_of, first_context):
            cache.cache_clear()
    _LOADED[name] = model


def find(name: str, architecture: Architecture | None = None):
    """The model that was remembered under `name`, or else the checkpoint at that path."""
    if name not in _LOADED and name.startswith("in memory "):
        raise InputError(
            "the tensors of `model` are in memory only, where other processes cannot read them; "
            "leave `executor` out, use threads, or save the model and give its path."
        )
    if name not in _LOADED or getattr(_LOADED[name], "architecture", None) != architecture:
        _keep(name, load(name, architecture=architecture))
    return _LOADED[name]


@lru_cache(maxsize=64)
def attention_of(name: str, layer: int, dtype: str):
    """The attention of one layer in the precision of the audit."""
    return cast(_LOADED[name].layers[layer].attention, dtype)  # pyright: ignore


@lru_cache(maxsize=4)
def whole_of(name: str, dtype: str) -> Composition:
    """All blocks of a model as one map, in the precision of the audit."""
    return cast(Composition(layer.block for layer in _LOADED[name].layers), dtype)  # pyright: ignore


@lru_cache(maxsize=16)
def first_context(name: str, window: Window, dtype: str) -> Measure | ConditionalMeasure:
    """What enters the first block: the embeddings of a window, or its first hidden states."""
    model = _LOADED[name]
    read = np.asarray(window.ids) if window.kind == "text" else window.array
    x = window.array[0] if window.kind == "hidden" else model.hidden(read)[0]  # pyright: ignore
    in_order = ordered(model.layers[0].attention)  # pyright: ignore[reportAttributeAccessIssue]
    x = jnp.asarray(x)
    return cast(ConditionalMeasure.from_sequence(x) if in_order else Measure(x), dtype)


@lru_cache(maxsize=16)
def contexts(
    name: str, window: Window, length: int, dtype: str
) -> tuple[Measure | ConditionalMeasure, ...]:
    """The context of every layer when only `length` tokens of the window enter.

    A text is cut to a prefix and read again by the model, an image is read again with patches left
    out. Hidden states are cut: those of the tokens kept stay as they are, which for causal models
    is what the model computes on the prefix.
    """
    model = _LOADED[name]
    if window.kind == "hidden":
        found = _from_states(model, window.array[:, :length])  # pyright: ignore
    elif window.kind == "image" and length < len(window.tokens):
        found = model.contexts(window.array, keep=window.order[:length])  # pyright: ignore
    else:
        read = np.asarray(window.prefix(length)) if window.kind == "text" else window.array
        found = model.contexts(read)  # pyright: ignore[reportAttributeAccessIssue]
    return tuple(cast(mu, dtype) for mu in found)


def cast(tree, dtype: str):
    """Every floating array of a pytree as float32 or float64."""
    kind = np.float32 if dtype == "f32" else np.float64

    def one(leaf):
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(np.asarray(leaf, kind)) if floating else leaf

    return jax.tree.map(one, tree)


def _from_states(model, states) -> list[Measure | ConditionalMeasure]:
    return [
        _as_context(layer, x if layer.norm is None else layer.norm.point(x))
        for layer, x in zip(model.layers, jnp.asarray(states), strict=True)
    ]


def _as_context(layer, x) -> Measure | ConditionalMeasure:
    return ConditionalMeasure.from_sequence(x) if ordered(layer.attention) else Measure(x)


def ordered(attention: AbstractAttention | CausalAttention) -> bool:
    """Whether an attention looks at positions."""
    if isinstance(attention, CausalAttention):
        return True
    return attention.score_bias is not None or getattr(attention, "rotary", None) is not None
