"""Builds an empty DreamLLM from the configs of a checkpoint."""

import dataclasses
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import CLIPVisionConfig, CLIPVisionModel

from ..diffusion import Decoder, DiffusionConfig
from ..dream_queries import ConditionProjector
from ..images import as_integer
from ..llm import LLM, LLMConfig
from ..model import DreamConfig, DreamLLM
from ..vision import CLIP_MEAN, CLIP_STD, VisionEncoder
from .layout import OFFICIAL_CLASSES, PLUGINS
from .variants import (
    ANCESTRAL,
    CLIP,
    DREAMLLM,
    LLAMA_7B,
    MINIDREAM,
    PIXELS,
    PLUGIN,
    SCHEDULER,
    UNET,
    VAE,
    Numbers,
    check_fields,
    check_llama,
    read_config,
    refused,
    rope_theta,
    section,
)

BUILDING = RLock()  # held by the thread that builds modules


@contextmanager
def single_precision():
    """Modules that are built meanwhile are in float32 on the CPU, whatever torch's defaults are.

    transformers and diffusers build theirs in the default dtype, which belongs to the process: so
    one thread builds at a time.
    """
    with BUILDING, torch.device("cpu"):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


class EmptyWeights(TorchFunctionMode):
    """In a `with` block, new parameters take no memory: they are on the meta device.

    Unlike `torch.device("meta")`, this leaves out what is computed and not loaded, such as CLIP's
    position ids and the noise schedule; and unlike accelerate's `init_empty_weights`, it leaves
    out the modules of other threads.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """The call itself, on the meta device if it is one by which parameters are made."""
        made = {"device": "meta"} if func in (torch.empty, torch.ones, torch.randn) else {}
        return func(*args, **(kwargs or {}) | made)


def build(path: Path, config: dict, components: Path, tokenizer) -> DreamLLM:
    """A DreamLLM whose weights are not filled in yet.

    Where a config says nothing, the defaults are those of the official constructors.

    Args:
        path: of `config.json`, for errors.
        config: its content, without nulls. Paths in it are from the authors' machines and are
            ignored.
        components: the folder of component configs.
        tokenizer: of the model.

    Raises:
        ValueError: if a config is of another model, or of a variant that this package does not
            implement; the message names file and field.
        FileNotFoundError: if a component config is missing.
    """
    if config.get("model_type") != "dreamllm":
        raise ValueError(f"{path} is of a {config.get('model_type')!r} model, not of a 'dreamllm'")
    sizes = llm_config(path, config)
    width = sizes.hidden_size
    plugins = read_plugins(path, section(path, config, "plugins_init_kwargs"), width)
    toy = check_fields(path, section(path, config, "minidream"), MINIDREAM, "minidream.")
    loss = chosen(check_fields(path, config, DREAMLLM), *DREAMLLM, "loss_scale_schedule")
    dream_config = refused(path, DreamConfig, toy.get("template", "vicuna_v1.1"), **loss)
    llm = LLM(sizes)
    vision = build_vision(path, plugins["clip_vision_embedding"], components, width)
    decoder = build_decoder(path, plugins["stable_diffusion_head"], components, width, toy)
    queries = plugins["dream_embedding"].get("num_dream_queries", 64)
    dream_queries = nn.Parameter(torch.empty(1, queries, width))
    return DreamLLM(llm, vision, decoder, dream_queries, tokenizer, dream_config)


def chosen(config: dict, *names: str) -> dict:
    """Those of some fields that are given."""
    return {name: config[name] for name in names if name in config}


def llm_config(path: Path, config: dict) -> LLMConfig:
    """The sizes of the language model; ValueError if it is another variant of LLaMA."""
    config = check_llama(path, config)
    sizes = LLAMA_7B | chosen(config, *(field.name for field in dataclasses.fields(LLMConfig)))
    theta = rope_theta(path, config)
    if theta is not None:
        sizes["rope_theta"] = theta
    return refused(path, LLMConfig, **{"num_key_value_heads": sizes["num_attention_heads"]} | sizes)


def read_plugins(path: Path, config: dict, width: int) -> dict[str, dict]:
    """The constructor arguments of each plugin, for a language model of some width.

    Raises:
        ValueError: for an unknown plugin or class, or one that is made for another width.
    """
    if others := sorted(set(config) - set(PLUGINS)):
        raise ValueError(
            f"{path} has plugins that are not known here: {', '.join(others)}; the known ones are "
            f"{', '.join(PLUGINS)}"
        )
    plugins = {
        name: check_fields(path, section(path, config, name), PLUGIN, f"{name}.")
        for name in PLUGINS
    }
    for name, plugin in plugins.items():
        made_for = plugin.get("embed_hidden_size", width)
        if made_for != width:
            raise ValueError(
                f"{path}: {name} is made for a language model of width {made_for}; this one has "
                f"{width}"
            )
        target = plugin.get("_target_", OFFICIAL_CLASSES[name])
        if str(target).rsplit(".")[-1] != OFFICIAL_CLASSES[name]:
            raise ValueError(
                f"{path}: _target_ of {name} is {target!r}; this package knows the class "
                f"{OFFICIAL_CLASSES[name]}"
            )
    return plugins


def projector_depth(path: Path, plugin: dict) -> int:
    """The number of layers of a plugin's projector; ValueError for an unknown type."""
    kind, depth = plugin.get("projector_type", "linear"), plugin.get("projector_depth", 1)
    if (kind, depth) != ("linear", 1) and not (kind == "mlp" and depth > 1):
        raise ValueError(
            f"{path}: a projector of type {kind!r} and depth {depth} is not known; the known ones "
            'are "linear" of depth 1 and "mlp" of greater depth'
        )
    return depth


