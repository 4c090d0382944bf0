"""Pictures in the forms the model takes: RGB, square, and as tensors and back."""

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor


def as_rgb(image: Image.Image) -> Image.Image:
    """An image as RGB: transparency over white, 16 bits scaled to 8.

    Raises:
        ValueError: for an image that cannot be read as RGB.
    """
    try:
        # Pillow itself clips everything above 255: a 16-bit picture would come out white.
        if image.mode.startswith("I;16"):
            scaled = (np.asarray(image) / 257).round().astype(np.uint8)
            return Image.fromarray(scaled).convert("RGB")
        if image.mode in ("I", "F"):
            raise ValueError("its values have no known range; scale them to 8 bits first")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB")
        return image.convert("RGB")
    except Exception as error:
        raise ValueError(
            f"an image of mode {image.mode} and size {image.size} cannot be read as RGB: {error}"
        ) from error


def fit_square(image: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """The central square of a picture, as RGB: the short edge is resized, the long one cropped.

    Args:
        image: any size and mode.
        size: width and height of the result, in pixels.
        resample: the filter used for resizing.
    """
    image = as_rgb(image)
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, int(edge * scale)) for edge in image.size)
        image = image.resize((width, height), resample)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return image


def to_pil(images: Tensor) -> list[Image.Image]:
    """Pictures (batch, 3, height, width), RGB, as PIL images; values are clipped to [0, 1]."""
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = rearrange(pixels, "batch rgb height width -> batch height width rgb").numpy()
    return [Image.fromarray(picture) for picture in pixels]


def to_tensor(images: list[Image.Image]) -> Tensor:
    """PIL images of one size as a tensor (batch, 3, height, width), RGB in [0, 1], float32."""
    pixels = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
    return rearrange(pixels.float() / 255, "batch height width rgb -> batch rgb height width")
