"""How a search ended, in words that say what to try next."""

import equinox as eqx


class RESULTS(eqx.Enumeration):
    """The status of a solution; compare with `==`, print for the advice."""

    successful = ""
    max_steps_reached = (
        "The search for the largest singular value used `max_steps` products before its residual "
        "fell below `rtol`. Raise `max_steps`, raise `rtol`, or pass throw=False: the value is "
        "still a lower bound."
    )
    not_finite = (
        "The derivative at this measure is not finite. Look for NaN or infinity in the points and "
        "in the arrays of the map, and, in float32, for scores beyond 1e37."
    )
