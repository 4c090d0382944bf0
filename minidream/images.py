"""What enters the model and its boxes: pictures (RGB, square, as tensors), numbers, and dtypes."""

import math
from numbers import Real

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

LEAST_SEED, MOST_SEED = -(2**63), 2**64 - 1  # torch's generators take no others


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


def as_number(name: str, value, least: float | None = None, most: float | None = None) -> float:
    """A number that a user gave, as int or float; an array or a tensor of one number is one too.

    Args:
        name: of the option, for errors.
        value: what was given.
        least, most: the range, ends included; None leaves it open.

    Raises:
        TypeError: for what is not a number, which a bool is not either.
        ValueError: for nan and infinity, and for a number out of range.
    """
    number = value
    if isinstance(value, (Tensor, np.ndarray, np.generic)) and math.prod(value.shape) == 1:
        number = value.item()
    if isinstance(number, bool) or not isinstance(number, Real):
        raise TypeError(f"{name} is a number, not a {type(value).__name__}: {value!r:.60}")
    if not -math.inf < number < math.inf:  # which nan is not either
        raise ValueError(f"{name} is a finite number, not {number}")
    if (least is not None and number < least) or (most is not None and number > most):
        allowed = f"between {least} and {most}" if None not in (least, most) else ""
        allowed = allowed or (f"at most {most}" if least is None else f"at least {least}")
        raise ValueError(f"{name} is {allowed}, and not {number}")
    return number if isinstance(number, int) else float(number)


def as_integer(name: str, value, least: int | None = None, most: int | None = None) -> int:
    """As `as_number`, for whole numbers, which 20.0 is too; ValueError for any other."""
    number = as_number(name, value)
    if number != int(number):
        raise ValueError(f"{name} is a whole number, not {number}")
    return as_number(name, int(number), least, most)


def as_seeds(seed, pictures: int) -> list[int]:
    """One seed for each picture: seed + i from a number, or those of a list, one by one.

    Args:
        seed: a number; or a list, an array or a tensor with as many numbers as pictures.
        pictures: how many seeds are needed.

    Raises:
        TypeError: if a seed is not a number.
        ValueError: for a wrong number of seeds (both numbers), or a seed that torch does not take.
    """
    if isinstance(seed, (Tensor, np.ndarray)) and seed.ndim > 0 and len(seed) != 1:
        seed = seed.tolist()
    if isinstance(seed, (list, tuple, range)):
        if len(seed) != pictures:
            raise ValueError(f"{len(seed)} seeds were given for {pictures} pictures")
        return [as_integer("a seed", one, LEAST_SEED, MOST_SEED) for one in seed]
    first = as_integer("seed", seed, LEAST_SEED, MOST_SEED - pictures + 1)
    return [first + index for index in range(pictures)]


def as_floats(name: str, value) -> Tensor:
    """A tensor of floating-point numbers that a user gave, perhaps as an array.

    Raises:
        TypeError: for another type, or numbers of another kind.
        ValueError: for nan and infinity.
    """
    tensor = torch.tensor(value, device="cpu") if isinstance(value, np.ndarray) else value
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(value).__name__
        raise TypeError(f"{name} are a tensor of floating-point numbers, not of type {kind}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name} hold nan or infinity")
    return tensor


def dtype_of(box: nn.Module) -> torch.dtype:
    """The dtype in which a part of the model computes, that of its first weights.

    Each part casts what comes in to its own dtype, so that parts of any two precisions fit.
    """
    return next(weight.dtype for weight in box.parameters() if weight.dtype.is_floating_point)
