"""Files that are not safetensors, recognised by their first bytes: never parsed, only named."""

from .error import ModelError


_CONVERT = (
    "Pickle files are never loaded, because they can run code. Convert once, in an environment "
    "that has torch and transformers: model.save_pretrained(DIR, safe_serialization=True)."
)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
_OTHERS = (
    (b"version https://git-lfs", "is a git-LFS pointer, not the weights. Run: git lfs pull"),
    (b"\x80", f"is a pickle. {_CONVERT}"),
    (b"PK\x03\x04", f"is a zip archive (torch saves pickles this way). {_CONVERT}"),
    (b"GGUF", "is a GGUF file, which is not supported. Use the safetensors of the same model."),
    (b"\x89HDF", "is an HDF5 file, which is not supported. Use the safetensors of the model."),
    (b"\x1f\x8b", "is compressed with gzip. Unpack it first."),
)


def refuse_foreign(head: bytes, where: str) -> None:
    """Says what a file is that cannot be loaded; does nothing for one that may be safetensors.

    Args:
      head: the first bytes of the file (256 are enough).
      where: its name, for messages.

    Raises:
      ModelError: the file is of a kind known not to be safetensors.
    """
    for magic, what in _OTHERS:
        # eight bytes 80 00 .. are also the length 128 of a safetensors header
        if head.startswith(magic) and head[8:9] != b"{":
            raise ModelError(f"{where}: {what}")
    if head.lstrip()[:1] == b"<" and head[8:9] != b"{":
        raise ModelError(
            f"{where}: is an HTML or XML page, not weights (a download that asked for a login?). "
            "Download the file itself."
        )


def refuse_pickle(names: list[str], where: str) -> None:
    """Says what to do with a folder whose only weights are pickles.

    Raises:
      ModelError: always; it names the pickles, or what else is there.
    """
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        raise ModelError(f"{where}: the weights are in {pickles[0]}. {_CONVERT}")
    there = ", ".join(sorted(names)[:12]) or "nothing"
    raise ModelError(
        f"{where}: no model.safetensors (or model.safetensors.index.json) here; there is: {there}."
    )
