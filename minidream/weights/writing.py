"""Writing a checkpoint in the official layout, so that the official code can read it, too."""

import errno
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..model import DreamLLM
from ..tokenizers import SPECIAL_TOKENS
from .files import write_json
from .layout import OFFICIAL_CLASSES, PLUGINS, files_of

SHARD_BYTES = 4 * 10**9  # the language model is written in files of at most this many bytes


def save(model: DreamLLM, folder: str | Path) -> None:
    """Writes a model in the official layout.

    All files are written beside the folder first and then moved into place. If the process is
    killed or the disk is full, the previous content stays as it was.

    Raises:
        ValueError: if the folder holds files but no checkpoint, or if the model is quantized.
        OSError: if the disk has too little room (both numbers), before anything is written.
    """
    write_folder(model, Path(folder), write_pickle)


def write_pickle(tensors: dict[str, Tensor], stem: str, folder: Path) -> None:
    """Writes one plugin file, as the official code does."""
    torch.save(tensors, folder / f"{stem}.bin")


def as_it_is(name: str, tensor: Tensor) -> Tensor:
    """A tensor on the CPU, otherwise unchanged."""
    return tensor.detach().cpu().contiguous()


def write_folder(model: DreamLLM, folder: Path, write_plugin, value=as_it_is) -> None:
    """Writes a model as `save` does, with the same errors.

    Args:
        model: to be written.
        folder: where to.
        write_plugin: `write_plugin(tensors, stem, folder)` writes one plugin file.
        value: `value(name, tensor)` returns what is written for one of the model's tensors, on the
            CPU.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds files but no checkpoint; choose an empty or a new folder")
    files = {
        stem: {names[name]: tensor for name, tensor in module.state_dict().items()}
        for stem, (module, names) in files_of(model).items()
    }
    # A list, since two files may use the same name.
    tensors = [item for content in files.values() for item in content.items()]
    if quantized := [name for name, tensor in tensors if type(tensor) is not Tensor]:
        raise ValueError(
            "a quantized model is not written, since the official layout does not provide for it: "
            f"{quantized[0]} is quantized"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_disk(folder, sum(tensor.nbytes for _, tensor in tensors))
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for stem, content in files.items():
            if stem == "model":
                write_llm(content | rotary_frequencies(model), new, value)
            else:
                write_plugin(
                    {name: value(name, tensor) for name, tensor in content.items()}, stem, new
                )
        write_configs(model, new)
        move_into_place(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def move_into_place(new: Path, folder: Path) -> None:
    """Replaces a folder by a new one beside it, which everybody may read."""
    # Temporary folders and files of safetensors can be read by their owner only.
    for path in (new, *new.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def check_disk(folder: Path, needed: int) -> None:
    """OSError with both numbers if the disk has fewer than `needed` bytes left."""
    free = shutil.disk_usage(folder.parent).free
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
    pairs = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    return {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": 1
        / config.rope_theta ** (pairs / config.head_dim)
        for layer in range(config.num_hidden_layers)
    }


def write_llm(tensors: dict[str, Tensor], folder: Path, value) -> None:
    """Writes `model.safetensors`, or shards with an index if it were larger than `SHARD_BYTES`.

    `value` is that of `write_folder`.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    count = len(shards)
    names = ["model.safetensors"]
    if count > 1:
        names = [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
            "weight_map": {tensor: name for name, shard in zip(names, shards) for tensor in shard},
        }
        write_json(index, folder / "model.safetensors.index.json")
    for name, shard in zip(names, shards):
        # One shard at a time, since the tensors of a model on a GPU are copied here. No name is
        # given to the copies: it would keep them while those of the next shard are made.
        save_file(
            {tensor: value(tensor, tensors[tensor]) for tensor in shard},
            folder / name,
            metadata={"format": "pt"},
        )


def write_configs(model: DreamLLM, folder: Path) -> None:
    """Writes `config.json`, the component configs and the tokenizer."""
    write_json(model_config(model), folder / "config.json")
    write_json(token_ids(model), folder / "generation_config.json")
    for name, content in component_configs(model).items():
        write_json(content, folder / "component_configs" / name)
    model.tokenizer.save(folder)


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
