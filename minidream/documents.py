"""Documents: text and images in order, and their layout as one token sequence.

An image that the model is to paint occurs twice in the sequence: first as `<dream_start>`, the
dream queries and `<dream_end>`, whose hidden states paint it; then as `<im_start>`, its patches and
`<im_end>`, so that later text can refer to it. (Paper, section 2; the official data builder,
"joint" documents.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from .images import HOW_TO_MAKE, as_integer, as_rgb
from .tokenizers import SpecialTokens, refuse_special

IGNORED = -100  # label of a position that is no target of the language loss
# How one user turn is wrapped for `chat`: (before, after).
TEMPLATES = {
    "toy": ("question:", "answer:"),
    "vicuna_v1.1": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: ",
        " ASSISTANT:",
    ),
}

# The words with which the model begins to say what it will paint (`think=True`), by template.
THOUGHTS = {"toy": "now there is", "vicuna_v1.1": "The picture shows"}


class Document:
    """Text and images in the order in which they are read.

    Args:
        items: str and PIL images. Text may not hold special tokens, unless they are escaped. Images
            are kept as `images.as_rgb` gives them, upright and RGB.
        targets: indices among the *images* (0 is the first image) of those that the model paints,
            in training or in a prompt that tells what it has painted so far. None means those that
            follow text; [] means that all images are only read.

    Raises:
        TypeError: for an item that is neither str nor a PIL image, and for a bare item.
        ValueError: for an image that cannot become RGB, a target that is not an image of the
            document, or text with a special token.
    """

    def __init__(self, items: list, targets: list[int] | None = None):
        if isinstance(items, (str, dict, set)) or not isinstance(items, Iterable):
            raise TypeError(
                f"a Document takes a list of text and images, not a bare {type(items).__name__}"
            )
        self.items = [checked_item(place, item) for place, item in enumerate(items)]
        if targets is None:
            targets = [index for index, after_text in enumerate(self._follow_text()) if after_text]
        elif not isinstance(targets, Iterable):
            raise TypeError(f"targets are a list of indices among the images, not {targets!r}")
        targets = [as_integer("a target", target) for target in targets]
        images = len(self.images)
        wrong = [target for target in targets if not 0 <= target < images]
        if wrong:
            raise ValueError(
                f"target {wrong[0]} is no image of this document, which has {images} images"
            )
        self.targets = tuple(sorted(set(targets)))

    def _follow_text(self) -> list[bool]:
        """For each image, whether the item before it is text."""
        pairs = zip([None, *self.items], self.items)
        return [isinstance(before, str) for before, item in pairs if isinstance(item, Image.Image)]

    @property
    def text(self) -> str:
        """All text, joined by spaces."""
        return " ".join(item for item in self.items if isinstance(item, str))

    @property
    def images(self) -> list[Image.Image]:
        """All images, in order."""
        return [item for item in self.items if isinstance(item, Image.Image)]

    def add_text(self, text: str) -> None:
        """Adds text that a model has written: to the last item if that is text; none if blank.

        Args:
            text: as a tokenizer's `decode` gives it, special tokens escaped.
        """
        text = text.strip()
        if text and self.items and isinstance(self.items[-1], str):
            self.items[-1] = f"{self.items[-1].rstrip()} {text}"
        elif text:
            self.items.append(text)

    def add_painted(self, image: Image.Image) -> None:
        """Adds an image that a model has painted, as a target."""
        self.targets = (*self.targets, len(self.images))
        self.items.append(as_rgb(image))

    def before(self, image: int) -> "Document":
        """The part of the document before one of its images: what the queries that paint it see.

        Args:
            image: index among the images.

        Raises:
            ValueError: if the document has no such image (both numbers).
        """
        places = [place for place, item in enumerate(self.items) if isinstance(item, Image.Image)]
        if not 0 <= image < len(places):
            raise ValueError(f"image {image} was asked for; the document has {len(places)}")
        targets = [target for target in self.targets if target < image]
        return Document(self.items[: places[image]], targets)

    def with_thought(self, opening: str, thought: str = "") -> "Document":
        """The document, continued by words that say what is to be painted after it.

        Args:
            opening: of the thought; after text without an end, a full stop comes first.
            thought: the words after it.
        """
        items = [*self.items, f"{set_off(opening, self.items)} {thought}".rstrip()]
        return Document(items, self.targets)

    def layout(self, model) -> "Layout":
        """As `lay_out`, with the sizes of a model; a kind of its own may have another layout."""
        return lay_out(self, model.tokenizer, model.queries, model.vision.patches)

    def show(self) -> None:
        """Displays text and images one below the other, in a notebook."""
        from IPython.display import Markdown, display

        for item in self.items:
            display(Markdown(item) if isinstance(item, str) else item)

    def __repr__(self) -> str:
        text = ("[image]" if isinstance(item, Image.Image) else item for item in self.items)
        return f"Document({' '.join(text)!r})"


def set_off(opening: str, items: list) -> str:
    """The opening of a thought, with a full stop before it if the text before has no end."""
    last = items[-1] if items else ""
    return f". {opening}" if isinstance(last, str) and last.rstrip()[-1:].isalnum() else opening


def checked_item(place: int, item) -> str | Image.Image:
    """An item of a Document, images as RGB; errors as there, naming its place."""
    try:
        if isinstance(item, Image.Image):
            return as_rgb(item)
        if isinstance(item, str):
            refuse_special(item)
            return item
    except ValueError as error:
        raise ValueError(f"item {place} of a document: {error}") from error
    raise TypeError(
        f"item {place} of a document is a {type(item).__name__}; a document holds str and PIL "
        f"images: {HOW_TO_MAKE}"
    )


def as_document(prompt) -> Document:
    """A prompt as a Document; TypeError for anything but str and Document."""
    if isinstance(prompt, Document):
        return prompt
    if isinstance(prompt, str):
        return Document([prompt] if prompt.strip() else [])
    if isinstance(prompt, Image.Image):
        raise TypeError(
            "a bare image is no prompt: put it into a document, "
            'minidream.Document([image, "the same but ..."])'
        )
    raise TypeError(f"a prompt is a str or a minidream.Document, not a {type(prompt).__name__}")


def as_documents(prompts) -> list[Document]:
    """One prompt or a list of prompts, each as a Document.

    Raises:
        ValueError: for an empty list.
        TypeError: for an item that is no prompt.
    """
    prompts = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
    if not prompts:
        raise ValueError("the list of prompts is empty: give at least one str or Document")
    return [as_document(prompt) for prompt in prompts]


@dataclass
class Layout:
    """One token sequence, and where the pictures of its document are in it.

    ids: token ids, with `<im_patch>` as placeholder where patches or dream queries go.
    labels: one per id: the id itself where the token is a target of the language loss, else
        IGNORED. The loss does the shift by one.
    patches: (index of the image, position of its first patch) of every image that is read.
    queries: (index of the image, position of its first query) of every image that is painted.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    patches: list[tuple[int, int]] = field(default_factory=list)
    queries: list[tuple[int, int]] = field(default_factory=list)

    def add(self, ids: list[int], learned: bool) -> None:
        """Appends tokens; `learned` says whether they are targets of the language loss."""
        self.ids += ids
        self.labels += ids if learned else [IGNORED] * len(ids)

    def add_image(self, image: int, special: SpecialTokens, patches: int) -> None:
        """Appends an image to be read: `<im_start>` patches `<im_end>`."""
        self.patches.append((image, len(self.ids) + 1))
        block = [special.im_start] + [special.im_patch] * patches + [special.im_end]
        self.add(block, learned=False)

    def add_queries(self, image: int, special: SpecialTokens, queries: int, learned: bool) -> None:
        """Appends `<dream_start>`, which `learned` makes a target, and the queries of an image."""
        self.add([special.dream_start], learned)
        self.queries.append((image, len(self.ids)))
        self.add([special.im_patch] * queries, learned=False)

    def add_dream(self, image: int, special: SpecialTokens, queries: int, learned: bool) -> None:
        """Appends an image to be painted: `<dream_start>` queries `<dream_end>`."""
        self.add_queries(image, special, queries, learned)
        self.add([special.dream_end], learned=False)


