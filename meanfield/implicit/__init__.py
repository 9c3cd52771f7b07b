"""Derivatives of what is defined by an equation, taken at a refined solution."""

from .refine import (
    AbstractRefinement as AbstractRefinement,
    Newton as Newton,
    Preconditioned as Preconditioned,
    Unrefined as Unrefined,
)
from .root import RefinedRoot as RefinedRoot, refined_root as refined_root
