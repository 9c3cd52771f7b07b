"""Attacks: measures near a measure, found by search, whose images lie far apart.

An attack is a lower bound on what can happen, with exact distances; a certificate is an upper one.
"""

from .attack import AbstractAttackMethod as AbstractAttackMethod, Attack as Attack, attack as attack
from .objective import (
    AbstractObjective as AbstractObjective,
    OutputDisplacement as OutputDisplacement,
    TargetDirection as TargetDirection,
    TaskLoss as TaskLoss,
)
from .peeling import MassPeeling as MassPeeling
from .repetition import TokenRepetition as TokenRepetition
from .shift import TokenShift as TokenShift
from .splitting import MassSplitting as MassSplitting
from .substitution import TokenSubstitution as TokenSubstitution
from .texts import TokenAttack as TokenAttack
