"""The exercises of notebook 09: two hops, the pointing game, and a control for a map."""

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
# 09.3: the control of a map


def control_maps(maps: Tensor, kinds: list[str]) -> Tensor:
    """For each map, the mean map of all *other* prompts' words of the same kind.

    It knows that this is a colour, say, and nothing of this prompt.

    Args:
        maps: of one word in each of several prompts, shape (prompts, height, width).
        kinds: "colour", "shape", ... of each of these words. Every kind occurs at least twice.
    """
    controls = []
    for index, kind in enumerate(kinds):
        others = [at for at, other in enumerate(kinds) if other == kind and at != index]
        controls.append(maps[others].mean(dim=0))
    return torch.stack(controls)


def maps_of_kinds() -> list[tuple]:
    """Maps of words of two and of three kinds."""
    draw = torch.Generator().manual_seed(4)
    kinds = ("colour shape colour colour shape", "size colour size shape shape colour")
    return [
        (torch.rand(len(words.split()), 3, 4, generator=draw), words.split()) for words in kinds
    ]


def with_its_own(maps: Tensor, kinds: list[str]) -> Tensor:
    """The mean over all maps of the kind, with the prompt's own."""
    same = [[at for at, other in enumerate(kinds) if other == kind] for kind in kinds]
    return torch.stack([maps[indices].mean(dim=0) for indices in same])


def of_any_kind(maps: Tensor, kinds: list[str]) -> Tensor:
    """The mean of all other maps, of whatever kind."""
    return (maps.sum(dim=0) - maps) / (len(maps) - 1)


def next_prompt(maps: Tensor, kinds: list[str]) -> Tensor:
    """The map of the next word of the same kind: one, not their mean."""
    following = []
    for index, kind in enumerate(kinds):
        order = [*range(index + 1, len(kinds)), *range(index)]
        following.append(next(at for at in order if kinds[at] == kind))
    return maps[following]


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
        control_maps,
        maps_of_kinds,
        {
            "a control must know nothing of the prompt that it is compared with: leave out the "
            "map itself.": with_its_own,
            "this takes words of every kind; a stronger control knows the kind of the word.": (
                of_any_kind
            ),
            "that is the map of one other prompt; take the mean over all others of this kind.": (
                next_prompt
            ),
        },
        "For each word, collect the indices of the other words with the same kind, and take "
        "`maps[indices].mean(dim=0)`.",
        axes="prompts height width",
    ),
}