def lay_out(
    document: Document,
    tokenizer,
    queries: int,
    patches: int,
    learn_text: bool | Sequence[bool] = True,
    read_last: bool = True,
    end: bool = True,
) -> Layout:
    """The token sequence of a document: `<s>` items `</s>`.

    Args:
        document: text and images.
        tokenizer: of the model.
        queries, patches: positions that a painted and a read image take.
        learn_text: whether text, `<dream_start>` and `</s>` are targets of the language loss; or
            this for each item, the entry of a target image meaning its `<dream_start>`, and that
            of the last item also the `</s>`.
        read_last: with False, a target image at the end of the document is only painted, since
            nothing follows that could refer to it.
        end: whether `</s>` is appended; False leaves the sequence open, to be continued.
    """
    special, layout = tokenizer.special, Layout()
    layout.add([special.bos], learned=False)
    image, learned = -1, learn_text
    for place, item in enumerate(document.items):
        learned = learn_text if isinstance(learn_text, bool) else learn_text[place]
        if isinstance(item, str):
            layout.add(tokenizer.encode(item), learned)
            continue
        image += 1
        if image in document.targets:
            layout.add_dream(image, special, queries, learned)
        if image not in document.targets or read_last or place + 1 < len(document.items):
            layout.add_image(image, special, patches)
    if end:
        layout.add([special.eos], learned)
    return layout


