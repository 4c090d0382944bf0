"""Images in: the CLIP vision tower (transformers' class) and the projector that makes its patches into LLM inputs.

Paper: section 2.2, the visual encoder; the official code takes the tower's second last layer without the class token.
"""

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionModel

from .documents import as_rgb
from .dream import new_projector
from .world.render import to_tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(images: Tensor, mean=CLIP_MEAN, std=CLIP_STD) -> Tensor:
    """RGB in [0, 1], shape (batch, 3, height, width), scaled as CLIP was trained: mean 0 and deviation 1 per channel."""
    mean, std = (rearrange(torch.tensor(values, device=images.device), "rgb -> rgb 1 1") for values in (mean, std))
    return (images - mean) / std


def clip_text_states(text_tower: nn.Module, tokenizer, captions: list[str]) -> Tensor:
    """The toy CLIP's text states, on which its U-Net was trained as Stable Diffusion's is on CLIP-L's.

    As there, every caption is padded to the tower's full length, and the states at the padding are attended to as well:
    they stand after the caption, so they know all of it.

    Returns:
        States after the final norm, shape (batch, tokens, dim).

    Raises:
        ValueError: for a caption that is longer than the tower reads (both numbers).
    """
    length = text_tower.config.max_position_embeddings
    rows = [[tokenizer.bos, *tokenizer.encode(caption), tokenizer.eos] for caption in captions]
    if (longest := max(map(len, rows))) > length:
        raise ValueError(f"a caption takes {longest} tokens with <s> and </s>; the text tower reads {length}")
    ids = torch.tensor([row + [tokenizer.pad] * (length - len(row)) for row in rows])
    return text_tower(input_ids=ids.to(next(text_tower.parameters()).device)).last_hidden_state


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

    def __init__(self, tower: CLIPVisionModel, llm_dim: int, select_layer: int = -2, mean=CLIP_MEAN, std=CLIP_STD,
                 projector_depth: int = 1, normed: bool = False):
        super().__init__()
        self.tower, self.projector_depth = tower, projector_depth
        self.projector = new_projector(tower.config.hidden_size, llm_dim, projector_depth, bias=True)
        self.post_layernorm = nn.LayerNorm(llm_dim, eps=tower.config.layer_norm_eps) if normed else None
        self.select_layer, self.mean, self.std = select_layer, tuple(mean), tuple(std)

    @property
    def grid(self) -> int:
        """Patches along each side of a picture."""
        return self.tower.config.image_size // self.tower.config.patch_size

    @property
    def patches(self) -> int:
        """Patches of a picture, and so positions that it takes in the sequence."""
        return self.grid ** 2

    def pixels(self, images: list[Image.Image]) -> Tensor:
        """PIL images of any size as the tower's input: short edge resized (bicubic), centre cropped, normalized.

        Returns:
            Shape (batch, 3, image_size, image_size).
        """
        cropped = [fit_square(image, self.tower.config.image_size, Image.Resampling.BICUBIC) for image in images]
        return clip_pixels(to_tensor(cropped).to(next(self.projector.parameters()).device), self.mean, self.std)

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 3, height, width) to (batch, patches, llm_dim), patches row by row from the top left."""
        pixels = pixels.to(next(self.projector.parameters()).dtype)
        states = self.tower(pixel_values=pixels, output_hidden_states=True).hidden_states[self.select_layer]
        embeddings = self.projector(states[:, 1:])      # without the class token
        return embeddings if self.post_layernorm is None else self.post_layernorm(embeddings)


def fit_square(image: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """The middle square of an RGB picture, `size` pixels wide: the short edge is resized, the long one cropped."""
    image = as_rgb(image)
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, int(edge * scale)) for edge in image.size)
        image = image.resize((width, height), resample)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return image