# --------------------------------------------------------------------------------------------------
# Pictures in


def build_vision(path: Path, plugin: dict, components: Path, llm_dim: int) -> VisionEncoder:
    """The CLIP tower and its projector; `path` is that of `config.json`, for errors."""
    config_path = components / "clip_vision" / "config.json"
    config = refused(config_path, CLIPVisionConfig.from_dict, read_clip(config_path))
    tower = refused(config_path, CLIPVisionModel, config)
    layers = config.num_hidden_layers
    there = {"select_layer": Numbers(as_integer, -layers - 1, layers)}
    select_layer = check_fields(path, {"select_layer": -2} | plugin, there)["select_layer"]
    return VisionEncoder(
        tower,
        llm_dim,
        select_layer,
        *read_pixels(components / "clip_vision" / "preprocessor_config.json", config.image_size),
        projector_depth(path, plugin),
        plugin.get("use_additional_post_layernorm", False),
    )


def read_clip(path: Path) -> dict:
    """The config of a CLIP tower; from a config of a whole CLIP, the part about pictures.

    Raises:
        ValueError: if it is of another model, or says something twice and differently.
    """
    whole = read_config(path)
    check_fields(path, whole, {"model_type": CLIP["model_type"]})
    parts = ("vision_config", "vision_config_dict")  # older versions wrote both
    first, second = (section(path, whole, name) for name in parts)
    if differ := [name for name in first if second.get(name, first[name]) != first[name]]:
        raise ValueError(f"{path}: vision_config and vision_config_dict differ in {differ[0]}")
    config = second | first if whole.get("model_type") == "clip" or first else whole
    return check_fields(path, config, CLIP, "" if config is whole else "vision_config.")


