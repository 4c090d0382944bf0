"""Scenes in random colours, which have no names: for learning shapes whatever their colour."""

import math
import random

import torch
from einops import einsum
from torch import Tensor

from .render import FLOATS
from .scenes import COLOURS, HELD_OUT_COMBINATIONS, Scene


def recoloured(masks: Tensor, scenes: list[Scene], rng: random.Random) -> Tensor:
    """Pictures of scenes in random colours.

    Args:
        masks: of their objects, from `render`: shape (batch, objects, height, width).
        scenes: one for each picture.
        rng: draws the colours.

    Returns:
        Shape (batch, 3, height, width), RGB in [0, 1].
    """
    colours = torch.tensor([random_colours(scene, rng) for scene in scenes], **FLOATS)
    cover = torch.cat([1 - masks.sum(dim=1, keepdim=True), masks], dim=1)
    return einsum(
        cover, colours, "batch layers height width, batch layers rgb -> batch rgb height width"
    )


def random_colours(scene: Scene, rng: random.Random) -> list[list[float]]:
    """RGB in [0, 1] of the background and of two objects.

    The objects differ clearly from the background, and no object's colour is nearest to one that
    its shape must not have.
    """
    shapes = [item.shape for item in scene.objects * 2][:2]
    while True:
        ground, *objects = ([rng.random() for _ in range(3)] for _ in range(3))
        names = [
            min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour)) for colour in objects
        ]
        contrast = min(math.dist(ground, colour) for colour in objects)
        if contrast > 0.35 and not HELD_OUT_COMBINATIONS & set(zip(shapes, names)):
            return [ground, *objects]
