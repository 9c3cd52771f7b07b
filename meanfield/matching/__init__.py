"""Matches of measures on different spaces: a coupling and a transform, from many starts."""

from .alternation import Alternation as Alternation
from .cost import (
    InnerProduct as InnerProduct,
    SharedCost as SharedCost,
    SharedFeatures as SharedFeatures,
    SignedDistance as SignedDistance,
    SquaredDistance as SquaredDistance,
)
from .dissimilarities import (
    AbstractLoss as AbstractLoss,
    Dissimilarities as Dissimilarities,
    KullbackLeiblerLoss as KullbackLeiblerLoss,
    SquareLoss as SquareLoss,
)
from .embedding import (
    SignedEmbedding as SignedEmbedding,
    distortion_interval as distortion_interval,
    signed_embedding as signed_embedding,
)
from .entrywise import (
    L1 as L1,
    ElasticNet as ElasticNet,
    Nonnegative as Nonnegative,
    Ridge as Ridge,
    Support as Support,
)
from .estimator import Matcher as Matcher
from .exact_alternation import ExactAlternation as ExactAlternation
from .fused import FusedGromovWasserstein as FusedGromovWasserstein
from .gromov import GromovWasserstein as GromovWasserstein
from .groups import ColumnGroups as ColumnGroups, RowGroups as RowGroups
from .known import KnownPairs as KnownPairs
from .match import Match as Match, Starts as Starts
from .path import (
    RegularizationPath as RegularizationPath,
    regularization_path as regularization_path,
)
from .peers import (
    AbstractPeer as AbstractPeer,
    ConditionalGradient as ConditionalGradient,
    MirrorDescent as MirrorDescent,
    MirrorDescentOTT as MirrorDescentOTT,
)
from .problem import (
    AbstractMatchingProblem as AbstractMatchingProblem,
    CostRegularized as CostRegularized,
)
from .refined import RefinedMatch as RefinedMatch, refined_match as refined_match
from .regularizer import AbstractRegularizer as AbstractRegularizer, Ridged as Ridged
from .scores import (
    foscttm as foscttm,
    label_transfer_accuracy as label_transfer_accuracy,
    support_recovery as support_recovery,
)
from .solve import match as match
from .spectral import Nuclear as Nuclear, Orthogonal as Orthogonal, Rank as Rank
from .unbalanced import UnbalancedGromovWasserstein as UnbalancedGromovWasserstein
