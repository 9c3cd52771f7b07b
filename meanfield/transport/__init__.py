"""Optimal transport between measures: couplings of least cost and Wasserstein distances."""

from .conditional import conditional_wasserstein as conditional_wasserstein
from .cost import AbstractCost as AbstractCost, PowerCost as PowerCost
from .coupling import RESULTS as RESULTS, AbstractSolver as AbstractSolver, Transport as Transport
from .exact import Exact as Exact
from .wasserstein import optimal_transport as optimal_transport, wasserstein as wasserstein
