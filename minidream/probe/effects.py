"""What an intervention changed in a picture: its pixels inside the true masks, and its reading."""

import torch
from einops import rearrange, reduce
from torch import Tensor

from ..world.judge import HEADS, answers_of, scenes_by_colour
from ..world.render import render
from ..world.scenes import Scene


def true_masks(images: Tensor) -> list[Tensor | None]:
    """The masks of the objects in painted pictures: read by colour and shape, then rendered.

    Args:
        images: shape (batch, 3, size, size), RGB in [0, 1].

    Returns:
        For each picture, masks of shape (objects, size, size): the share of each pixel that an
        object covers, in [0, 1], in the order of `Scene.facts` (the left or upper object first).
        None where the analytic reader finds no scene.
    """
    return [
        None if scene is None else masks_of(scene, images.shape[-1])
        for scene in scenes_by_colour(images)
    ]


def masks_of(scene: Scene, size: int) -> Tensor:
    """The masks of a scene's objects in the order of `Scene.facts`: (objects, size, size)."""
    drawn = render([scene], size)[1][0, : len(scene.objects)]
    return drawn if scene.facts[2][0] == scene.objects[0].appearance else drawn.flip(0)


def on_cells(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks on a coarser grid: the share of each cell that is covered.

    Args:
        masks: shape (objects, pixels, pixels).
        height, width: of the grid, in cells.

    Returns:
        Shape (objects, height, width).

    Raises:
        einops.EinopsError: if a cell is not a whole number of pixels.
    """
    return reduce(
        masks,
        "objects (height tall) (width wide) -> objects height width",
        "mean",
        height=height,
        width=width,
    )


def pixel_change(before: Tensor, after: Tensor, masks: Tensor) -> Tensor:
    """Mean absolute change of a picture inside each mask, and outside all of them.

    Args:
        before, after: shape (3, height, width), RGB in [0, 1].
        masks: shape (objects, height, width), in [0, 1].

    Returns:
        Shape (objects + 1,), in [0, 1]; the background last.
    """
    change = reduce((after - before).abs(), "rgb height width -> height width", "mean")
    regions = torch.cat([masks, 1 - rearrange(masks.amax(dim=0), "height width -> 1 height width")])
    return (regions * change).sum(dim=(1, 2)) / regions.sum(dim=(1, 2))


@torch.no_grad()
def judged(judge, images: Tensor, facts: list[tuple]) -> dict[str, Tensor]:
    """How probable the judge finds what should be in each picture.

    Args:
        judge: `toy.pretrained_judge()`.
        images: shape (batch, 3, height, width), RGB in [0, 1].
        facts: as `Scene.facts`, one for each picture.

    Returns:
        {head: log-probability of the correct answer, in nats, shape (batch,)}; nan where the
        facts do not determine it.
    """
    answers = torch.tensor([answers_of(fact) for fact in facts], device=images.device)
    found = {}
    for column, (name, scores) in enumerate(judge(images).items()):
        right = scores.log_softmax(dim=-1).gather(1, answers[:, [column]].clamp(min=0))[:, 0]
        found[name] = right.masked_fill(answers[:, column] < 0, torch.nan)
    return found


@torch.no_grad()
def verdict_changes(judge, before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Which of the judge's answers an intervention changed.

    Args:
        judge: `toy.pretrained_judge()`.
        before, after: shape (batch, 3, height, width), RGB in [0, 1]. One picture before
            serves for all.

    Returns:
        {head: shape (batch,), True where the answer changed}. The heads of a second object count
        only where there were two objects before.
    """
    first, second = judge(before), judge(after)
    changes = {name: first[name].argmax(dim=-1) != second[name].argmax(dim=-1) for name in HEADS}
    two = first["count"].argmax(dim=-1) == 1
    return {
        name: change & two if name == "axis" or name.startswith("second") else change
        for name, change in changes.items()
    }
