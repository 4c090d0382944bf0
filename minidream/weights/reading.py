"""Reading a checkpoint: look at every file, refuse what does not fit, then take the tensors.

Tensors are mapped into memory, or converted one by one.
"""

import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..model import DreamLLM
from .building import build, read_tokenizer
from .files import read_json
from .layout import OLD_VAE_ATTENTION, PLUGINS, Queries, files_of, official_name

# Of CLIP ViT-L/14 and Stable Diffusion 2.1-base.
SHIPPED_CONFIGS = Path(__file__).parents[1] / "configs" / "dreamllm-7b"
# Converted tensors are read this many bytes at a time: pages of a mapped file that were read count
# as resident memory until the file is closed.
PORTION = 2**28


@dataclass(frozen=True)
class Stored:
    """One tensor in a file, seen but not read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Part:
    """One part of the model in its files.

    `tensors` are by official name; `path` is the file that errors name.
    """

    path: Path
    tensors: dict[str, Stored]


# --------------------------------------------------------------------------------------------------
# Looking


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.bin` or `.pt` file, mapped into memory.

    ValueError for a file that is broken, or a pickle that holds more than tensors: it is not run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is a pickle that holds more than tensors and could run code; "
            f"it was refused: {error}"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read, it may be cut short: {error}") from error
    if isinstance(tensors, Tensor):  # the oldest files of dream queries hold them without a name
        return {path.stem: tensors}
    if not isinstance(tensors, dict) or (
        others := [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    ):
        found = others[:5] if isinstance(tensors, dict) else type(tensors).__name__
        raise ValueError(f"{path} holds more than named tensors: {found}")
    return tensors


def look(path: Path, names: set[str] | None = None) -> dict[str, Stored]:
    """The tensors of a file by official name; ValueError if two of its names mean one tensor.

    `names` are those that the index lists for the file, which has to hold exactly these.
    """
    tensors, found = read_tensors(path), {}
    if names is not None and names != set(tensors):
        raise ValueError(
            f"{path} and its index name different tensors: {sorted(names ^ set(tensors))[:5]}"
        )
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in PLUGINS.values() if name.startswith(prefix)), "")
        official = official_name(name.removeprefix(prefix))
        if official is None:
            continue
        if prefix + official in found:
            raise ValueError(
                f"{path} holds {official} twice: as {found[prefix + official].name} and as {name}"
            )
        found[prefix + official] = Stored(path, name, tuple(tensor.shape), tensor.dtype)
    return found


def look_at_llm(folder: Path) -> Part:
    """The language model's tensors, in one file or in shards with an index."""
    for suffix, stem in ((".safetensors", "model"), (".bin", "pytorch_model")):
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if index.exists():
            tensors: dict[str, Stored] = {}
            listed = read_json(index).get("weight_map")
            if not isinstance(listed, dict):
                raise ValueError(
                    f'{index} has no "weight_map" that says which tensor is in which shard'
                )
            for shard in sorted(set(listed.values())):
                if not (folder / shard).exists():
                    raise FileNotFoundError(f"{folder / shard} is missing; {index.name} lists it")
                tensors |= look(
                    folder / shard, {name for name, where in listed.items() if where == shard}
                )
            return Part(index, tensors)
        if single.exists():
            return Part(single, look(single))
    raise FileNotFoundError(
        f"{folder} holds no language model: "
        "neither model.safetensors nor pytorch_model.bin, nor an index of shards"
    )


def look_at_folder(folder: Path) -> dict[str, Part]:
    """The parts of a checkpoint, {"model" or plugin: part}; reads names, shapes and dtypes only.

    Raises:
        FileNotFoundError: for a file that is missing.
        ValueError: for one that is broken, or that repeats a plugin's tensors with other names or
            shapes than in the plugin's own file.
    """
    llm = look_at_llm(folder)
    parts = {
        "model": Part(
            llm.path,
            {
                name: stored
                for name, stored in llm.tensors.items()
                if not name.startswith(tuple(PLUGINS.values()))
            },
        )
    }
    for plugin, prefix in PLUGINS.items():
        repeated = {
            name.removeprefix(prefix): stored
            for name, stored in llm.tensors.items()
            if name.startswith(prefix)
        }
        path = plugin_file(folder, plugin)
        if path:
            parts[plugin] = Part(path, look(path))
            # As in the official code, the plugin's own file counts. Repeated tensors must agree.
            differ = [
                name
                for name, stored in repeated.items()
                if name not in parts[plugin].tensors
                or parts[plugin].tensors[name].shape != stored.shape
            ]
            if differ:
                raise ValueError(
                    f"{llm.path} repeats tensors of {path.name} that are not there, "
                    f"or have another shape: {', '.join(prefix + name for name in differ[:5])}"
                )
        elif repeated:
            parts[plugin] = Part(llm.path, repeated)
        else:
            raise FileNotFoundError(
                f"{folder / plugin}.bin is missing{projector_alone(folder, plugin)}"
            )
    return parts


def plugin_file(folder: Path, plugin: str) -> Path | None:
    """The file of a plugin, None if there is none.

    It ends in .bin as the official code writes it, or in .safetensors in the shipped toy; the
    oldest checkpoints hold the queries in `dream_queries.pt`.
    """
    names = [
        f"{plugin}.bin",
        f"{plugin}.safetensors",
        *(["dream_queries.pt"] if plugin == "dream_embedding" else []),
    ]
    return next((folder / name for name in names if (folder / name).exists()), None)


