"""The exercises of notebook 03: patches, CLIP's loss, and a vision encoder."""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...vision import VisionEncoder
from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 03.1: from patches to a picture


def picture_of_patches(patches: Tensor, rows: int, columns: int) -> Tensor:
    """(batch, rows * columns, rgb * size * size) to (batch, rgb, height, width).

    `torch.nn.functional.fold` does the same.
    """
    size = round((patches.shape[-1] / 3) ** 0.5)
    return rearrange(
        patches,
        "batch (rows columns) (rgb height width) -> batch rgb (rows height) (columns width)",
        rows=rows,
        columns=columns,
        rgb=3,
        height=size,
        width=size,
    )


def patches_of_pictures() -> list[tuple]:
    """Random patches in 2 rows, and counted ones in 5."""
    draw = torch.Generator().manual_seed(0)
    return [
        (torch.rand(2, 6, 12, generator=draw), 2, 3),
        (torch.arange(270.0).reshape(1, 10, 27), 5, 2),
    ]


def unfolded_as(inside: str, outside: str = "(rows columns)"):
    """A function that takes patches, or the numbers in a patch, in another order."""
    pattern = f"batch {outside} {inside} -> batch rgb (rows height) (columns width)"

    def unfold(patches, rows, columns):
        size = round((patches.shape[-1] / 3) ** 0.5)
        return rearrange(patches, pattern, rows=rows, rgb=3, height=size)

    return unfold


# --------------------------------------------------------------------------------------------------
# 03.2: the contrastive loss


def contrastive_loss(pictures: Tensor, captions: Tensor, scale: float) -> Tensor:
    """CLIP's loss: each picture should find its caption in the batch, and each caption its picture.

    Args:
        pictures, captions: embeddings, shape (batch, dim); those of row i belong together.
        scale: what cosine similarities are multiplied by, the inverse of the temperature.

    Returns:
        A scalar: the mean of both cross entropies. (Radford et al. 2021, figure 3.)
    """
    pictures, captions = (F.normalize(vectors, dim=-1) for vectors in (pictures, captions))
    scores = scale * pictures @ captions.T
    own = torch.arange(len(scores))
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def embeddings() -> list[tuple]:
    """Embeddings of different lengths, and scales."""
    draw = torch.Generator().manual_seed(3)
    return [
        (*torch.randn(2, batch, 5, generator=draw) * 1.5, scale)
        for batch, scale in ((3, 1.0), (4, 5.0), (7, 10.0))
    ]


def cosines(pictures: Tensor, captions: Tensor) -> Tensor:
    """Similarities of all pictures with all captions, in [-1, 1]."""
    return F.normalize(pictures, dim=-1) @ F.normalize(captions, dim=-1).T


def of_pictures(pictures: Tensor, captions: Tensor, scale: float) -> Tensor:
    """Only the pictures choose among captions."""
    scores = scale * cosines(pictures, captions)
    return F.cross_entropy(scores, torch.arange(len(scores)))


def unnormalized(pictures: Tensor, captions: Tensor, scale: float) -> Tensor:
    """Products of embeddings in place of their cosines."""
    scores, own = scale * pictures @ captions.T, torch.arange(len(pictures))
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def normalized_over_batch(pictures: Tensor, captions: Tensor, scale: float) -> Tensor:
    """Length 1 along the batch, not along each embedding."""
    return unnormalized(F.normalize(pictures, dim=0), F.normalize(captions, dim=0), scale)


# --------------------------------------------------------------------------------------------------
# 03.3: the vision encoder


def encode_pictures(encoder: VisionEncoder, pictures: Tensor) -> Tensor:
    """Pixels (batch, 3, height, width) to inputs of the language model, (batch, patches, llm_dim).

    `VisionEncoder.forward` does the same.
    """
    states = encoder.tower(pixel_values=pictures, output_hidden_states=True).hidden_states
    return encoder.projector(states[encoder.select_layer][:, 1:])


