"""The exercise of notebook 07b: rows of different lengths in one batch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...documents import IGNORED
from ..exercises import Exercise


def one_batch(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows of different lengths, padded on the right to the longest.

    Attention is causal, so that no position sees the padding behind it.

    Args:
        rows: (embeddings of shape (tokens, dim), labels of shape (tokens,)) of each document.

    Returns:
        Embeddings of shape (batch, longest, dim), padded with zeros, and labels of shape
        (batch, longest), padded with -100. `minidream.documents.collate` does it with token ids.
    """
    return padded(rows)


def padded(
    rows: list[tuple[Tensor, Tensor]], label: int = IGNORED, on_the_left: bool = False
) -> tuple[Tensor, Tensor]:
    """`one_batch`, with room for mistakes: another label for padding, or another side."""
    longest = max(len(labels) for _, labels in rows)
    embeddings, all_labels = [], []
    for vectors, labels in rows:
        missing = longest - len(labels)
        before, behind = (missing, 0) if on_the_left else (0, missing)
        embeddings.append(F.pad(vectors, (0, 0, before, behind)))
        all_labels.append(F.pad(labels, (before, behind), value=label))
    return torch.stack(embeddings), torch.stack(all_labels)


def cut(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All rows are cut to the shortest."""
    shortest = min(len(labels) for _, labels in rows)
    return padded([(vectors[:shortest], labels[:shortest]) for vectors, labels in rows])


def repeated(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The last vector is repeated in place of zeros."""
    embeddings, labels = padded(rows)
    for row, (vectors, _) in zip(embeddings, rows):
        row[len(vectors) :] = vectors[-1]
    return embeddings, labels


def documents_of_different_lengths() -> list[tuple]:
    """Rows of random embeddings; some labels are ignored already."""
    draw, cases = torch.Generator().manual_seed(0), []
    for lengths in ((3, 5), (4, 2, 6), (7, 1, 3)):
        rows = []
        for tokens in lengths:
            labels = torch.randint(1, 9, (tokens,), generator=draw)
            labels[: tokens // 2] = IGNORED
            rows.append((torch.randn(tokens, 4, generator=draw), labels))
        cases.append((rows,))
    return cases


EXERCISES = {
    "07b.1": Exercise(
        one_batch,
        documents_of_different_lengths,
        {
            "on the right, not on the left: there causal attention never sees the padding, and "
            "every position keeps its number.": lambda rows: padded(rows, on_the_left=True),
            "a padded label has to be -100, or padding is learned as a token.": (
                lambda rows: padded(rows, label=0)
            ),
            "this cuts every document to the shortest one: pad to the longest.": cut,
            "this repeats the last vector: pad with zeros.": repeated,
        },
        "`F.pad(vectors, (0, 0, 0, missing))` adds rows of zeros below, and "
        "`F.pad(labels, (0, missing), value=-100)` labels.",
    ),
}
