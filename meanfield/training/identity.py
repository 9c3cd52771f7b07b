"""What an object is, in bytes that another process makes too: how a run knows its own again.

Functions are their code, constants, defaults and closures, and the globals that they name; objects
are their class and what they hold; arrays are their numbers. What comes with an installed library
is its name.
"""

import functools
import importlib
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), np.dtype)
_LIBRARIES = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]


class Opaque(Exception):
    """Something that cannot be looked into."""


def told(thing: Any) -> Iterator[bytes]:
    """The bytes that tell a thing from others.

    Raises:
      Opaque: it holds something that cannot be looked into.
    """
    return _told(thing, {})


def _told(thing: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    yield type(thing).__qualname__.encode() + b":"
    if isinstance(thing, _PLAIN):
        yield repr(thing).encode()
    elif isinstance(thing, jax.Array | np.ndarray | np.generic):
        yield from _array(thing)
    elif (name := _library_name(thing)) is not None:
        yield name.encode()
    elif id(thing) in seen:
        yield b"again %d" % list(seen).index(id(thing))
    else:
        seen[id(thing)] = thing  # held, so that its id stays its own
        parts = list(_parts(thing))
        yield b"%d parts" % len(parts)
        for part in parts:
            yield from _told(part, seen)


def _array(array: Any) -> Iterator[bytes]:
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        yield repr(array.dtype).encode()
        array = jax.random.key_data(array)
    array = np.asarray(array)
    yield f"{array.dtype}{array.shape}".encode()
    yield np.ascontiguousarray(array).tobytes()


def _parts(thing: Any) -> Iterator[Any]:
    """What an object consists of."""
    if isinstance(thing, tuple | list):
        yield from thing
    elif isinstance(thing, dict | types.MappingProxyType):
        yield from thing.items()
    elif isinstance(thing, set | frozenset):
        yield from sorted(b"".join(_told(each, {})) for each in thing)
    elif isinstance(thing, types.CodeType):
        yield from (thing.co_code, thing.co_consts, thing.co_names, thing.co_freevars)
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, types.CellType):
        yield from _of_cell(thing)
    elif isinstance(thing, type):
        yield from _of_class(thing)
    elif hasattr(thing, "__wrapped__"):  # as `jax.jit` leaves them
        yield thing.__wrapped__
    else:
        yield type(thing)
        yield from _held(thing)


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    yield from function.__closure__ or ()
    if not _of_a_library(function.__module__):
        for name in sorted(_names(function.__code__) & function.__globals__.keys()):
            yield from (name, function.__globals__[name])


def _names(code: types.CodeType) -> set[str]:
    """The names that a function looks up, and those of the functions within it."""
    inner = (_names(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*inner)


def _of_cell(cell: types.CellType) -> Iterator[Any]:
    try:
        yield cell.cell_contents
    except ValueError:  # not filled
        return


def _of_class(kind: type) -> Iterator[Any]:
    yield from (kind.__qualname__, kind.__bases__)
    for name, value in vars(kind).items():
        if isinstance(value, (types.FunctionType, property, staticmethod, classmethod, *_PLAIN)):
            if name not in ("__module__", "__doc__", "__firstlineno__"):
                yield from (name, getattr(value, "__func__", getattr(value, "fget", value)))


def _held(thing: Any) -> Iterator[Any]:
    """The attributes of an object, or what it would be made again from."""
    if hasattr(thing, "__dict__"):
        yield from vars(thing).items()
        return
    try:
        _, *made_from = thing.__reduce_ex__(4)
    except TypeError:
        raise Opaque(f"a {type(thing).__module__}.{type(thing).__qualname__}") from None
    yield from (tuple(each) if isinstance(each, Iterator) else each for each in made_from)


def _library_name(thing: Any) -> str | None:
    """Where an installed library keeps this very thing, if one does."""
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    module = "numpy" if isinstance(thing, np.ufunc) else getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not _of_a_library(module):
        return None
    found: Any = sys.modules.get(module)
    for step in name.split("."):
        found = getattr(found, step, None)
    return f"{module}.{name}" if found is thing else None


@functools.cache
def _of_a_library(module: str | None) -> bool:
    """Whether a module is built in, installed, or of this package."""
    root = (module or "").partition(".")[0]
    if root in sys.builtin_module_names or root == __name__.partition(".")[0]:
        return True
    try:
        file = importlib.import_module(root).__file__ if root not in ("", "__main__") else None
    except ImportError:
        return False
    return file is not None and any(map(Path(file).resolve().is_relative_to, _LIBRARIES))
