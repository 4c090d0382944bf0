"""The exercises of notebook 02: attention weights, rotary positions, and the size of a cache."""

import torch
from torch import Tensor

from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 02.1: attention weights


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Causal attention weights of the last tokens: (tokens, head_dim) to (tokens, inputs).

    `minidream.llm.causal_mask` makes the same mask.
    """
    scores = query @ key.T / query.shape[1] ** 0.5
    ahead = torch.ones_like(scores).triu(1 + len(key) - len(query)).bool()
    return scores.masked_fill(ahead, -torch.inf).softmax(dim=-1)


def queries_and_keys() -> list[tuple]:
    """Queries and keys of as many tokens as inputs, and of fewer."""
    draw = torch.Generator().manual_seed(0)
    counts = [(5, 5), (2, 5), (1, 4)]
    return [tuple(2 * torch.randn(n, 6, generator=draw) for n in pair) for pair in counts]


def scores_of(query: Tensor, key: Tensor) -> Tensor:
    """Attention before softmax, without a mask."""
    return query @ key.T / query.shape[1] ** 0.5


def mask_from_the_start(query: Tensor, key: Tensor) -> Tensor:
    """As if the tokens were the first of the inputs."""
    ahead = torch.ones(len(query), len(key)).triu(1).bool()
    return scores_of(query, key).masked_fill(ahead, -torch.inf).softmax(dim=-1)


# --------------------------------------------------------------------------------------------------
# 02.2: the score of a rotated query


def score_at_distance(query: Tensor, key: Tensor, distance: int) -> Tensor:
    """The score of a query that is `distance` positions after the key; both have (head_dim,).

    `minidream.llm.rotate` rotates queries and keys in this way.
    """
    pairs = torch.arange(0, len(query), 2)
    angles = distance * 100.0 ** (-pairs / len(query))
    x, y = query.chunk(2)
    cos, sin = angles.cos(), angles.sin()
    rotated = torch.cat([x * cos - y * sin, y * cos + x * sin])
    return rotated @ key


def vectors_at_distances() -> list[tuple]:
    """A query, a key, and how far they are apart."""
    draw = torch.Generator().manual_seed(2)
    return [
        (torch.randn(6, generator=draw), torch.randn(6, generator=draw), distance)
        for distance in (1, 4, 11)
    ]


def paired_with_neighbours(query: Tensor, key: Tensor, distance: int) -> Tensor:
    """Numbers 0 and 1, 2 and 3, ... are rotated as pairs."""
    query, key = (torch.cat([vector[0::2], vector[1::2]]) for vector in (query, key))
    return score_at_distance(query, key, distance)


# --------------------------------------------------------------------------------------------------
# 02.3: the numbers in a cache


def cache_size(layers: int, heads: int, shared_heads: int, head_dim: int, tokens: int) -> int:
    """How many numbers `minidream.llm.Cache` keeps for one text."""
    keys = shared_heads * head_dim * tokens
    return 2 * layers * keys


EXERCISES = {
    "02.1": Exercise(
        attention_weights,
        queries_and_keys,
        {
            "divide the scores by the root of head_dim.": (
                lambda query, key: attention_weights(query * query.shape[1] ** 0.5, key)
            ),
            "the last token sees all inputs, so the mask is counted from the end.": (
                mask_from_the_start
            ),
            "each row should add up to 1: hide what is ahead before softmax, not after it.": (
                lambda query, key: scores_of(query, key).softmax(-1).tril(len(key) - len(query))
            ),
            "these are the scores: softmax is missing.": (
                lambda query, key: scores_of(query, key).tril(len(key) - len(query))
            ),
        },
        "With 5 inputs and 2 tokens, the first of the two has index 3 and may see four inputs. "
        "`torch.triu` takes the diagonal from which on it keeps.",
        axes="tokens inputs",
    ),
    "02.2": Exercise(
        score_at_distance,
        vectors_at_distances,
        {
            "it is rotated in the wrong direction: the query comes after the key.": (
                lambda query, key, distance: score_at_distance(query, key, -distance)
            ),
            "pair number i with the one half a vector away, not with its neighbour.": (
                paired_with_neighbours
            ),
            "the query is not rotated at all.": lambda query, key, distance: query @ key,
        },
        "`x, y = query.chunk(2)` are the two halves; "
        "`distance * 100 ** (-torch.arange(0, len(query), 2) / len(query))` are the angles.",
    ),
    "02.3": Exercise(
        cache_size,
        lambda: [(6, 6, 3, 32, 51), (5, 8, 8, 16, 100), (3, 4, 1, 8, 7)],
        {
            "both keys and values are kept.": lambda *sizes: cache_size(*sizes) // 2,
            "only the shared heads are kept, not one for each query head.": (
                lambda layers, heads, shared, *rest: cache_size(layers, heads, heads, *rest)
            ),
            "every layer keeps its own.": lambda layers, *rest: cache_size(1, *rest),
        },
        "The shape of the keys of one layer is above the exercise; the values have the same.",
    ),
}
