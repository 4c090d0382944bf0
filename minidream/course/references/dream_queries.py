"""The exercises of notebook 05: placeholders replaced, one step of stage I, an interval."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...dream_queries import gather, insert
from ...studies import intervals
from ...studies.intervals import seed_interval
from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 05.1: placeholders replaced


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


# --------------------------------------------------------------------------------------------------
# 05.2: one step of stage I


def stage_one_step(
    queries: Tensor,
    words: Tensor,
    blocks: list[tuple[int, int]],
    llm: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
    noisy: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    rate: float,
) -> Tensor:
    """Dream queries after one step of gradient descent on the denoising loss.

    Args:
        queries: shape (1, queries, dim).
        words: embedded prompts with room for the queries, shape (batch, tokens, dim).
        blocks: (row, first position) of the queries of each prompt.
        llm: the language model, (batch, tokens, dim) to final states of the same shape.
        project: states to conditions, (batch, queries, dim) to (batch, queries, condition_dim).
        predict: the U-Net, `predict(noisy, timesteps, condition)`.
        noisy, noise: shape (batch, channels, height, width).
        timesteps: shape (batch,).
        rate: the learning rate.

    Returns:
        Shape (1, queries, dim). `minidream.trainer.loop.fit` does it with AdamW, and moves the
        projector, too.
    """
    return step_of(queries, words, blocks, llm, project, predict, noisy, timesteps, noise, rate)


def step_of(
    queries,
    words,
    blocks,
    llm,
    project,
    predict,
    noisy,
    timesteps,
    target,
    rate,
    early=0,
    loss=None,
) -> Tensor:
    """`stage_one_step`, with room for mistakes: another target, place to gather from, or loss."""
    queries = queries.detach().requires_grad_(True)
    hidden = llm(insert(words, queries, blocks))
    gathered_at = [(row, first - early) for row, first in blocks]
    states = gather(hidden, queries.shape[1], gathered_at)
    error = predict(noisy, timesteps, project(states)) - target
    (gradient,) = torch.autograd.grad((loss or mean_square)(error), queries)
    return (queries - rate * gradient).detach()


def mean_square(error: Tensor) -> Tensor:
    """The denoising loss."""
    return error.square().mean()


def small_models() -> list[tuple]:
    """Frozen models of few numbers, and batches of one to three prompts for them."""
    draw, cases = torch.Generator().manual_seed(3), []
    for batch, tokens, count, blocks in (
        (1, 6, 2, [(0, 4)]),
        (2, 7, 3, [(0, 4), (1, 2)]),
        (3, 5, 1, [(0, 4), (1, 2), (2, 3)]),
    ):
        llm, project, predict = (
            frozen(draw) for frozen in (small_llm, small_projector, small_unet)
        )
        queries, words = (
            torch.randn(rows, length, 4, generator=draw)
            for rows, length in ((1, count), (batch, tokens))
        )
        noisy, noise = (torch.randn(batch, 2, 3, 3, generator=draw) for _ in range(2))
        timesteps = torch.randint(1000, (batch,), generator=draw)
        cases.append((queries, words, blocks, llm, project, predict, noisy, timesteps, noise, 0.5))
    return cases


def small_llm(draw: torch.Generator) -> Callable:
    """A causal function of embeddings: each position gets something of the mean up to it."""
    weights = torch.randn(4, 4, generator=draw)

    def llm(embeddings: Tensor) -> Tensor:
        counts = torch.arange(1, embeddings.shape[1] + 1).reshape(1, -1, 1)
        return embeddings + torch.tanh(embeddings.cumsum(dim=1) / counts @ weights)

    return llm


def small_projector(draw: torch.Generator) -> Callable:
    """A matrix."""
    weights = torch.randn(4, 4, generator=draw)
    return lambda states: states @ weights


def small_unet(draw: torch.Generator) -> Callable:
    """A function of noisy latents, timesteps and conditions."""
    weights = torch.randn(4, 2, generator=draw)

    def predict(noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        said = torch.tanh(condition).mean(dim=1) @ weights
        share = timesteps.reshape(-1, 1, 1, 1) / 1000
        return share * noisy + said.reshape(*said.shape, 1, 1) * noisy.cos()

    return predict


def step_upwards(*case) -> Tensor:
    """The gradient is added."""
    return stage_one_step(*case[:-1], -case[-1])


def step_towards_latents(*case) -> Tensor:
    """The U-Net is to predict the noisy latents."""
    *frozen, noisy, timesteps, _, rate = case
    return step_of(*frozen, noisy, timesteps, noisy, rate)


def step_without_llm(queries, words, blocks, llm, *rest) -> Tensor:
    """The queries condition the U-Net as they are."""
    return stage_one_step(queries, words, blocks, lambda embeddings: embeddings, *rest)


def step_without_projector(queries, words, blocks, llm, project, *rest) -> Tensor:
    """The states condition the U-Net as they are."""
    return stage_one_step(queries, words, blocks, llm, lambda states: states, *rest)


def step_of_words(*case) -> Tensor:
    """What is gathered begins one position early."""
    return step_of(*case, early=1)


def step_of_a_sum(*case) -> Tensor:
    """The squares are summed."""
    return step_of(*case, loss=lambda error: error.square().sum())


def step_of_a_distance(*case) -> Tensor:
    """Absolute values in place of squares."""
    return step_of(*case, loss=lambda error: error.abs().mean())


# --------------------------------------------------------------------------------------------------
# 05.3: an interval over seeds


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


EXERCISES = {
    "05.1": Exercise(
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
    "05.2": Exercise(
        stage_one_step,
        small_models,
        {
            "the queries did not move: `no_grad` or `detach` stops the gradient on its way.": (
                lambda queries, *rest: queries.clone()
            ),
            "the step goes up the slope: subtract the gradient times the rate.": step_upwards,
            "the U-Net is to predict the noise, not the noisy latents.": step_towards_latents,
            "what conditions the U-Net is gathered after the language model.": step_without_llm,
            "the projector is missing between the states and the U-Net.": step_without_projector,
            "the states are gathered one position too early.": step_of_words,
            "the loss is the mean of the squares, not their sum.": step_of_a_sum,
            "the loss is the mean of squares, not of absolute values.": step_of_a_distance,
        },
        "`queries.clone().requires_grad_(True)`, then `insert`, `llm`, `gather`, `project`, "
        "`predict`, the mean squared error to `noise`, and `torch.autograd.grad`.",
        axes="one queries dim",
    ),
    "05.3": Exercise(
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
}
