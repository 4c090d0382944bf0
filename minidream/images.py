"""What enters the model and its boxes: pictures (RGB, square, tensors), numbers, dtypes, noise."""

import math
import struct
import sys
from contextlib import suppress
from numbers import Real

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

LEAST_SEED, MOST_SEED = -(2**63), 2**64 - 1  # torch's generators take no others
LARGEST = 65504  # number in float16

HOW_TO_MAKE = "PIL.Image.open reads one from a file, PIL.Image.fromarray makes one of an array"
# The turn that makes a stored picture upright, by its EXIF orientation; 1 is upright already.
# (Exif 2.3, section 4.6.4.)
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A picture is thin if its long edge is more than this many times the short one.
THIN = 32


def as_rgb(image: Image.Image) -> Image.Image:
    """An image as RGB, as it is meant to be seen.

    Transparency lies over white, 16 bits are scaled to 8, and the picture is turned upright as its
    EXIF orientation says. The result has no EXIF data, so that nothing turns it a second time. EXIF
    data that cannot be read are ignored. Of an animation, the current frame is taken.

    Raises:
        TypeError: for anything but a PIL image.
        ValueError: for an image without pixels, or one that cannot be read as RGB, for example
            because its file was closed or ends too early.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"a picture is a PIL image, not a {type(image).__name__}; {HOW_TO_MAKE}")
    if 0 in image.size:
        raise ValueError(f"an image of size {image.size} has no pixels")
    try:
        image.load()  # Pillow reads a file only now, and turns a TIFF file upright while it does
        rgb = _without_alpha(image)
    except Exception as error:
        file = getattr(image, "filename", "")
        raise ValueError(
            f"an image of mode {image.mode} and size {image.size} cannot be read as RGB: {error}"
            + f" (its file is {file})" * bool(file)
        ) from error
    orientation = _orientation(image)
    if orientation in TURNS:
        rgb = rgb.transpose(TURNS[orientation])
    for entry in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):
        rgb.info.pop(entry, None)
    return rgb


def _without_alpha(image: Image.Image) -> Image.Image:
    """A new image in mode RGB, as it is stored."""
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


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image; 1, upright, if nothing readable names another."""
    # Most pictures in training hold nothing to ask for, and asking takes as long as converting one.
    if not image.info and not getattr(image, "_exif", None):
        return 1
    broken = (SyntaxError, ValueError, struct.error)  # what Pillow raises for broken EXIF data
    try:
        return image.getexif().get(ORIENTATION, 1)
    except broken:  # asked again, it has the entries that it could read
        with suppress(*broken):
            return image.getexif().get(ORIENTATION, 1)
    return 1


