"""Files that are not safetensors, recognised by their first bytes: never parsed, only named."""

import re

from .error import ModelError


_CONVERT = (
    "Pickle files are never loaded, because they can run code. Convert once, in an environment "
    "that has torch and transformers: model.save_pretrained(DIR, safe_serialization=True)."
)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
_OTHERS = (
    (rb"version https://git-lfs", "is a git-LFS pointer, not the weights. Run: git lfs pull"),
    # a protocol number and an opcode: the length of a header never looks like this
    (rb"\x80[\x01-\x05][^\x00]", f"is a pickle. {_CONVERT}"),
    (rb"PK\x03\x04", f"is a zip archive (torch saves pickles this way). {_CONVERT}"),
    (rb"GGUF", "is a GGUF file, which is not supported. Use the safetensors of the same model."),
    (rb"\x89HDF", "is an HDF5 file, which is not supported. Use the safetensors of the model."),
    (rb"\x1f\x8b\x08", "is compressed with gzip. Unpack it first."),
    (
        rb"\s*<[!?a-zA-Z][a-zA-Z-]",
        "is an HTML or XML page, not weights (a download that asked for a login?). Download the "
        "file itself.",
    ),
)


def refuse_foreign(head: bytes, where: str) -> None:
    """Says what a file is that cannot be loaded; does nothing for one that may be safetensors.

    Args:
      head: the first bytes of the file (256 are enough).
      where: its name, for messages.

    Raises:
      ModelError: the file is of a kind known not to be safetensors.
    """
    if head[8:9] == b"{":
        return
    for magic, what in _OTHERS:
        if re.match(magic, head, re.DOTALL):
            raise ModelError(f"{where}: {what}")


def refuse_pickle(names: list[str], where: str) -> None:
    """Says what to do with a folder whose only weights are pickles.

    Raises:
      ModelError: always; it names the pickles, or what else is there.
    """
    pickles = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    if pickles:
        raise ModelError(f"{where}: the weights are in {pickles[0]}. {_CONVERT}")
    there = ", ".join(sorted(names)[:12]) or "nothing"
    raise ModelError(
        f"{where}: no model.safetensors (or model.safetensors.index.json) here; there is: {there}."
    )
