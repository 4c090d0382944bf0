"""The renderer: draws anti-aliased scenes and exact masks from signed distances, in batches."""

import math

import torch
from einops import rearrange, repeat
from torch import Tensor

from .scenes import BACKGROUNDS, COLOURS, SHAPES, Scene


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt() - 0.92


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.80


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    side = 0.5 * math.sqrt(3)
    return torch.maximum(side * x.abs() - 0.5 * y, y) - 0.5


def _star(x: Tensor, y: Tensor) -> Tensor:
    # By symmetry, only one tenth of the star is needed: from a tip at angle 0 to a notch at 36
    # degrees, joined by a straight edge.
    angle = torch.atan2(x, -y)
    wedge = 2 * math.pi / 5
    angle = (angle - wedge * torch.round(angle / wedge)).abs()
    length = (x * x + y * y).sqrt()
    along, across = length * angle.cos(), length * angle.sin()
    tip, notch = 1.05, 0.46
    notch_along, notch_across = notch * math.cos(wedge / 2), notch * math.sin(wedge / 2)
    edge = math.hypot(tip - notch_along, notch_across)
    return ((along - tip) * notch_across + across * (tip - notch_along)) / edge


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.maximum(torch.maximum(x, y) - 0.95, torch.minimum(x, y) - 0.30)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return ((x * x + y * y).sqrt() - 0.72).abs() - 0.24


FLOATS = dict(dtype=torch.float32, device="cpu")  # of new tensors, whatever torch's defaults are
# Signed distance (negative inside) at x, y, in units of the object's radius, with y downwards.
DISTANCES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}


def coverage(shape: str, size: int, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """The share of each pixel that an object of this shape covers.

    Args:
        shape: one of `SHAPES`.
        size: width and height of the picture in pixels.
        x, y, radius: centre and radius as fractions of the picture's width, each of shape
            (objects,).

    Returns:
        Shape (objects, size, size), in [0, 1].
    """
    centres = (torch.arange(size, **FLOATS) + 0.5) / size
    x, y, radius = (rearrange(value, "objects -> objects 1 1") for value in (x, y, radius))
    distance = DISTANCES[shape](
        (rearrange(centres, "width -> 1 1 width") - x) / radius,
        (rearrange(centres, "height -> 1 height 1") - y) / radius,
    )
    # Coverage of a pixel by a straight edge: half at distance 0, full half a pixel inside.
    return (0.5 - distance * radius * size).clamp(0, 1)


def render(scenes: list[Scene], size: int = 32) -> tuple[Tensor, Tensor]:
    """Draws scenes.

    Args:
        scenes: what to draw.
        size: width and height in image pixels.

    Returns:
        images, shape (batch, 3, size, size), RGB in [0, 1]; and masks, shape (batch, 2, size,
        size), the share of each pixel that object 0 and object 1 cover, in [0, 1]; all zeros for
        an object that does not exist.
    """
    masks = torch.zeros(len(scenes), 2, size, size, **FLOATS)
    colours = torch.zeros(len(scenes), 2, 3, **FLOATS)
    for shape in SHAPES:  # all objects of one shape at once
        found = [
            (row, slot, item)
            for row, scene in enumerate(scenes)
            for slot, item in enumerate(scene.objects)
            if item.shape == shape
        ]
        if not found:
            continue
        rows, slots, objects = zip(*found)
        places = [(item.x, item.y, item.radius) for item in objects]
        geometry = torch.tensor(places, **FLOATS)
        masks[rows, slots] = coverage(shape, size, *geometry.unbind(dim=1))
        rgb = [COLOURS[item.colour] for item in objects]
        colours[rows, slots] = torch.tensor(rgb, **FLOATS)
    images = repeat(
        torch.tensor([BACKGROUNDS[scene.background] for scene in scenes], **FLOATS),
        "batch rgb -> batch rgb height width",
        height=size,
        width=size,
    ).clone()
    for slot in range(2):
        cover = rearrange(masks[:, slot], "batch height width -> batch 1 height width")
        images += cover * (rearrange(colours[:, slot], "batch rgb -> batch rgb 1 1") - images)
    return images, masks
