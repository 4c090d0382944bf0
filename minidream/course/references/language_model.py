"""The exercises of notebook 02: attention weights, rotary positions, a cache, and the loss."""

import torch
from einops import rearrange
from torch import Tensor

from ...documents import IGNORED
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


# --------------------------------------------------------------------------------------------------
# 02.4: the language loss


def language_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean surprise at the tokens that have a label; `DreamLLM.loss_of_layouts` has it, too.

    Args:
        logits: of the next token, shape (batch, tokens, vocabulary).
        labels: shape (batch, tokens): the id of the token at each position, or IGNORED.

    Returns:
        A single number, in nats.
    """
    following = labels[:, 1:]  # what position 0 predicts is the label of position 1
    learned = following != IGNORED
    log_likelihood = logits[:, :-1].log_softmax(dim=-1)[learned]
    chosen = rearrange(following[learned], "tokens -> tokens 1")
    return -log_likelihood.gather(1, chosen).mean()


def padded_batches() -> list[tuple]:
    """Logits and labels of texts of different lengths; some of their words are not learned."""
    draw, cases = torch.Generator().manual_seed(3), []
    for lengths, words in (((5, 3), 7), ((2, 6, 4), 5)):
        shape = len(lengths), max(lengths)
        labels = torch.randint(words, shape, generator=draw)
        for row, length in enumerate(lengths):
            labels[row, length:] = IGNORED
        labels[0, 0] = IGNORED
        cases.append((2 * torch.randn(*shape, words, generator=draw), labels))
    return cases


def surprise_at(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The surprise of each position at its own label, 0 if it has none; and which have one."""
    learned = labels != IGNORED
    ids = rearrange(labels.clamp(min=0), "batch tokens -> batch tokens 1")
    chosen = -logits.log_softmax(dim=-1).gather(2, ids)
    return rearrange(chosen, "batch tokens 1 -> batch tokens") * learned, learned


def not_shifted(logits: Tensor, labels: Tensor) -> Tensor:
    """Every position is compared with its own token."""
    surprise, learned = surprise_at(logits, labels)
    return surprise.sum() / learned.sum()


def shifted_backwards(logits: Tensor, labels: Tensor) -> Tensor:
    """Every position is compared with the token before it."""
    return not_shifted(logits[:, 1:], labels[:, :-1])


def mean_of_all_positions(logits: Tensor, labels: Tensor) -> Tensor:
    """Positions without a label count as if nothing had been lost there."""
    surprise, _ = surprise_at(logits[:, :-1], labels[:, 1:])
    return surprise.mean()


def mean_of_texts(logits: Tensor, labels: Tensor) -> Tensor:
    """First the mean of each text, then the mean of these."""
    surprise, learned = surprise_at(logits[:, :-1], labels[:, 1:])
    return (surprise.sum(dim=1) / learned.sum(dim=1)).mean()


def mean_of_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the mean probability, not the mean of the logarithms."""
    surprise, learned = surprise_at(logits[:, :-1], labels[:, 1:])
    return -(-surprise[learned]).exp().mean().log()


def without_log_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits themselves are averaged."""
    following = labels[:, 1:]
    learned = following != IGNORED
    chosen = rearrange(following[learned], "tokens -> tokens 1")
    return -logits[:, :-1][learned].gather(1, chosen).mean()


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
    "02.4": Exercise(
        language_loss,
        padded_batches,
        {
            "every position is compared with its own token: it predicts the one after it, so drop "
            "the last position of the logits and the first of the labels.": not_shifted,
            "every position is compared with the token before it: it predicts the one after it.": (
                shifted_backwards
            ),
            "positions without a label count as 0: take the mean over those with a label alone.": (
                mean_of_all_positions
            ),
            "that is the mean over texts of their means: every token of the batch should count "
            "alike.": mean_of_texts,
            "take the logarithm of every probability first, and then the mean.": (
                mean_of_probabilities
            ),
            "the logits are no logarithms of probabilities yet: log_softmax is missing.": (
                without_log_softmax
            ),
        },
        "Drop the last position of the logits and the first of the labels. Then `log_softmax` over "
        "the vocabulary, and pick one entry at each position whose label is not −100.",
    ),
}
