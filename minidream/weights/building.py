"""Builds a DreamLLM of the sizes that a checkpoint's configs give; its weights are empty."""

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

# The sizes that apply where a config gives none: those of LLaMA-7B.
LLAMA_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
# The kind of LLaMA that `llm.py` implements. With any other value, the weights might fit but would
# mean something else.
KIND_OF_LLAMA = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "rope_parameters": None,
    "tie_word_embeddings": False,
    "quantization_config": None,
}


def build(path: Path, config: dict, components: Path, tokenizer) -> DreamLLM:
    """A DreamLLM with empty weights. What a config leaves out has the official default.

    Args:
        path: of `config.json`, for errors.
        config: what it holds. Paths in it are the author's, and are ignored.
        components: the folder of component configs.
        tokenizer: of the model.

    Raises:
        ValueError: for another model, or one that this package has no code for; names the file.
        FileNotFoundError: for a component config that is missing.
    """
    if config.get("model_type") != "dreamllm":
        raise ValueError(f"{path} is of a {config.get('model_type')!r} model, not of a 'dreamllm'")
    plugins = {plugin: config.get("plugins_init_kwargs", {}).get(plugin, {}) for plugin in PLUGINS}
    if others := sorted(set(config.get("plugins_init_kwargs", {})) - set(PLUGINS)):
        raise ValueError(
            f"{path} has plugins that are not known here: {', '.join(others)}; "
            f"those that are: {', '.join(PLUGINS)}"
        )
    toy = config.get("minidream", {})  # what the official layout has no place for
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
        weights = DreamConfig(
            toy.get("template", "vicuna_v1.1"),
            **{
                name: config[name]
                for name in ("loss_weight_lm", "loss_weight_vm", "loss_scale_schedule")
                if name in config
            },
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    queries = nn.Parameter(
        torch.empty(1, plugins["dream_embedding"].get("num_dream_queries", 64), width)
    )
    return DreamLLM(llm, vision, decoder, queries, tokenizer, weights)


def llm_config(config: dict) -> LLMConfig:
    """The sizes of the language model; ValueError if it is a LLaMA of another kind."""
    for name, value in KIND_OF_LLAMA.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"{name} is {config[name]!r}; "
                f"the language model of this package is a LLaMA with {value!r}"
            )
    said = {
        name: config[name]
        for name in LLMConfig.__dataclass_fields__
        if config.get(name) is not None
    }
    sizes = LLAMA_7B | said
    return LLMConfig(**{"num_key_value_heads": sizes["num_attention_heads"]} | sizes)


def projector_depth(plugin: dict) -> int:
    """How many layers a plugin's projector has; ValueError for a kind that is not known."""
    kind, depth = plugin.get("projector_type", "linear"), plugin.get("projector_depth", 1)
    if (kind, depth) != ("linear", 1) and not (kind == "mlp" and depth > 1):
        raise ValueError(
            f"a projector of type {kind!r} and depth {depth} is not known; "
            '"linear" of depth 1 and "mlp" of more are'
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

    `toy` holds the sampling defaults that differ from the official ones, if any do.
    """
    unet = UNet2DConditionModel.from_config(read_json(components / "unet" / "config.json"))
    vae = AutoencoderKL.from_config(read_json(components / "vae" / "config.json"))
    noise = read_json(components / "scheduler" / "scheduler_config.json")
    ancestral = noise.get("_class_name") != "DDIMScheduler"
    # The official code samples with DDPM whatever the config says. DDIM with eta 1 is the same
    # process, and its caller provides the noise of each step, so that each picture has its own.
    scheduler = DDIMScheduler.from_config(
        noise, **({"set_alpha_to_one": True} if ancestral else {})
    )
    config = DiffusionConfig(
        eta=1.0 if ancestral else 0.0,
        snr_gamma=plugin.get("snr_gamma"),
        **{
            name: plugin[name]
            for name in ("drop_prob", "noise_offset", "input_perturbation")
            if plugin.get(name)
        },
        **{name: toy[name] for name in ("num_inference_steps", "guidance_scale") if name in toy},
    )
    return Decoder(
        vae,
        unet,
        scheduler,
        ConditionProjector(llm_dim, unet.config.cross_attention_dim, projector_depth(plugin)),
        config,
    )


def read_tokenizer(folder: Path, config: dict):
    """The folder's tokenizer.

    ValueError if its files disagree about a special token or about the size of the vocabulary.
    """
    if (folder / "words.json").exists():
        return ToyTokenizer(read_json(folder / "words.json"))
    added, path = read_json(folder / "added_tokens.json"), folder / "config.json"
    said = config.get("special_tokens2ids_dict", {})
    said = {name: number for name, number in said.items() if isinstance(number, int)} | said.get(
        "additional_special_tokens", {}
    )
    if missing := [name for name in SPECIAL_TOKENS if name not in said]:
        raise ValueError(f"{path}: special_tokens2ids_dict has no id for {', '.join(missing)}")
    said_elsewhere = added | {
        name: config[key]
        for name, key in (("<s>", "bos_token_id"), ("</s>", "eos_token_id"))
        if key in config
    }
    differ = {
        name: (number, said.get(name))
        for name, number in said_elsewhere.items()
        if said.get(name) != number
    }
    if differ:
        raise ValueError(
            f"{folder}: added_tokens.json or the ids of <s> and </s>, and special_tokens2ids_dict "
            f"in config.json, disagree about {differ}"
        )
    if not (folder / "tokenizer.model").exists():
        raise FileNotFoundError(f"{folder / 'tokenizer.model'} is missing")
    tokenizer = LlamaTokenizer(
        folder / "tokenizer.model",
        {name: said[name] for name in said if name not in ("<s>", "</s>", "<unk>")},
        said["<s>"],
        said["</s>"],
        said["<unk>"],
    )
    size = config.get("vocab_size", LLAMA_7B["vocab_size"])
    pieces = tokenizer.pieces.vocab_size()
    if among := {token: number for token, number in tokenizer.added.items() if number < pieces}:
        raise ValueError(
            f"{folder}: {among} are among the {pieces} pieces of tokenizer.model, "
            "which have ids of their own"
        )
    if len(tokenizer) > size:
        raise ValueError(
            f"{folder}: the tokenizer has ids up to {len(tokenizer) - 1}; "
            f"config.json says a vocabulary of {size}"
        )
    return tokenizer
