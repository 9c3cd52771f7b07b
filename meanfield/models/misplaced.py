"""Paths that people give in place of a model: near it, of it, or of another format."""

from pathlib import Path

from .error import ModelError


_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def refuse_misplaced(path: Path) -> None:
    """Says where the model is, or what to make of what is there.

    Raises:
      ModelError: the path is known to be no model.
    """
    told = _folder(path) if path.is_dir() else _file(path)
    if told:
        raise ModelError(f"{path}: {told}")


def _file(path: Path) -> str | None:
    if path.suffix == ".onnx":
        return "is an ONNX file, which is not supported. Use the safetensors of the same model."
    if path.suffix in (".json", ".txt", ".md") or path.name == "tokenizer.model":
        return f"is a file beside a model, not the weights. Give its folder: {path.parent}."
    return None


def _folder(path: Path) -> str | None:
    if any((path / name).exists() for name in _WEIGHTS):
        return None
    if (path / "adapter_config.json").is_file():
        return (
            "holds an adapter, not a model. Merge the adapter first, in an environment with peft: "
            "AutoPeftModel.from_pretrained(DIR).merge_and_unload().save_pretrained(NEW)."
        )
    inner = [*sorted(path.glob("snapshots/*")), path / "0_Transformer"]
    models = [folder for folder in inner if (folder / "config.json").is_file()]
    if models:
        return f"the model is in a folder within: give {models[-1]}."
    if not _pickles(path) and (list(path.glob("*.onnx")) or list(path.glob("onnx/*.onnx"))):
        return "holds ONNX files, which are not supported. Use the safetensors of the same model."
    return None


def _pickles(path: Path) -> bool:
    return any(path.glob("pytorch_model*.bin"))
