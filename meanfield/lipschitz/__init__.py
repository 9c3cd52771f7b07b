"""Lipschitz constants of maps between measures: at a measure, and on a domain.

A `Bound` is a proved number; it carries its logarithm, its domain and the name of its theorem.
"""

from .ball import WassersteinBall as WassersteinBall
from .bound import Bound as Bound, smallest as smallest
from .certificate import (
    certificate_curve as certificate_curve,
    certify as certify,
    displacement_bound as displacement_bound,
)
from .certificates.kinds import local_model as local_model
from .ellipsoid import enclosing as enclosing
from .images import image as image
from .jacobian import LinearisedMap as LinearisedMap, jacobian as jacobian
from .layers import lipschitz_bound as lipschitz_bound
from .local import LocalLipschitz as LocalLipschitz, local_lipschitz as local_lipschitz
from .slopes import Slopes as Slopes, query_directions as query_directions, slopes as slopes
from .theorems import lipschitz_bounds as lipschitz_bounds
from .upper import upper_at as upper_at
from .worst import (
    WorstMeasure as WorstMeasure,
    hardmax_limit as hardmax_limit,
    two_dirac_bound as two_dirac_bound,
    worst_measure as worst_measure,
)
