"""The exercises of notebook 09: two hops, the pointing game, and how similar maps are."""

import torch
from torch import Tensor

from ...probe.map_scores import points_at
from ...probe.two_hop import join
from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 09.1: two hops


def both_hops() -> list[tuple]:
    """Where cells look among queries, and queries among inputs."""
    draw, cases = torch.Generator().manual_seed(0), []
    for queries, inputs in ((4, 5), (2, 7)):
        cells = torch.rand(queries, 2, 3, generator=draw).softmax(dim=0)
        cases.append((cells, torch.rand(queries, inputs, generator=draw).softmax(dim=1)))
    return cases


# --------------------------------------------------------------------------------------------------
# 09.2: the pointing game


def maps_and_masks() -> list[tuple]:
    """Maps and masks of two objects; nothing covers the cell once, and nothing any cell once."""
    draw = torch.Generator().manual_seed(2)
    empty, far, corner = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.full((3, 4), 0.5)
    far[0], far[1, 2, 3], corner[2, 3] = 0.4, 0.6, 1
    beside = far.masked_fill(corner == 1, 0)
    cases = [(corner, far), (corner, empty), (corner, beside)]
    for _ in range(6):
        map_ = torch.rand(3, 4, generator=draw)
        cases.append((map_, torch.rand(2, 3, 4, generator=draw)))
    return cases


def never_none(map_: Tensor, masks: Tensor) -> int:
    """The first object where nothing covers the cell."""
    return masks.flatten(1)[:, map_.argmax()].argmax().item()


def most_mass(map_: Tensor, masks: Tensor) -> int | None:
    """The object with the largest share of the map."""
    return (map_ * masks).sum(dim=(1, 2)).argmax().item() if masks.any() else None


# --------------------------------------------------------------------------------------------------
# 09.3: the overlap of maps


def overlap(maps: Tensor) -> Tensor:
    """The mean absolute correlation of two of some maps, (queries, height, width), in [0, 1].

    `minidream.probe.overlap` does the same for several pictures.
    """
    table, count = torch.corrcoef(maps.flatten(1)).abs(), len(maps)
    return (table.sum() - count) / (count**2 - count)


def several_maps() -> list[tuple]:
    """Two maps, three and six."""
    draw = torch.Generator().manual_seed(4)
    return [(torch.rand(queries, 3, 5, generator=draw),) for queries in (2, 3, 6)]


def signed_overlap(maps: Tensor) -> Tensor:
    """Opposites count as different."""
    table, count = torch.corrcoef(maps.flatten(1)), len(maps)
    return (table.sum() - count) / (count**2 - count)


EXERCISES = {
    "09.1": Exercise(
        join,
        both_hops,
        {
            "the ways through different queries add up: this is their mean.": (
                lambda cells, looked: join(cells, looked) / len(cells)
            ),
            "only the strongest query counts here; sum over all of them.": (
                lambda cells, looked: (cells[:, None] * looked[:, :, None, None]).amax(dim=0)
            ),
        },
        "The axis that both have, the queries, is the one that is summed over.",
        axes="inputs height width",
    ),
    "09.2": Exercise(
        points_at,
        maps_and_masks,
        {
            "a cell that nothing covers belongs to no object: None.": never_none,
            "that is the object with most of the map's mass; the game looks at the highest cell "
            "alone.": most_mass,
        },
        "`map_.argmax()` counts cells row by row, and so does `masks.flatten(1)`.",
    ),
    "09.3": Exercise(
        overlap,
        several_maps,
        {
            "a map is always like itself: leave the diagonal out.": (
                lambda maps: torch.corrcoef(maps.flatten(1)).abs().mean()
            ),
            "two maps can be alike by being opposites: take absolute values.": signed_overlap,
        },
        "`torch.corrcoef(maps.flatten(1))` is the table of all correlations; its diagonal is 1.",
    ),
}
