"""Measures and where they live: points with nonnegative weights, and the domains that hold them.

A token sequence of length n is a measure with n atoms of mass 1/n. An atom of zero weight is
absent: that is how measures are padded, stacked and batched.
"""

from .conditional import ConditionalMeasure as ConditionalMeasure
from .domain import (
    AbstractDomain as AbstractDomain,
    Ball as Ball,
    LayerNormRange as LayerNormRange,
    Sphere as Sphere,
)
from .expected import check_any_measure as check_any_measure, check_measures as check_measures
from .measure import Measure as Measure
from .results import RESULTS as RESULTS
from .stack import stack as stack
