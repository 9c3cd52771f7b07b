"""The two parts of the derivative of one head at each query: norms of D_i and of the row N_i."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .powers import largest_eigenvalue, operator_norm


# Queries are taken so many at a time that their centred features are about this many numbers.
_BLOCK = 2**20


class HeadScene(eqx.Module):
    """What a head sees, with its output projection R in the values and its query projection L in
    the keys (or in the twist): then |D_i| = |C_i| with C_i made of these alone.

    Attributes:
      shares: P_ij.
      slopes: c_ij, the slopes of the soft cap, or None for 1.
      reach: bounds on |b_ij|, one a query or one a pair.
      keys: L^T k_j, or k_j where there is a twist.
      values: R v_j.
      twist: T_i L, or None.
      direct: R V V^T R^T.
    """

    shares: Float[Array, "*H n n"]
    slopes: Float[Array, "*H n n"] | None
    reach: Float[Array, "*H n m"]
    keys: Float[Array, "*H n p"]
    values: Float[Array, "*H n v"]
    twist: Float[Array, "*H n k p"] | None
    direct: Float[Array, "*H v v"]


def head_norms(scene: HeadScene, steady: bool) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """For each query of one head: bounds on |D_i| and on the norm of the row N_i.

    `steady`: whether b_ij is the same for all j, and there is no soft cap.
    """
    n, width = scene.values.shape[0], scene.values.shape[1] + scene.keys.shape[1]
    block = max(1, min(n, _BLOCK // (n * width)))

    def one(query):
        shares, slopes, reach, twist = query
        cross, second = _moments(scene, shares, slopes, reach)
        local = operator_norm(cross if twist is None else cross @ twist)
        if steady:
            return local, jnp.sqrt(largest_eigenvalue(scene.direct + second))
        return local, direct + jnp.sqrt(largest_eigenvalue(second))

    direct = jnp.sqrt(largest_eigenvalue(scene.direct, squarings=5))
    queries = (scene.shares, scene.slopes, scene.reach, scene.twist)
    return jax.lax.map(one, queries, batch_size=block)


def _moments(scene: HeadScene, shares, slopes, reach) -> tuple[Array, Array]:
    """The second moments that the two parts of the derivative see, for one query i.

    With xi_j = v_j - mean and c_j the slope of the soft cap (1 without),
    C = sum_j P_j c_j xi_j k_j^T  and  S = sum_j P_j c_j^2 |b_j|^2 xi_j xi_j^T.
    Values are centred before they are multiplied: a difference of two moments would lose half of
    the digits, and all of float32's, where one atom has nearly all of the shares.
    """
    xi = scene.values - shares @ scene.values
    bent = shares if slopes is None else shares * slopes
    keys = scene.keys - shares @ scene.keys if slopes is None else scene.keys
    weight = (bent if slopes is None else bent * slopes) * reach**2
    return (bent[:, None] * xi).T @ keys, (weight[:, None] * xi).T @ xi
