"""The judge: is a picture right? Two independent readers recover the scene from the pixels.

`Judge` is a small CNN trained on renders with noise and blur. `read_by_colour` is analysis by
synthesis without any learning: it finds the objects as connected regions that differ from the
background, and picks the shape that covers each region best when it is drawn with the region's area
and centre of mass. The two readers should agree; if they do not, the picture itself is unclear.
"""

import random
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange, repeat
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from .render import DISTANCES, FLOATS, coverage, render
from .scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COMBINATIONS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    sample_scene,
)

# The relation of the first object to the second; the only two, as the objects are in the order of
# `Scene.facts`.
AXES = ("left of", "above")
SIZE_WORDS, COLOUR_WORDS, BACKGROUND_WORDS = tuple(SIZES), tuple(COLOURS), tuple(BACKGROUNDS)
HEADS = {"background": len(BACKGROUNDS), "count": 2, "axis": 2}
for slot in ("first", "second"):
    HEADS |= {
        f"{slot} size": len(SIZES),
        f"{slot} colour": len(COLOURS),
        f"{slot} shape": len(SHAPES),
    }


@dataclass(frozen=True)
class Reading:
    """What a reader found: `facts` as `Scene.facts`, or None without a scene of 1 or 2 objects."""

    facts: tuple | None

    def agrees(self, wanted: tuple) -> bool:
        """Whether everything that `wanted` says was found.

        Args:
            wanted: as `Scene.facts`; None in it agrees with everything. Without a relation, two
                objects may be in any arrangement.
        """
        if self.facts is None or len(self.facts[2]) != len(wanted[2]):
            return False
        *asked, looks = wanted
        arrangements = [looks] if asked[1] else [looks, looks[::-1]]
        return _says(asked, self.facts[:2]) and any(
            all(map(_says, arrangement, self.facts[2])) for arrangement in arrangements
        )


def _says(asked, found) -> bool:
    """Whether everything that is asked for, that is not None, was found."""
    return all(want in (None, have) for want, have in zip(asked, found, strict=True))


class Judge(nn.Module):
    """A CNN that reads a scene from a picture.

    Every head answers one question: the background, the number of objects, the axis of their
    relation, and size, colour and shape of the first object (the left or upper one) and of the
    second. Forms and colours have separate branches. A single branch would learn that circles are
    never purple, since purple circles are held out of training, and would misread the first one it
    met.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.forms, self.colours = self._branch(1, width), self._branch(3, width)
        heads = {name: nn.Linear(256, choices) for name, choices in HEADS.items()}
        self.heads = nn.ModuleDict(heads)

    @staticmethod
    def _branch(channels: int, width: int) -> nn.Sequential:
        layers = []
        for out, stride in ((width, 1), (2 * width, 2), (3 * width, 2), (4 * width, 2)):
            layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.GroupNorm(4, out), nn.SiLU()]
            channels = out
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, 256), nn.SiLU())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Scores (before softmax) of every head.

        Args:
            images: shape (batch, 3, height, width), RGB in [0, 1]; any size, resized to the 32x32
                that the CNN reads.

        Returns:
            {head: shape (batch, choices)}.
        """
        if images.shape[-1] != 32:
            mode = "area" if images.shape[-1] > 32 else "bilinear"
            images = F.interpolate(images, size=(32, 32), mode=mode)
        colours, forms = self.colours(images * 2 - 1), self.forms(foreground_map(images))
        return {
            name: head(colours if "colour" in name or name == "background" else forms)
            for name, head in self.heads.items()
        }

    def loss(self, images: Tensor, answers: Tensor) -> Tensor:
        """Sum over heads of the cross entropy; answers from `answers_of_scenes`, -1 ignored."""
        return sum(self.losses(images, answers).values())

    def losses(self, images: Tensor, answers: Tensor) -> dict[str, Tensor]:
        """The terms of `loss`: the mean cross entropy of every head that has any answer."""
        scores = self(images)
        return {
            name: F.cross_entropy(scores[name], answers[:, column], ignore_index=-1)
            for column, name in enumerate(HEADS)
            if (answers[:, column] >= 0).any()
        }

    @torch.no_grad()
    def read(self, images: Tensor) -> list[Reading]:
        """The facts of each picture; images as in `forward`."""
        best = {name: scores.argmax(dim=-1).tolist() for name, scores in self(images).items()}
        return [_reading(dict(zip(best, choices))) for choices in zip(*best.values(), strict=True)]


def _reading(choices: dict[str, int]) -> Reading:
    """A reading from the index that each head chose."""
    appearances = tuple(
        (
            SIZE_WORDS[choices[f"{slot} size"]],
            COLOUR_WORDS[choices[f"{slot} colour"]],
            SHAPES[choices[f"{slot} shape"]],
        )
        for slot in ("first", "second")[: choices["count"] + 1]
    )
    relation = AXES[choices["axis"]] if choices["count"] else None
    return Reading((BACKGROUND_WORDS[choices["background"]], relation, appearances))


