"""Rotary positions as config.json describes them, old files and new."""

import math

import jax.numpy as jnp
import numpy as np

from meanfield.attention import Rotary

from .config import Config
from .error import ModelError


# longrope changes its map with the length of the input; dynamic does so beyond the trained length,
# which no input of ours exceeds
_KNOWN = ("default", "linear", "llama3", "dynamic", "yarn")


def read_rotary(config: Config, head_dim: int) -> Rotary:
    """The rotary positions of a Llama-like config.

    New files say `rope_parameters: {rope_theta, rope_type, ...}`, older ones `rope_theta` and
    `rope_scaling: {type or rope_type, factor, ...}`.

    Raises:
      ModelError: a rope_type other than default, linear, llama3, dynamic or yarn.
    """
    config.expect("partial_rotary_factor", 1.0)
    section = _section(config)
    section.expect("partial_rotary_factor", 1.0)
    theta = (section if "rope_theta" in section else config).number("rope_theta", 10000.0)
    kind = _kind(section)
    if kind in ("default", "dynamic"):
        return Rotary(theta)
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    if kind == "linear":
        scaled = frequencies / section.number("factor")
    elif kind == "llama3":
        scaled = _llama3(frequencies, section)
    else:
        scaled = frequencies * _yarn(theta, head_dim, section, _trained(config, section))
    return Rotary(theta, None, jnp.asarray(scaled, jnp.result_type(float)))


def sharpening(config: Config) -> float:
    """What YaRN multiplies scores by; one for other positions."""
    section = _section(config)
    if _kind(section) != "yarn":
        return 1.0
    if "attention_factor" in section:
        return section.number("attention_factor") ** 2
    factor = section.number("factor")
    if "mscale" in section and "mscale_all_dim" in section:
        above, below = section.number("mscale"), section.number("mscale_all_dim")
        return (_growth(factor, above) / _growth(factor, below)) ** 2
    return _growth(factor) ** 2


def _section(config: Config) -> Config:
    return config.section("rope_parameters" if "rope_parameters" in config else "rope_scaling")


def _kind(section: Config) -> str:
    name = "type" if "type" in section and "rope_type" not in section else "rope_type"
    return section.word(name, "default", _KNOWN)


def _growth(factor: float, slope: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * slope * math.log(factor) + 1.0


def _trained(config: Config, section: Config) -> float:
    """The length that the model was trained on before its positions were stretched."""
    name = "original_max_position_embeddings"
    return section.number(name) if name in section else config.number("max_position_embeddings")


def _yarn(theta: float, head_dim: int, section: Config, trained: float) -> np.ndarray:
    """Rotations that turn often within the trained length are kept, slow ones are slowed."""
    fast, slow = section.number("beta_fast", 32.0), section.number("beta_slow", 1.0)
    if theta <= 1:
        raise ModelError(f"{section.where}: rope_theta must be above 1 for yarn; got {theta}.")
    start, stop = (
        head_dim * math.log(trained / (2 * math.pi * turns)) / (2 * math.log(theta))
        for turns in (fast, slow)
    )
    if section.flag("truncate", True):
        start, stop = math.floor(start), math.ceil(stop)
    start, stop = max(start, 0), min(stop, head_dim - 1)
    stop += 0.001 * (start == stop)
    slowed = np.clip((np.arange(head_dim // 2) - start) / (stop - start), 0, 1)
    return 1 - slowed + slowed / section.number("factor")


def _llama3(frequencies: np.ndarray, section: Config) -> np.ndarray:
    """Slow rotations are slowed by `factor`, fast ones kept, those between interpolated."""
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    turns = section.number("original_max_position_embeddings") * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return frequencies * (kept + (1 - kept) / section.number("factor"))
