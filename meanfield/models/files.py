"""Which files hold the weights of a model: one safetensors file, or shards with their index."""

import re
from pathlib import Path

from .document import read_json
from .error import ModelError
from .foreign import refuse_foreign, refuse_pickle
from .header import read_header
from .tensor import Tensor


_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def open_tensors(path: Path) -> list[Tensor]:
    """The tensors of one safetensors file, its header checked."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            refuse_foreign(file.read(256), str(path))
            file.seek(0)
            entries = read_header(file, size, str(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from None
    return [Tensor(entry, path) for entry in entries]


def weight_files(path: Path) -> tuple[list[Path], dict[str, str]]:
    """The safetensors files of a model, and the map from tensors to files of its index."""
    if path.is_file():
        return [path], {}
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.is_file():
        return [single], {}
    if not index.is_file():
        refuse_pickle([entry.name for entry in path.iterdir()], str(path))
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(f, str) for f in places.values()):
        raise ModelError(f"{index}: weight_map must map tensor names to file names.")
    return [_shard(path, name) for name in sorted(set(places.values()))], places


def _shard(folder: Path, name: str) -> Path:
    """A shard in the folder itself: a bare name, no link that leaves it."""
    if not name or name != Path(name).name or name in (".", "..") or "\\" in name or "\0" in name:
        raise ModelError(
            f"{folder}: the index names the shard {name[:80]!r}; only bare file names are followed."
        )
    file = folder / name
    if not file.is_file():
        raise ModelError(f"{folder}: the shard {name!r} of the index is absent. Download it.")
    here, there = folder.resolve(), file.resolve().parent
    # caches keep files as links to blobs/, named by their hash
    cached = there.name == "blobs" and bool(_HASH.fullmatch(file.resolve().name))
    cached |= here.parent.name == "snapshots" and there == here.parent.parent / "blobs"
    if there != here and not cached:
        raise ModelError(f"{folder}: the shard {name!r} is a link that leaves the folder. Copy it.")
    return file
