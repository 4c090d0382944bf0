"""What is where: labels for the patches of a vision tower, and for the states of a text tower."""

import torch
from einops import reduce
from torch import Tensor

from .judge import BACKGROUND_WORDS, attribute_indices
from .language import parse_caption
from .scenes import COLOURS, SHAPES, SIZES, Scene

OBJECT_CLASSES = (1 + len(SIZES), 1 + len(COLOURS), 1 + len(SHAPES))  # class 0 means "no object"

LEAST = 0.3  # of a cell that an object has to cover, to be what the cell shows


def looks_of_cells(scenes: list[Scene], masks: Tensor, cells: int) -> Tensor:
    """The classes of size, colour and shape that each cell shows, shape (batch, cells * cells, 3).

    0 where there is no object, -1 where an object covers less than `LEAST` of the cell; otherwise 1
    and the index as in `attribute_indices`.

    Args:
        scenes: one for each picture.
        masks: of their objects, from `render`: shape (batch, objects, height, width).
        cells: in a row, and in a column.
    """
    cover = reduce(
        masks,
        "batch objects (rows height) (columns width) -> batch (rows columns) objects",
        "mean",
        rows=cells,
        columns=cells,
    )
    most, covering = cover.max(dim=-1)
    looks = 1 + torch.tensor(
        [
            [attribute_indices(item.appearance) for item in (scene.objects * 2)[:2]]
            for scene in scenes
        ]
    )
    covered = looks[torch.arange(len(scenes))[:, None], covering]
    clear = torch.where((most < LEAST)[..., None], -1, covered)
    return torch.where((most > 0)[..., None], clear, 0)


# Where an object is, as a row of `looks_of_caption`: the only one, the left and the right one, the
# upper and the lower one.
ROWS = {None: (0,), "left of": (1, 2), "above": (3, 4)}
BACKGROUND_ROW = 5


def looks_of_caption(caption: str) -> list[list[int]]:
    """The classes of size, colour, shape and background that a caption states, by position.

    A row for each position that an object can have, and one for the background; 0 where there is
    nothing, otherwise 1 and the index as in `attribute_indices`.
    """
    background, relation, looks = parse_caption(caption)
    rows = [[0, 0, 0, 0] for _ in range(6)]
    for row, look in zip(ROWS[relation], looks):
        rows[row][:3] = (1 + index for index in attribute_indices(look))
    if background:
        rows[BACKGROUND_ROW][3] = 1 + BACKGROUND_WORDS.index(background)
    return rows
