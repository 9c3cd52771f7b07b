"""Figures: each function takes a result and axes, draws, and returns the axes; nothing is shown.

matplotlib is imported when the first figure is drawn. Figures of measures need JAX, those of an
audit do not: each file is loaded when it is used, so that reports stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .attacks import peeling as peeling, radii as radii
    from .audit import (
        growth as growth,
        heads as heads,
        layers as layers,
        worst_tokens as worst_tokens,
    )
    from .comparison import (
        layer_distances as layer_distances,
        layer_matching as layer_matching,
        model_comparison as model_comparison,
        model_comparison_image as model_comparison_image,
    )
    from .deep_linear import step_threshold as step_threshold
    from .depth_width import depth_errors as depth_errors, width_errors as width_errors
    from .implicit import derivative_errors as derivative_errors
    from .laws import law_drift as law_drift, law_spectrum as law_spectrum
    from .matching import (
        coupling_by_label as coupling_by_label,
        joint_embedding as joint_embedding,
        regularization_path as regularization_path,
        starts as starts,
        transform as transform,
    )
    from .overview import overview_png as overview_png
    from .spaces import (
        embedded_dissimilarities as embedded_dissimilarities,
        matched_mass as matched_mass,
    )
    from .training import (
        layer_travel as layer_travel,
        particle_paths as particle_paths,
        polyak_lojasiewicz as polyak_lojasiewicz,
        step_sizes as step_sizes,
    )
    from .transport import coupling as coupling, coupling_matrix as coupling_matrix

_HOMES = {
    "attacks": ("peeling", "radii"),
    "audit": ("growth", "heads", "layers", "worst_tokens"),
    "deep_linear": ("step_threshold",),
    "depth_width": ("depth_errors", "width_errors"),
    "implicit": ("derivative_errors",),
    "laws": ("law_drift", "law_spectrum"),
    "matching": (
        "coupling_by_label",
        "joint_embedding",
        "regularization_path",
        "starts",
        "transform",
    ),
    "comparison": (
        "layer_distances",
        "layer_matching",
        "model_comparison",
        "model_comparison_image",
    ),
    "overview": ("overview_png",),
    "training": ("layer_travel", "particle_paths", "polyak_lojasiewicz", "step_sizes"),
    "spaces": ("embedded_dissimilarities", "matched_mass"),
    "transport": ("coupling", "coupling_matrix"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(name for names in _HOMES.values() for name in names)})
