"""Optimal transport between measures: couplings of least cost and Wasserstein distances."""

from .barycenter import Barycenter as Barycenter, barycenter as barycenter
from .bottleneck import Bottleneck as Bottleneck
from .conditional import conditional_wasserstein as conditional_wasserstein
from .cost import (
    AbstractCost as AbstractCost,
    AbstractPointCost as AbstractPointCost,
    FunctionCost as FunctionCost,
    MatrixCost as MatrixCost,
    PowerCost as PowerCost,
)
from .coupling import (
    AbstractCoupling as AbstractCoupling,
    DenseCoupling as DenseCoupling,
    SparseCoupling as SparseCoupling,
)
from .divergence import (
    AbstractDivergence as AbstractDivergence,
    KullbackLeibler as KullbackLeibler,
    Range as Range,
    TotalVariation as TotalVariation,
)
from .entropic_coupling import EntropicCoupling as EntropicCoupling
from .exact import Exact as Exact
from .gaussian import (
    AffineMap as AffineMap,
    Gaussian as Gaussian,
    bures as bures,
    gaussian_map as gaussian_map,
    gaussian_wasserstein as gaussian_wasserstein,
)
from .gaussian_barycenter import (
    GaussianBarycenter as GaussianBarycenter,
    gaussian_barycenter as gaussian_barycenter,
)
from .line import Line as Line
from .low_rank import LowRank as LowRank
from .low_rank_coupling import LowRankCoupling as LowRankCoupling
from .sinkhorn import Sinkhorn as Sinkhorn
from .sinkhorn_divergence import sinkhorn_divergence as sinkhorn_divergence
from .sliced import (
    Sliced as Sliced,
    SlicedDistance as SlicedDistance,
    sliced_wasserstein as sliced_wasserstein,
)
from .square_root import square_root as square_root
from .transport import AbstractSolver as AbstractSolver, Transport as Transport
from .unbalanced import Unbalanced as Unbalanced
from .unbalanced_divergence import unbalanced_sinkhorn_divergence as unbalanced_sinkhorn_divergence
from .unbalanced_exact import UnbalancedExact as UnbalancedExact
from .unbalanced_line import UnbalancedLine as UnbalancedLine
from .wasserstein import optimal_transport as optimal_transport, wasserstein as wasserstein
