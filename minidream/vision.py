"""Pictures in: the CLIP vision tower, and the projector from its patches to LLM inputs.

Paper: section 2.2, the visual encoder. The tower is transformers' class. As in the official code,
its second-to-last layer is read, without the class token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from .images import dtype_of, fit_square, to_tensor

if TYPE_CHECKING:  # importing transformers takes two seconds, so it waits until weights are built
    from transformers import CLIPVisionModel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(images: Tensor, mean=CLIP_MEAN, std=CLIP_STD) -> Tensor:
    """Pictures normalized as CLIP expects: over its training data, each channel has mean 0, std 1.

    Args:
        images: shape (batch, 3, height, width), RGB in [0, 1].
        mean, std: one value per channel.

    Returns:
        The shape of `images`.
    """
    mean, std = (
        rearrange(torch.tensor(values, device=images.device, dtype=images.dtype), "rgb -> rgb 1 1")
        for values in (mean, std)
    )
    return (images - mean) / std


def new_projector(dim: int, out_dim: int, depth: int, bias: bool) -> nn.Module:
    """An untrained projector: one linear layer, as published, or an MLP with GELU."""
    layers: list[nn.Module] = [nn.Linear(dim, out_dim, bias=bias)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(out_dim, out_dim, bias=bias)]
    return layers[0] if depth == 1 else nn.Sequential(*layers)


class VisionEncoder(nn.Module):
    """From pictures to LLM inputs: a CLIP tower and a projector with bias.

    The tower is frozen in every stage of training (see `train/stages.py`).

    Args:
        tower: transformers' CLIP vision model.
        llm_dim: width of the language model.
        select_layer: which hidden state of the tower is read; -2 is the second-to-last layer.
        mean, std: per channel, as the tower was trained.
        projector_depth: number of layers of the projector.
        normed: whether a layer norm follows the projector; the published weights have none.
    """

    def __init__(
        self,
        tower: CLIPVisionModel,
        llm_dim: int,
        select_layer: int = -2,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        projector_depth: int = 1,
        normed: bool = False,
    ):
        super().__init__()
        self.tower, self.projector_depth = tower, projector_depth
        self.projector = new_projector(tower.config.hidden_size, llm_dim, projector_depth, True)
        self.post_layernorm = None
        if normed:
            self.post_layernorm = nn.LayerNorm(llm_dim, eps=tower.config.layer_norm_eps)
        self.select_layer, self.mean, self.std = select_layer, tuple(mean), tuple(std)

    @property
    def grid(self) -> int:
        """Patches along each side of a picture."""
        return self.tower.config.image_size // self.tower.config.patch_size

    @property
    def patches(self) -> int:
        """Patches of a picture, which is also the number of positions it takes in the sequence."""
        return self.grid**2

    def pixels(self, images: list[Image.Image]) -> Tensor:
        """PIL images of any size as input of the tower.

        The short edge is resized (bicubic), the long one cropped to the center, and the result
        normalized as in `clip_pixels`.

        Returns:
            Shape (batch, 3, image_size, image_size).
        """
        size = self.tower.config.image_size
        cropped = [fit_square(image, size, Image.Resampling.BICUBIC) for image in images]
        device = next(self.projector.parameters()).device
        return clip_pixels(to_tensor(cropped).to(device), self.mean, self.std)

    def features(self, pixels: Tensor) -> Tensor:
        """What the tower sees: (batch, 3, height, width) to (batch, patches, dim), row by row."""
        pixels = pixels.to(dtype_of(self.tower))
        states = self.tower(pixel_values=pixels, output_hidden_states=True).hidden_states
        return states[self.select_layer][:, 1:]  # without the class token

    def project(self, features: Tensor) -> Tensor:
        """(batch, patches, dim) to inputs of the language model, (batch, patches, llm_dim)."""
        embeddings = self.projector(features.to(dtype_of(self.projector)))
        if self.post_layernorm is None:
            return embeddings
        return self.post_layernorm(embeddings.to(dtype_of(self.post_layernorm)))

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 3, height, width) to (batch, patches, llm_dim), patches row by row."""
        return self.project(self.features(pixels))
