"""Optimal transport between measures: couplings of least cost and Wasserstein distances."""

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
from .exact import Exact as Exact
from .line import Line as Line
from .transport import AbstractSolver as AbstractSolver, Transport as Transport
from .wasserstein import optimal_transport as optimal_transport, wasserstein as wasserstein
