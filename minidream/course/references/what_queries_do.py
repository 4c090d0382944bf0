"""The exercises of notebook 10: interventions, the area under a curve, and rank correlation."""

import torch
from torch import Tensor

from ...probe.interventions import replaced
from ...probe.map_scores import curve_area
from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 10.1: states replaced


def states_and_values() -> list[tuple]:
    """States of one to three prompts, the queries to be replaced, and new values of all."""
    draw, cases = torch.Generator().manual_seed(0), []
    for batch, queries in ((1, [2]), (2, [0, 4]), (3, [3, 1])):
        states = torch.randn(batch, 5, 3, generator=draw)
        cases.append((states, queries, torch.randn(5, 3, generator=draw)))
    return cases


def first_values(states: Tensor, queries: list[int], values: Tensor) -> Tensor:
    """The first values at the last queries."""
    kept = states[:, : len(states[0]) - len(queries)]
    new = values[: len(queries)].expand(len(states), -1, -1)
    return torch.cat([kept, new], dim=1)


def only_first_prompt(states: Tensor, queries: list[int], values: Tensor) -> Tensor:
    """The queries of the other prompts stay."""
    return torch.cat([replaced(states[:1], queries, values), states[1:]])


# --------------------------------------------------------------------------------------------------
# 10.3: rank correlation


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """The correlation of the ranks of two lists of numbers, all different, in [-1, 1].

    `minidream.probe.rank_correlation` also treats numbers that are equal.
    """
    ranks = [numbers.argsort().argsort().float() for numbers in (first, second)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def pairs_of_lists() -> list[tuple]:
    """Lists of 4, 7 and 12 numbers; those of the second are all positive, and some are large."""
    draw = torch.Generator().manual_seed(3)
    return [
        (torch.randn(size, generator=draw), torch.randn(size, generator=draw).exp())
        for size in (4, 7, 12)
    ]


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's correlation."""
    return torch.corrcoef(torch.stack([first, second]))[0, 1].item()


EXERCISES = {
    "10.1": Exercise(
        replaced,
        states_and_values,
        {
            "all queries were replaced, not only those in the list.": (
                lambda states, queries, values: values.expand_as(states)
            ),
            "the list names queries, which are the second axis; you replaced prompts, or took the "
            "first of `values`.": first_values,
            "the queries of every prompt are replaced, not only of the first.": only_first_prompt,
        },
        "Make a copy first. `after[:, queries]` selects the queries of all prompts; "
        "`values[queries]` is what belongs there.",
        axes="batch queries hidden",
    ),
    "10.2": Exercise(
        curve_area,
        lambda: [
            (torch.tensor(curve),) for curve in ([1.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0], [0.2, 0.9])
        ],
        {
            "a mean of all points counts the two ends as much as the others; each of them belongs "
            "to half a step.": lambda curve: curve.mean().item(),
            "a step counts the mean of its two ends, not its first end alone.": (
                lambda curve: curve[:-1].mean().item()
            ),
            "a step counts the mean of its two ends, not its last end alone.": (
                lambda curve: curve[1:].mean().item()
            ),
            "the steps are spread over [0, 1]: divide by their number.": (
                lambda curve: torch.trapezoid(curve).item()
            ),
        },
        "Each step contributes the mean of its two ends, and all steps are equally wide.",
    ),
    "10.3": Exercise(
        rank_correlation,
        pairs_of_lists,
        {
            "that is the correlation of the numbers themselves: one that is far out counts too "
            "much. Take ranks.": correlation,
            "`argsort` says which number comes first, not which rank each has: sort twice.": (
                lambda first, second: correlation(first.argsort().float(), second.argsort().float())
            ),
        },
        "`values.argsort().argsort()` is the rank of each number. `torch.corrcoef` gives Pearson's "
        "correlation.",
    ),
}