def fit_square(image: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """The central square of a picture, as RGB: the short edge is resized, the long one cropped.

    Args:
        image: any size and mode.
        size: width and height of the result, in pixels.
        resample: the filter used for resizing.

    Raises:
        TypeError, ValueError: as `as_rgb`.
    """
    image = as_rgb(image)
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    width, height = (max(size, int(edge * scale)) for edge in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    if max(width, height) <= THIN * size:
        return image.resize((width, height), resample).crop((left, top, left + size, top + size))
    # Resizing all of a thin picture could take gigabytes. Only what the square and the filter need
    # is cut out first, since Pillow holds a box in single precision.
    columns, rows, margin = image.width / width, image.height / height, 4 * min(image.size)
    box = (left * columns, top * rows, (left + size) * columns, (top + size) * rows)
    x, y = (max(0, int(edge) - margin) for edge in box[:2])
    right, bottom = (min(end, int(edge) + margin) for end, edge in zip(image.size, box[2:]))
    box = (box[0] - x, box[1] - y, box[2] - x, box[3] - y)
    return image.crop((x, y, right, bottom)).resize((size, size), resample, box)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Pictures (batch, 3, height, width), RGB, as PIL images; values are clipped to [0, 1]."""
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = rearrange(pixels, "batch rgb height width -> batch height width rgb").numpy()
    return [Image.fromarray(picture) for picture in pixels]


def to_tensor(images: list[Image.Image]) -> Tensor:
    """PIL images of one size as a tensor (batch, 3, height, width), RGB in [0, 1], float32.

    Raises:
        TypeError, ValueError: as `as_rgb`.
    """
    pixels = torch.from_numpy(np.stack([np.asarray(as_rgb(image)) for image in images]))
    return rearrange(pixels.float() / 255, "batch height width rgb -> batch rgb height width")


def unusual(tensor: Tensor) -> str:
    """What keeps a tensor from holding one number in each place in memory; usually empty."""
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return str(tensor.layout)
    return "on the meta device, where tensors have no values" if tensor.is_meta else ""


def as_number(name: str, value, least: float | None = None, most: float | None = None) -> float:
    """A number that a user gave, as int or float; an array or a tensor of one number is one too.

    Args:
        name: of the option, for errors.
        value: what was given.
        least, most: the range, ends included; None leaves it open.

    Raises:
        TypeError: for what is not a number, which a bool is not either.
        ValueError: for nan, infinity and what no float reaches, and for a number out of range.
    """
    number = in_range(name, plain_number(name, value), least, most)
    if abs(number) > sys.float_info.max:
        raise ValueError(f"{name} is a finite number, not {shown(number)}")
    return number


def as_integer(name: str, value, least: int | None = None, most: int | None = None) -> int:
    """As `as_number`, for whole numbers of any size, which 20.0 is too; ValueError for others."""
    number = plain_number(name, value)
    if number != int(number):
        raise ValueError(f"{name} is a whole number, not {number}")
    return in_range(name, int(number), least, most)


def plain_number(name: str, value) -> int | float:
    """The int, or the finite float, that is meant; errors as in `as_number`."""
    number = value
    if isinstance(value, Tensor) and (fault := unusual(value)):
        raise TypeError(f"{name} is a number, not a Tensor that is {fault}")
    if isinstance(value, (Tensor, np.ndarray, np.generic)) and math.prod(value.shape) == 1:
        number = value.item()
    if isinstance(number, bool) or not isinstance(number, Real):
        raise TypeError(f"{name} is a number, not a {type(value).__name__}: {value!r:.60}")
    if not isinstance(number, int):
        try:
            number = float(number)
        except OverflowError:  # of a fraction
            number = math.inf if number > 0 else -math.inf
        if not math.isfinite(number):
            raise ValueError(f"{name} is a finite number, not {number}")
    return number


def in_range(name: str, number, least, most):
    """The number, if it lies in its range; errors as in `as_number`."""
    if (least is not None and number < least) or (most is not None and number > most):
        allowed = f"between {least} and {most}" if None not in (least, most) else ""
        allowed = allowed or (f"at most {most}" if least is None else f"at least {least}")
        raise ValueError(f"{name} is {allowed}, and not {shown(number)}")
    return number


def shown(number: int | float) -> str:
    """A number for an error; Python refuses to write out the digits of the largest integers."""
    if isinstance(number, float) or abs(number) < 10**300:
        return str(number)
    return f"{'-' * (number < 0)}2 to the {math.log2(abs(number)):.0f}"


def as_seeds(seed, pictures: int) -> list[int]:
    """One seed for each picture: seed + i from a number, or those of a list, one by one.

    Args:
        seed: a number; or a list, an array or a tensor with as many numbers as pictures.
        pictures: how many seeds are needed.

    Raises:
        TypeError: if a seed is not a number.
        ValueError: for a wrong number of seeds (both numbers), or a seed that torch does not take.
    """
    if isinstance(seed, Tensor) and (fault := unusual(seed)):
        raise TypeError(f"seed is a number or several, not a tensor that is {fault}")
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

    Their range is that of float16, -65504 to 65504: with larger numbers, a model would compute nan.

    Raises:
        TypeError: for another type, or numbers of another kind or of eight bits; for a tensor that
            is sparse, nested or on the meta device.
        ValueError: for nan and infinity, and for a number out of range (it and the range).
    """
    kind, tensor = getattr(value, "dtype", type(value).__name__), value
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        # torch reads no array that is reversed, or in another order of bytes, or in 80 bits.
        size = min(value.dtype.itemsize, 8)
        tensor = torch.tensor(value.astype(f"=f{size}", order="C"), device="cpu")
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.itemsize < 2:
        raise TypeError(f"{name} are a tensor of floating-point numbers, not of type {kind}")
    if fault := unusual(tensor):
        raise TypeError(f"{name} are a tensor of numbers, not one that is {fault}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name} hold nan or infinity")
    if tensor.numel() and (largest := tensor.abs().max().item()) > LARGEST:
        raise ValueError(f"{name} lie between {-LARGEST} and {LARGEST}, and one is {largest}")
    return tensor


def dtype_of(box: nn.Module) -> torch.dtype | None:
    """The dtype in which a part of the model computes; None if it has no weights.

    It is that of the first matrix, since norms may be kept in another one. Each part casts what
    comes in to its own dtype, so that parts of any two precisions fit.
    """
    for least in (2, 1):
        for weight in box.parameters():
            if weight.dim() >= least and weight.dtype.is_floating_point:
                return weight.dtype
    return None


def cast_inputs(box: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same as a forward pre-hook, for a part that does not cast by itself."""
    return tuple(tensor.to(dtype=dtype_of(box)) for tensor in inputs)


def as_index(name: str, index, size: int, there: str) -> int:
    """An index that a user gave, counted from 0; as in Python's lists, -1 is the last.

    Args:
        name: of what is counted, for errors, such as "layer".
        index: an int, a number from numpy, or an array or a tensor of one number.
        size: how many there are.
        there: which indices exist, for errors, such as "the language model has 6".

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is not whole, or does not exist.
    """
    # A plain int needs no other check: there may be thousands of positions.
    number = index if type(index) is int else as_integer(name, index)
    if not -size <= number < size:
        raise ValueError(f"{name} {number} was asked for; {there}")
    return number % size


def draw(sampler, shape: tuple[int, ...], generator) -> Tensor:
    """What a sampler, such as torch.rand, draws from a generator, on the generator's device.

    In place of a generator, a `trainer.processes.SharedNoise` draws some rows of a larger batch.
    """
    if isinstance(generator, torch.Generator):
        return sampler(shape, generator=generator, device=generator.device)
    return generator.draw(sampler, shape)
