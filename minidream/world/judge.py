"""The judge: how right is a picture? Two readers that know nothing of one another read a scene back from pixels.

`Judge` is a small CNN trained on renders with noise and blur. `read_by_colour` is analysis by synthesis, with nothing
learned: it finds the things as patches that are not background, and asks which shape, drawn with the patch's area and
centre of mass, covers it best. They should agree; where they do not, the picture itself is unclear.
"""

import random
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from .render import DISTANCES, render
from .scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_LOOKS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    sample_scene,
)

AXES = (
    "left of",
    "above",
)  # the relation of the first thing to the second, in the order of `Scene.facts`
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
    """What a reader sees: `facts` as `Scene.facts` gives them; None where there is no scene of one or two things."""

    facts: tuple | None

    def agrees(self, wanted: tuple) -> bool:
        """Whether every attribute and relation of `wanted` (as `Scene.facts`) is there; a background None is any."""
        if self.facts is None:
            return False
        return self.facts[1:] == wanted[1:] and wanted[0] in (None, self.facts[0])


class Judge(nn.Module):
    """A CNN that reads a scene from a picture.

    Every head answers one question: background, how many, along which axis, and size, colour and shape of the first
    thing (the left or upper one) and of the second. Forms and colours are read by separate halves: one that sees both
    learns that circles are never purple, since training holds that back, and misreads the first purple circle it meets.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.forms, self.colours = self._half(1, width), self._half(3, width)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(256, choices) for name, choices in HEADS.items()}
        )

    @staticmethod
    def _half(channels: int, width: int) -> nn.Sequential:
        layers = []
        for out, stride in ((width, 1), (2 * width, 2), (3 * width, 2), (4 * width, 2)):
            layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.GroupNorm(4, out), nn.SiLU()]
            channels = out
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, 256), nn.SiLU())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Scores (before softmax) of every head.

        Args:
            images: shape (batch, 3, height, width), RGB in [0, 1]; any size, scaled to the 32x32 that the CNN reads.

        Returns:
            {head: shape (batch, choices)}.
        """
        if images.shape[-1] != 32:
            images = F.interpolate(
                images, size=(32, 32), mode="area" if images.shape[-1] > 32 else "bilinear"
            )
        colours, forms = self.colours(images * 2 - 1), self.forms(contrast(images))
        return {
            name: head(colours if "colour" in name or name == "background" else forms)
            for name, head in self.heads.items()
        }

    def loss(self, images: Tensor, answers: Tensor) -> Tensor:
        """Sum over heads of the mean cross entropy; `answers` as from `targets`, what is -1 is not asked."""
        scores = self(images)
        # A head that no picture of the batch is asked has no mean.
        return sum(
            F.cross_entropy(scores[name], answers[:, column], ignore_index=-1)
            for column, name in enumerate(HEADS)
            if (answers[:, column] >= 0).any()
        )

    @torch.no_grad()
    def read(self, images: Tensor) -> list[Reading]:
        """What is in each picture; images as in `forward`."""
        best = {name: scores.argmax(dim=-1).tolist() for name, scores in self(images).items()}
        readings = []
        for number in range(len(images)):
            answer = {name: choices[number] for name, choices in best.items()}
            looks = tuple(
                (
                    SIZE_WORDS[answer[f"{slot} size"]],
                    COLOUR_WORDS[answer[f"{slot} colour"]],
                    SHAPES[answer[f"{slot} shape"]],
                )
                for slot in ("first", "second")[: answer["count"] + 1]
            )
            relation = AXES[answer["axis"]] if answer["count"] else None
            readings.append(Reading((BACKGROUND_WORDS[answer["background"]], relation, looks)))
        return readings


