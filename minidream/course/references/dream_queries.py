"""The exercises of notebook 05: what is read at the queries, intervals, and what is inserted."""

import torch
from torch import Tensor

from ...studies import intervals
from ...studies.intervals import seed_interval
from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 05.1: the states at the dream queries


def gather(hidden: Tensor, queries: int, blocks: list[tuple[int, int]]) -> Tensor:
    """The hidden states at the dream queries: (batch, tokens, dim) to (blocks, queries, dim).

    `minidream.dream_queries.gather` does the same with one index.
    """
    return torch.stack([hidden[row, first : first + queries] for row, first in blocks])


def hidden_states() -> list[tuple]:
    """Hidden states, and blocks at the end and elsewhere, one or two in a row."""
    draw = torch.Generator().manual_seed(0)
    return [
        (torch.randn(2, 9, 4, generator=draw), 3, [(0, 2), (1, 5)]),
        (torch.randn(1, 9, 4, generator=draw), 2, [(0, 1), (0, 6)]),
        (torch.randn(3, 9, 4, generator=draw), 1, [(2, 8)]),
    ]


def one_early(hidden: Tensor, queries: int, blocks: list[tuple[int, int]]) -> Tensor:
    """From <dream_start> on."""
    return gather(hidden, queries, [(row, first - 1) for row, first in blocks])


def block_as_row(hidden: Tensor, queries: int, blocks: list[tuple[int, int]]) -> Tensor:
    """As if block i were in row i."""
    rows = [(index % len(hidden), first) for index, (_, first) in enumerate(blocks)]
    return gather(hidden, queries, rows)


# --------------------------------------------------------------------------------------------------
# 05.2: an interval over seeds


def around(
    values: list[float], factor: float, root: float, correction: int = 1
) -> tuple[float, float, float]:
    """Mean, and an interval of `factor` standard deviations over a root."""
    std = torch.tensor(values).std(correction=correction).item()
    mean, half_width = sum(values) / len(values), factor * std / root
    return mean, mean - half_width, mean + half_width


def factor_of(seeds: int) -> float:
    """Student's factor for so many seeds."""
    return intervals.student_quantile(0.975, seeds - 1)


# --------------------------------------------------------------------------------------------------
# 05.3: placeholders replaced


def place(
    embeddings: Tensor,
    patches: Tensor,
    dream_queries: Tensor,
    patch_blocks: list[tuple[int, int]],
    query_blocks: list[tuple[int, int]],
) -> Tensor:
    """Embeddings in which placeholders are replaced by patches and by dream queries.

    Args:
        embeddings: shape (batch, tokens, dim).
        patches: of every picture that is read, shape (pictures, patches, dim).
        dream_queries: the same for every picture that is painted, shape (queries, dim).
        patch_blocks: (row, first position) of each picture that is read, in the order of `patches`.
        query_blocks: (row, first position) of each picture that is painted.

    Returns:
        A new tensor of the shape of `embeddings`. (`minidream.dream_queries.insert`, called twice.)
    """
    placed = embeddings.clone()
    for picture, (row, first) in zip(patches, patch_blocks):
        placed[row, first : first + len(picture)] = picture
    for row, first in query_blocks:
        placed[row, first : first + len(dream_queries)] = dream_queries
    return placed


def embedded_batches() -> list[tuple]:
    """A story that is painted and read, two rows that differ, and a picture that is only read."""
    draw, cases = torch.Generator().manual_seed(5), []
    for batch, patch_blocks, query_blocks in (
        (1, [(0, 7)], [(0, 2)]),
        (2, [(1, 1), (0, 8)], [(0, 3), (1, 8)]),
        (3, [(2, 4)], []),
    ):
        embeddings = torch.randn(batch, 13, 4, generator=draw)
        patches = torch.randn(len(patch_blocks), 5, 4, generator=draw)
        queries = torch.randn(3, 4, generator=draw)
        cases.append((embeddings, patches, queries, patch_blocks, query_blocks))
    return cases


