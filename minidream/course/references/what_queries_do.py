"""The exercises of notebook 10: states replaced, a head found, and an edge cut."""

import torch
from torch import Tensor

from ...probe.interventions import replaced
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
# 10.2: the head that carries a word


def strongest_head(effects: Tensor, controls: Tensor) -> tuple[int, int]:
    """(layer, head) that restores most, on average, beyond what it restores for a control word.

    Args:
        effects: how much a patch of each head restores, shape (prompts, layers, heads).
        controls: the same where another word of the prompt was exchanged.
    """
    beyond = (effects - controls).mean(dim=0)
    return divmod(beyond.argmax().item(), beyond.shape[1])


def effects_and_controls() -> list[tuple]:
    """Two heads that stand out: one for the word, and one, in one prompt, for any word."""
    draw, cases = torch.Generator().manual_seed(2), []
    for layers, heads, head, decoy in ((3, 4, (2, 1), (0, 3)), (5, 2, (1, 0), (3, 1))):
        effects = 0.02 * torch.rand(6, layers, heads, generator=draw)
        controls = 0.02 * torch.rand(6, layers, heads, generator=draw)
        effects[:, *head] += 0.2
        effects[:, *decoy] += 0.3
        controls[:, *decoy] += 0.3
        once = (head[0] - 1, 1 - head[1] % 2)
        effects[0, *once] += 0.9
        cases.append((effects, controls))
    return cases


def head_at(table: Tensor) -> tuple[int, int]:
    """(layer, head) of the largest number."""
    return divmod(table.argmax().item(), table.shape[1])


# --------------------------------------------------------------------------------------------------
# 10.3: an edge cut


def without_edges(weights: Tensor, readers: list[int], sources: list[int]) -> Tensor:
    """Attention weights in which readers no longer attend to sources, and to all else the more.

    `minidream.probe.cut` does it in every layer that it is given.

    Args:
        weights: after softmax, shape (heads, tokens, tokens): readers down, sources across.
        readers, sources: positions.
    """
    after = weights.clone()
    for reader in readers:
        after[:, reader, sources] = 0
    return after / after.sum(dim=-1, keepdim=True)


def weights_and_positions() -> list[tuple]:
    """Causal attention; readers come after their sources."""
    draw, cases = torch.Generator().manual_seed(3), []
    for heads, tokens, readers, sources in ((2, 6, [4, 5], [1, 2]), (3, 5, [4], [0, 2])):
        scores = torch.randn(heads, tokens, tokens, generator=draw)
        mask = torch.ones(tokens, tokens).tril().bool()
        cases.append((scores.masked_fill(~mask, -torch.inf).softmax(dim=-1), readers, sources))
    return cases


def not_filled_up(weights: Tensor, readers: list[int], sources: list[int]) -> Tensor:
    """The rows no longer add up to 1."""
    return weights * (without_edges(weights, readers, sources) > 0)


def of_all_readers(weights: Tensor, readers: list[int], sources: list[int]) -> Tensor:
    """Nobody attends to the sources, but for themselves."""
    tokens = weights.shape[-1]
    others = [reader for reader in range(tokens) if reader not in sources]
    return without_edges(weights, others, sources)


def pairs_only(weights: Tensor, readers: list[int], sources: list[int]) -> Tensor:
    """The first reader loses the first source, and so on."""
    after = weights.clone()
    for reader, source in zip(readers, sources):
        after[:, reader, source] = 0
    return after / after.sum(dim=-1, keepdim=True)


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
        strongest_head,
        effects_and_controls,
        {
            "this head restores as much for any other word: subtract the control first.": (
                lambda effects, controls: head_at(effects.mean(dim=0))
            ),
            "this head is strong in a single prompt; take the mean over prompts.": (
                lambda effects, controls: head_at((effects - controls).amax(dim=0))
            ),
            "`argmax` counts through all layers and heads: divide by the number of heads.": (
                lambda effects, controls: (0, (effects - controls).mean(dim=0).argmax().item())
            ),
            "the layer comes first, then the head.": (
                lambda effects, controls: strongest_head(effects, controls)[::-1]
            ),
        },
        "`(effects - controls).mean(dim=0)` has shape (layers, heads). Its `argmax()` counts head "
        "by head, layer after layer: `divmod(index, heads)` gives both.",
    ),
    "10.3": Exercise(
        without_edges,
        weights_and_positions,
        {
            "a row of attention has to add up to 1 again: divide by its sum.": not_filled_up,
            "only `readers` lose sight of the sources; others still see them.": of_all_readers,
            "every reader loses all sources, not one each.": pairs_only,
            "readers are rows and sources columns; these are exchanged.": (
                lambda weights, readers, sources: without_edges(weights, sources, readers)
            ),
        },
        "Make a copy. `after[:, reader, sources] = 0` for each reader; then divide by "
        "`after.sum(dim=-1, keepdim=True)`.",
        axes="heads readers sources",
    ),
}