def projector_alone(folder: Path, plugin: str) -> str:
    """What to add to an error if just the projector of a missing plugin is there, in an old file."""
    if plugin == "dream_embedding":  # which has no projector
        return ""
    oldest, rest = {
        "clip_vision_embedding": ("clip_vision_model_projector.pt", "the CLIP tower"),
        "stable_diffusion_head": ("unet_projector.pt", "the VAE and the U-Net"),
    }[plugin]
    for name in (oldest, f"{plugin}_projector.bin", f"{plugin}_projector.pt"):
        if (folder / name).is_file():
            return (
                f": {name} is there, but holds the projector alone, "
                f"and the weights of {rest} are not in this folder"
            )
    return ""


# --------------------------------------------------------------------------------------------------
# Refusing


def check_fit(part: Part, shapes: dict[str, tuple[int, ...]], sources: str) -> None:
    """ValueError names up to five missing, extra and misshapen tensors, with both shapes.

    Args:
        part: what the files hold.
        shapes: what the model wants, by official name.
        sources: where the sizes of the model come from.
    """

    def where(name: str) -> str:
        stored = part.tensors[name]
        called = name if stored.name == name else f"{stored.name} (read as {name})"
        return called if stored.path == part.path else f"{called} in {stored.path.name}"

    faults = {
        "missing": [name for name in shapes if name not in part.tensors],
        "extra": [where(name) for name in part.tensors if name not in shapes],
        "misshapen": [
            f"{where(name)} {part.tensors[name].shape} instead of {shape}"
            for name, shape in shapes.items()
            if name in part.tensors and not same_shape(part.tensors[name], shape)
        ],
    }
    said = [
        f"{len(found)} {kind}: {', '.join(sorted(found)[:5])}{' …' if len(found) > 5 else ''}"
        for kind, found in faults.items()
        if found
    ]
    if said:
        raise ValueError(
            f"{part.path} does not fit the model. Tensors {'; '.join(said)}. "
            f"The model's sizes are those of {sources}"
        )


def same_shape(stored: Stored, shape: tuple[int, ...]) -> bool:
    """Whether a stored tensor has this shape; an old VAE matrix may be a 1x1 convolution."""
    old = any(f".{part}." in stored.name for part in OLD_VAE_ATTENTION)
    return stored.shape == shape or (old and stored.shape == (*shape, 1, 1))


def bytes_needed(parts: dict[str, Part], dtype: torch.dtype | None, quantize: str | None) -> int:
    """Bytes of a checkpoint's tensors once they are loaded."""
    total = 0
    for stem, part in parts.items():
        for name, stored in part.tensors.items():
            small = (
                quantize == "int8"
                and stem == "model"
                and ".layers." in name
                and len(stored.shape) == 2
            )
            total += math.prod(stored.shape) * (1 if small else (dtype or stored.dtype).itemsize)
    return total


def check_memory(what: str, needed: int, device: torch.device) -> None:
    """MemoryError with both numbers if fewer than `needed` bytes are free on a device."""
    free = (
        torch.cuda.mem_get_info(device)[0]
        if device.type == "cuda"
        else psutil.virtual_memory().available
    )
    if needed > free:
        raise MemoryError(
            f"{what} take {needed / 1e9:.1f} GB of memory on {device}, "
            f"and {free / 1e9:.1f} GB are free. dtype=torch.bfloat16 halves what float32 takes, "
            'and quantize="int8" halves that again for the language model'
        )


# --------------------------------------------------------------------------------------------------
# Taking


def take(
    tensors: dict[str, Stored], device: torch.device, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """The tensors on a device and in a dtype (None: as stored).

    Those that are stored like that are only mapped; others are converted and moved one by one.
    """
    taken: dict[str, Tensor] = {}
    for path in sorted({stored.path for stored in tensors.values()}):
        mapped, read = read_tensors(path), 0
        for name, stored in tensors.items():
            if stored.path != path:
                continue
            if read > PORTION:
                mapped, read = read_tensors(path), 0
            taken[name] = mapped[stored.name].to(device=device, dtype=dtype)
            if taken[name].data_ptr() != mapped[stored.name].data_ptr():
                read += mapped[stored.name].nbytes
    return taken


def read_folder(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype | None,
    component_configs: str | Path | None,
    quantize: str | None,
) -> DreamLLM:
    """A DreamLLM from a folder in the official layout; arguments and errors as in `load`.

    Nothing is quantized yet: with `quantize`, the model is left on the CPU, so that a device needs
    room for the quantized matrices only.
    """
    config = read_json(folder / "config.json")
    components = Path(component_configs) if component_configs else folder / "component_configs"
    if not component_configs and not components.exists():
        components = SHIPPED_CONFIGS
    with init_empty_weights(include_buffers=False):
        model = build(folder / "config.json", config, components, read_tokenizer(folder, config))
    parts, files = look_at_folder(folder), files_of(model)
    for stem, (module, names) in files.items():
        shapes = {names[name]: tuple(value.shape) for name, value in module.state_dict().items()}
        check_fit(parts[stem], shapes, f"{folder / 'config.json'} and {components}")
    check_memory(f"the weights in {folder}", bytes_needed(parts, dtype, quantize), device)
    if quantize and dtype:  # converted on the CPU in full before it is made smaller
        check_memory(
            f"the weights in {folder}", bytes_needed(parts, dtype, None), torch.device("cpu")
        )
    for stem, (module, names) in files.items():
        tensors = take(parts[stem].tensors, torch.device("cpu") if quantize else device, dtype)
        wanted = module.state_dict()
        module.load_state_dict(
            {name: tensors[names[name]].reshape(wanted[name].shape) for name in wanted},
            strict=True,
            assign=True,
        )
        if isinstance(module, Queries):
            model.dream_queries = module.dream_queries
    return model
