"""Builds an empty DreamLLM and its tokenizer from the configs of a checkpoint."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from ..diffusion import Decoder, DiffusionConfig
from ..dream_queries import ConditionProjector
from ..llm import LLM, LLMConfig
from ..model import DreamConfig, DreamLLM
from ..tokenizers import SPECIAL_TOKENS, LlamaTokenizer, ToyTokenizer
from ..vision import CLIP_MEAN, CLIP_STD, VisionEncoder
from .files import read_json
from .layout import PLUGINS

# Sizes that a config does not give are those of LLaMA-7B.
LLAMA_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
# The variant of LLaMA that `llm.py` implements. With another value the weights might fit the model,
# but it would compute something else.
LLAMA_VARIANT = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "rope_parameters": None,
    "tie_word_embeddings": False,
    "quantization_config": None,
}


def build(path: Path, config: dict, components: Path, tokenizer) -> DreamLLM:
    """A DreamLLM whose weights are not filled in yet.

    Where a config says nothing, the defaults are those of the official constructors.

    Args:
        path: of `config.json`, for errors.
        config: its content. Paths in it are from the authors' machines and are ignored.
        components: the folder of component configs.
        tokenizer: of the model.

    Raises:
        ValueError: if the config is of another model, or of a variant that this package does not
            implement; the message names the file.
        FileNotFoundError: if a component config is missing.
    """
    if config.get("model_type") != "dreamllm":
        raise ValueError(f"{path} is of a {config.get('model_type')!r} model, not of a 'dreamllm'")
    plugins = {plugin: config.get("plugins_init_kwargs", {}).get(plugin, {}) for plugin in PLUGINS}
    if others := sorted(set(config.get("plugins_init_kwargs", {})) - set(PLUGINS)):
        raise ValueError(
            f"{path} has plugins that are not known here: {', '.join(others)}; the known ones are "
            f"{', '.join(PLUGINS)}"
        )
    toy = config.get("minidream", {})  # options that the official config does not have
    try:
        llm = LLM(llm_config(config))
        width = llm.config.hidden_size
        for name, plugin in plugins.items():
            if plugin.get("embed_hidden_size", width) != width:
                raise ValueError(
                    f"{name} is made for a language model of width "
                    f"{plugin['embed_hidden_size']}; this one has {width}"
                )
        clip, diffusion = plugins["clip_vision_embedding"], plugins["stable_diffusion_head"]
        vision = build_vision(clip, components / "clip_vision", width)
        decoder = build_decoder(diffusion, components / "diffusion", width, toy)
        loss_names = ("loss_weight_lm", "loss_weight_vm", "loss_scale_schedule")
        loss = {name: config[name] for name in loss_names if name in config}
        dream_config = DreamConfig(toy.get("template", "vicuna_v1.1"), **loss)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    queries = plugins["dream_embedding"].get("num_dream_queries", 64)
    dream_queries = nn.Parameter(torch.empty(1, queries, width))
    return DreamLLM(llm, vision, decoder, dream_queries, tokenizer, dream_config)


def llm_config(config: dict) -> LLMConfig:
    """The sizes of the language model; ValueError if it is another variant of LLaMA."""
    for name, value in LLAMA_VARIANT.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"{name} is {config[name]!r}; the language model of this package is a LLaMA with "
                f"{value!r}"
            )
    fields = LLMConfig.__dataclass_fields__
    given = {name: config[name] for name in fields if config.get(name) is not None}
    sizes = LLAMA_7B | given
    return LLMConfig(**{"num_key_value_heads": sizes["num_attention_heads"]} | sizes)


def projector_depth(plugin: dict) -> int:
    """The number of layers of a plugin's projector; ValueError for an unknown type."""
    kind, depth = plugin.get("projector_type", "linear"), plugin.get("projector_depth", 1)
    if (kind, depth) != ("linear", 1) and not (kind == "mlp" and depth > 1):
        raise ValueError(
            f"a projector of type {kind!r} and depth {depth} is not known; the known ones are "
            '"linear" of depth 1 and "mlp" of greater depth'
        )
    return depth


