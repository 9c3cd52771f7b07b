"""`load`: from a path to a `Transformer`. Numpy alone: no pickle, no torch, no network."""

from pathlib import Path
from typing import TYPE_CHECKING

from . import zoo
from .architecture import Architecture, check_told, describe
from .checkpoint import Checkpoint, open_checkpoint
from .config import Config
from .error import ModelError
from .families import IMAGE_FAMILIES
from .files import weight_files
from .misplaced import refuse_misplaced


if TYPE_CHECKING:
    import meanfield.models.transformer

    from .parts import Parts
    from .tokenizer import AbstractTokenizer


def load(
    path: str | Path, *, architecture: Architecture | None = None, dtype: str = "float32"
) -> "meanfield.models.transformer.Transformer":
    """A pretrained transformer from files on this machine.

    Args:
      path: a folder with config.json and model.safetensors (or shards with their index), a
        safetensors file beside its config.json, a llama2.c `.bin` file, or the name of a model that
        ships with the package ("shakespeare-gpt", "digits-vit").
      architecture: what weights without a config.json are (or with one that lacks something);
        what was assumed beyond it stands in `model.assumed`.
      dtype: "float32", or "float64" (needs `jax_enable_x64`). Half-precision weights are made
        float32 first.

    Raises:
      ModelError: files that are absent, damaged, dangerous or of an architecture that is not
        supported; the message names the file and says what to do.
    """
    _check_dtype(dtype)
    path = locate(path, architecture)
    if is_llama2c(path, architecture):
        from .llama2c import read_llama2c

        checkpoint, config, tokenizer, files = read_llama2c(path, dtype)
        return assemble(checkpoint, config, "llama", path, files, tokenizer)
    from .tokenizer_files import find_tokenizer

    described = config_path(path)
    checkpoint, config, family = open_described(path, architecture, dtype)
    text = family not in IMAGE_FAMILIES
    tokenizer, files = find_tokenizer(described.parent, family) if text else (None, ())
    weights = sorted({tensor.path for tensor in checkpoint.tensors.values()})
    sources = (*([described] if described.is_file() else []), *weights, *files)
    return assemble(checkpoint, config, family, path, sources, tokenizer, architecture)


def weight_bytes(path: str | Path, *, architecture: Architecture | None = None) -> int:
    """How many bytes the weight files of a model have; nothing in them is read.

    Raises:
      ModelError: there is no model.
    """
    found = locate(path, architecture)
    return sum(file.stat().st_size for file in weight_files(found)[0])


def open_described(
    path: Path, architecture: Architecture | None, dtype: str = "float32"
) -> tuple[Checkpoint, Config, str]:
    """The tensors of a safetensors model, its fields and its family."""
    described = config_path(path)
    family = None if architecture is None else architecture.family
    if described.is_file() and family is None:  # before any weight is looked at
        _, family = describe(described, path, None, {})
    checkpoint = open_checkpoint(path, dtype)
    if family is not None:
        checkpoint.rename(family)
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    return checkpoint, *describe(described, path, architecture, shapes)


def is_llama2c(path: Path, architecture: Architecture | None) -> bool:
    """Whether a path is a llama2.c file, which says all of itself.

    Raises:
      ModelError: it is, and something was told about it.
    """
    flat = path.is_file() and path.suffix != ".safetensors"
    if flat and architecture is not None:
        raise ModelError(
            f"{path}: a llama2.c file says what it is; --arch (Architecture) is for safetensors."
        )
    return flat


def locate(path: str | Path, architecture: Architecture | None = None) -> Path:
    """The model at a path, or the shipped one of that name where there is no such path.

    Raises:
      ModelError: neither exists, or a folder without config.json that nothing else describes.
    """
    try:
        return _locate(str(path), architecture)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from None


def _locate(name: str, architecture: Architecture | None) -> Path:
    path = Path(name)
    if not path.exists() and name in zoo.NAMES:
        return zoo.path(name)
    refuse_misplaced(path)
    if path.is_dir():
        if not config_path(path).is_file() and architecture is None:
            raise ModelError(_undescribed(path))
    elif not path.is_file():
        raise ModelError(
            f"{path}: no such file or folder. Give a folder with config.json and *.safetensors, a "
            f"llama2.c .bin file, or one of the shipped models: {', '.join(zoo.NAMES)}."
            f"{_neighbours(path)}"
        )
    return path


def _neighbours(path: Path) -> str:
    """What there is instead of a path that does not exist."""
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.name[:1] != ".")
    return f" {path.parent} has: {', '.join(names[:6])}." if names else ""


def _undescribed(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    there = ", ".join(names[:12]) or "nothing"
    weights = any(name.endswith(".safetensors") for name in names)
    advice = " If these weights have none, say what they are with --arch (Architecture)."
    found = f"{folder}: no config.json in this folder; there is: {there}."
    return found + advice if weights else found


def config_path(path: Path) -> Path:
    """Where the config.json of a folder, or of a safetensors file, is."""
    return (path if path.is_dir() else path.parent) / "config.json"


def assemble(
    checkpoint: Checkpoint,
    config: Config,
    family: str,
    path: Path,
    sources: tuple[Path, ...],
    tokenizer: "AbstractTokenizer | None",
    architecture: Architecture | None = None,
) -> "meanfield.models.transformer.Transformer":
    """The transformer that a checkpoint and a config describe; every tensor accounted for."""
    from .reader import Reader
    from .transformer import Card, Transformer

    parts = _parts(Reader(checkpoint, config), family)
    ignored = checkpoint.finish(*parts.ignorable)
    check_told(architecture, config)
    card = Card(
        family=family,
        path=path,
        config=config.used,
        files=sources,
        parameters=checkpoint.parameters,
        architecture=architecture,
        assumed=config.assumed,
        ignored=ignored,
    )
    return Transformer(
        card,
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
