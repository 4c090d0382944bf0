"""Images in: the CLIP vision tower (transformers' class) and the projector that makes its patches into LLM inputs.

Paper: section 2.2, the visual encoder; the official code takes the tower's second last layer without the class token.
"""

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionModel

from .images import fit_square, to_tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(images: Tensor, mean=CLIP_MEAN, std=CLIP_STD) -> Tensor:
    """RGB in [0, 1], shape (batch, 3, height, width), scaled as CLIP was trained: mean 0 and deviation 1 per channel."""
    mean, std = (
        rearrange(torch.tensor(values, device=images.device), "rgb -> rgb 1 1")
        for values in (mean, std)
    )
    return (images - mean) / std


class VisionEncoder(nn.Module):
    """Pictures to LLM inputs: a frozen CLIP tower and a projector with bias.

    Args:
        tower: transformers' CLIP vision model.
        llm_dim: width of the language model.
        select_layer: which hidden state of the tower is taken; -2 is the output of the last layer but one.
        mean, std: per channel, as the tower was trained.
        projector_depth: how many layers it has.
        normed: whether a layer norm follows the projector; not so as published.
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
        self.projector = new_projector(
            tower.config.hidden_size, llm_dim, projector_depth, bias=True
        )
        self.post_layernorm = (
            nn.LayerNorm(llm_dim, eps=tower.config.layer_norm_eps) if normed else None
        )
        self.select_layer, self.mean, self.std = select_layer, tuple(mean), tuple(std)

    @property
    def grid(self) -> int:
        """Patches along each side of a picture."""
        return self.tower.config.image_size // self.tower.config.patch_size

    @property
    def patches(self) -> int:
        """Patches of a picture, and so positions that it takes in the sequence."""
        return self.grid**2

    def pixels(self, images: list[Image.Image]) -> Tensor:
        """PIL images of any size as the tower's input: short edge resized (bicubic), centre cropped, normalized.

        Returns:
            Shape (batch, 3, image_size, image_size).
        """
        cropped = [
            fit_square(image, self.tower.config.image_size, Image.Resampling.BICUBIC)
            for image in images
        ]
        return clip_pixels(
            to_tensor(cropped).to(next(self.projector.parameters()).device), self.mean, self.std
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 3, height, width) to (batch, patches, llm_dim), patches row by row from the top left."""
        pixels = pixels.to(next(self.projector.parameters()).dtype)
        states = self.tower(pixel_values=pixels, output_hidden_states=True).hidden_states[
            self.select_layer
        ]
        embeddings = self.projector(states[:, 1:])  # without the class token
        return embeddings if self.post_layernorm is None else self.post_layernorm(embeddings)


def new_projector(dim: int, out_dim: int, depth: int, bias: bool) -> nn.Module:
    """Linear at depth 1, as published; more gives an MLP with GELU between its layers, by the official names."""
    layers = [nn.Linear(dim, out_dim, bias=bias)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(out_dim, out_dim, bias=bias)]
    return layers[0] if depth == 1 else nn.Sequential(*layers)
