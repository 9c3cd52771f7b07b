"""What a model is audited on: windows of text, images, hidden states, each a picklable `Window`."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .record import Input
from .settings import AuditSettings
from .spread import spread


class InputError(ValueError):
    """An input that cannot be audited: empty, too long, of the wrong shape."""


@dataclass(frozen=True, eq=False)
class Window:
    """One input of the audit: token ids, or an array (an image, or hidden states).

    Attributes:
      name: where it came from.
      kind: `text`, `image` or `hidden`.
      ids: token ids, special tokens included (text).
      array: the image (c, h, w), or hidden states (layers, n, d).
      tokens: a display string for each atom.
      frame: how many special tokens stand before and after the text.
      start, total: the window covers tokens start, start + 1, ... of `total`.
      order: the tokens of an image in the order in which smaller inputs take them.
    """

    name: str
    kind: str
    ids: tuple[int, ...] | None
    array: np.ndarray | None
    tokens: tuple[str, ...]
    frame: tuple[int, int] = (0, 0)
    start: int = 0
    total: int = 0
    order: tuple[int, ...] = ()

    @property
    def sha256(self) -> str:
        """The hash of what the model reads."""
        content = np.asarray(self.ids, np.int64) if self.array is None else self.array
        kind = f"{self.kind}{content.dtype.str}{content.shape}".encode()
        return hashlib.sha256(kind + np.ascontiguousarray(content).tobytes()).hexdigest()

    @property
    def record(self) -> Input:
        """What the audit says about this input."""
        return Input(self.name, self.kind, self.sha256, self.tokens, self.start, self.total)

    def __eq__(self, other) -> bool:
        return isinstance(other, Window) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def prefix(self, length: int) -> tuple[int, ...]:
        """The ids of the text cut to `length` tokens; its special tokens stay at both ends."""
        assert self.ids is not None
        before, after = self.frame
        body = self.ids[before : len(self.ids) - after]
        kept = body[: max(length - before - after, 0)]
        return (*self.ids[:before], *kept, *self.ids[len(self.ids) - after :])


def windows(model, inputs: Any, settings: AuditSettings) -> tuple[Window, ...]:
    """The windows of one or several inputs.

    Args:
      model: the transformer that reads them.
      inputs: a text, an array of token ids (n,), an image (c, h, w), hidden states (layers, n, d)
        or (layers + 1, n, d); or a sequence of these, or a mapping from names to these.
      settings: `max_tokens` and `overflow` say what happens to a long text.

    Raises:
      InputError: an input is empty, too long, of an unknown kind or not finite.
    """
    found = tuple(
        window
        for name, content in _named(inputs)
        for window in _windows_of(model, name, content, settings)
    )
    if not found:
        raise InputError("`inputs` must hold at least one text or array; got none.")
    return found


def _named(inputs: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(inputs, Mapping):
        yield from ((str(name), content) for name, content in inputs.items())
    elif isinstance(inputs, (str, np.ndarray)) or hasattr(inputs, "__array__"):
        yield "input", inputs
    elif isinstance(inputs, Sequence) and not isinstance(inputs, bytes):
        if inputs and all(isinstance(i, (int, np.integer)) for i in inputs):
            yield "input", np.asarray(inputs)  # a list of token ids is one input
        else:
            yield from ((f"input {i}", content) for i, content in enumerate(inputs))
    else:
        raise InputError(
            "`inputs` must be a text, an array, a list of these or a mapping from names to these; "
            f"got {type(inputs).__name__}."
        )


def _windows_of(model, name: str, content: Any, settings: AuditSettings) -> Iterator[Window]:
    if isinstance(content, str):
        yield from _text(model, name, content, settings)
        return
    array = _array(name, content)
    if array.ndim == 1 and array.size and np.issubdtype(array.dtype, np.integer):
        _check_ids(name, array)
        yield from _cut(model, name, tuple(array.tolist()), (0, 0), settings)
    elif _reads_images(model) and array.ndim in (3, 4):
        images = array[None] if array.ndim == 3 else array
        for i, image in enumerate(images):
            yield _image(model, name if array.ndim == 3 else f"{name}[{i}]", image)
    elif array.ndim == 3 and np.issubdtype(array.dtype, np.floating):
        yield _hidden(model, name, array)
    else:
        raise InputError(
            f"{name}: an input must be text, ids (n,), an image (c, h, w) or hidden states "
            f"(layers, n, d); got {array.dtype} of shape {array.shape}."
        )


def _reads_images(model) -> bool:
    return model.family in ("vit", "dinov2")


def _text(model, name: str, text: str, settings: AuditSettings) -> Iterator[Window]:
    if _reads_images(model):
        raise InputError(f"{name}: a {model.family} model reads images; give --images FILE.npy.")
    if not text.strip():
        raise InputError(f"{name}: the text is empty; give at least one word.")
    ids = tuple(int(i) for i in np.asarray(model.tokenize(text)))
    frame = special_frame(model)
    if len(ids) <= sum(frame):
        raise InputError(f"{name}: the text has only special tokens; give at least one word.")
    yield from _cut(model, name, ids, frame, settings)


def special_frame(model) -> tuple[int, int]:
    """How many tokens the tokenizer puts before and after every text: (1, 1) for BERT."""
    one, two = ([int(i) for i in np.asarray(model.tokenize(text))] for text in ("a", "b"))
    before = _common(one, two)
    after = _common(one[before:][::-1], two[before:][::-1])
    return before, after


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    same = [a == b for a, b in zip(one, two, strict=False)]
    return same.index(False) if False in same else len(same)


def _array(name: str, content: Any) -> np.ndarray:
    try:
        array = np.asarray(content)
    except (ValueError, TypeError, OverflowError):
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{name}: an input must be a text or an array of numbers; got "
            f"{type(content).__name__} of {array.dtype}."
        )
    return array


def _check_ids(name: str, ids: np.ndarray) -> None:
    if ids.min() < 0 or ids.max() >= 2**31:
        raise InputError(
            f"{name}: token ids must be 0 or more and below the size of the vocabulary; got "
            f"{ids.min()} to {ids.max()}."
        )


def _cut(
    model, name: str, ids: tuple[int, ...], frame: tuple[int, int], settings: AuditSettings
) -> Iterator[Window]:
    """Windows of at most max_tokens ids, each with the special tokens of the whole."""
    longest = min(settings.max_tokens, model.max_tokens or settings.max_tokens)
    if len(ids) > longest and settings.overflow == "error":
        raise InputError(
            f"{name}: {len(ids)} tokens exceed the limit of {longest}; use --overflow truncate "
            "or window, or raise --max-tokens (the model reads at most "
            f"{model.max_tokens or 'any number'})."
        )
    before, after = frame
    body = ids[before : len(ids) - after]
    step = longest - before - after
    if step < 1:
        raise InputError(f"{name}: {longest} tokens leave no room beside {before + after} special.")
    starts = range(0, len(body), step)
    starts = starts[: 1 if settings.overflow != "window" else settings.windows]
    for start in starts:
        chosen = (*ids[:before], *body[start : start + step], *ids[len(ids) - after :])
        yield Window(
            name=name,
            kind="text",
            ids=chosen,
            array=None,
            tokens=tuple(model.tokens(np.asarray(chosen))),
            frame=frame,
            start=start,
            total=len(ids),
        )


def _image(model, name: str, image: np.ndarray) -> Window:
    image = _finite(name, image)
    tokens = tuple(model.tokens(image))
    grid = getattr(getattr(model, "embedding", None), "grid", None)
    order = () if grid is None else (0, *(1 + cell for cell in spread(*grid)))
    return Window(name, "image", None, image, tokens, total=len(tokens), order=order)


def _hidden(model, name: str, states: np.ndarray) -> Window:
    states, layers = _finite(name, states), len(model.layers)
    if states.shape[0] not in (layers, layers + 1) or states.shape[2] != model.dim:
        raise InputError(
            f"{name}: hidden states must have shape ({layers} or {layers + 1}, n, {model.dim}); "
            f"got {states.shape}."
        )
    tokens = tuple(f"token {i}" for i in range(states.shape[1]))
    return Window(name, "hidden", None, states[:layers], tokens, total=len(tokens))


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array, dtype=np.float32)
    bad = int(np.size(array) - np.isfinite(array).sum())
    if bad or not array.size:
        raise InputError(f"{name}: values must be finite and there must be some; {bad} are not.")
    return array
