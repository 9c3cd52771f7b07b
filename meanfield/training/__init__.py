"""Training as a flow of measures, and what it conserves."""

from .factorization import (
    AbstractFactorization as AbstractFactorization,
    LinearNetwork as LinearNetwork,
    MonomialMap as MonomialMap,
    ReLUNetwork as ReLUNetwork,
)
from .lie_rank import LieRank as LieRank, count_laws as count_laws, lie_rank as lie_rank
