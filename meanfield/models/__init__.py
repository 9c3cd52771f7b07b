"""Pretrained transformers read from disk as maps between measures.

`load` reads config.json and safetensors files (or a llama2.c file) with numpy alone; `inspect`
says what is in them without any mathematics. Two small models ship with the package (`zoo`).
"""

from typing import TYPE_CHECKING

from . import zoo as zoo
from .architecture import Architecture as Architecture
from .error import ModelError as ModelError
from .facts import Facts as Facts, inspect as inspect
from .load import load as load, weight_bytes as weight_bytes


if TYPE_CHECKING:
    from .layer import Layer as Layer
    from .transformer import Transformer as Transformer


def __getattr__(name: str):
    # these need JAX, which reading a header does not
    if name == "Layer":
        from .layer import Layer

        return Layer
    if name == "Transformer":
        from .transformer import Transformer

        return Transformer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
