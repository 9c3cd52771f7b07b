"""meanfield: inputs are measures, layers are maps between measures.

`import meanfield as mf` gives the everyday names; every folder is a public namespace for the rest.
Names are found when they are first used, so that the command line answers before JAX is loaded.
"""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from . import (
        attacks as attacks,
        attention as attention,
        audits as audits,
        implicit as implicit,
        lipschitz as lipschitz,
        matching as matching,
        measure as measure,
        models as models,
        plot as plot,
        report as report,
        spectrum as spectrum,
        training as training,
        transport as transport,
    )
    from .attacks import (
        Attack as Attack,
        MassPeeling as MassPeeling,
        MassSplitting as MassSplitting,
        OutputDisplacement as OutputDisplacement,
        TargetDirection as TargetDirection,
        TaskLoss as TaskLoss,
        TokenRepetition as TokenRepetition,
        TokenShift as TokenShift,
        TokenSubstitution as TokenSubstitution,
        attack as attack,
    )
    from .attention import (
        MLP as MLP,
        Affine as Affine,
        CausalAttention as CausalAttention,
        ChiSquare as ChiSquare,
        Composition as Composition,
        DoublyStochastic as DoublyStochastic,
        Entmax as Entmax,
        L2Attention as L2Attention,
        LayerNorm as LayerNorm,
        Linear as Linear,
        MultiheadAttention as MultiheadAttention,
        Residual as Residual,
        RMSNorm as RMSNorm,
        Rotary as Rotary,
        SelfAttention as SelfAttention,
        Sigmoid as Sigmoid,
        Softmax as Softmax,
        TopMass as TopMass,
    )
    from .audits import audit as audit
    from .lipschitz import (
        Bound as Bound,
        LocalLipschitz as LocalLipschitz,
        WassersteinBall as WassersteinBall,
        certify as certify,
        lipschitz_bound as lipschitz_bound,
        local_lipschitz as local_lipschitz,
        worst_measure as worst_measure,
    )
    from .matching import (
        L1 as L1,
        Alternation as Alternation,
        CostRegularized as CostRegularized,
        GromovWasserstein as GromovWasserstein,
        Match as Match,
        match as match,
    )
    from .measure import (
        RESULTS as RESULTS,
        Ball as Ball,
        ConditionalMeasure as ConditionalMeasure,
        LayerNormRange as LayerNormRange,
        Measure as Measure,
        Sphere as Sphere,
        stack as stack,
    )
    from .training import gradient_flow as gradient_flow
    from .transport import (
        Bottleneck as Bottleneck,
        Exact as Exact,
        Line as Line,
        PowerCost as PowerCost,
        Sinkhorn as Sinkhorn,
        Unbalanced as Unbalanced,
        conditional_wasserstein as conditional_wasserstein,
        optimal_transport as optimal_transport,
        wasserstein as wasserstein,
    )

__version__ = "0.1.0"

_HOMES = {
    "attacks": "attack Attack MassPeeling MassSplitting OutputDisplacement TargetDirection "
    "TaskLoss TokenRepetition TokenShift TokenSubstitution",
    "attention": "Affine CausalAttention ChiSquare Composition DoublyStochastic Entmax L2Attention "
    "LayerNorm Linear MLP MultiheadAttention Residual RMSNorm Rotary SelfAttention Sigmoid Softmax "
    "TopMass",
    "audits": "audit",
    "lipschitz": "Bound certify lipschitz_bound local_lipschitz LocalLipschitz WassersteinBall "
    "worst_measure",
    "matching": "Alternation CostRegularized GromovWasserstein L1 match Match",
    "measure": "Ball ConditionalMeasure LayerNormRange Measure RESULTS Sphere stack",
    "training": "gradient_flow",
    "transport": "Bottleneck conditional_wasserstein Exact Line optimal_transport PowerCost "
    "Sinkhorn Unbalanced wasserstein",
    "implicit": "",
    "models": "",
    "plot": "",
    "report": "",
    "spectrum": "",
}
_HOME_OF = {name: folder for folder, names in _HOMES.items() for name in names.split()}
__all__ = ["__version__", *_HOMES, *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
