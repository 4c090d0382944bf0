"""Scanning a checkpoint: the name, shape and dtype of every tensor, without reading the tensors."""

import math
import os
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..images import unusual
from .files import as_path, check_file, read_json
from .layout import PLUGINS, official_name

# Older files that hold the projector of a plugin alone, and what they lack.
PROJECTOR_ONLY = {
    "clip_vision_embedding": ("clip_vision_model_projector.pt", "the CLIP tower"),
    "stable_diffusion_head": ("unet_projector.pt", "the VAE and the U-Net"),
}
# The first bytes of what `torch.save` writes since version 1.6, and of what it wrote before.
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
# What safetensors and torch raise for a damaged file, depending on where it is cut or changed.
DAMAGED = (SafetensorError, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError)
DAMAGED += (AssertionError, AttributeError, struct.error)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, described but not read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class StoredPart:
    """One part of the model as the files hold it.

    path: the file that error messages name.
    tensors: by official name.
    """

    path: Path
    tensors: dict[str, StoredTensor]


def can_be_mapped(path: Path) -> bool:
    """Whether a file of tensors can be mapped into memory.

    Files in torch's format from before version 1.6 cannot: they are no zip archives, but pickles.

    Raises:
        ValueError: if the file begins like none of these.
    """
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(40)
    if not start.startswith((ZIP, PICKLE)):
        raise ValueError(f"{path} is no file of tensors that torch wrote; it begins with {start}")
    return start.startswith(ZIP)


