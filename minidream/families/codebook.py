"""Pictures as codes: a codebook as in VQ-VAE (van den Oord et al. 2017), on latents of the VAE.

Each of the 64 latent cells becomes the nearest of a few hundred learned vectors. The index of that
vector is the cell's code, and `discrete.py` uses codes as the words of a second language.
"""

import random

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import Decoder
from ..trainer.lessons import pictures
from ..trainer.loop import Recipe
from ..weights import toy
from ..world.scenes import sample_scene


class Codebook(nn.Module):
    """Maps latents to the nearest codes, and codes back to latents.

    Args:
        channels: of the latents.
        codes: number of codes.
        dim: width of a code's vector.
    """

    def __init__(self, channels: int, codes: int = 256, dim: int = 4):
        super().__init__()
        self.into, self.out = nn.Linear(channels, dim), nn.Linear(dim, channels)
        # Both start as the identity: the latents are already a good space.
        for linear in (self.into, self.out):
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.codes = nn.Parameter(torch.randn(codes, dim))

    def nearest(self, vectors: Tensor) -> Tensor:
        """Vectors (..., dim) to the indices of the nearest codes, shape (...)."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        return torch.cdist(flat, self.codes).argmin(dim=-1).reshape(vectors.shape[:-1])

    def quantize(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Replaces vectors by their nearest codes, with a straight-through gradient.

        The choice of the nearest code has no gradient. Therefore the gradient of the result
        passes to the vectors as if they had not been replaced, and a loss pulls codes and vectors
        together.

        Args:
            vectors: shape (..., dim).

        Returns:
            The codes, in the shape of `vectors`.
            The scalar loss ||sg(v) - c||^2 + ||v - sg(c)||^2 / 4, means over all numbers.
        """
        codes = self.codes[self.nearest(vectors)]
        loss = F.mse_loss(codes, vectors.detach()) + 0.25 * F.mse_loss(vectors, codes.detach())
        return vectors + (codes - vectors).detach(), loss

    @torch.no_grad()
    def encode_latents(self, latents: Tensor) -> Tensor:
        """Latents (batch, channels, height, width) to codes (batch, height * width), row by row."""
        cells = rearrange(latents, "batch channels height width -> batch (height width) channels")
        return self.nearest(self.into(cells))

    @torch.no_grad()
    def decode_codes(self, codes: Tensor, height: int) -> Tensor:
        """Codes (batch, height * width) to latents (batch, channels, height, width)."""
        return rearrange(
            self.out(self.codes[codes]),
            "batch (height width) channels -> batch channels height width",
            height=height,
        )


class CodebookStage(nn.Module):
    """Trains a codebook to reconstruct the latents of pictures.

    Args:
        decoder: its frozen VAE makes the latents.
        recipe: how long and how fast it learns.
        codes: number of codes.
    """

    name, training_kinds = "codebook", ("picture",)

    def __init__(self, decoder: Decoder, recipe: Recipe, codes: int = 256):
        super().__init__()
        self.decoder, self.recipe = decoder.requires_grad_(False), recipe
        self.codebook = Codebook(decoder.latent_shape[0], codes)
        # Codes start at latents, since a code that is the nearest one to no latent never learns.
        with torch.no_grad():
            rng = random.Random(int(torch.randint(2**31, ())))
            latents = decoder.latents_of(random_pictures(rng, 256))
            cells = self.codebook.into(
                rearrange(latents, "batch channels height width -> (batch height width) channels")
            )
            # Of latents chosen at random, nearly all would be background.
            self.codebook.codes.copy_(farthest_points(cells, codes))

    def batch(self, seed: int, step: int, process: int) -> list:
        """PIL images."""
        rng = random.Random(f"codebook {seed} {step} {process}")
        return random_pictures(rng, self.recipe.batch)

    def forward(self, batch: list, generator: torch.Generator) -> dict:
        """The squared error of the latents ("error"), and its sum with the codebook loss."""
        latents = rearrange(
            self.decoder.latents_of(batch),
            "batch channels height width -> batch height width channels",
        )
        quantized, codebook_loss = self.codebook.quantize(self.codebook.into(latents))
        error = F.mse_loss(self.codebook.out(quantized), latents)
        return {"total": error + codebook_loss, "error": error}


def random_pictures(rng: random.Random, count: int) -> list:
    """PIL images of random scenes with one object."""
    return pictures([sample_scene(rng, count=1) for _ in range(count)], toy.IMAGE_SIZE)


def farthest_points(cells: Tensor, count: int) -> Tensor:
    """Farthest-point sampling: each chosen cell is the farthest one from those chosen before it.

    Args:
        cells: shape (cells, dim); the first one is always chosen.
        count: number of cells to choose.

    Returns:
        Shape (count, dim).
    """
    chosen, distance = [0], torch.full_like(cells[:, 0], torch.inf)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (cells - cells[chosen[-1]]).square().sum(dim=-1))
        chosen.append(distance.argmax().item())
    return cells[chosen]
