"""`load`: from a path to a `Transformer`. Numpy alone: no pickle, no torch, no network."""

from pathlib import Path
from typing import TYPE_CHECKING

from . import zoo
from .checkpoint import Checkpoint, open_checkpoint
from .config import Config
from .error import ModelError


if TYPE_CHECKING:
    import meanfield.models.transformer

    from .parts import Parts
    from .tokenizer import AbstractTokenizer


SUPPORTED = (
    "bert", "roberta", "distilbert", "mpnet",
    "gpt2",
    "llama", "mistral", "qwen2", "qwen3",
    "vit", "dinov2",
)  # fmt: skip
IMAGE_FAMILIES = ("vit", "dinov2")


def load(path: str | Path, *, dtype: str = "float32") -> "meanfield.models.transformer.Transformer":
    """A pretrained transformer from files on this machine.

    Args:
      path: a folder with config.json and model.safetensors (or shards with their index), a
        safetensors file beside its config.json, a llama2.c `.bin` file, or the name of a model that
        ships with the package ("shakespeare-gpt", "digits-vit").
      dtype: "float32", or "float64" (needs `jax_enable_x64`). Half-precision weights are made
        float32 first.

    Raises:
      ModelError: files that are absent, damaged, dangerous or of an architecture that is not
        supported; the message names the file and says what to do.
    """
    _check_dtype(dtype)
    path = locate(path)
    if path.is_file() and path.suffix != ".safetensors":
        from .llama2c import read_llama2c

        checkpoint, config, tokenizer, files = read_llama2c(path, dtype)
        return assemble(checkpoint, config, "llama", path, files, tokenizer)
    from .tokenizer import find_tokenizer

    described = config_path(path)
    config = Config.read(described)
    family = family_of(config)
    checkpoint = open_checkpoint(path, dtype)
    text = family not in IMAGE_FAMILIES
    tokenizer, files = find_tokenizer(described.parent) if text else (None, ())
    weights = sorted({tensor.path for tensor in checkpoint.tensors.values()})
    return assemble(checkpoint, config, family, path, (described, *weights, *files), tokenizer)


def locate(path: str | Path) -> Path:
    """The model at a path, or the shipped one of that name where there is no such path.

    Raises:
      ModelError: neither exists, or a folder without config.json.
    """
    try:
        return _locate(str(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from None


def _locate(name: str) -> Path:
    path = Path(name)
    if not path.exists() and name in zoo.NAMES:
        return zoo.path(name)
    if path.is_dir():
        if not config_path(path).is_file():
            there = ", ".join(sorted(entry.name for entry in path.iterdir())[:12]) or "nothing"
            raise ModelError(f"{path}: no config.json in this folder; there is: {there}.")
    elif not path.is_file():
        raise ModelError(
            f"{path}: no such file or folder. Give a folder with config.json and *.safetensors, a "
            f"llama2.c .bin file, or one of the shipped models: {', '.join(zoo.NAMES)}."
        )
    return path


def config_path(path: Path) -> Path:
    """Where the config.json of a folder, or of a safetensors file, is."""
    return (path if path.is_dir() else path.parent) / "config.json"


def family_of(config: Config) -> str:
    """The model_type of a config.json, if it is supported.

    Raises:
      ModelError: another architecture; the message lists those supported.
    """
    family = config.fields.get("model_type")
    if family not in SUPPORTED:
        raise ModelError(
            f"{config.where}: model_type {str(family)[:60]!r} is not supported; supported are "
            f"{', '.join(SUPPORTED)}, and llama2.c .bin files."
        )
    if config.fields.get("quantization_config") is not None:
        raise ModelError(
            f"{config.where}: the checkpoint is quantised, which is not supported. Use the model "
            "in float32, float16 or bfloat16."
        )
    return family


def assemble(
    checkpoint: Checkpoint,
    config: Config,
    family: str,
    path: Path,
    sources: tuple[Path, ...],
    tokenizer: "AbstractTokenizer | None",
) -> "meanfield.models.transformer.Transformer":
    """The transformer that a checkpoint and a config describe; every tensor accounted for."""
    from .reader import Reader
    from .transformer import Card, Transformer

    parts = _parts(Reader(checkpoint, config), family)
    checkpoint.finish(*parts.ignorable)
    return Transformer(
        Card(family, path, config.used, sources, checkpoint.parameters),
        parts.embedding,
        parts.entry,
        parts.layers,
        parts.final_norm,
        parts.head,
        tokenizer,
        parts.causal,
        parts.ordered,
    )


def _parts(reader, family: str) -> "Parts":
    # each architecture in a file of its own, imported when it is needed
    if family in ("bert", "roberta", "distilbert", "mpnet"):
        from . import bert as architecture
    elif family == "gpt2":
        from . import gpt2 as architecture
    elif family in IMAGE_FAMILIES:
        from . import vit as architecture
    else:
        from . import llama as architecture
    return architecture.read(reader, family)


def _check_dtype(dtype: str) -> None:
    if dtype not in ("float32", "float64"):
        raise ModelError(f"`dtype` must be 'float32' or 'float64'; got {dtype!r}.")
    if dtype == "float64":
        import jax

        if not jax.config.read("jax_enable_x64"):
            raise ModelError(
                "`dtype` 'float64' needs jax.config.update('jax_enable_x64', True) first."
            )
