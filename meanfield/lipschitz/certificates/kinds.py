"""Which model of what is known around a measure belongs to which kind of map."""

import itertools
from functools import singledispatch

from meanfield.attention import (
    MLP,
    AbstractAttention,
    AbstractInContextMap,
    Affine,
    CausalAttention,
    Composition,
    LayerNorm,
    Residual,
    RMSNorm,
)

from .attention import AttentionModel
from .chain import ChainModel, ResidualModel
from .head import Atoms
from .model import LocalModel
from .perceptron import PerceptronModel
from .point_chain import PointChain, PointResidual
from .points import AffineModel, NormModel, PointModel


@singledispatch
def local_model(f: AbstractInContextMap, atoms: Atoms) -> LocalModel:
    """What is known of a map around a measure.

    Raises:
      TypeError: for a map without a rule; register one with `local_model.register`.
    """
    raise TypeError(
        f"`f` has no certificate on a ball: {type(f).__name__} has no rule. Softmax attention, "
        "CausalAttention, Affine, LayerNorm, RMSNorm, MLP, Residual and Composition have; "
        "others register one with `meanfield.lipschitz.local_model.register`."
    )


@local_model.register
def _(f: AbstractAttention, atoms: Atoms) -> LocalModel:
    return AttentionModel(f, atoms)


@local_model.register
def _(f: CausalAttention, atoms: Atoms) -> LocalModel:
    return AttentionModel(f.attention, atoms, f.mask)


@local_model.register
def _(f: Affine, atoms: Atoms) -> LocalModel:
    _check_dim(atoms, f.weight.shape[1])
    return AffineModel(f, atoms)


@local_model.register(LayerNorm)
@local_model.register(RMSNorm)
def _(f: LayerNorm | RMSNorm, atoms: Atoms) -> LocalModel:
    _check_dim(atoms, f.gamma.shape[0])
    return NormModel(f, atoms)


@local_model.register
def _(f: MLP, atoms: Atoms) -> LocalModel:
    _check_dim(atoms, f.weight_in.shape[1])
    return PerceptronModel(f, atoms)


@local_model.register
def _(f: Residual, atoms: Atoms) -> LocalModel:
    inner, scale = local_model(f.f, atoms), float(f.scale)
    if isinstance(inner, PointModel):
        return PointResidual(inner, scale)
    return ResidualModel(inner, scale)


@local_model.register
def _(f: Composition, atoms: Atoms) -> LocalModel:
    models: list[LocalModel] = []
    here = atoms
    for one in f.maps:
        models.append(local_model(one, here))
        here = here.at(models[-1].image)
    links = _joined(models) or [PointChain([], atoms)]
    return links[0] if len(links) == 1 else ChainModel(links, atoms)


def _joined(models: list[LocalModel]) -> list[LocalModel]:
    """Neighbouring maps of points are one."""
    links: list[LocalModel] = []
    for _, group in itertools.groupby(models, lambda model: isinstance(model, PointModel)):
        run = list(group)
        points = [model for model in run if isinstance(model, PointModel)]
        links += [PointChain(points, run[0].atoms)] if len(points) > 1 else run
    return links


def _check_dim(atoms: Atoms, dim: int) -> None:
    if atoms.points.shape[1] != dim:
        raise ValueError(
            f"`mu` must have points of dimension {dim}, that of the map; got "
            f"{atoms.points.shape[1]}."
        )
