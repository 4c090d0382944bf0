"""Checks before a model is written: of the model, as `load` would check it, and of the folder."""

import os
import re
from dataclasses import asdict
from pathlib import Path

from torch import Tensor, nn

from ..model import DreamLLM
from .building import EmptyWeights, build, single_precision
from .files import read_json
from .layout import PLUGINS, files_of
from .reading import check_fit
from .replacing import check_places
from .scanning import StoredPart, StoredTensor
from .tokenizer_files import read_tokenizer
from .variants import read_config

# The files of a checkpoint, beside shards of the language model. A save writes most of them.
FILES = (
    *("config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"),
    *("words.json", "tokenizer.model", "added_tokens.json", "special_tokens_map.json"),
    *("tokenizer_config.json", "tokenizer.json"),
    *(f"{plugin}.bin" for plugin in PLUGINS),
    *(f"{plugin}.safetensors" for plugin in PLUGINS),
    *("component_configs/clip_vision/config.json", "component_configs/diffusion/vae/config.json"),
    "component_configs/clip_vision/preprocessor_config.json",
    "component_configs/diffusion/unet/config.json",
    "component_configs/diffusion/scheduler/scheduler_config.json",
)
SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors")
# Those that decide what is read, whatever else is there.
DECISIVE = (
    *("words.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"),
    *(f"{plugin}.bin" for plugin in PLUGINS),
)

# What adds tensors to a model that no checkpoint has, by a part of their names, and the cure.
CURES = {
    r"\.lora_|\.base_layer\.": (
        "is of a LoRA that is not merged yet: `model.llm = model.llm.merge_and_unload()` merges "
        "one of peft, `fuse_lora()` and then `unload_lora()` one that diffusers added to the U-Net"
    ),
    r"\.to_qkv\.|\.to_kv\.": "is of fused projections: `unfuse_qkv_projections()` undoes that",
    r"parametrizations\.": (
        "is parametrized: `torch.nn.utils.parametrize.remove_parametrizations` undoes that"
    ),
}


# --------------------------------------------------------------------------------------------------
# The model


def tensors_of(model: DreamLLM) -> dict[str, dict[str, Tensor]]:
    """What each file of a checkpoint is to hold: {file stem: {name in the file: tensor}}.

    Tensors that nothing uses are left out: those of projections that were fused and unfused again.

    Raises:
        ValueError: if the model is wrapped for several GPUs or quantized, or if it has tensors that
            belong to none of the files.
    """
    for name, module in model.named_modules():
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise ValueError(
                f"the model is not written, since {name} is a {type(module).__name__}; put its "
                "`.module` in its place first"
            )
    parts = ("llm.", "vision.", "decoder.")
    others = [name for name in model.state_dict() if not name.startswith(parts)]
    others = [name for name in others if name != "dream_queries"]
    if others:
        raise ValueError(
            f"the model is not written, since no file of a checkpoint holds {', '.join(others[:5])}"
            f"{cures(others)}"
        )
    files = {}
    for stem, (module, names) in files_of(model).items():
        unused = unused_projections(module)
        files[stem] = {
            names[name]: tensor
            for name, tensor in module.state_dict().items()
            if not name.startswith(unused)
        }
        for name, tensor in files[stem].items():
            if type(tensor) is not Tensor:
                raise ValueError(
                    "a quantized model is not written, since the official layout does not provide "
                    f"for it: {name} is quantized ({type(tensor).__name__})"
                )
    return files


def unused_projections(module: nn.Module) -> tuple[str, ...]:
    """Prefixes of tensors that `unfuse_qkv_projections` of diffusers leaves, but that are not used.

    The processor of an attention decides which projections are used.
    """
    return tuple(
        f"{name}.{fused}."
        for name, part in module.named_modules()
        for fused in ("to_qkv", "to_kv")
        if hasattr(part, fused) and not type(part.processor).__name__.startswith("Fused")
    )


