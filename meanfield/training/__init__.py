"""Training as a flow of measures, and what it conserves."""

from meanfield.attention.balance import (
    balance_gauge as balance_gauge,
    balancedness as balancedness,
)

from .attention_laws import (
    attention_laws as attention_laws,
    homogeneity as homogeneity,
    layer_laws as layer_laws,
)
from .continuous import ContinuousResNet as ContinuousResNet
from .convergence import (
    ConvergenceBall as ConvergenceBall,
    convergence_ball as convergence_ball,
    convergence_radius as convergence_radius,
)
from .deep_linear import (
    SharpnessBounds as SharpnessBounds,
    balanced_minimizer as balanced_minimizer,
    imbalance_of as imbalance_of,
    minimizer_sharpness as minimizer_sharpness,
    sharpness_bounds as sharpness_bounds,
)
from .deep_linear_descent import StepSweep as StepSweep, sweep_steps as sweep_steps
from .distance import (
    index_layer_distances as index_layer_distances,
    layer_distances as layer_distances,
)
from .dynamics import (
    AbstractDynamics as AbstractDynamics,
    GradientDynamics as GradientDynamics,
    MirrorDynamics as MirrorDynamics,
    MomentumDynamics as MomentumDynamics,
)
from .ends import Fixed as Fixed, Pooled as Pooled
from .factorization import (
    AbstractFactorization as AbstractFactorization,
    LinearNetwork as LinearNetwork,
    MonomialMap as MonomialMap,
    ReLUNetwork as ReLUNetwork,
)
from .field import (
    adjoint_field as adjoint_field,
    first_variation as first_variation,
    gradient_field as gradient_field,
    squared_slope as squared_slope,
)
from .gradient_flow import gradient_flow as gradient_flow
from .kernel import conditional_kernel as conditional_kernel, outer_kernel as outer_kernel
from .landscape import (
    PolyakLojasiewicz as PolyakLojasiewicz,
    polyak_lojasiewicz as polyak_lojasiewicz,
)
from .lie_rank import LieRank as LieRank, count_laws as count_laws, lie_rank as lie_rank
from .loss import CrossEntropy as CrossEntropy, SquaredError as SquaredError, risk as risk
from .method import AbstractMethod as AbstractMethod, Euler as Euler, Heun as Heun
from .monitor import LawMonitor as LawMonitor, law_terms as law_terms
from .proximal import Proximal as Proximal
from .quadratic_laws import (
    QuadraticLaws as QuadraticLaws,
    find_quadratic_laws as find_quadratic_laws,
)
from .record import Record as Record
from .residuals.heads import AttentionHeads as AttentionHeads
from .residuals.hidden_layer import SingleHiddenLayer as SingleHiddenLayer
from .residuals.linear import (
    DeepLinear as DeepLinear,
    LinearInFeatures as LinearInFeatures,
    RandomFeatures as RandomFeatures,
)
from .residuals.residual import AbstractResidual as AbstractResidual
from .resnet import MeanFieldResNet as MeanFieldResNet
from .run import BallTest as BallTest, Training as Training
from .transformation import Optax as Optax
