"""The two small models that ship with the package: a character GPT and a ViT of digits.

They are trained by recipes/train_shakespeare_gpt.py and recipes/train_digits_vit.py; what they
learned, and how well, is in zoo_data/MODEL_CARD.md.
"""

from pathlib import Path

import numpy as np


NAMES = ("shakespeare-gpt", "digits-vit")
_FOLDER = Path(__file__).parent / "zoo_data"


def path(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
      ValueError: there is no shipped model of that name.
    """
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {', '.join(NAMES)}; got {name!r}.")
    return _FOLDER / name


def sample_text() -> str:
    """A page of Shakespeare that the character GPT never saw, in the public domain."""
    return (_FOLDER / "shakespeare-gpt" / "sample.txt").read_text(encoding="utf-8")


def sample_images() -> np.ndarray:
    """Sixteen digits that the ViT never saw, shape (16, 1, 8, 8), ready for `model.hidden`."""
    return np.load(_FOLDER / "digits-vit" / "samples.npy", allow_pickle=False)
