"""Audits of every attention layer and head of a model: measured, recorded, judged, resumed.

`audit` needs JAX; records, thresholds and their JSON do not, and neither loads the other.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .comparison_record import (
    LayerComparison as LayerComparison,
    ModelComparison as ModelComparison,
)
from .document import RecordError as RecordError, read as read, write as write
from .limits import LimitError as LimitError
from .record import Audit as Audit
from .resume import ResumeError as ResumeError
from .schema import schema as schema
from .settings import AuditSettings as AuditSettings
from .thresholds import ThresholdError as ThresholdError, judge as judge


if TYPE_CHECKING:
    from .audit import audit as audit
    from .comparison import compare_models as compare_models
    from .head_particles import Heads as Heads
    from .inputs import InputError as InputError
    from .neuron_particles import Neurons as Neurons
    from .particles import AbstractParticles as AbstractParticles
    from .task import AuditTask as AuditTask, run_task as run_task

_LAZY = {
    "audit": "audit",
    "AuditTask": "bench",
    "run_task": "task",
    "InputError": "inputs",
    "compare_models": "comparison",
    "AbstractParticles": "particles",
    "Heads": "head_particles",
    "Neurons": "neuron_particles",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value  # the function, where importing the file had left the module
    return value