def foreground_map(images: Tensor) -> Tensor:
    """How much each pixel differs from the background: 0 on the background, 1 on an object.

    Most pixels are background, so the median over the pixels is its colour.

    Args:
        images: shape (batch, 3, height, width), RGB in [0, 1].

    Returns:
        Shape (batch, 1, height, width), in [0, 1].
    """
    flat = rearrange(images, "batch rgb height width -> batch rgb (height width)")
    background = rearrange(flat.median(dim=-1).values, "batch rgb -> batch rgb 1 1")
    distance = (images - background).norm(dim=1, keepdim=True)
    return (distance / 0.35).clamp(max=1)  # every colour is at least 0.35 from every background


def attribute_indices(appearance: tuple[str, str, str]) -> list[int]:
    """Size, colour and shape as indices of the words that the heads choose from."""
    size, colour, shape = appearance
    return [SIZE_WORDS.index(size), COLOUR_WORDS.index(colour), SHAPES.index(shape)]


def answers_of(facts: tuple) -> list[int]:
    """The correct choice of every head, in the order of `HEADS`; -1 if `facts` does not say it."""
    background, relation, appearances = facts
    answers = [
        BACKGROUND_WORDS.index(background) if background else -1,
        len(appearances) - 1,
        AXES.index(relation) if relation else -1,
    ]
    for appearance in appearances:
        answers += attribute_indices(appearance)
    return answers + [-1] * (len(HEADS) - len(answers))


def answers_of_scenes(scenes: list[Scene]) -> Tensor:
    """`answers_of` for each scene, shape (batch, heads)."""
    return torch.tensor([answers_of(scene.facts) for scene in scenes], device="cpu")


def add_blur_and_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Renders as a decoder might leave them, each with its own amount of blur and noise."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    blurred = F.avg_pool2d(padded, 3, stride=1)
    amount = torch.rand(len(images), 2, 1, 1, 1, generator=generator, **FLOATS)
    images = torch.lerp(images, blurred, 0.7 * amount[:, 0])
    noise = torch.randn(images.shape, generator=generator, **FLOATS)
    return (images + 0.08 * amount[:, 1] * noise).clamp(0, 1)


