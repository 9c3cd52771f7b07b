"""What the record of an audit or of a comparison says about a model."""

import os
from typing import Any

from .record import Model


def model_record(model, name: str, hashes: dict[str, str]) -> Model:
    """What a record says about a model.

    Args:
      model: as `mf.models.load` gives it.
      name: where it was read from.
      hashes: as `identity.hashes_of` gives them.
    """
    attention = model.layers[0].attention
    return Model(
        name=os.path.basename(name.rstrip("/")) or name,
        path=name,
        family=model.family,
        causal=bool(model.causal),
        layers=len(model.layers),
        heads=len(attention.heads),
        dim=int(model.dim),
        parameters=int(model.parameters),
        max_tokens=model.max_tokens and int(model.max_tokens),
        hashes=hashes,
        config={k: v for k, v in dict(model.config).items() if _scalar(v)},
        assumed={k: v for k, v in getattr(model, "assumed", {}).items() if _scalar(v)},
    )


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
