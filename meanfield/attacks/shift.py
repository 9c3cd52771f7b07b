"""The attack that moves tokens and splits none."""

from jaxtyping import PRNGKeyArray

from ..attention import AbstractInContextMap, AnyMeasure
from ..measure import AbstractDomain
from .attack import AbstractAttackMethod, Attack
from .objective import AbstractObjective, OutputDisplacement
from .splitting import MassSplitting, search_within


class TokenShift(AbstractAttackMethod):
    r"""Move the atoms as they are written, $x_i \to x_i + w_i$ with
    $(\sum_i a_i |w_i|^p)^{1/p} \le \epsilon$.

    An atom written twice counts as two tokens that may part, as in a sequence with repeated tokens.

    Args:
      budget, p, domain, max_displacement, objective, starts, steps: see `MassSplitting`.
    """

    settings: MassSplitting

    def __init__(
        self,
        budget: float | int,
        p: float | int = 2,
        domain: AbstractDomain | None = None,
        max_displacement: float | int | None = None,
        objective: AbstractObjective = OutputDisplacement(),
        starts: int = 8,
        steps: int = 80,
    ):
        self.settings = MassSplitting(
            budget=budget,
            p=p,
            copies=1,
            free_mass=False,
            domain=domain,
            max_displacement=max_displacement,
            objective=objective,
            starts=starts,
            steps=steps,
        )

    def search(self, f: AbstractInContextMap, mu: AnyMeasure, key: PRNGKeyArray) -> Attack:
        return search_within(self.settings, f, mu, key, merge=False)
