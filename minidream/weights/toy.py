"""The toy's parts and their sizes: large and pretrained in the paper, here small and untrained."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
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
from .layout import PRETRAINED

IMAGE_SIZE = 32  # image pixels; the code takes any multiple of 8
LATENT_SIZE = 8  # latent cells
LLM_SIZE = 192  # width of the language model
CONDITION_SIZE = 96  # width of the states that the U-Net attends to
VISION_SIZE = 96  # width of the vision tower
QUERIES = 16
# The initial std of embeddings and dream queries. With 0.05, the first layers add so much to a
# position that its own token is lost among it: after 100,000 texts, the language model had not yet
# learned to look up what followed an earlier occurrence of a word. With 1 it has after 5,000.
EMBEDDING_STD = 1.0
# The weight of the denoising loss beside the language loss. With the official code's 10, the
# gradients of painting are smaller than those of writing (notebook 06 shows by how much), and Adam,
# which divides both by one common size, follows them little.
PAINTING_WEIGHT = 40.0
LATENT_SCALE = 0.545  # 1 / the measured std of the toy VAE's latents; Stable Diffusion's is 0.18215


def new_vae() -> AutoencoderKL:
    """The counterpart of Stable Diffusion's VAE: (3, 32, 32) pixels to (4, 8, 8) latents.

    A latent cell is four pixels wide.
    """
    channels = (24, 48, 96)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=IMAGE_SIZE,
        scaling_factor=LATENT_SCALE,
    )


def new_unet() -> UNet2DConditionModel:
    """The counterpart of Stable Diffusion's U-Net.

    Two more input channels hold the coordinates of each cell; see `diffusion.py`.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=6,
        out_channels=4,
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
    """Stable Diffusion's noise schedule, sampled with DDIM: 20 steps do for pictures this small."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def new_clip(
    vocabulary_size: int,
) -> tuple[CLIPVisionModelWithProjection, CLIPTextModelWithProjection]:
    """The counterpart of CLIP-L/14: a vision tower of 8x8 patches and a text tower.

    Each has a projection into the space where they are compared.
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
    # With transformers' initial std of 0.02 for positions and tokens and a causal mask, the order
    # of words is learned late. With a larger std for both, positions count as much as words from
    # the start.
    for embedding in (
        text.text_model.embeddings.token_embedding,
        text.text_model.embeddings.position_embedding,
    ):
        torch.nn.init.normal_(embedding.weight, std=0.5)
    return vision, text


def new_decoder(vae: AutoencoderKL, unet: UNet2DConditionModel) -> Decoder:
    """The boxes that paint, with the toy's sampling defaults."""
    return Decoder(
        vae,
        unet,
        new_scheduler(),
        ConditionProjector(LLM_SIZE, CONDITION_SIZE),
        DiffusionConfig(
            eta=0.0, num_inference_steps=20, guidance_scale=3.0, snr_gamma=5.0, drop_prob=0.1
        ),
    )


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


def new_model(tokenizer: ToyTokenizer, seed: int = 0) -> DreamLLM:
    """An untrained DreamLLM, to be filled with trained parts; equal seeds give equal weights."""
    generator = torch.Generator().manual_seed(seed)
    # transformers and diffusers draw their initial weights from torch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        llm = new_llm(len(tokenizer))
        vision = VisionEncoder(new_clip(len(tokenizer))[0].vision_model, LLM_SIZE)
        decoder = new_decoder(new_vae(), new_unet())
    llm.initialize(generator, std=0.05)  # more than LLaMA's 0.02, which suits 4096 dimensions
    torch.nn.init.normal_(llm.embed_tokens.weight, std=EMBEDDING_STD, generator=generator)
    return DreamLLM(
        llm,
        vision,
        decoder,
        new_dream_queries(QUERIES, LLM_SIZE, generator, EMBEDDING_STD),
        tokenizer,
        DreamConfig(template="toy", loss_weight_vm=PAINTING_WEIGHT),
    )


def pretrained_judge() -> Judge:
    """The judge that ships with the package, in float32."""
    return _pretrained(Judge(), "judge")


def pretrained_text_tower() -> CLIPTextModelWithProjection:
    """The toy CLIP's text tower that ships with the package: what the toy U-Net was trained on."""
    return _pretrained(new_clip(len(ToyTokenizer(VOCABULARY)))[1], "clip_text")


def _pretrained(module: torch.nn.Module, part: str) -> torch.nn.Module:
    module.load_state_dict(load_file(PRETRAINED / "toy" / f"{part}.safetensors"), strict=True)
    return module.float().eval().requires_grad_(False)


def clip_text_states(text_tower: nn.Module, tokenizer, captions: list[str]) -> Tensor:
    """The toy CLIP's text states; its U-Net was trained on them, as Stable Diffusion's on CLIP-L's.

    As there, every caption is padded to the tower's full length, and the U-Net attends to the
    states at the padding as well; these come after the caption and so depend on all of it.

    Returns:
        States after the final norm, shape (batch, tokens, dim).

    Raises:
        ValueError: for a caption that is longer than the tower reads (both numbers).
    """
    length = text_tower.config.max_position_embeddings
    rows = [[tokenizer.bos, *tokenizer.encode(caption), tokenizer.eos] for caption in captions]
    if (longest := max(map(len, rows))) > length:
        raise ValueError(
            f"a caption takes {longest} tokens with <s> and </s>; the text tower reads {length}"
        )
    ids = torch.tensor([row + [tokenizer.pad] * (length - len(row)) for row in rows])
    return text_tower(input_ids=ids.to(next(text_tower.parameters()).device)).last_hidden_state


def painted(decoder, states: Tensor, null: Tensor) -> Tensor:
    """Pictures from conditions (batch, queries, condition_dim) and the null condition.

    Picture i has seed i.

    Returns:
        Shape (batch, 3, height, width), RGB in [0, 1].
    """
    return decoder.decode(decoder.sample_seeded(states, null, list(range(len(states)))))


@torch.no_grad()
def dream_of_clip(model: DreamLLM, captions: list[str]) -> list:
    """Pictures that the model's U-Net paints from the toy CLIP's text states, as PIL images.

    Neither the language model nor the dream queries take part. Picture i has seed i.
    """
    states = clip_text_states(
        pretrained_text_tower().to(model.device), model.tokenizer, [*captions, ""]
    )
    return to_pil(painted(model.decoder, states[:-1], states[-1:]))