def read_pixels(path: Path, image_size: int) -> tuple[tuple, tuple]:
    """Mean and standard deviation of each channel, from the config of CLIP's preprocessor.

    Raises:
        ValueError: if pictures are prepared in another way than in `VisionEncoder.pixels`.
    """
    config = read_config(path)
    square = {"height": image_size, "width": image_size}
    sizes = {"size": (image_size, {"shortest_edge": image_size}), "crop_size": (image_size, square)}
    check_fields(path, config, PIXELS | sizes)
    mean, std = config.get("image_mean", CLIP_MEAN), config.get("image_std", CLIP_STD)
    for name, values in (("image_mean", mean), ("image_std", std)):
        if not isinstance(values, list | tuple) or len(values) != 3:
            raise ValueError(f"{path}: {name} is {values!r}; it is a list of three numbers")
    return mean, std


# --------------------------------------------------------------------------------------------------
# Pictures out


def build_decoder(path: Path, plugin: dict, components: Path, llm_dim: int, toy: dict) -> Decoder:
    """VAE, U-Net, scheduler and condition projector.

    `path` is that of `config.json`, for errors; `toy` holds sampling defaults where they differ
    from the official ones.
    """
    unet_path, vae_path = (
        components / "diffusion" / name / "config.json" for name in ("unet", "vae")
    )
    # A U-Net whose config gives no size has none.
    unet_config = check_fields(unet_path, {"sample_size": None} | read_config(unet_path), UNET)
    vae_config = check_fields(vae_path, read_config(vae_path), VAE)
    for config_path, config in ((unet_path, unet_config), (vae_path, vae_config)):
        if not isinstance(config.get("block_out_channels", []), list):
            widths = config["block_out_channels"]
            raise ValueError(f"{config_path}: block_out_channels is {widths}, not a list")
    unet = refused(unet_path, UNet2DConditionModel.from_config, unet_config)
    vae = refused(vae_path, AutoencoderKL.from_config, vae_config)
    channels = vae.config.latent_channels
    for name, allowed in (("in_channels", (channels, channels + 2)), ("out_channels", (channels,))):
        if unet.config[name] not in allowed:
            raise ValueError(
                f"{unet_path}: {name} is {unet.config[name]}; the VAE of {vae_path} has "
                f"{channels} latent channels"
            )
    scheduler, ancestral = build_scheduler(
        components / "diffusion" / "scheduler" / "scheduler_config.json"
    )
    training = ("drop_prob", "noise_offset", "input_perturbation", "snr_gamma")
    config = DiffusionConfig(
        eta=1.0 if ancestral else 0.0,
        **chosen(plugin, *training),
        **chosen(toy, "guidance_scale", "num_inference_steps"),
    )
    condition_dim = unet.config.cross_attention_dim
    projector = ConditionProjector(llm_dim, condition_dim, projector_depth(path, plugin))
    return Decoder(vae, unet, scheduler, projector, config)


def build_scheduler(path: Path) -> tuple[DDIMScheduler, bool]:
    """The noise schedule, and whether sampling adds fresh noise in each step.

    The official code samples with DDPM whatever the config says. DDIM with eta 1 is the same
    process and takes each step's noise as an argument, so that every picture can have its own.
    A config that names DDIM itself is the toy's.
    """
    config = check_fields(path, read_config(path), SCHEDULER)
    ancestral = config.get("_class_name") != "DDIMScheduler"
    if not isinstance(config.get("trained_betas", []), list):
        raise ValueError(f"{path}: trained_betas is {config['trained_betas']!r}, not a list")
    if ancestral:
        # The official class clips unless it is told not to.
        check_fields(path, {"clip_sample": True} | config, ANCESTRAL)
    if config.get("prediction_type", "epsilon") == "epsilon":
        # The noise cannot be predicted from noise alone, so the schedule may not end there.
        check_fields(path, config, {"rescale_betas_zero_snr": (False,)})
    changes = {"set_alpha_to_one": True} if ancestral else {}
    scheduler = refused(path, DDIMScheduler.from_config, config, **changes)
    steps, betas = scheduler.config.num_train_timesteps, len(scheduler.betas)
    if steps != betas:
        raise ValueError(f"{path}: num_train_timesteps is {steps}, and trained_betas are {betas}")
    return scheduler, ancestral