def turn_layout(model, turn) -> tuple[Layout, list[Image.Image]]:
    """One user turn in the model's chat template, and its images; errors as `DreamLLM.chat`."""
    if isinstance(turn, (str, Image.Image)):
        turn = [turn]
    document = turn if isinstance(turn, Document) else Document(turn)
    if not any(not isinstance(item, str) or item.strip() for item in document.items):
        raise ValueError("a turn needs a question or a picture: it is empty")
    before, after = TEMPLATES[model.config.template]
    tokenizer, layout, text, image = model.tokenizer, Layout(), before, 0
    layout.add([tokenizer.bos], learned=False)
    for item in document.items:
        if isinstance(item, str):
            text += item if text.endswith(" ") or not text else f" {item}"
            continue
        layout.add(tokenizer.encode(text) if text else [], learned=False)
        layout.add_image(image, tokenizer.special, model.vision.patches)
        text, image = "", image + 1
    layout.add(tokenizer.encode(f"{text} {after.lstrip()}" if text else after), learned=False)
    context = model.llm.config.max_position_embeddings
    if len(layout.ids) >= context:
        raise ValueError(
            f"the turn takes {len(layout.ids)} positions; the context has {context}, and the "
            "answer needs some"
        )
    return layout, document.images


def pictures_of(
    documents: list[Document], blocks: list[list[tuple[int, int]]]
) -> list[Image.Image]:
    """The images that blocks of a layout belong to, document by document.

    Args:
        documents: as many as lists of blocks.
        blocks: for each document, (index of the image, position), as in `Layout`.
    """
    images = []
    for document, document_blocks in zip(documents, blocks, strict=True):
        images += [document.images[index] for index, _ in document_blocks]
    return images


@dataclass
class Batch:
    """Layouts of several documents, padded to one length.

    ids, labels: shape (batch, tokens), int64.
    mask: shape (batch, tokens), bool, False at padding.
    patches, queries: (row, first position) of every block, in document order over the batch.
    """

    ids: Tensor
    labels: Tensor
    mask: Tensor
    patches: list[tuple[int, int]]
    queries: list[tuple[int, int]]


def collate(layouts: list[Layout], pad: int, side: str = "right", device="cpu") -> Batch:
    """Pads layouts to the length of the longest.

    Args:
        layouts: at least one.
        pad: id of the padding token.
        side: "right" for training; "left" to continue the sequences.
        device: of the tensors.
    """
    length = max(len(layout.ids) for layout in layouts)
    ids = torch.full((len(layouts), length), pad, device="cpu")
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids, dtype=torch.bool)
    patches, queries = [], []
    for row, layout in enumerate(layouts):
        start = length - len(layout.ids) if side == "left" else 0
        span = slice(start, start + len(layout.ids))
        ids[row, span] = torch.tensor(layout.ids, device="cpu")
        labels[row, span] = torch.tensor(layout.labels, device="cpu")
        mask[row, span] = True
        patches += [(row, start + first) for _, first in layout.patches]
        queries += [(row, start + first) for _, first in layout.queries]
    return Batch(ids.to(device), labels.to(device), mask.to(device), patches, queries)
