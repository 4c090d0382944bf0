"""The heart of DreamLLM: dream queries, and how what they gather becomes a picture.

A dream query is a learned vector that takes the place of a word embedding. By itself it means
nothing. The language model processes it like a word and so lets it attend to everything before it,
earlier queries included. What it has gathered after the last layer conditions the U-Net, in place
of the states of a text encoder. Nothing says what a query should gather: its only teacher is the
denoising loss, through the U-Net, which stays frozen in training. (Paper, section 2.2, figure 2.)
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from .documents import Document, Layout, as_document
from .images import as_floats, as_seeds, to_pil
from .vision import new_projector


def new_dream_queries(
    queries: int, dim: int, generator: torch.Generator | None = None, std: float = 0.02
) -> nn.Parameter:
    """Untrained dream queries, drawn from N(0, std²): shape (1, queries, dim).

    The same queries serve every picture. They should be about as large as the word embeddings
    beside them: 0.02 is the standard deviation of LLaMA's.
    """
    return nn.Parameter(std * torch.randn(1, queries, dim, generator=generator))


def block_index(blocks: list[tuple[int, int]], length: int, device) -> tuple[Tensor, Tensor]:
    """Rows and positions of all tokens of some blocks, to index a (batch, tokens, ...) tensor.

    Args:
        blocks: (row, first position) of each block.
        length: tokens in a block.
        device: of the result.

    Returns:
        Two integer tensors of shape (blocks, length).
    """
    rows, firsts = torch.tensor(blocks, device=device).reshape(-1, 2).unbind(dim=1)
    offsets = torch.arange(length, device=device)
    positions = rearrange(firsts, "blocks -> blocks 1") + offsets
    return rearrange(rows, "blocks -> blocks 1").expand_as(positions), positions


def insert(embeddings: Tensor, vectors: Tensor, blocks: list[tuple[int, int]]) -> Tensor:
    """Embeddings in which placeholder tokens are replaced by vectors.

    Args:
        embeddings: shape (batch, tokens, dim).
        vectors: dream queries or image patches, shape (blocks, length, dim); or (1, length, dim)
            to use the same vectors for every block.
        blocks: (row, first position) of each block of placeholders.

    Returns:
        A new tensor of the shape of `embeddings`.
    """
    if not blocks:
        return embeddings
    index = block_index(blocks, vectors.shape[1], embeddings.device)
    vectors = vectors.to(embeddings.dtype).expand(len(blocks), -1, -1)
    return embeddings.index_put(index, vectors)


def gather(hidden: Tensor, queries: int, blocks: list[tuple[int, int]]) -> Tensor:
    """The hidden states at the dream queries of each block.

    Args:
        hidden: final-norm hidden states, shape (batch, tokens, dim).
        queries: dream queries per block.
        blocks: (row, first position) of each block.

    Returns:
        Shape (blocks, queries, dim).
    """
    return hidden[block_index(blocks, queries, hidden.device)]


class ConditionProjector(nn.Module):
    """From the width of the language model to the width the U-Net attends to: linear, without bias.

    Args:
        llm_dim: width of the language model.
        condition_dim: `cross_attention_dim` of the U-Net.
        depth: number of layers; 1 as published.
    """

    def __init__(self, llm_dim: int, condition_dim: int, depth: int = 1):
        super().__init__()
        self.depth = depth
        self.projector = new_projector(llm_dim, condition_dim, depth, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """(batch, queries, llm_dim) to (batch, queries, condition_dim)."""
        return self.projector(states)


# --------------------------------------------------------------------------------------------------
# Painting what was gathered: the functions take the model, and `paint` is a method of it


@dataclass(frozen=True)
class PaintingOptions:
    """Options of painting, checked and with the checkpoint's defaults filled in.

    The fields are arguments of `dream`; `negative` is the negative prompt and its layout.
    """

    num_inference_steps: int
    guidance_scale: float
    negative: tuple[Document, Layout]
    latents: Tensor | None = None
    output_type: str = "pil"


@torch.no_grad()
def paint(
    model,
    states: Tensor,
    seed: int | list[int] = 0,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt=None,
    latents: Tensor | None = None,
    output_type: str = "pil",
    progress: bool = False,
) -> list:
    """Paints from states: the second half of `dream`, which is `paint(encode(prompts))`.

    Args:
        states: as from `encode`, possibly changed since, shape (batch, queries, hidden).
        seed: as in `dream`.
        num_inference_steps, guidance_scale, negative_prompt, latents, output_type, progress: as in
            `dream`.

    Returns:
        A list of pictures.

    Raises:
        TypeError, ValueError: as `dream`, and for states of another shape.
    """
    states, (queries, hidden) = as_floats("states", states), model.dream_queries.shape[1:]
    if states.dim() != 3 or not len(states) or tuple(states.shape[1:]) != (queries, hidden):
        raise ValueError(
            f"states have the shape (batch, {queries}, {hidden}), not {tuple(states.shape)}"
        )
    seeds, steps, scale = as_seeds(seed, len(states)), num_inference_steps, guidance_scale
    options = check_options(model, len(seeds), steps, scale, negative_prompt, latents, output_type)
    return paint_checked(model, states.to(model.device), seeds, options, progress=progress)


def check_options(
    model,
    pictures: int,
    num_inference_steps: int | None,
    guidance_scale: float | None,
    negative_prompt,
    latents: Tensor | None = None,
    output_type: str = "pil",
) -> PaintingOptions:
    """Checks the options of `pictures` pictures before any work is done; errors as `dream`."""
    if output_type not in ("pil", "pt", "latent"):
        raise ValueError(f'output_type is "pil", "pt" or "latent", not {output_type!r}')
    if latents is not None:
        latents, shape = as_floats("latents", latents), (pictures, *model.decoder.latent_shape)
        if tuple(latents.shape) != shape:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} were given; these prompts need {shape}"
            )
    steps, scale = model.decoder.sampling_options(num_inference_steps, guidance_scale)
    document = as_document("" if negative_prompt is None else negative_prompt)
    negative = (document, model.prompt_layout(document))
    return PaintingOptions(steps, scale, negative, latents, output_type)


def null_condition(model, options: PaintingOptions) -> Tensor | None:
    """The projected null condition, (1, queries, condition_dim); None where nothing is guided."""
    if options.guidance_scale <= 1:
        return None
    document, layout = options.negative
    return model.decoder.projector(model.encode_null(document, layout))


def paint_checked(
    model,
    states: Tensor,
    seeds: list[int],
    options: PaintingOptions,
    null: Tensor | None = None,
    progress: bool = False,
) -> list:
    """As `paint`, with checked options; `null` is the null condition, if it is known already."""
    latents = model.decoder.sample_seeded(
        model.decoder.projector(states),
        null_condition(model, options) if null is None else null,
        seeds,
        options.num_inference_steps,
        options.guidance_scale,
        options.latents,
        progress,
    )
    if options.output_type == "latent":
        return [each.clone() for each in latents]  # no views: they could not be changed in training
    images = model.decoder.decode(latents)
    return to_pil(images) if options.output_type == "pil" else [each.clone() for each in images]
