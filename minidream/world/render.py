"""The renderer: scenes to pictures and exact masks, from signed distances, with anti-aliasing, in batched torch."""

import math

import torch
from einops import rearrange
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
    # Folded into one tenth of the star by its symmetry: a point at angle 0, a notch at 36 degrees, a straight edge.
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
    bar = torch.maximum(torch.maximum(x, y) - 0.95, torch.minimum(x, y) - 0.30)
    return bar


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return ((x * x + y * y).sqrt() - 0.72).abs() - 0.24


# Signed distance (negative inside) at x, y in units of the thing's radius, y down.
DISTANCES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}


def render(scenes: list[Scene], size: int = 32) -> tuple[Tensor, Tensor]:
    """Draws scenes.

    Args:
        scenes: what to draw.
        size: width and height in image pixels.

    Returns:
        images, shape (batch, 3, size, size), RGB in [0, 1]; and masks, shape (batch, 2, size, size), the share of each
        pixel that thing 0 and thing 1 cover, in [0, 1]; all 0 for a thing that is not there.
    """
    rows = [
        (
            number,
            slot,
            SHAPES.index(thing.shape),
            thing.x,
            thing.y,
            thing.radius,
            *COLOURS[thing.colour],
        )
        for number, scene in enumerate(scenes)
        for slot, thing in enumerate(scene.objects)
    ]
    table = torch.tensor(rows, dtype=torch.float32)
    centres = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    masks = torch.zeros(len(scenes), 2, size, size)
    for number, shape in enumerate(SHAPES):  # only the distance that each thing needs is computed
        chosen = table[table[:, 2] == number]
        if not len(chosen):
            continue
        x, y, radius = (
            rearrange(chosen[:, column], "things -> things 1 1") for column in (3, 4, 5)
        )
        distance = DISTANCES[shape](
            (rearrange(centres, "width -> 1 1 width") - x) / radius,
            (rearrange(centres, "height -> 1 height 1") - y) / radius,
        )
        # Coverage of a pixel by a straight edge: half at distance 0, full half a pixel inside.
        masks[chosen[:, 0].long(), chosen[:, 1].long()] = (0.5 - distance * radius * size).clamp(
            0, 1
        )
    images = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes])
    images = (
        rearrange(images, "batch channels -> batch channels 1 1").expand(-1, -1, size, size).clone()
    )
    colours = torch.zeros(len(scenes), 2, 3)
    colours[table[:, 0].long(), table[:, 1].long()] = table[:, 6:9]
    for slot in range(2):
        cover = rearrange(masks[:, slot], "batch height width -> batch 1 height width")
        images += cover * (
            rearrange(colours[:, slot], "batch channels -> batch channels 1 1") - images
        )
    return images, masks