def map_tensors(path: Path, location: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.bin` or `.pt` file, mapped into memory.

    Args:
        path: the file.
        location: where the tensors of a file go that cannot be mapped: "cpu" reads all of them,
            "meta" reads through the file and keeps names, shapes and dtypes alone.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is empty, a Git LFS pointer or damaged, is a pickle that holds more
            than tensors (code in a pickle is never run), or holds a tensor that is sparse or has no
            values.
    """
    check_file(path)
    mappable = can_be_mapped(path)
    location = "cpu" if mappable else location
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location=location, weights_only=True, mmap=mappable)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is a pickle that holds more than tensors and could run code, so it was "
            f"refused: {error}"
        ) from error
    except DAMAGED as error:
        raise ValueError(f"{path} cannot be read, it may be cut short: {error}") from error
    if isinstance(tensors, Tensor):  # the oldest files of dream queries hold them without a name
        return {path.stem: tensors}
    if not isinstance(tensors, dict):
        raise ValueError(f"{path} holds more than named tensors: {type(tensors).__name__}")
    others = [
        name
        for name, value in tensors.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if others:
        raise ValueError(f"{path} holds more than named tensors: {others[:5]}")
    for name, value in tensors.items():
        fault = unusual(value)
        if fault and not (value.is_meta and location == "meta"):
            raise ValueError(f"{path}: {name} is {fault}; weights are stored with all their values")
    return tensors


def scan_file(path: Path, names: set[str] | None = None) -> dict[str, StoredTensor]:
    """The tensors of a file by official name.

    Args:
        path: the file.
        names: the tensors that the file should hold according to its index.

    Raises:
        ValueError: if the file and its index differ, or if two names mean the same tensor; further
            errors as in `map_tensors`.
    """
    tensors, found = map_tensors(path, "meta"), {}
    if names is not None and names != set(tensors):
        differ = sorted(names ^ set(tensors))[:5]
        raise ValueError(f"{path} and its index name different tensors: {differ}")
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in PLUGINS.values() if name.startswith(prefix)), "")
        official = official_name(name.removeprefix(prefix))
        if official is None:
            continue
        if earlier := found.get(prefix + official):
            raise ValueError(f"{path} holds {official} twice: as {earlier.name} and as {name}")
        found[prefix + official] = StoredTensor(path, name, tuple(tensor.shape), tensor.dtype)
    return found


def scan_shards(index: Path) -> dict[str, StoredTensor]:
    """The tensors of all shards that an index lists; errors as in `scan_llm`."""
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f'{index} has no "weight_map" that assigns each tensor to a shard')
    for name, shard in listed.items():
        # A path could lead out of the folder, and nothing outside of it is read.
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".."):
            raise ValueError(f"{index} assigns {name} to {shard!r}; shards are files beside it")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(listed.values())):
        path = index.parent / shard
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; {index.name} lists it")
        tensors |= scan_file(path, {name for name, file in listed.items() if file == shard})
    return tensors


def scan_llm(folder: Path) -> StoredPart:
    """The tensors of the language model, from one file or from shards with an index.

    If there are several, the first is taken in the order in which transformers searches.

    Raises:
        FileNotFoundError: if there is no such file, or a shard is missing.
        ValueError: if a file is damaged or contradicts the index.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        single, index = folder / name, folder / f"{name}.index.json"
        if is_there(single):
            return StoredPart(single, scan_file(single))
        if is_there(index):
            return StoredPart(index, scan_shards(index))
    raise FileNotFoundError(
        f"{folder} holds no language model: there is no model.safetensors, no pytorch_model.bin "
        "and no index of shards"
    )


def is_there(path: Path) -> bool:
    """Whether a folder lists a file; it may be a link to a file that is not there."""
    return path.exists() or path.is_symlink()


def scan_folder(folder: Path) -> dict[str, StoredPart]:
    """The parts that a checkpoint holds: {"model" or plugin: its part}. No tensor is read.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or if the language model's file repeats tensors of a
            plugin that the plugin's own file lacks or holds in another shape.
    """
    llm = scan_llm(folder)
    prefixes = tuple(PLUGINS.values())
    own = {name: tensor for name, tensor in llm.tensors.items() if not name.startswith(prefixes)}
    parts = {"model": StoredPart(llm.path, own)}
    for plugin, prefix in PLUGINS.items():
        repeated = {
            name.removeprefix(prefix): tensor
            for name, tensor in llm.tensors.items()
            if name.startswith(prefix)
        }
        if path := plugin_file(folder, plugin):
            parts[plugin] = StoredPart(path, scan_file(path))
            check_repeated(repeated, parts[plugin], llm.path, prefix)
        elif repeated:
            parts[plugin] = StoredPart(llm.path, repeated)
        else:
            hint = projector_only_hint(folder, plugin)
            raise FileNotFoundError(f"{folder / plugin}.bin is missing{hint}")
    return parts


def check_repeated(
    repeated: dict[str, StoredTensor], plugin: StoredPart, llm_path: Path, prefix: str
) -> None:
    """Checks the tensors of a plugin that the language model's file repeats.

    As in the official code, the plugin's own file is read and the repeated tensors are ignored,
    but they must have the same names and shapes.

    Raises:
        ValueError: naming up to five that do not.
    """
    differ = [
        prefix + name
        for name, tensor in repeated.items()
        if name not in plugin.tensors or plugin.tensors[name].shape != tensor.shape
    ]
    if differ:
        raise ValueError(
            f"{llm_path} repeats tensors of {plugin.path.name} that are not there, or have another "
            f"shape: {', '.join(differ[:5])}"
        )


def inventory(folder: str | os.PathLike) -> dict[str, tuple[int, int, int]]:
    """What each file of weights holds: {file: (tensors, numbers, bytes)}.

    Only names, shapes and dtypes are read, except that files in torch's old format are read
    through. Errors are those of `scan_folder`.
    """
    files: dict[str, tuple[int, int, int]] = {}
    for part in scan_folder(as_path(folder)).values():
        for tensor in part.tensors.values():
            tensors, numbers, stored = files.get(tensor.path.name, (0, 0, 0))
            size = math.prod(tensor.shape)
            bytes_stored = stored + size * tensor.dtype.itemsize
            files[tensor.path.name] = (tensors + 1, numbers + size, bytes_stored)
    return files


def plugin_file(folder: Path, plugin: str) -> Path | None:
    """The file of a plugin, None if there is none.

    The official code writes `.bin`, the toy ships as `.safetensors`, and the oldest file of the
    dream queries is `dream_queries.pt`.
    """
    names = [f"{plugin}.bin", f"{plugin}.safetensors"]
    if plugin == "dream_embedding":
        names.append("dream_queries.pt")
    return next((folder / name for name in names if is_there(folder / name)), None)


def projector_only_hint(folder: Path, plugin: str) -> str:
    """An addition to an error: an older file holds the projector of the missing plugin alone."""
    if plugin not in PROJECTOR_ONLY:  # the dream queries have no projector
        return ""
    oldest, rest = PROJECTOR_ONLY[plugin]
    for name in (oldest, f"{plugin}_projector.bin", f"{plugin}_projector.pt"):
        if (folder / name).is_file():
            return (
                f": {name} is there, but holds the projector alone, and the weights of {rest} are "
                "not in this folder"
            )
    return ""