def judge_batch(seed: int | str, step: int, batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Blurred and noisy renders of training scenes, and the answer of every head.

    The result depends on the arguments only. In the first half of the batch each object is a union
    of two shapes. Such a blob has a colour but neither a shape nor a size, so the colour branch
    learns that a colour may come in any form.

    Returns:
        images, shape (batch, 3, size, size), RGB in [0, 1]; and answers, shape (batch, heads), -1
        where a blob has none.
    """
    rng = random.Random(f"judge {seed} {step}")
    scenes = [sample_scene(rng) for _ in range(batch)]
    images, _ = render(scenes, size)
    answers = answers_of_scenes(scenes)
    half = batch // 2
    for index in range(half):
        images[index] = _blobs(scenes[index], size, rng)
    columns = [column for column, name in enumerate(HEADS) if "shape" in name or "size" in name]
    answers[:half, columns] = -1
    generator = torch.Generator().manual_seed(rng.getrandbits(40))
    return add_blur_and_noise(images, generator), answers


def _blobs(scene: Scene, size: int, rng: random.Random) -> Tensor:
    """The scene with a second shape drawn over each object in its colour; shape (3, size, size)."""
    seconds = []
    for item in scene.objects:
        allowed = [word for word in SHAPES if (word, item.colour) not in HELD_OUT_COMBINATIONS]
        seconds.append(replace(item, shape=rng.choice(allowed)))
    _, masks = render([scene, replace(scene, objects=tuple(seconds))], size)
    background = torch.tensor(BACKGROUNDS[scene.background], **FLOATS)
    image = repeat(background, "rgb -> rgb height width", height=size, width=size)
    for item, cover in zip(scene.objects, masks.amax(dim=0)):
        colour = torch.tensor(COLOURS[item.colour], **FLOATS)
        colour = rearrange(colour, "rgb -> rgb 1 1")
        image = torch.lerp(image, colour.expand_as(image), cover)
    return image


# --------------------------------------------------------------------------------------------------
# The analytic reader

# An object is a region of at least this share of the picture (a third of the smallest object); less
# is a speck.
MIN_AREA = 0.012
# RGB distance from the background beyond which a pixel belongs to an object.
MIN_DISTANCE = 0.28
EIGHT_NEIGHBOURS = np.ones((3, 3))


@lru_cache
def _areas() -> dict[str, float]:
    """Area of each shape of radius 1, measured on a fine grid."""
    axis = torch.linspace(-1.2, 1.2, 481, **FLOATS)
    cell = (axis[1] - axis[0]).item() ** 2
    return {
        shape: (distance(axis[None, :], axis[:, None]) < 0).float().sum().item() * cell
        for shape, distance in DISTANCES.items()
    }


def connected_regions(mask: Tensor) -> list[Tensor]:
    """The connected regions of a mask, ordered by their last pixels; diagonal neighbours connect.

    Args:
        mask: shape (height, width), boolean.

    Returns:
        A boolean mask of the same shape for each region.
    """
    labels, count = ndimage.label(mask.numpy(), EIGHT_NEIGHBOURS)
    regions = [torch.from_numpy(labels == label) for label in range(1, count + 1)]
    return sorted(regions, key=lambda region: region.flatten().nonzero().max().item())


def read_by_colour(images: Tensor) -> list[Reading]:
    """The facts of the scenes that `scenes_by_colour` finds."""
    return [Reading(None if scene is None else scene.facts) for scene in scenes_by_colour(images)]


@torch.no_grad()
def scenes_by_colour(images: Tensor) -> list[Scene | None]:
    """Reads scenes from pictures by colour masks, moments and analysis by synthesis.

    Args:
        images: shape (batch, 3, size, size), RGB in [0, 1].

    Returns:
        A scene for each picture, with the positions and radii that were found, so that `render`
        draws the masks of its objects; None if there are not one or two objects.
    """
    pixels = rearrange(images.float().cpu(), "batch rgb height width -> batch height width rgb")
    return [_scene_by_colour(picture) for picture in pixels]


def _scene_by_colour(pixels: Tensor) -> Scene | None:
    """`scenes_by_colour` for one picture of shape (height, width, rgb)."""
    backgrounds = torch.tensor(list(BACKGROUNDS.values()), **FLOATS)
    palette = torch.tensor(list(COLOURS.values()), **FLOATS)
    distances = (pixels.unsqueeze(-2) - torch.cat([backgrounds, palette])).norm(dim=-1)
    nearest = distances.argmin(dim=-1)  # below len(backgrounds): a background
    votes = torch.bincount(nearest.flatten(), minlength=len(backgrounds) + len(palette))
    background = votes[: len(backgrounds)].argmax()
    contrast = pixels - backgrounds[background]
    objects = []
    for region in connected_regions(contrast.norm(dim=-1) > MIN_DISTANCE):
        if region.sum() < MIN_AREA * region.numel():
            continue
        votes = torch.bincount(nearest[region], minlength=len(backgrounds) + len(palette))
        votes = votes[len(backgrounds) :]
        if votes.any():
            # Edge pixels are mixtures and may resemble a third colour; the most frequent colour is
            # the object's own.
            colour = votes.argmax()
            difference = palette[colour] - backgrounds[background]
            cover = (contrast @ difference / difference.square().sum()).clamp(0, 1)
            cover = cover * _grown(region)
            objects.append(_fitted_object(cover, COLOUR_WORDS[colour]))
    if len(objects) not in (1, 2):
        return None
    return Scene(tuple(objects), BACKGROUND_WORDS[background])


def _grown(region: Tensor) -> Tensor:
    """A region and all its neighbours, which include the faint rim of an object; 0 or 1."""
    mask = rearrange(region.float(), "height width -> 1 1 height width")
    return F.max_pool2d(mask, 3, stride=1, padding=1)[0, 0]


def _fitted_object(cover: Tensor, colour: str) -> SceneObject:
    """The object whose shape, drawn with the area and centre of mass of `cover`, overlaps it most.

    Args:
        cover: shape (size, size), the share of each pixel that the object covers, in [0, 1].
        colour: its colour word.
    """
    size = cover.shape[-1]
    axis = (torch.arange(size, **FLOATS) + 0.5) / size
    area = cover.sum() / size**2
    x, y = (cover.sum(dim=0) @ axis) / cover.sum(), (cover.sum(dim=1) @ axis) / cover.sum()
    candidates = []
    for shape, unit_area in _areas().items():
        radius = (area / unit_area).sqrt()
        drawn = coverage(shape, size, *(value[None] for value in (x, y, radius)))[0]
        overlap = torch.minimum(drawn, cover).sum() / torch.maximum(drawn, cover).sum()
        candidates.append((overlap.item(), shape, radius.item()))
    _, shape, radius = max(candidates, key=lambda candidate: candidate[0])
    size_word = min(SIZES, key=lambda word: abs(radius - sum(SIZES[word]) / 2))
    return SceneObject(shape, colour, size_word, x.item(), y.item(), radius)
