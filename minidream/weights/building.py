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
from ..documents import TEMPLATES
from ..dream_queries import ConditionProjector
from ..images import as_number
from ..llm import LLM, LLMConfig
from ..model import DreamConfig, DreamLLM
from ..vision import CLIP_MEAN, CLIP_STD, VisionEncoder
from .layout import OFFICIAL_CLASSES, PLUGINS
from .variants import (
    ANCESTRAL,
    CLIP,
    LLAMA_7B,
    PIXELS,
    PLUGIN,
    SCHEDULER,
    UNET,
    VAE,
    above_zero,
    check_fields,
    check_llama,
    read_config,
    refused,
    rope_theta,
    section,
    whole_number,
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
    llm = LLM(llm_config(path, config))
    width = llm.config.hidden_size
    plugins = read_plugins(path, section(path, config, "plugins_init_kwargs"), width)
    # Options that the official config does not have.
    toy = section(path, config, "minidream")
    loss = numbers(path, config, "loss_weight_lm", "loss_weight_vm")
    if "loss_scale_schedule" in config:
        loss["loss_scale_schedule"] = config["loss_scale_schedule"]
    dream_config = refused(path, DreamConfig, toy.get("template", "vicuna_v1.1"), **loss)
    check_fields(path, toy, {"template": tuple(TEMPLATES)}, "minidream.")
    vision = build_vision(path, plugins["clip_vision_embedding"], components, width)
    decoder = build_decoder(path, plugins["stable_diffusion_head"], components, width, toy)
    queries = plugins["dream_embedding"].get("num_dream_queries", 64)
    queries = whole_number(path, "num_dream_queries", queries)
    dream_queries = nn.Parameter(torch.empty(1, queries, width))
    return DreamLLM(llm, vision, decoder, dream_queries, tokenizer, dream_config)


def numbers(path: Path, config: dict, *names: str) -> dict[str, float]:
    """Those of some fields that are given; ValueError if one is not a number, 0 or above."""
    given = [name for name in names if name in config]
    return {name: refused(path, as_number, name, config[name], 0) for name in given}


def llm_config(path: Path, config: dict) -> LLMConfig:
    """The sizes of the language model; ValueError if it is another variant of LLaMA."""
    fields = {field.name: field.type for field in dataclasses.fields(LLMConfig)}
    sizes = LLAMA_7B | {name: config[name] for name in fields if name in config}
    for name, value in sizes.items():
        if fields[name] is int:
            sizes[name] = whole_number(path, name, value)
    check_llama(path, config)
    theta = rope_theta(path, config)
    if theta is not None:
        sizes["rope_theta"] = theta
    above_zero(path, "rms_norm_eps", sizes.get("rms_norm_eps", 1))
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
    plugins = {name: section(path, config, name) for name in PLUGINS}
    for name, plugin in plugins.items():
        check_fields(path, plugin, PLUGIN, f"{name}.")
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
    depth = whole_number(path, "projector_depth", depth)
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
    select_layer, layers = plugin.get("select_layer", -2), config.num_hidden_layers
    if select_layer not in range(-layers - 1, layers + 1):
        raise ValueError(
            f"{path}: select_layer is {select_layer!r}; the tower of {config_path} has {layers} "
            f"layers, so it lies between {-layers - 1} and {layers}"
        )
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
    check_fields(path, config, CLIP, "" if config is whole else "vision_config.")
    return config


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
        for value in values:
            refused(path, as_number, f"each of {name}", value)
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
    unet_config, vae_config = read_config(unet_path), read_config(vae_path)
    check_fields(unet_path, unet_config, UNET)
    check_fields(vae_path, vae_config, VAE)
    for name, default in (("sample_size", None), ("cross_attention_dim", 1280)):
        unet_config[name] = whole_number(unet_path, name, unet_config.get(name, default))
    unet = refused(unet_path, UNet2DConditionModel.from_config, unet_config)
    vae = refused(vae_path, AutoencoderKL.from_config, vae_config)
    channels = vae.config.latent_channels
    for name, allowed in (("in_channels", (channels, channels + 2)), ("out_channels", (channels,))):
        if unet.config[name] not in allowed:
            raise ValueError(
                f"{unet_path}: {name} is {unet.config[name]}; the VAE of {vae_path} has "
                f"{channels} latent channels"
            )
    above_zero(vae_path, "scaling_factor", vae.config.scaling_factor)
    scheduler, ancestral = build_scheduler(
        components / "diffusion" / "scheduler" / "scheduler_config.json"
    )
    training = ("drop_prob", "noise_offset", "input_perturbation", "snr_gamma")
    sampling = numbers(path, toy, "guidance_scale")
    if "num_inference_steps" in toy:
        sampling["num_inference_steps"] = whole_number(
            path, "num_inference_steps", toy["num_inference_steps"]
        )
    config = DiffusionConfig(
        eta=1.0 if ancestral else 0.0,
        **numbers(path, plugin, *training),
        **sampling,
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
    config = read_config(path)
    ancestral = config.get("_class_name") != "DDIMScheduler"
    check_fields(path, config, SCHEDULER)
    for name in ("beta_start", "beta_end"):
        above_zero(path, name, config.get(name, 1))
    for name, default, least in (("num_train_timesteps", 1000, 1), ("steps_offset", 0, 0)):
        config[name] = whole_number(path, name, config.get(name, default), least)
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
