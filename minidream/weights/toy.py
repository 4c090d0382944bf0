"""The toy: small, untrained versions of the parts that are large and pretrained in the paper.

Also the networks that ship beside the toy: the judge, and the text tower that its U-Net was trained
on.
"""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ..diffusion import Decoder, DiffusionConfig
from ..dream_queries import ConditionProjector, new_dream_queries
from ..images import to_pil
from ..llm import LLM, LLMConfig
from ..model import DreamConfig, DreamLLM
from ..tokenizers import ToyTokenizer
from ..vision import VisionEncoder
from ..world.judge import Judge
from ..world.language import VOCABULARY
from .building import single_precision
from .layout import PRETRAINED
from .scanning import map_tensors

IMAGE_SIZE = 64  # image pixels: LATENT_SIZE times the 8 pixels that the VAE puts into a cell
LATENT_SIZE = 8  # latent cells
LATENT_CHANNELS = 8
LLM_SIZE = 192  # width of the language model
CONDITION_SIZE = 96  # width of the states that the U-Net attends to
VISION_SIZE = 96  # width of the vision tower
QUERIES = 16
# Initial standard deviation of word embeddings and dream queries. With 0.05, the embedding of a
# position is small beside what the first layers add to it: after 100,000 texts, the language model
# had not learned to look up what followed an earlier occurrence of a word. With 1, it learns this
# within 5,000 texts.
EMBEDDING_STD = 1.0
# The weight of the denoising loss; that of the language loss is 1. With the official code's 10, the
# denoising loss has smaller gradients than the language loss (notebook 06 shows by how much). Since
# Adam scales both by one common magnitude, the smaller ones would have little effect.
PAINTING_WEIGHT = 40.0


@single_precision()
def new_vae() -> AutoencoderKL:
    """The counterpart of Stable Diffusion's VAE.

    It maps (3, 64, 64) pixels to (8, 8, 8) latents, so that a latent cell is 8x8 pixels, as in
    Stable Diffusion. Training keeps the latents at unit scale, so there is nothing to multiply
    them by (Stable Diffusion's have to be multiplied by 0.18215).
    """
    channels = (12, 24, 64, 96)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=LATENT_CHANNELS,
        mid_block_add_attention=False,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
    )


@single_precision()
def new_unet() -> UNet2DConditionModel:
    """The counterpart of Stable Diffusion's U-Net.

    Two additional input channels hold the coordinates of each cell; see `diffusion.py`.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS + 2,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 112),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(4, 4),
        cross_attention_dim=CONDITION_SIZE,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, sampled with DDIM.

    20 steps suffice for pictures this small.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


@single_precision()
def new_clip(
    vocabulary_size: int,
) -> tuple[CLIPVisionModelWithProjection, CLIPTextModelWithProjection]:
    """The counterpart of CLIP-L/14: a vision tower of 8x8 patches and a text tower.

    Each has a projection to the space in which pictures and texts are compared.
    """
    sizes = dict(
        hidden_size=VISION_SIZE,
        intermediate_size=4 * VISION_SIZE,
        num_attention_heads=4,
        projection_dim=64,
    )
    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            **sizes, num_hidden_layers=4, image_size=IMAGE_SIZE, patch_size=IMAGE_SIZE // 8
        )
    )
    sizes |= dict(hidden_size=CONDITION_SIZE, intermediate_size=4 * CONDITION_SIZE)
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            **sizes,
            num_hidden_layers=4,
            vocab_size=vocabulary_size,
            max_position_embeddings=32,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    # With the standard deviation of 0.02 that transformers initializes token and position
    # embeddings with, and a causal mask, word order is learned late. With larger embeddings of
    # equal size, position has the same weight as the words from the start.
    for embedding in (
        text.text_model.embeddings.token_embedding,
        text.text_model.embeddings.position_embedding,
    ):
        torch.nn.init.normal_(embedding.weight, std=0.5)
    return vision, text


@single_precision()
def new_decoder(vae: AutoencoderKL, unet: UNet2DConditionModel) -> Decoder:
    """The decoder, untrained except for the given parts, with the toy's sampling defaults."""
    config = DiffusionConfig(
        eta=0.0, num_inference_steps=20, guidance_scale=5.0, snr_gamma=5.0, drop_prob=0.1
    )
    projector = ConditionProjector(LLM_SIZE, CONDITION_SIZE)
    return Decoder(vae, unet, new_scheduler(), projector, config)


