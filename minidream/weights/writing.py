"""Writing a checkpoint in the official layout, so that the official code can read it."""

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
from .layout import PLUGINS, files_of

SHARD_BYTES = 4 * 10**9  # the language model is written in files of at most this size
OFFICIAL_CLASSES = dict(
    zip(PLUGINS, ("DreamEmbedding", "CLIPVisionEmbedding", "StableDiffusionHead"))
)


def save(model: DreamLLM, folder: str | Path) -> None:
    """Writes a model in the official layout.

    Everything is written beside the folder first and then moved into place, so that a kill or a
    full disk leaves the old folder as it was.

    Raises:
        ValueError: if the folder holds something that is no checkpoint, or the model is quantized.
        OSError: if the disk has too little room (both numbers), before anything is written.
    """
    write_folder(model, Path(folder), write_pickle)


def write_pickle(tensors: dict[str, Tensor], stem: str, folder: Path) -> None:
    """One plugin file, as the official code writes it."""
    torch.save(tensors, folder / f"{stem}.bin")


def stored(name: str, tensor: Tensor) -> Tensor:
    """A tensor as it is written."""
    return tensor.detach().cpu().contiguous()


def write_folder(model: DreamLLM, folder: Path, write_plugin, value=stored) -> None:
    """As `save`.

    Args:
        write_plugin: `write_plugin(tensors, stem, folder)` writes one plugin file.
        value: `value(name, tensor)` returns the tensor, on the CPU, that is written for one of the
            model's.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds files but no checkpoint; choose an empty or a new folder")
    files = files_of(model)
    if quantized := [
        name
        for module, _ in files.values()
        for name, tensor in module.state_dict().items()
        if type(tensor) is not Tensor
    ]:
        raise ValueError(
            "a quantized model is not written, since the official layout has no place for it: "
            f"{quantized[0]} is quantized"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_disk(
        folder,
        sum(
            tensor.nbytes for module, _ in files.values() for tensor in module.state_dict().values()
        ),
    )
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for stem, (module, names) in files.items():
            if stem == "model":
                write_llm(
                    {names[name]: tensor for name, tensor in module.state_dict().items()}
                    | frequencies(model),
                    new,
                    value,
                )
            else:
                write_plugin(
                    {
                        names[name]: value(names[name], tensor)
                        for name, tensor in module.state_dict().items()
                    },
                    stem,
                    new,
                )
        write_configs(model, new)
        # Only their owner may read temporary folders and the files of safetensors.
        for path in [new, *new.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_disk(folder: Path, needed: int) -> None:
    """OSError with both numbers if the disk has fewer than `needed` bytes left."""
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{folder} would take {needed / 1e9:.2f} GB, "
            f"and {free / 1e9:.2f} GB are free on its disk",
        )


def frequencies(model: DreamLLM) -> dict[str, Tensor]:
    """The rotary frequencies of every layer, which the official code stores and expects.

    Neither that code nor this one uses their values.
    """
    config = model.llm.config
    pairs = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    return {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": 1
        / config.rope_theta ** (pairs / config.head_dim)
        for layer in range(config.num_hidden_layers)
    }


def write_llm(tensors: dict[str, Tensor], folder: Path, value) -> None:
    """Writes `model.safetensors`, or shards with an index if it would exceed `SHARD_BYTES`.

    `value` is as in `write_folder`.
    """
    shards: list[list[str]] = [[]]
    for name, tensor in tensors.items():
        if (
            shards[-1]
            and sum(tensors[other].nbytes for other in shards[-1]) + tensor.nbytes > SHARD_BYTES
        ):
            shards.append([])
        shards[-1].append(name)
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [
            f"model-{number:05}-of-{len(shards):05}.safetensors"
            for number in range(1, len(shards) + 1)
        ]
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
            "weight_map": {tensor: name for name, shard in zip(names, shards) for tensor in shard},
        }
        write_json(index, folder / "model.safetensors.index.json")
    for name, shard in zip(names, shards):
        # One shard at a time, since a model on a GPU is copied for this.
        save_file(
            {tensor: value(tensor, tensors[tensor]) for tensor in shard},
            folder / name,
            metadata={"format": "pt"},
        )


def write_configs(model: DreamLLM, folder: Path) -> None:
    """`config.json`, the component configs and the tokenizer, in the official layout."""
    tokenizer, diffusion, width = (
        model.tokenizer,
        model.decoder.config,
        model.llm.config.hidden_size,
    )
    ids = {
        name: getattr(tokenizer.special, name.strip("<>"))
        for name in SPECIAL_TOKENS
        if name not in ("[PAD]", "<s>", "</s>", "<unk>")
    }
    plugins = {
        "dream_embedding": {"num_dream_queries": model.queries},
        "clip_vision_embedding": {
            "clip_vision_model_name_or_path": "openai/clip-vit-large-patch14",
            "select_layer": model.vision.select_layer,
            "use_additional_post_layernorm": model.vision.post_layernorm is not None,
            **projector(model.vision.projector_depth),
        },
        "stable_diffusion_head": {
            "diffusion_name_or_path": "stabilityai/stable-diffusion-2-1-base",
            **projector(model.decoder.projector.depth),
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
            "embed_hidden_size": width,
            "pretrained_model_name_or_path": None,
        }
        for plugin, name in OFFICIAL_CLASSES.items()
    }
    token_ids = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "pad_token_id": 0}
    config = {
        "model_type": "dreamllm",
        "architectures": ["DreamLLMForCausalMLM"],
        **asdict(model.llm.config),
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "rope_scaling": None,
        **token_ids,
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
        "plugins_init_kwargs": {plugin: common[plugin] | plugins[plugin] for plugin in PLUGINS},
        "minidream": {
            "template": model.config.template,
            "num_inference_steps": diffusion.num_inference_steps,
            "guidance_scale": diffusion.guidance_scale,
        },
    }
    scheduler = dict(model.decoder.scheduler.config) | {
        "_class_name": "DDPMScheduler" if diffusion.eta else "DDIMScheduler"
    }
    size = model.vision.tower.config.image_size
    components = {
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
    write_json(config, folder / "config.json")
    write_json(token_ids, folder / "generation_config.json")
    for name, content in components.items():
        write_json(content, folder / "component_configs" / name)
    tokenizer.save(folder)


def projector(depth: int) -> dict:
    """The entries of the official config for a projector of so many layers."""
    return {"projector_type": "linear" if depth == 1 else "mlp", "projector_depth": depth}
