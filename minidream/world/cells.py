"""What each cell of a grid over a picture shows: labels for a vision tower's patches."""

import torch
from einops import reduce
from torch import Tensor

from .judge import attribute_indices
from .scenes import Scene

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