def contrast(images: Tensor) -> Tensor:
    """How far each pixel is from the background, each thing as strong as the other: (batch, 1, height, width) in [0, 1].

    Most pixels are background, so the median over the pixels is its colour.
    """
    flat = rearrange(images, "batch rgb height width -> batch rgb (height width)")
    ground = rearrange(flat.median(dim=-1).values, "batch rgb -> batch rgb 1 1")
    distance = (images - ground).norm(dim=1, keepdim=True)
    return (distance / 0.35).clamp(max=1)  # every colour is at least 0.35 from every background


def numbers_of(look: tuple[str, str, str]) -> list[int]:
    """Size, colour and shape as numbers, in the order of the words that the heads choose from."""
    size, colour, shape = look
    return [SIZE_WORDS.index(size), COLOUR_WORDS.index(colour), SHAPES.index(shape)]


def answers_of(facts: tuple) -> list[int]:
    """The right answer of every head, in the order of `HEADS`, from facts as `Scene.facts`; -1 where they say nothing."""
    background, relation, looks = facts
    answers = [
        BACKGROUND_WORDS.index(background) if background else -1,
        len(looks) - 1,
        AXES.index(relation) if relation else -1,
    ]
    for look in looks:
        answers += numbers_of(look)
    return answers + [-1] * (len(HEADS) - len(answers))


def targets(scenes: list[Scene]) -> Tensor:
    """`answers_of` each scene, shape (batch, heads)."""
    return torch.tensor([answers_of(scene.facts) for scene in scenes])


