"""Documents: text and images in order, and their layout as one token sequence.

A target image stands twice: first as `<dream_start>`, the dream queries and `<dream_end>`, whose hidden states paint it;
then as `<im_start>`, its patches and `<im_end>`, so that what follows can read it. (Paper, section 2; the official data
builder, "joint" documents.)
"""

from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from .images import as_rgb
from .tokenizers import SpecialTokens, refuse_special

IGNORED = -100  # label of a position that is no target of the language loss


class Document:
    """Text and images in the order in which they are read.

    Args:
        items: str and PIL images. Text may not hold special tokens.
        targets: indices among the *images* (0 is the first image) of those to be painted when training; None means
            those that follow text.

    Raises:
        TypeError: for an item that is neither str nor a PIL image.
        ValueError: for an image that cannot become RGB, a target that is no image, or text with a special token.
    """

    def __init__(self, items: list, targets: list[int] | None = None):
        if isinstance(items, (str, Image.Image)):
            raise TypeError(
                f"a Document takes a list of text and images, not a bare {type(items).__name__}"
            )
        self.items = []
        for number, item in enumerate(items):
            if isinstance(item, Image.Image):
                item = as_rgb(item)
            elif isinstance(item, str):
                refuse_special(item)
            else:
                raise TypeError(
                    f"item {number} of a document is a {type(item).__name__}; str and PIL images are what it holds"
                )
            self.items.append(item)
        images = sum(isinstance(item, Image.Image) for item in self.items)
        if targets is None:
            targets, seen = [], 0
            for before, item in zip([None, *self.items], self.items):
                if isinstance(item, Image.Image):
                    if isinstance(before, str):
                        targets.append(seen)
                    seen += 1
        wrong = [target for target in targets if not 0 <= target < images]
        if wrong:
            raise ValueError(f"target {wrong[0]} is no image of this document, which has {images}")
        self.targets = tuple(sorted(set(targets)))

    @property
    def text(self) -> str:
        """All text, joined by spaces."""
        return " ".join(item for item in self.items if isinstance(item, str))

    @property
    def images(self) -> list[Image.Image]:
        """All images, in order."""
        return [item for item in self.items if isinstance(item, Image.Image)]

    def show(self) -> None:
        """Displays text and images one below the other, in a notebook."""
        from IPython.display import Markdown, display

        for item in self.items:
            display(Markdown(item) if isinstance(item, str) else item)

    def __repr__(self) -> str:
        return f"Document({' '.join('[image]' if isinstance(item, Image.Image) else item for item in self.items)!r})"


@dataclass
class Layout:
    """One token sequence. `ids` and `labels` are lists of equal length; blocks say where pictures stand.

    ids: placeholders `<im_patch>` where embeddings of patches or dream queries go.
    labels: the id where the token is a target (shifted by one inside the loss), else IGNORED.
    patches: (image number, position of its first patch).
    queries: (image number, position of its first query).
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    patches: list[tuple[int, int]] = field(default_factory=list)
    queries: list[tuple[int, int]] = field(default_factory=list)

    def add(self, ids: list[int], learned: bool) -> None:
        """Appends tokens, which are targets of the language loss or not."""
        self.ids += ids
        self.labels += ids if learned else [IGNORED] * len(ids)

    def add_image(self, number: int, special: SpecialTokens, patches: int) -> None:
        """Appends an image that is read: <im_start> patches <im_end>."""
        self.patches.append((number, len(self.ids) + 1))
        self.add(
            [special.im_start] + [special.im_patch] * patches + [special.im_end], learned=False
        )

    def add_dream(self, number: int, special: SpecialTokens, queries: int, learned: bool) -> None:
        """Appends an image that is painted: <dream_start> queries <dream_end>; only <dream_start> can be a target."""
        self.add([special.dream_start], learned)
        self.queries.append((number, len(self.ids)))
        self.add([special.im_patch] * queries + [special.dream_end], learned=False)


def lay_out(
    document: Document,
    tokenizer,
    queries: int,
    patches: int,
    learn_text: bool = True,
    read_last: bool = True,
) -> Layout:
    """A document as it is trained on: `<s>` items `</s>`.

    Args:
        document: text and images.
        tokenizer: of the model.
        queries, patches: how many positions a painted and a read image take.
        learn_text: whether text, `<dream_start>` and `</s>` are targets of the language loss.
        read_last: with False a target image that ends the document is only painted, since nothing is left to read it.
    """
    special, layout = tokenizer.special, Layout()
    layout.add([special.bos], learned=False)
    image = -1
    for place, item in enumerate(document.items):
        if isinstance(item, str):
            layout.add(tokenizer.encode(item), learn_text)
            continue
        image += 1
        if image in document.targets:
            layout.add_dream(image, special, queries, learn_text)
        if image not in document.targets or read_last or place + 1 < len(document.items):
            layout.add_image(image, special, patches)
    layout.add([special.eos], learn_text)
    return layout


@dataclass
class Batch:
    """Layouts of several documents, padded to one length.

    ids, labels: shape (batch, tokens), int64.  mask: shape (batch, tokens), bool, True where a token stands.
    patches, queries: (row, first position) of every block, in document order over the batch.
    """

    ids: Tensor
    labels: Tensor
    mask: Tensor
    patches: list[tuple[int, int]]
    queries: list[tuple[int, int]]


def collate(layouts: list[Layout], pad: int, side: str = "right", device="cpu") -> Batch:
    """Pads layouts to the longest of them, on the left (to continue them) or on the right (to train)."""
    length = max(len(layout.ids) for layout in layouts)
    ids = torch.full((len(layouts), length), pad)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids, dtype=torch.bool)
    patches, queries = [], []
    for row, layout in enumerate(layouts):
        start = length - len(layout.ids) if side == "left" else 0
        span = slice(start, start + len(layout.ids))
        ids[row, span], labels[row, span], mask[row, span] = (
            torch.tensor(layout.ids),
            torch.tensor(layout.labels),
            True,
        )
        patches += [(row, start + first) for _, first in layout.patches]
        queries += [(row, start + first) for _, first in layout.queries]
    return Batch(ids.to(device), labels.to(device), mask.to(device), patches, queries)