def check_loads(model: DreamLLM, tensors: dict[str, dict[str, Tensor]], place: Path) -> None:
    """Checks that `load` would accept a model, and give it the same options.

    Args:
        model: the model.
        tensors: of the model, from `tensors_of`.
        place: a folder that holds its configs and its tokenizer already.

    Raises:
        ValueError: naming up to five missing, extra and misshapen tensors, or the option.
    """
    try:
        config = read_config(place / "config.json")
        tokenizer = read_tokenizer(place, config)
        with single_precision(), EmptyWeights():
            empty = build(Path("config.json"), config, place / "component_configs", tokenizer)
        for stem, (module, names) in files_of(empty).items():
            path = Path("model.safetensors" if stem == "model" else stem)
            state = module.state_dict()
            stored = {
                name: StoredTensor(path, name, tuple(tensor.shape), tensor.dtype)
                for name, tensor in tensors[stem].items()
            }
            shapes = {names[name]: tuple(tensor.shape) for name, tensor in state.items()}
            check_fit(StoredPart(path, stored), shapes, "its configs")
        for loaded, own in (
            (empty.config, model.config),
            (empty.llm.config, model.llm.config),
            (empty.decoder.config, model.decoder.config),
        ):
            loaded = asdict(loaded)
            for name, value in asdict(own).items():
                if loaded[name] != value:
                    raise ValueError(f"{name} is {value!r} and would become {loaded[name]!r}")
    except ValueError as error:
        names = [name for content in tensors.values() for name in content]
        raise ValueError(
            f"the model is not written, since it could not be loaded again: {error}{cures(names)}"
        ) from error


def cures(names: list[str]) -> str:
    """What to do about tensors with certain names, as an addition to an error."""
    found = [
        (next(filter(re.compile(pattern).search, names), None), cure)
        for pattern, cure in CURES.items()
    ]
    return "".join(f". {name} {cure}" for name, cure in found if name)


# --------------------------------------------------------------------------------------------------
# The folder


def files_there(folder: Path, unfinished: set[str]) -> set[str]:
    """The files of the checkpoint that a folder holds, which a new one replaces; none if it is new.

    A save lists its files in `config.json`. Of a checkpoint without a list, which the official code
    or an earlier version wrote, they are the files that a save would write, and the shards in its
    index.

    Args:
        folder: where to write.
        unfinished: names from the journals of saves that were cut short and cannot be finished.

    Raises:
        ValueError: if the folder holds files but no checkpoint, or the config of something else.
    """
    path, names = folder / "config.json", set(unfinished)
    if os.path.lexists(path):
        config = read_json(path)
        if config.get("model_type") != "dreamllm":
            raise ValueError(
                f"{path} is not of a DreamLLM, so nothing was written; choose an empty or a new "
                "folder"
            )
        own = config.get("minidream")
        listed = own.get("files") if isinstance(own, dict) else None
        if not isinstance(listed, list):
            listed = [*FILES, *shards_of(folder)]
        names |= {name for name in listed if isinstance(name, str)}
    elif not unfinished:
        seen = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
        if set(seen) - {"lost+found"}:  # an empty disk holds this
            raise ValueError(
                f"{folder} holds files but no checkpoint; choose an empty or a new folder"
            )
    return {name for name in names if name in FILES or SHARD.fullmatch(name)}


def shards_of(folder: Path) -> set[str]:
    """The shards that the index in a folder lists; none without an index."""
    index = folder / "model.safetensors.index.json"
    listed = read_json(index).get("weight_map") if index.exists() else None
    return set(map(str, listed.values())) if isinstance(listed, dict) else set()


def check_folder(folder: Path, names: set[str], replaced: set[str]) -> None:
    """Checks that files can be written into a folder, and that they are what `load` reads then.

    Args:
        folder: where to write.
        names: of the files to be written.
        replaced: from `files_there`.

    Raises:
        ValueError: if a folder or a link is in the way, or a file that would be read in place of
            one of these.
        OSError: if the rights do not suffice, or something is mounted in the way.
    """
    check_places(folder, sorted(names | replaced))
    unread = {"tokenizer.json"} if "words.json" in names else set()
    for name in DECISIVE:
        if name not in names | replaced | unread and os.path.lexists(folder / name):
            raise ValueError(
                f"{folder / name} does not belong to the checkpoint there, and would be read in "
                "place of what is to be written; move it away, or choose a new folder"
            )
