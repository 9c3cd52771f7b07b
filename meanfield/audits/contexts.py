"""What enters the attention of each layer: for a window and its prefixes, cached by process."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.attention import AbstractAttention, CausalAttention
from meanfield.measure import ConditionalMeasure, Measure

from .inputs import Window


_LOADED: dict[str, object] = {}


def remember(model) -> str:
    """A name under which tasks of this process find a model that is already in memory."""
    name = str(model.path) if getattr(model, "path", None) else f"in memory {id(model)}"
    _LOADED[name] = model
    return name


def model_named(name: str):
    """The model that was remembered under `name`, or else the checkpoint at that path."""
    if name not in _LOADED:
        from meanfield.models import load

        _LOADED[name] = load(name)
    return _LOADED[name]


@lru_cache(maxsize=64)
def attention_of(name: str, layer: int, dtype: str):
    """The attention of one layer in the precision of the audit."""
    return cast(model_named(name).layers[layer].attention, dtype)  # pyright: ignore


@lru_cache(maxsize=16)
def contexts(
    name: str, window: Window, length: int, dtype: str
) -> tuple[Measure | ConditionalMeasure, ...]:
    """The context of every layer when the window is cut to its first `length` tokens.

    A text is read again by the model; images and hidden states are only whole.
    """
    model = model_named(name)
    if window.kind == "hidden":
        found = _from_states(model, window.array)
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
