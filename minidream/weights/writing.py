"""Writing a checkpoint in the official layout, so that the official code can read it, too."""

import errno
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..model import DreamLLM
from ..tokenizers import SPECIAL_TOKENS
from .checking import check_folder, check_loads, files_there, tensors_of
from .files import as_path, resolved, write_json
from .layout import OFFICIAL_CLASSES, PLUGINS
from .replacing import replace_files

SHARD_BYTES = 4 * 10**9  # the language model is written in files of at most this many bytes


def save(model: DreamLLM, folder: str | Path) -> None:
    """Writes a model in the official layout.

    If the folder holds a checkpoint, it is replaced as a whole, and other files stay as they are.
    If the process is interrupted or the disk is full, the old model stays; if it is killed, `load`
    finds the old or the new model.

    Args:
        model: modules that `torch.compile` wrapped are written without their wrappers.
        folder: where to; it is made if it does not exist. A link to a folder stays a link.

    Raises:
        TypeError: if it is not a DreamLLM.
        ValueError: if `load` would refuse the model (the tensors and what to do: a LoRA, for
            example, has to be merged first), or if it is quantized; if the folder holds files but
            no checkpoint, a config of something else, or a file that would be read in place of a
            new one. Nothing is written then.
        OSError: if the disk has too little room (both numbers), if the folder or a file in it may
            not be written, if something is mounted inside it, or if another process is saving into
            it. The old model stays then.
    """
    write_folder(model, folder)


def as_it_is(name: str, tensor: Tensor) -> Tensor:
    """A tensor on the CPU, otherwise unchanged."""
    tensor = tensor.detach().cpu().contiguous()
    # torch writes the whole memory that a tensor is a part of, with numbers that are not its own.
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def write_folder(
    model: DreamLLM,
    folder: str | Path,
    plugin_suffix: str = ".bin",
    value=as_it_is,
    write_others=lambda place: None,
) -> None:
    """Writes a model as `save` does, with the same errors.

    Args:
        model: to be written.
        folder: where to.
        plugin_suffix: ".bin", which the official code reads, or ".safetensors".
        value: `value(name, tensor)` returns what is written for one of the model's tensors, on the
            CPU.
        write_others: `write_others(place)` writes more files, which belong to the model.
    """
    model = getattr(model, "_orig_mod", model)  # of `torch.compile`
    if not isinstance(model, DreamLLM):
        inside = "; its `.module` may be one" if hasattr(model, "module") else ""
        raise TypeError(f"save takes a DreamLLM, not a {type(model).__name__}{inside}")
    folder, tensors = resolved(as_path(folder)), tensors_of(model)
    listed = [item for content in tensors.values() for item in content.items()]
    if value is as_it_is and (empty := [name for name, tensor in listed if tensor.is_meta]):
        raise ValueError(f"the model is not written, since {empty[0]} has no values (it is meta)")
    needed = sum(tensor.nbytes for _, tensor in listed)
    shards = shards_for(tensors["model"] | rotary_frequencies(model))
    index = {"model.safetensors.index.json"} if len(shards) > 1 else set()
    names = {*shards, *index, *(f"{plugin}{plugin_suffix}" for plugin in PLUGINS)}

    def write(place: Path, unfinished: set[str]) -> set[str]:
        replaced = files_there(folder, unfinished)
        check_disk(folder, needed)
        written = write_configs(model, place, names)
        check_loads(model, tensors, place)
        check_folder(folder, written, replaced)
        write_llm(shards, place, value)
        for plugin in PLUGINS:
            content, path = values_of(tensors[plugin], value), place / f"{plugin}{plugin_suffix}"
            if plugin_suffix == ".safetensors":
                save_file(content, path)
                continue
            with path.open("wb") as file:  # from a path, torch does not say that the disk is full
                torch.save(content, file)
        write_others(place)
        return replaced

    replace_files(folder, "config.json", write)