def build_vision(plugin: dict, components: Path, llm_dim: int) -> VisionEncoder:
    """The CLIP tower and its projector."""
    tower = CLIPVisionModel(CLIPVisionConfig.from_dict(read_json(components / "config.json")))
    pixels = read_json(components / "preprocessor_config.json")
    return VisionEncoder(
        tower,
        llm_dim,
        plugin.get("select_layer", -2),
        pixels.get("image_mean", CLIP_MEAN),
        pixels.get("image_std", CLIP_STD),
        projector_depth(plugin),
        plugin.get("use_additional_post_layernorm", False),
    )


def build_decoder(plugin: dict, components: Path, llm_dim: int, toy: dict) -> Decoder:
    """VAE, U-Net, scheduler and condition projector.

    `toy` holds sampling defaults where they differ from the official ones.
    """
    unet = UNet2DConditionModel.from_config(read_json(components / "unet" / "config.json"))
    vae = AutoencoderKL.from_config(read_json(components / "vae" / "config.json"))
    noise = read_json(components / "scheduler" / "scheduler_config.json")
    ancestral = noise.get("_class_name") != "DDIMScheduler"
    # The official code samples with DDPM whatever the config says. DDIM with eta 1 is the same
    # process and takes each step's noise as an argument, so that every picture can have its own.
    changes = {"set_alpha_to_one": True} if ancestral else {}
    scheduler = DDIMScheduler.from_config(noise, **changes)
    training = ("drop_prob", "noise_offset", "input_perturbation")
    sampling = ("num_inference_steps", "guidance_scale")
    config = DiffusionConfig(
        eta=1.0 if ancestral else 0.0,
        snr_gamma=plugin.get("snr_gamma"),
        **{name: plugin[name] for name in training if plugin.get(name)},
        **{name: toy[name] for name in sampling if name in toy},
    )
    condition_dim = unet.config.cross_attention_dim
    projector = ConditionProjector(llm_dim, condition_dim, projector_depth(plugin))
    return Decoder(vae, unet, scheduler, projector, config)


def read_tokenizer(folder: Path, config: dict) -> ToyTokenizer | LlamaTokenizer:
    """The tokenizer of a checkpoint.

    Raises:
        ValueError: if its files disagree about the id of a special token, or if an id is among
            those of the pieces or outside the vocabulary.
        FileNotFoundError: if a file is missing.
    """
    if (folder / "words.json").exists():
        return ToyTokenizer(read_json(folder / "words.json"))
    ids = special_ids(folder, config)
    path = folder / "tokenizer.model"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    bos, eos, unk = (ids[name] for name in ("<s>", "</s>", "<unk>"))
    added = {name: ids[name] for name in ids if name not in ("<s>", "</s>", "<unk>")}
    tokenizer = LlamaTokenizer(path, added, bos, eos, unk)
    size = config.get("vocab_size", LLAMA_7B["vocab_size"])
    pieces = tokenizer.pieces.vocab_size()
    if among := {token: index for token, index in tokenizer.added.items() if index < pieces}:
        raise ValueError(
            f"{folder}: the ids of {among} are among those of the {pieces} pieces of "
            "tokenizer.model"
        )
    if len(tokenizer) > size:
        raise ValueError(
            f"{folder}: the tokenizer has ids up to {len(tokenizer) - 1}; config.json says a "
            f"vocabulary of {size}"
        )
    return tokenizer


def special_ids(folder: Path, config: dict) -> dict[str, int]:
    """The ids of the special tokens, from `config.json`.

    Raises:
        ValueError: if one is missing, or if `added_tokens.json` or the ids of <s> and </s> in the
            config say otherwise.
    """
    elsewhere = read_json(folder / "added_tokens.json")
    listed = config.get("special_tokens2ids_dict", {})
    ids = {name: index for name, index in listed.items() if isinstance(index, int)}
    ids |= listed.get("additional_special_tokens", {})
    if missing := [name for name in SPECIAL_TOKENS if name not in ids]:
        path = folder / "config.json"
        raise ValueError(f"{path}: special_tokens2ids_dict has no id for {', '.join(missing)}")
    ends = {"<s>": "bos_token_id", "</s>": "eos_token_id"}
    elsewhere |= {name: config[key] for name, key in ends.items() if key in config}
    differ = {
        name: (index, ids.get(name)) for name, index in elsewhere.items() if ids.get(name) != index
    }
    if differ:
        raise ValueError(
            f"{folder}: added_tokens.json or the ids of <s> and </s>, and special_tokens2ids_dict "
            f"in config.json, disagree about {differ}"
        )
    return ids
