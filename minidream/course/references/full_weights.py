"""The exercises of notebook 11: how many parameters there are, and how even attention is."""

import torch
from torch import Tensor

from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 11.1: the parameters of the language model


def count_parameters(words: int, width: int, inner_width: int, layers: int) -> int:
    """The parameters of a LLaMA without shared key/value heads; `minidream.llm.Layer` has them."""
    layer = 4 * width**2 + 3 * width * inner_width + 2 * width
    return 2 * words * width + layers * layer + width


def without(missing):
    """A count that leaves out something whose size depends on the same four numbers."""
    return lambda *sizes: count_parameters(*sizes) - missing(*sizes)


# --------------------------------------------------------------------------------------------------
# 11.2: how even attention is


def evenness(rows: Tensor) -> Tensor:
    """The entropy of each row of attention, divided by that of a row without preference.

    `minidream.probe.Trace.evenness` does the same for all layers and heads.

    Args:
        rows: attention weights of one head, shape (queries, inputs). A query sees one input more
            than the query before, and the last one sees all of them.

    Returns:
        Shape (queries,), in [0, 1].
    """
    queries, inputs = rows.shape
    seen = torch.arange(inputs - queries + 1, inputs + 1)
    return torch.special.entr(rows).sum(dim=1) / seen.log()


def rows_of_attention() -> list[tuple]:
    """Random rows, rows without preference, and rows in which a seen input has weight 0."""
    draw = torch.Generator().manual_seed(0)
    ahead = torch.ones(4, 7).triu(4).bool()
    drawn = torch.randn(4, 7, generator=draw).masked_fill(ahead, -torch.inf).softmax(dim=1)
    even = torch.zeros(4, 7).masked_fill(ahead, -torch.inf).softmax(dim=1)
    sparse = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.2, 0.0, 0.8, 0.0], [0.1, 0.3, 0.2, 0.4]])
    return [(drawn,), (even,), (sparse,)]


EXERCISES = {
    "11.1": Exercise(
        count_parameters,
        lambda: [(32008, 4096, 11008, 32), (128, 64, 128, 4), (10, 4, 6, 1)],
        {
            "words are read by one matrix and written by another.": (
                without(lambda words, width, inner_width, layers: words * width)
            ),
            "two norms in each layer, and one at the end.": (
                without(lambda words, width, inner_width, layers: (2 * layers + 1) * width)
            ),
            "the norm at the end is missing.": (
                without(lambda words, width, inner_width, layers: width)
            ),
            "SwiGLU has three matrices, not two.": (
                without(lambda words, width, inner_width, layers: width * inner_width * layers)
            ),
        },
        "Write it for one layer first: attention, feed-forward, norms. `minidream/llm.py` has the "
        "shapes, in the class `Layer`.",
    ),
    "11.2": Exercise(
        evenness,
        rows_of_attention,
        {
            "0 times the logarithm of 0 should be 0: see torch.special.entr.": (
                lambda rows: -(rows * rows.log()).sum(dim=1)
            ),
            "divide the entropy by what it would be without preference.": (
                lambda rows: torch.special.entr(rows).sum(dim=1)
            ),
            "not every query sees all inputs.": (
                lambda rows: torch.special.entr(rows).sum(dim=1) / torch.tensor(rows.shape[1]).log()
            ),
        },
        "Without preference, each of n inputs gets 1/n, and the entropy is log n. With q queries "
        "and i inputs, the queries see i - q + 1, …, i of them.",
        axes="queries",
    ),
}