@single_precision()
def new_llm(vocabulary_size: int) -> LLM:
    """The counterpart of Vicuna: six layers, six heads over three key/value heads."""
    return LLM(
        LLMConfig(
            vocab_size=vocabulary_size,
            hidden_size=LLM_SIZE,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=512,
        )
    )


@single_precision()
def new_captioner(vocabulary_size: int) -> LLM:
    """A small language model from which CLIP's vision tower learns; no part of the toy."""
    captioner = LLM(
        LLMConfig(
            vocab_size=vocabulary_size,
            hidden_size=VISION_SIZE,
            intermediate_size=2 * VISION_SIZE,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
        )
    )
    captioner.initialize(torch.Generator().manual_seed(torch.initial_seed()), std=0.1)
    return captioner


@single_precision()
def new_model(tokenizer: ToyTokenizer, seed: int = 0) -> DreamLLM:
    """A complete DreamLLM, untrained; equal seeds give equal weights."""
    generator = torch.Generator().manual_seed(seed)
    # transformers and diffusers initialize their modules from torch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        llm = new_llm(len(tokenizer))
        vision = VisionEncoder(new_clip(len(tokenizer))[0].vision_model, LLM_SIZE)
        decoder = new_decoder(new_vae(), new_unet())
    # A larger std than LLaMA's 0.02, which is chosen for 4096 dimensions.
    llm.initialize(generator, std=0.05)
    torch.nn.init.normal_(llm.embed_tokens.weight, std=EMBEDDING_STD, generator=generator)
    dream_queries = new_dream_queries(QUERIES, LLM_SIZE, generator, EMBEDDING_STD)
    config = DreamConfig(template="toy", loss_weight_vm=PAINTING_WEIGHT)
    return DreamLLM(llm, vision, decoder, dream_queries, tokenizer, config)


@single_precision()
def pretrained_judge() -> Judge:
    """The judge that ships with the package, in float32."""
    return _pretrained(Judge(), "judge")


@single_precision()
def pretrained_text_tower() -> CLIPTextModelWithProjection:
    """The toy CLIP's text tower that ships with the package.

    The toy U-Net was trained on its states.
    """
    return _pretrained(new_clip(len(ToyTokenizer(VOCABULARY)))[1], "clip_text")


def _pretrained(module: torch.nn.Module, part: str) -> torch.nn.Module:
    module.load_state_dict(map_tensors(PRETRAINED / "toy" / f"{part}.safetensors"), strict=True)
    return module.float().eval().requires_grad_(False)


def clip_text_states(text_tower: nn.Module, tokenizer, captions: list[str]) -> Tensor:
    """The text states of the toy CLIP, on which the toy U-Net was trained.

    As in Stable Diffusion, every caption is padded to the tower's full length, and the U-Net also
    attends to the states at the padding: they come after the caption, so they contain information
    about all of it.

    Returns:
        States after the final norm, shape (batch, tokens, dim).

    Raises:
        ValueError: if a caption is longer than the text tower's input (both numbers).
    """
    length = text_tower.config.max_position_embeddings
    rows = [[tokenizer.bos, *tokenizer.encode(caption), tokenizer.eos] for caption in captions]
    if (longest := max(map(len, rows))) > length:
        raise ValueError(
            f"a caption takes {longest} tokens with <s> and </s>; the text tower reads {length}"
        )
    ids = [row + [tokenizer.pad] * (length - len(row)) for row in rows]
    ids = torch.tensor(ids, device=next(text_tower.parameters()).device)
    return text_tower(input_ids=ids).last_hidden_state


def paint_from_text_states(decoder, states: Tensor, null: Tensor) -> Tensor:
    """Pictures from states that the U-Net attends to; picture i has seed i.

    Args:
        decoder: of a toy.
        states: one set per picture, shape (batch, tokens, condition_dim).
        null: the states of the empty caption, for guidance, shape (1, tokens, condition_dim).

    Returns:
        Shape (batch, 3, height, width), RGB in [0, 1].
    """
    return decoder.decode(decoder.sample_seeded(states, null, list(range(len(states)))))


@torch.no_grad()
def paint_from_captions(model: DreamLLM, captions: list[str]) -> list:
    """PIL images that the model's U-Net paints from captions; picture i has seed i.

    Its condition is the toy CLIP's text states, without the language model and dream queries.
    """
    text_tower = pretrained_text_tower().to(model.device)
    states = clip_text_states(text_tower, model.tokenizer, [*captions, ""])
    return to_pil(paint_from_text_states(model.decoder, states[:-1], states[-1:]))
