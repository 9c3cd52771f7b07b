"""Rotary positions as config.json describes them, old files and new."""

import math

import jax.numpy as jnp
import numpy as np

from meanfield.attention import Rotary

from .config import Config


# yarn, dynamic and longrope change with the length of the input: not one fixed map
_KNOWN = ("default", "linear", "llama3")


def read_rotary(config: Config, head_dim: int) -> Rotary:
    """The rotary positions of a Llama-like config.

    New files say `rope_parameters: {rope_theta, rope_type, ...}`, older ones `rope_theta` and
    `rope_scaling: {type or rope_type, factor, ...}`.

    Raises:
      ModelError: a rope_type other than default, linear or llama3.
    """
    config.expect("partial_rotary_factor", 1.0)
    section = config.section("rope_parameters" if "rope_parameters" in config else "rope_scaling")
    section.expect("partial_rotary_factor", 1.0)
    theta = (section if "rope_theta" in section else config).number("rope_theta", 10000.0)
    name = "type" if "type" in section and "rope_type" not in section else "rope_type"
    kind = section.word(name, "default", _KNOWN)
    if kind == "default":
        return Rotary(theta)
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    scaled = (
        frequencies / section.number("factor")
        if kind == "linear"
        else _llama3(frequencies, section)
    )
    return Rotary(theta, None, jnp.asarray(scaled, jnp.result_type(float)))


def _llama3(frequencies: np.ndarray, section: Config) -> np.ndarray:
    """Slow rotations are slowed by `factor`, fast ones kept, those between interpolated."""
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    turns = section.number("original_max_position_embeddings") * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return frequencies * (kept + (1 - kept) / section.number("factor"))
