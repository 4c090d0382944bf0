"""Which variants of the official parts this package computes, and what their configs then say.

A config that says something else may still fit the weights, but the model would compute something
else than it was trained to. So everything else is refused, by file and field.
"""

import math
from collections.abc import Callable
from pathlib import Path

from ..images import as_integer
from .files import read_json

# Sizes that a config does not give are those of LLaMA-7B.
LLAMA_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}

# Field -> the values that it may have. No value: the field may not be there. A field that is not
# given, or null, has its default, which this package computes, too.
LLAMA = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "tie_word_embeddings": (False,),
    "quantization_config": (),
    # Fields of relatives of LLaMA.
    "partial_rotary_factor": (1,),
    "sliding_window": (),
    "attention_chunk_size": (),
    "no_rope_layers": (),
    "alibi": (False,),
    "qk_norm": (False,),
    "use_qk_norm": (False,),
    "clip_qkv": (),
    "attention_multiplier": (),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "num_experts": (1,),
    "num_local_experts": (1,),
}
# What `rope_parameters` and, in older versions, `rope_scaling` may hold beside `rope_theta`.
ROPE = {
    "rope_type": ("default",),
    "type": ("default",),
    "partial_rotary_factor": (1,),
    "factor": (1,),
}
PLUGIN = {"use_additional_post_layernorm": (True, False)}
CLIP = {"model_type": ("clip_vision_model", "clip"), "num_channels": (3,)}
PIXELS = {
    "do_resize": (True,),
    "do_center_crop": (True,),
    "do_rescale": (True,),
    "do_normalize": (True,),
    "resample": (3, "bicubic"),
    "rescale_factor": (1 / 255,),
    "use_square_size": (False,),
}
VAE = {
    "_class_name": ("AutoencoderKL",),
    "shift_factor": (0,),
    "latents_mean": (),
    "latents_std": (),
}
# A U-Net that reads more than latents, timesteps and one condition is another one.
UNET = {
    "_class_name": ("UNet2DConditionModel",),
    "class_embed_type": (),
    "num_class_embeds": (),
    "addition_embed_type": (),
    "encoder_hid_dim": (),
    "encoder_hid_dim_type": (),
    "time_cond_proj_dim": (),
    "attention_type": ("default",),
}
SCHEDULER = {
    # Other classes of diffusers add noise in another way in training.
    "_class_name": (
        *("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LMSDiscreteScheduler"),
        *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
        *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler"),
        *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
        *("DEISMultistepScheduler", "UniPCMultistepScheduler"),
    ),
    "prediction_type": ("epsilon", "v_prediction"),
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "set_alpha_to_one": (True, False),
    "use_flow_sigmas": (False,),
}
# DDPM sampling is done by the class of DDIM, with fresh noise. The two differ in these.
ANCESTRAL = {
    "clip_sample": (False,),
    "thresholding": (False,),
    "rescale_betas_zero_snr": (False,),
    "variance_type": ("fixed_small", "fixed_small_log"),
}
TOKENIZER = {
    "legacy": (True,),
    "add_prefix_space": (True,),
    "add_bos_token": (True,),
    "add_eos_token": (False,),
}
TOKENIZER_JSON = {
    "type": ("BPE",),
    "unk_token": ("<unk>",),
    "byte_fallback": (True,),
    "fuse_unk": (True,),
    "continuing_subword_prefix": ("",),
    "end_of_word_suffix": ("",),
    "ignore_merges": (False,),
    "dropout": (0,),
}


def read_config(path: Path) -> dict:
    """The content of a config. A null stands for the default, so it is left out.

    Raises:
        FileNotFoundError, ValueError: as in `read_json`.
    """
    return without_nulls(read_json(path))


def without_nulls(content: dict) -> dict:
    """The entries of a dictionary that are not None, in the dictionaries inside, too."""
    return {
        name: without_nulls(value) if isinstance(value, dict) else value
        for name, value in content.items()
        if value is not None
    }


def check_fields(path: Path, config: dict, allowed: dict[str, tuple], inside: str = "") -> None:
    """Checks that fields have values that this package computes.

    Args:
        path: of the config, for errors.
        config: the fields.
        allowed: {field: values}, as above.
        inside: the names of the sections that the fields are in, each with a dot behind it.

    Raises:
        ValueError: naming file, field, value, and the values that are allowed.
    """
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            known = " or ".join(map(repr, values)) or "models without it"
            raise ValueError(
                f"{path}: {inside}{name} is {config[name]!r}; this package computes {known}"
            )


def section(path: Path, config: dict, name: str) -> dict:
    """A config inside a config, empty if it is not given; ValueError if it is something else."""
    content = config.get(name, {})
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {name} is {content!r}, not an object with fields")
    return content


def refused(path: Path, make: Callable, *arguments, **options):
    """What a function returns; whatever it refuses in a config is a ValueError with the file."""
    try:
        return make(*arguments, **options)
    except Exception as error:  # each library has exceptions of its own
        raise ValueError(f"{path}: {error}") from error


def whole_number(path: Path, name: str, value, least: int = 1) -> int:
    """A size; ValueError if it is not a whole number, `least` or above."""
    return refused(path, as_integer, name, value, least)


def above_zero(path: Path, name: str, value) -> float:
    """A scale; ValueError if it is not a number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{path}: {name} is {value!r}; it is a number above 0")
    return value


def rope_theta(path: Path, config: dict) -> float | None:
    """The base of the rotary frequencies, from wherever versions of transformers write it.

    Raises:
        ValueError: if two places differ, or if positions are rotated in another way than here.
    """
    given = {"rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
    for name in ("rope_parameters", "rope_scaling"):
        content = section(path, config, name)
        for field, value in content.items():
            if field != "rope_theta" and value not in ROPE.get(field, ()):
                raise ValueError(
                    f"{path}: {name} is {content!r}; {field} {value!r} is not computed here"
                )
        if "rope_theta" in content:
            given[f"{name}.rope_theta"] = content["rope_theta"]
    for name, theta in given.items():
        above_zero(path, name, theta)
    if len(set(given.values())) > 1:
        said = " and ".join(f"{name} is {theta!r}" for name, theta in given.items())
        raise ValueError(f"{path}: {said}; they mean the same and differ")
    return next(iter(given.values()), None)


def check_llama(path: Path, config: dict) -> None:
    """Checks that a config is of the variant of LLaMA that `llm.py` implements.

    Raises:
        ValueError: naming the field of another variant.
    """
    unused = ("sliding_window",) if config.get("use_sliding_window") is False else ()
    check_fields(path, {name: config[name] for name in config if name not in unused}, LLAMA)
    if others := sorted(set(config.get("layer_types", [])) - {"full_attention"}):
        raise ValueError(f"{path}: layer_types has {others[0]!r}; this package computes full ones")
    sizes = LLAMA_7B | config
    width = sizes["hidden_size"] // sizes["num_attention_heads"]
    if (head_dim := config.get("head_dim", width)) != width:
        raise ValueError(
            f"{path}: head_dim is {head_dim!r}; hidden_size {sizes['hidden_size']} over "
            f"num_attention_heads {sizes['num_attention_heads']} is {width}"
        )