def placed_added(embeddings, patches, dream_queries, patch_blocks, query_blocks) -> Tensor:
    """The vectors are added to the placeholders."""
    nothing = torch.zeros_like(embeddings)
    added = place(nothing, patches, dream_queries, patch_blocks, query_blocks)
    return embeddings + added


def placed_moved(embeddings, patches, dream_queries, *blocks) -> Tensor:
    """Each block begins one position early, at its marker."""
    earlier = [[(row, first - 1) for row, first in block] for block in blocks]
    return place(embeddings, patches, dream_queries, *earlier)


def placed_in_order(embeddings, patches, dream_queries, patch_blocks, query_blocks) -> Tensor:
    """The pictures are taken in the order of their rows, not in that of the blocks."""
    return place(embeddings, patches, dream_queries, sorted(patch_blocks), query_blocks)


def placed_once(embeddings, patches, dream_queries, patch_blocks, query_blocks) -> Tensor:
    """Only the first block of queries is replaced."""
    return place(embeddings, patches, dream_queries, patch_blocks, query_blocks[:1])


def placed_in_all_rows(embeddings, patches, dream_queries, patch_blocks, query_blocks) -> Tensor:
    """Each block of queries is put into every row."""
    rows = range(len(embeddings))
    everywhere = [(row, first) for _, first in query_blocks for row in rows]
    return place(embeddings, patches, dream_queries, patch_blocks, everywhere)


def queries_left_out(embeddings, patches, dream_queries, patch_blocks, query_blocks) -> Tensor:
    """Only patches are put in."""
    return place(embeddings, patches, dream_queries, patch_blocks, [])


EXERCISES = {
    "05.1": Exercise(
        gather,
        hidden_states,
        {
            "one position too early: a block starts at its first query, not at <dream_start>.": (
                one_early
            ),
            "the queries are not always at the end, and a row can hold two blocks: use `blocks`.": (
                lambda hidden, queries, blocks: hidden[:, -queries:]
            ),
            "block number 3 need not be in row number 3: each block names its own row.": (
                block_as_row
            ),
        },
        "For each block, take from its row a slice that is as long as there are queries, and stack "
        "the slices.",
        axes="blocks queries dim",
    ),
    "05.2": Exercise(
        seed_interval,
        lambda: [([0.2, 0.3, 0.7],), ([1.0, 2.0],), ([3.0, 3.5, 2.0, 4.0],)],
        {
            "1.96 is for many seeds: with few, Student's factor is larger.": (
                lambda values: around(values, 1.96, len(values) ** 0.5)
            ),
            "divide the squares by n - 1: the mean was taken from the same numbers.": (
                lambda values: around(values, factor_of(len(values)), len(values) ** 0.5, 0)
            ),
            "this is how far single seeds spread; their mean varies less, by the root of n.": (
                lambda values: around(values, factor_of(len(values)), 1.0)
            ),
            "the first factor is for two seeds: n seeds have n - 1 degrees of freedom.": (
                lambda values: around(values, factor_of(len(values) + 1), len(values) ** 0.5)
            ),
        },
        "`torch.tensor(values).std()` divides by n - 1. The factor is "
        "`intervals.student_quantile(0.975, len(values) - 1)`.",
    ),
    "05.3": Exercise(
        place,
        embedded_batches,
        {
            "the vectors replace the placeholders; they are not added to them.": placed_added,
            "one position too early: a block starts after its marker, which stays.": placed_moved,
            "picture i belongs to block i, whichever row that is in.": placed_in_order,
            "every painted picture has its queries, the same for all.": placed_once,
            "a block is in one row, not in every row of the batch.": placed_in_all_rows,
            "the dream queries are missing.": queries_left_out,
            "the patches are missing.": (
                lambda embeddings, patches, dream_queries, patch_blocks, query_blocks: place(
                    embeddings, patches, dream_queries, [], query_blocks
                )
            ),
        },
        "Clone the embeddings. `placed[row, first : first + length]` is a block; the length is "
        "that of what is put in.",
        axes="batch tokens dim",
    ),
}
