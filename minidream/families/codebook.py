"""Pictures as words of a second language: a codebook in the manner of VQ-VAE (van den Oord et al. 2017), on the frozen VAE's latents.

Each of the 64 latent cells becomes the nearest of a few hundred learned vectors, and its number is the picture's "word" there.
"""

import random

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import Decoder
from ..train.lessons import pictures
from ..train.loop import Recipe
from ..weights import toy
from ..world.scenes import sample_scene


class Codebook(nn.Module):
    """Vectors to the nearest code and back.

    Args:
        channels: of the latents.
        codes: how many there are.
        dim: of a code.
    """

    def __init__(self, channels: int, codes: int = 256, dim: int = 4):
        super().__init__()
        self.into, self.out = nn.Linear(channels, dim), nn.Linear(dim, channels)
        for way in (
            self.into,
            self.out,
        ):  # from the identity on: latents are a good space to begin with
            nn.init.eye_(way.weight)
            nn.init.zeros_(way.bias)
        self.codes = nn.Parameter(torch.randn(codes, dim))

    def nearest(self, vectors: Tensor) -> Tensor:
        """(..., dim) to the numbers of the nearest codes, shape (...)."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        return torch.cdist(flat, self.codes).argmin(dim=-1).reshape(vectors.shape[:-1])

    def quantize(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Codes in the place of vectors, with the straight-through gradient; and the loss that draws them together.

        Going forward, the code; going back, the gradient passes to the vector as if nothing had been done to it, since
        the choice of the nearest has no gradient of its own.

        Args:
            vectors: shape (..., dim).

        Returns:
            The same shape; and the scalar ||sg(v) - c||^2 + ||v - sg(c)||^2 / 4, means over all numbers.
        """
        codes = self.codes[self.nearest(vectors)]
        loss = F.mse_loss(codes, vectors.detach()) + 0.25 * F.mse_loss(vectors, codes.detach())
        return vectors + (codes - vectors).detach(), loss

    @torch.no_grad()
    def encode_latents(self, latents: Tensor) -> Tensor:
        """(batch, channels, height, width) to numbers of codes, shape (batch, height * width), cells row by row."""
        return self.nearest(
            self.into(
                rearrange(latents, "batch channels height width -> batch (height width) channels")
            )
        )

    @torch.no_grad()
    def decode_codes(self, numbers: Tensor, height: int) -> Tensor:
        """The way back."""
        return rearrange(
            self.out(self.codes[numbers]),
            "batch (height width) channels -> batch channels height width",
            height=height,
        )


class CodebookStage(nn.Module):
    """The codebook learns from pictures alone to give the latents back."""

    name, training_kinds = "codebook", ("picture",)

    def __init__(self, decoder: Decoder, recipe: Recipe, codes: int = 256):
        super().__init__()
        self.decoder, self.recipe = decoder.requires_grad_(False), recipe
        self.codebook = Codebook(decoder.latent_shape[0], codes)
        # Codes begin where latents are: one that is the nearest to nothing never learns.
        with torch.no_grad():
            rng = random.Random(int(torch.randint(2**31, ())))
            latents = decoder.latents_of(
                pictures([sample_scene(rng, count=1) for _ in range(256)], toy.IMAGE_SIZE)
            )
            cells = self.codebook.into(
                rearrange(latents, "batch channels height width -> (batch height width) channels")
            )
            # And drawn at random from them, nearly all would be background.
            self.codebook.codes.copy_(spread_out(cells, len(self.codebook.codes)))

    def batch(self, seed: int, step: int, process: int):
        """PIL images."""
        rng = random.Random(f"codebook {seed} {step} {process}")
        return pictures(
            [sample_scene(rng, count=1) for _ in range(self.recipe.batch)], toy.IMAGE_SIZE
        )

    def forward(self, batch, generator):
        """Squared error of the latents, and the codebook's own loss."""
        latents = rearrange(
            self.decoder.latents_of(batch),
            "batch channels height width -> batch height width channels",
        )
        quantized, drawn = self.codebook.quantize(self.codebook.into(latents))
        error = F.mse_loss(self.codebook.out(quantized), latents)
        return {"total": error + drawn, "error": error}


def spread_out(cells: Tensor, count: int) -> Tensor:
    """So many of the cells, shape (count, dim), each the farthest from those before it."""
    chosen, distance = [0], torch.full((len(cells),), torch.inf)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (cells - cells[chosen[-1]]).square().sum(dim=-1))
        chosen.append(distance.argmax().item())
    return cells[chosen]