def encoders_and_pictures() -> list[tuple]:
    """Encoders with one small random tower that read different layers, and pictures for each."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    with torch.random.fork_rng(devices=[]):  # the notebook's random numbers stay as they were
        torch.manual_seed(0)
        tower = CLIPVisionModel(config).eval()
        encoders = [VisionEncoder(tower, 5, select_layer=layer) for layer in (-2, -3)]
        pictures = torch.rand(2, 2, 3, 32, 32)
    return [(encoder.requires_grad_(False), each) for encoder, each in zip(encoders, pictures)]


def states_of(encoder: VisionEncoder, pictures: Tensor):
    """All that the tower gives."""
    return encoder.tower(pixel_values=pictures, output_hidden_states=True)


def chosen_by(encoder: VisionEncoder, pictures: Tensor) -> Tensor:
    """The layer that the encoder reads, with the class token."""
    return states_of(encoder, pictures).hidden_states[encoder.select_layer]


EXERCISES = {
    "03.1": Exercise(
        picture_of_patches,
        patches_of_pictures,
        {
            "colours come first inside a patch, then its rows.": unfolded_as("(height width rgb)"),
            "inside a patch, its rows come before its columns.": unfolded_as("(rgb width height)"),
            "the patches are in order row by row, not column by column.": (
                unfolded_as("(rgb height width)", "(columns rows)")
            ),
        },
        "The pattern of `to_patches` with its two sides exchanged. einops must be given `rows`, "
        "`rgb` and `height`; it finds the rest. A patch has 3 * size * size numbers.",
        axes="batch rgb height width",
    ),
    "03.2": Exercise(
        contrastive_loss,
        embeddings,
        {
            "both directions count: captions also choose among pictures.": of_pictures,
            "both directions count: pictures also choose among captions.": (
                lambda pictures, captions, scale: of_pictures(captions, pictures, scale)
            ),
            "similarities are cosines: give both embeddings length 1 first.": unnormalized,
            "each embedding gets length 1: normalize along its own numbers, not along the batch.": (
                normalized_over_batch
            ),
            "the similarities are multiplied by the scale, not divided by it.": (
                lambda pictures, captions, scale: contrastive_loss(pictures, captions, 1 / scale)
            ),
            "the similarities are not multiplied by the scale.": (
                lambda pictures, captions, scale: contrastive_loss(pictures, captions, 1.0)
            ),
            "an own caption that is similar is not enough: it has to be more similar than the "
            "others, so cross entropy is taken over the row.": (
                lambda pictures, captions, scale: (
                    -scale * cosines(pictures, captions).diagonal().mean()
                )
            ),
        },
        "Normalize both, multiply them to a square table of scores, and take "
        "`torch.nn.functional.cross_entropy` of the table and of its transpose. The right caption "
        "of picture i is number i.",
    ),
    "03.3": Exercise(
        encode_pictures,
        encoders_and_pictures,
        {
            "the class token comes first, and is left out.": (
                lambda encoder, pictures: encoder.projector(chosen_by(encoder, pictures))
            ),
            "`last_hidden_state` is the last layer: is it the one to be read?": (
                lambda encoder, pictures: encoder.projector(
                    states_of(encoder, pictures).last_hidden_state[:, 1:]
                )
            ),
            "not every encoder reads layer -2.": (
                lambda encoder, pictures: encoder.projector(
                    states_of(encoder, pictures).hidden_states[-2][:, 1:]
                )
            ),
            "the projector has a bias, too.": (
                lambda encoder, pictures: (
                    chosen_by(encoder, pictures)[:, 1:] @ encoder.projector.weight.T
                )
            ),
            "these are the states of the tower: the projector is missing.": (
                lambda encoder, pictures: chosen_by(encoder, pictures)[:, 1:]
            ),
        },
        "`output_hidden_states=True` gives a tuple, from which `encoder.select_layer` picks. "
        "Position 0 is the class token.",
        axes="batch patches llm_dim",
    ),
}