def check_disk(folder: Path, needed: int) -> None:
    """OSError with both numbers if the disk has fewer than `needed` bytes left."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{folder} would take {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free on its "
            "disk",
        )


def rotary_frequencies(model: DreamLLM) -> dict[str, Tensor]:
    """The rotary frequencies of every layer.

    The official code stores them and expects them in the file, but does not use the values read.
    """
    config = model.llm.config
    pairs = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu")
    return {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": 1
        / config.rope_theta ** (pairs / config.head_dim)
        for layer in range(config.num_hidden_layers)
    }


def shards_for(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The files of the language model, {file: tensors}.

    That is `model.safetensors`, or several shards if it were larger than `SHARD_BYTES`.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    count = len(shards)
    if count == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{index:05}-of-{count:05}.safetensors": shard
        for index, shard in enumerate(shards, start=1)
    }


def write_llm(shards: dict[str, dict[str, Tensor]], folder: Path, value) -> None:
    """Writes the language model, and an index if it has several shards.

    Args:
        shards: from `shards_for`.
        folder: where to.
        value: as in `write_folder`.
    """
    for file, shard in shards.items():
        # One shard at a time, since the tensors of a model on a GPU are copied here. No name is
        # given to the copies: it would keep them while those of the next shard are made.
        save_file(values_of(shard, value), folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        size = sum(tensor.nbytes for shard in shards.values() for tensor in shard.values())
        weight_map = {name: file for file, shard in shards.items() for name in shard}
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_json(index, folder / "model.safetensors.index.json")


def values_of(tensors: dict[str, Tensor], value) -> dict[str, Tensor]:
    """What is written for some tensors; those that share memory (tied weights) are copied."""
    values, storages = {}, set()
    for name, tensor in tensors.items():
        values[name] = value(name, tensor)
        storage = values[name].untyped_storage().data_ptr()
        if storage in storages:
            values[name] = values[name].clone()
        storages.add(storage)
    return values


def write_configs(model: DreamLLM, folder: Path, names: set[str]) -> set[str]:
    """Writes `config.json`, the component configs and the tokenizer into an empty folder.

    Args:
        model: whose.
        folder: where to.
        names: of all other files of the checkpoint. `config.json` lists all files, so that the next
            save knows which it may remove.

    Returns:
        The names of all files.
    """
    write_json(token_ids(model), folder / "generation_config.json")
    for name, content in component_configs(model).items():
        write_json(content, folder / "component_configs" / name)
    model.tokenizer.save(folder)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    config, all_names = model_config(model), {*names, *written, "config.json"}
    config["minidream"]["files"] = sorted(all_names)
    write_json(config, folder / "config.json")
    return all_names


def token_ids(model: DreamLLM) -> dict[str, int]:
    """The ids that start, end and pad a sequence, under their names in the official configs."""
    tokenizer = model.tokenizer
    return {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "pad_token_id": 0}


def model_config(model: DreamLLM) -> dict:
    """The content of `config.json`."""
    tokenizer, diffusion = model.tokenizer, model.decoder.config
    ids = {
        name: getattr(tokenizer.special, name.strip("<>"))
        for name in SPECIAL_TOKENS
        if name not in ("[PAD]", "<s>", "</s>", "<unk>")
    }
    return {
        "model_type": "dreamllm",
        "architectures": ["DreamLLMForCausalMLM"],
        **asdict(model.llm.config),
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "rope_scaling": None,
        **token_ids(model),
        "torch_dtype": str(model.llm.norm.weight.dtype).removeprefix("torch."),
        "loss_weight_lm": model.config.loss_weight_lm,
        "loss_weight_vm": model.config.loss_weight_vm,
        "loss_scale_schedule": model.config.loss_scale_schedule,
        "special_tokens2ids_dict": {
            "<s>": tokenizer.bos,
            "</s>": tokenizer.eos,
            "<unk>": tokenizer.unk,
            "[PAD]": tokenizer.special.pad,
            "additional_special_tokens": ids,
        },
        "plugins_type": {
            plugin: "head" if plugin == "stable_diffusion_head" else "embedding"
            for plugin in PLUGINS
        },
        "plugins_init_kwargs": plugin_configs(model),
        "minidream": {
            "template": model.config.template,
            "num_inference_steps": diffusion.num_inference_steps,
            "guidance_scale": diffusion.guidance_scale,
        },
    }


def plugin_configs(model: DreamLLM) -> dict[str, dict]:
    """The arguments of the official plugins' constructors, as `config.json` holds them."""
    diffusion = model.decoder.config
    plugins = {
        "dream_embedding": {"num_dream_queries": model.queries},
        "clip_vision_embedding": {
            "clip_vision_model_name_or_path": "openai/clip-vit-large-patch14",
            "select_layer": model.vision.select_layer,
            "use_additional_post_layernorm": model.vision.post_layernorm is not None,
            **projector_config(model.vision.projector_depth),
        },
        "stable_diffusion_head": {
            "diffusion_name_or_path": "stabilityai/stable-diffusion-2-1-base",
            **projector_config(model.decoder.projector.depth),
            "resolution": model.decoder.image_size,
            "drop_prob": diffusion.drop_prob or None,
            "snr_gamma": diffusion.snr_gamma,
            "noise_offset": diffusion.noise_offset,
            "input_perturbation": diffusion.input_perturbation,
        },
    }
    common = {
        plugin: {
            "_target_": f"omni.models.dreamllm.modeling_plugins.{name}",
            "embed_hidden_size": model.llm.config.hidden_size,
            "pretrained_model_name_or_path": None,
        }
        for plugin, name in OFFICIAL_CLASSES.items()
    }
    return {plugin: common[plugin] | plugins[plugin] for plugin in PLUGINS}


def component_configs(model: DreamLLM) -> dict[str, dict]:
    """The configs of the CLIP tower, the U-Net, the VAE and the scheduler, by file."""
    scheduler = dict(model.decoder.scheduler.config) | {
        "_class_name": "DDPMScheduler" if model.decoder.config.eta else "DDIMScheduler"
    }
    size = model.vision.tower.config.image_size
    return {
        "clip_vision/config.json": model.vision.tower.config.to_dict(),
        "clip_vision/preprocessor_config.json": {
            "image_processor_type": "CLIPImageProcessor",
            "image_mean": model.vision.mean,
            "image_std": model.vision.std,
            "size": {"shortest_edge": size},
            "crop_size": {"height": size, "width": size},
        },
        "diffusion/unet/config.json": dict(model.decoder.unet.config),
        "diffusion/vae/config.json": dict(model.decoder.vae.config),
        "diffusion/scheduler/scheduler_config.json": scheduler,
    }


def projector_config(depth: int) -> dict:
    """A projector of `depth` layers, as the official config describes it."""
    return {"projector_type": "linear" if depth == 1 else "mlp", "projector_depth": depth}
