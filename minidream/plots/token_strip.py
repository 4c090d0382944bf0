"""A layout as the row of positions that `plot_token_strip` draws."""

from dataclasses import dataclass

from ..documents import IGNORED, Layout


@dataclass(frozen=True)
class TokenStrip:
    """A document as one row of positions.

    inputs: a label per position, as `probe.Trace.inputs`: a token's text, (image, patch row, patch
        column), or the index of a query.
    predicts: for each position the token that the language loss asks for, as text, or None.
    painted: for every block of queries, in order, the index of the image that it should paint.
    """

    inputs: list
    predicts: list
    painted: list[int]


def token_strip(layout, tokenizer, queries: int, grid: int) -> TokenStrip:
    """A layout as it is drawn, with each label at the position that has to predict it.

    The labels are shifted by one position, as inside the loss.

    Args:
        layout: a `documents.Layout`.
        tokenizer: the one that made its ids.
        queries: how many there are in a block.
        grid: patches along a side of an image.

    Raises:
        ValueError: if the layout reserves another number of positions for patches and queries (both
            numbers).
    """
    reserved = layout.ids.count(tokenizer.special.im_patch)
    needed = len(layout.queries) * queries + len(layout.patches) * grid**2
    if reserved != needed:
        raise ValueError(
            f"the layout reserves {reserved} positions for patches and queries; {queries} queries "
            f"and {grid}x{grid} patches need {needed}"
        )
    inputs: list = [tokenizer.label(token) for token in layout.ids]
    for image, first in layout.patches:
        patches = [(image, *divmod(patch, grid)) for patch in range(grid**2)]
        inputs[first : first + grid**2] = patches
    for _, first in layout.queries:
        inputs[first : first + queries] = range(queries)
    targets = [None if label == IGNORED else tokenizer.label(label) for label in layout.labels[1:]]
    return TokenStrip(inputs, [*targets, None], [image for image, _ in layout.queries])


def batch_strips(batch, tokenizer, queries: int, grid: int) -> list[TokenStrip]:
    """The rows of a padded batch; images are numbered over the batch, in the order of its blocks.

    Args:
        batch: a `documents.Batch`.
        tokenizer, queries, grid: as in `token_strip`, which also says what is raised.
    """
    strips = []
    for row, (ids, labels) in enumerate(zip(batch.ids.tolist(), batch.labels.tolist())):
        patches, painted = (
            [(image, first) for image, (line, first) in enumerate(blocks) if line == row]
            for blocks in (batch.patches, batch.queries)
        )
        strips.append(token_strip(Layout(ids, labels, patches, painted), tokenizer, queries, grid))
    return strips
