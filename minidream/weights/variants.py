"""Which variants of the official parts this package computes, and what their configs then say.

A config that says something else may still fit the weights, but the model would compute something
else than it was trained to. So everything else is refused, by file and field.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..diffusion import MOST_GUIDANCE
from ..documents import TEMPLATES
from ..images import as_integer, as_number
from .files import read_json

# Sizes that a config does not give are those of LLaMA-7B.
LLAMA_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}


@dataclass(frozen=True)
class Numbers:
    """The numbers that a field may have.

    kind: `as_integer` or `as_number`, which check one.
    least, most: the range, ends included. No real model comes near the largest.
    """

    kind: Callable
    least: float
    most: float

    def __str__(self) -> str:
        kind = "whole numbers" if self.kind is as_integer else "numbers"
        return f"{kind} between {self.least} and {self.most}"


WIDTH = Numbers(as_integer, 1, 2**20)  # also of vocabularies
DEPTH = Numbers(as_integer, 1, 1000)
BLOCKS = Numbers(as_integer, 0, 32)  # layers in one block of a U-Net or a VAE
EDGE = Numbers(as_integer, 1, 2**13)  # of a picture, a patch or a grid of latents
STEPS = Numbers(as_integer, 1, 10**6)
SHARE = Numbers(as_number, 0, 1)
BETA = Numbers(as_number, 1e-9, 0.999)  # variance that one step of noise adds
EPSILON = Numbers(as_number, 1e-20, 0.1)  # what a norm adds to variances
SCALE = Numbers(as_number, 1e-6, 1e6)
WEIGHT = Numbers(as_number, 0, 1e6)
ROPE_THETA = Numbers(as_number, 1, 1e12)
EITHER = (True, False)

# Fields that may have one value for each block, layer or step, in a list.
LISTS = {
    *("block_out_channels", "layers_per_block", "attention_head_dim", "only_cross_attention"),
    *("transformer_layers_per_block", "reverse_transformer_layers_per_block"),
    *("trained_betas", "layer_types", "image_mean", "image_std"),
}

# Field -> the values that it may have, or its `Numbers`. No value: the field may not be there. A
# field that is not given, or null, has its default, which this package computes, too.
DREAMLLM = {"loss_weight_lm": WEIGHT, "loss_weight_vm": WEIGHT}
# Options that the official config does not have.
MINIDREAM = {
    "template": tuple(TEMPLATES),
    "guidance_scale": Numbers(as_number, 0, MOST_GUIDANCE),
    "num_inference_steps": STEPS,
}
LLAMA = {
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size"), WIDTH),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads"), WIDTH),
    "num_hidden_layers": DEPTH,
    "max_position_embeddings": Numbers(as_integer, 1, 10**9),
    "rms_norm_eps": EPSILON,
    "rope_theta": ROPE_THETA,
    "layer_types": ("full_attention",),
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
PLUGIN = {
    "use_additional_post_layernorm": EITHER,
    "projector_depth": DEPTH,
    "num_dream_queries": WIDTH,
    "drop_prob": SHARE,
    **dict.fromkeys(("noise_offset", "input_perturbation", "snr_gamma"), WEIGHT),
}
CLIP = {
    "model_type": ("clip_vision_model", "clip"),
    "num_channels": (3,),
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads"), WIDTH),
    "num_hidden_layers": DEPTH,
    **dict.fromkeys(("image_size", "patch_size"), EDGE),
    "layer_norm_eps": EPSILON,
    "attention_dropout": SHARE,
}
PIXELS = {
    "do_resize": (True,),
    "do_center_crop": (True,),
    "do_rescale": (True,),
    "do_normalize": (True,),
    "resample": (3, "bicubic"),
    "rescale_factor": (1 / 255,),
    "use_square_size": (False,),
    "image_mean": Numbers(as_number, -1000, 1000),
    "image_std": Numbers(as_number, 1e-6, 1000),
}
VAE = {
    "_class_name": ("AutoencoderKL",),
    **dict.fromkeys(("in_channels", "out_channels"), (3,)),
    **dict.fromkeys(("latent_channels", "block_out_channels", "norm_num_groups"), WIDTH),
    "layers_per_block": BLOCKS,
    "scaling_factor": SCALE,
    **dict.fromkeys(("force_upcast", "mid_block_add_attention"), EITHER),
    **dict.fromkeys(("use_quant_conv", "use_post_quant_conv"), EITHER),
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
    "sample_size": EDGE,
    **dict.fromkeys(("in_channels", "out_channels", "block_out_channels"), WIDTH),
    **dict.fromkeys(("attention_head_dim", "cross_attention_dim", "norm_num_groups"), WIDTH),
    **dict.fromkeys(("layers_per_block", "transformer_layers_per_block"), BLOCKS),
    "reverse_transformer_layers_per_block": BLOCKS,
    "time_embedding_dim": WIDTH,
    "cross_attention_norm": ("layer_norm", "group_norm"),
    "norm_eps": EPSILON,
    "dropout": SHARE,
    **dict.fromkeys(("mid_block_scale_factor", "resnet_out_scale_factor"), SCALE),
    # With other values, feature maps would not have the sizes that the way up expects.
    **dict.fromkeys(("conv_in_kernel", "conv_out_kernel"), (1, 3, 5, 7)),
    "downsample_padding": (0, 1),
    "freq_shift": (0, 1),
    **dict.fromkeys(("center_input_sample", "flip_sin_to_cos", "upcast_attention"), EITHER),
    **dict.fromkeys(("only_cross_attention", "mid_block_only_cross_attention"), EITHER),
    **dict.fromkeys(("dual_cross_attention", "use_linear_projection"), EITHER),
    "resnet_skip_time_act": EITHER,
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
    "set_alpha_to_one": EITHER,
    "use_flow_sigmas": (False,),
    "num_train_timesteps": STEPS,
    "steps_offset": Numbers(as_integer, 0, STEPS.most),
    "beta_start": BETA,
    "beta_end": BETA,
    "trained_betas": BETA,
    "rescale_betas_zero_snr": EITHER,
    # These change each estimate of the clean latents.
    "clip_sample": EITHER,
    "clip_sample_range": SCALE,
    "thresholding": EITHER,
    "dynamic_thresholding_ratio": SHARE,
    "sample_max_value": SCALE,
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


def check_fields(path: Path, config: dict, allowed: dict, inside: str = "") -> dict:
    """Checks that fields have values that this package computes.

    Args:
        path: of the config, for errors.
        config: the fields.
        allowed: {field: values}, as above.
        inside: the names of the sections that the fields are in, each with a dot behind it.

    Returns:
        The config, with ints for whole numbers such as 8.0.

    Raises:
        ValueError: naming file, field, value, and the values that are allowed.
    """

    def checked(name: str, value, values):
        if isinstance(value, list) and name in LISTS:
            return [checked(name, each, values) for each in value]
        if isinstance(values, Numbers):
            with suppress(TypeError, ValueError):
                return values.kind(name, value, values.least, values.most)
            known = str(values)
        elif value in values:
            return value
        else:
            known = " or ".join(map(repr, values)) or "models without it"
        raise ValueError(f"{path}: {inside}{name} is {value!r}; this package computes {known}")

    given = [name for name in allowed if name in config]
    return config | {name: checked(name, config[name], allowed[name]) for name in given}


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
    given = check_fields(path, given, dict.fromkeys(given, ROPE_THETA))
    if len(set(given.values())) > 1:
        said = " and ".join(f"{name} is {theta!r}" for name, theta in given.items())
        raise ValueError(f"{path}: {said}; they mean the same and differ")
    return next(iter(given.values()), None)


def check_llama(path: Path, config: dict) -> dict:
    """Checks that a config is of the variant of LLaMA that `llm.py` implements.

    Returns:
        The config, as from `check_fields`.

    Raises:
        ValueError: naming the field of another variant.
    """
    unused = ("sliding_window",) if config.get("use_sliding_window") is False else ()
    config = {name: config[name] for name in config if name not in unused}
    config = check_fields(path, config, LLAMA)
    sizes = LLAMA_7B | config
    width = sizes["hidden_size"] // sizes["num_attention_heads"]
    if (head_dim := config.get("head_dim", width)) != width:
        raise ValueError(
            f"{path}: head_dim is {head_dim!r}; hidden_size {sizes['hidden_size']} over "
            f"num_attention_heads {sizes['num_attention_heads']} is {width}"
        )
    return config