def roughen(images: Tensor, generator: torch.Generator) -> Tensor:
    """Renders as a decoder might leave them: each blurred and noisy by its own amount; same shape, in [0, 1]."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = torch.rand(len(images), 2, 1, 1, 1, generator=generator)
    images = torch.lerp(images, blurred, 0.7 * amount[:, 0])
    return (images + 0.08 * amount[:, 1] * torch.randn(images.shape, generator=generator)).clamp(
        0, 1
    )


def judge_batch(seed: int | str, step: int, batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Rough renders of scenes that training may see, and the answer of every head; a pure function of its arguments.

    In half of them each thing is two shapes, one over the other: such a blob has a colour but no shape, and shows the
    colour half that a colour may come in any form.
    """
    rng = random.Random(f"judge {seed} {step}")
    scenes = [sample_scene(rng) for _ in range(batch)]
    images, _ = render(scenes, size)
    answers = targets(scenes)
    for number in range(batch // 2):
        over = [
            replace(
                thing,
                shape=rng.choice(
                    [shape for shape in SHAPES if (shape, thing.colour) not in HELD_OUT_LOOKS]
                ),
            )
            for thing in scenes[number].objects
        ]
        _, masks = render([scenes[number], replace(scenes[number], objects=tuple(over))], size)
        colours = torch.tensor([COLOURS[thing.colour] for thing in over])
        image = rearrange(
            torch.tensor(BACKGROUNDS[scenes[number].background]), "rgb -> rgb 1 1"
        ).expand(3, size, size)
        for colour, cover in zip(colours, masks.amax(dim=0)):
            image = torch.lerp(image, rearrange(colour, "rgb -> rgb 1 1").expand_as(image), cover)
        images[number] = image
        answers[
            number,
            [column for column, name in enumerate(HEADS) if "shape" in name or "size" in name],
        ] = -1
    return roughen(images, torch.Generator().manual_seed(rng.getrandbits(40))), answers


# --------------------------------------------------------------------------------------------------
# The analytic reader


@lru_cache
def _areas() -> dict[str, float]:
    """Area of each shape of radius 1, measured on a fine grid."""
    axis = torch.linspace(-1.2, 1.2, 481)
    return {
        shape: (distance(axis[None, :], axis[:, None]) < 0).float().sum().item()
        * (axis[1] - axis[0]).item() ** 2
        for shape, distance in DISTANCES.items()
    }


def _components(mask: Tensor) -> Tensor:
    """Numbers the connected patches of masks of shape (batch, height, width): equal numbers > 0, outside 0."""
    labels = torch.arange(1, mask[0].numel() + 1, dtype=torch.float32, device=mask.device)
    labels = rearrange(labels, "(height width) -> 1 height width", height=mask.shape[1]) * mask
    while True:  # the greatest number in a patch spreads over it
        spread = F.max_pool2d(labels.unsqueeze(1), 3, stride=1, padding=1).squeeze(1) * mask
        if torch.equal(spread, labels):
            return labels.long()
        labels = spread


def read_by_colour(images: Tensor) -> list[Reading]:
    """What `scenes_by_colour` finds, as facts."""
    return [Reading(None if scene is None else scene.facts) for scene in scenes_by_colour(images)]


@torch.no_grad()
def scenes_by_colour(images: Tensor) -> list[Scene | None]:
    """Reads scenes from pictures by colour masks, moments and analysis by synthesis; nothing is learned.

    Args:
        images: shape (batch, 3, size, size), RGB in [0, 1].

    Returns:
        A scene for each picture, with the places and radii found, so that `render` draws the masks of its things; None where
        there are not one or two things.
    """
    images = images.float().cpu()
    size = images.shape[-1]
    pixels = rearrange(images, "batch rgb height width -> batch height width rgb")
    grounds, palette = (
        torch.tensor(list(BACKGROUNDS.values())),
        torch.tensor(list(COLOURS.values())),
    )
    everything = torch.cat([grounds, palette])
    nearest = (pixels.unsqueeze(-2) - everything).norm(dim=-1).argmin(dim=-1)
    votes = torch.stack(
        [
            reduce((nearest == ground).float(), "batch height width -> batch", "sum")
            for ground in range(len(grounds))
        ],
        dim=-1,
    )
    background = votes.argmax(dim=-1)
    ground = rearrange(grounds[background], "batch rgb -> batch 1 1 rgb")
    labels = _components((pixels - ground).norm(dim=-1) > 0.28)
    axis = (torch.arange(size) + 0.5) / size
    scenes = []
    for number in range(len(images)):
        things = []
        for label in labels[number].unique().tolist():
            patch = labels[number] == label
            if (
                label == 0 or patch.sum() < 0.012 * size * size
            ):  # a third of the smallest thing: a speck
                continue
            inside = nearest[number][patch] - len(grounds)
            if not (inside >= 0).any():
                continue
            # Edge pixels are mixtures and may resemble a third colour; the commonest colour is the thing's own.
            colour = torch.bincount(inside[inside >= 0], minlength=len(palette)).argmax()
            difference = palette[colour] - ground[number, 0, 0]
            cover = (
                (pixels[number] - ground[number]) @ difference / difference.square().sum()
            ).clamp(0, 1)
            near = F.max_pool2d(patch[None, None].float(), 3, stride=1, padding=1)[
                0, 0
            ]  # with its faint rim
            cover = cover * near
            area = cover.sum() / size**2
            x, y = (cover.sum(dim=0) @ axis) / cover.sum(), (cover.sum(dim=1) @ axis) / cover.sum()
            best = (-1.0, None)
            for shape, unit in _areas().items():
                radius = (area / unit).sqrt()
                drawn = (
                    DISTANCES[shape]((axis[None, :] - x) / radius, (axis[:, None] - y) / radius)
                    * radius
                    * size
                )
                drawn = (0.5 - drawn).clamp(0, 1)
                overlap = (
                    torch.minimum(drawn, cover).sum() / torch.maximum(drawn, cover).sum()
                ).item()
                if overlap > best[0]:
                    best = (
                        overlap,
                        SceneObject(
                            shape,
                            COLOUR_WORDS[colour],
                            _size_word(radius.item()),
                            x.item(),
                            y.item(),
                            radius.item(),
                        ),
                    )
            things.append(best[1])
        scenes.append(
            Scene(tuple(things), BACKGROUND_WORDS[background[number]])
            if len(things) in (1, 2)
            else None
        )
    return scenes


def _size_word(radius: float) -> str:
    return min(SIZES, key=lambda word: abs(radius - sum(SIZES[word]) / 2))
