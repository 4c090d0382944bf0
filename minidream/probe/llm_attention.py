"""Over the input: where each dream query looks among everything before it, by layer and head.

Neither the paper nor the official code has this picture; the paper's figure 6 is about the other hop, see `image.py`.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from einops import einsum, rearrange, reduce
from PIL import Image
from torch import Tensor

from ..documents import as_document, collate


@contextmanager
def watch_input(model, positions: Tensor):
    """Records the attention of some rows of every LLM layer, from the very queries and keys of the passes inside.

    Only these rows are computed: memory is layers x heads x rows x inputs, never inputs squared.

    Args:
        model: a DreamLLM.
        positions: of the rows, among the tokens of one pass; shape (rows,).

    Yields:
        A list that grows by one tensor per layer and pass: weights after softmax, shape (batch, heads, rows, inputs),
        float32 on the CPU.

    Raises:
        RuntimeError: at the end, if no layer was seen.
    """
    recorded: list[Tensor] = []
    with each_layer(model, positions, lambda weights: recorded.append(weights.cpu())):
        yield recorded


@contextmanager
def each_layer(model, positions: Tensor, use: Callable[[Tensor], None]):
    """Calls `use` with the weights of some rows of every LLM layer, as it runs: shape (batch, heads, rows, inputs), float32.

    Arguments and errors: see `watch_input`.
    """
    seen = 0

    def record(module, arguments):
        nonlocal seen
        seen += 1
        query, key, _, mask = arguments
        rows = query[:, :, positions.to(query.device)].float() * query.shape[-1] ** -0.5
        # Consecutive groups of query heads share one key head.
        rows = rearrange(
            rows,
            "batch (shared groups) rows head_dim -> batch shared (groups rows) head_dim",
            shared=key.shape[1],
        )
        scores = einsum(
            rows,
            key.float(),
            "batch shared rows head_dim, batch shared inputs head_dim -> batch shared rows inputs",
        )
        scores = rearrange(
            scores,
            "batch shared (groups rows) inputs -> batch (shared groups) rows inputs",
            rows=len(positions),
        )
        if mask is None:
            inputs, tokens = key.shape[2], query.shape[2]
            order = torch.arange(inputs, device=key.device)
            last_visible = positions.to(key.device) + inputs - tokens
            hidden = order > rearrange(last_visible, "rows -> rows 1")
        else:
            hidden = ~mask[:, :, positions.to(mask.device)]
        use(scores.masked_fill(hidden, -torch.inf).softmax(dim=-1))

    hooks = [layer.self_attn.attend.register_forward_pre_hook(record) for layer in model.llm.layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise RuntimeError(
            "no attention layer was seen: did the model run inside the `with` block?"
        )


@dataclass
class Trace:
    """Where the queries of one picture looked.

    weights: shape (layers, heads, queries, inputs), in [0, 1], every row sums to 1; float32 on the CPU. A rollout has one
        layer and one head.
    inputs: a label per input: the token's text, (image, patch row, patch column), or a query's number.
    images: the images that the patches belong to, by number.
    """

    weights: Tensor
    inputs: list
    images: list[Image.Image] = field(default_factory=list)

    def mean(self, layer: int | None = None, head: int | None = None) -> Tensor:
        """Weights of one layer or head, or averaged over all of them (None): shape (queries, inputs)."""
        weights = self.weights if layer is None else self.weights[[layer]]
        weights = weights if head is None else weights[:, [head]]
        return reduce(weights, "layers heads queries inputs -> queries inputs", "mean")

    def patch_maps(
        self, image: int = 0, layer: int | None = None, head: int | None = None
    ) -> Tensor:
        """The part of `mean` that falls on an image's patches, shape (queries, height, width) in patches.

        ValueError if the document has no such image.
        """
        places = [
            place
            for place, label in enumerate(self.inputs)
            if isinstance(label, tuple) and label[0] == image
        ]
        if not places:
            raise ValueError(
                f"no patches of image {image} are among the inputs, which hold {len(self.images)} images"
            )
        height = self.inputs[places[-1]][1] + 1
        return rearrange(
            self.mean(layer, head)[:, places],
            "queries (height width) -> queries height width",
            height=height,
        )

    @property
    def visible(self) -> Tensor:
        """How many inputs each query can look at, itself included: shape (queries,). A later query sees the earlier ones."""
        _, _, queries, inputs = self.weights.shape
        return torch.arange(inputs - queries + 1, inputs + 1)

    def uniform(self) -> Tensor:
        """What `mean` would be if every query looked at all that it can see alike: the map of one that learned nothing.

        Shape (queries, inputs).
        """
        seen = torch.arange(len(self.inputs)) < rearrange(self.visible, "queries -> queries 1")
        return seen / rearrange(self.visible, "queries -> queries 1")

    def evenness(self) -> Tensor:
        """How evenly each row is spread: its entropy over that of `uniform`, shape (layers, heads, queries), in [0, 1].

        1 is attention to all that is visible alike; 0 is all of it on one input. (A query that sees but itself: nan.)
        """
        entropy = reduce(
            torch.special.entr(self.weights),
            "layers heads queries inputs -> layers heads queries",
            "sum",
        )
        return entropy / self.visible.log()

    def plot(self, layer: int | None = None, head: int | None = None, query: int | None = None):
        """The figure: queries over words, and over the patches of every image; averages where nothing is named."""
        from ..plots import plot_trace

        return plot_trace(self, layer, head, query)

    def explore(self):
        """The same figure with controls for layer, head and query: a widget."""
        from ..plots.controls import explore_trace

        return explore_trace(self)


@torch.no_grad()
def dream_attention(model, prompt, image: int = -1, rollout: bool = False) -> Trace:
    """Where the dream queries of one picture look: one forward pass, in which only the query rows are recorded.

    Args:
        model: a DreamLLM.
        prompt: str or Document. One without a painted image gets a query block at its end, as `dream` gives it.
        image: which of the document's painted images; -1 is the last.
        rollout: follow attention through all layers instead (Abnar & Zuidema 2020): what a query looks at in one layer has
            itself looked, in the layer before. Heads are averaged, and half of every step stays where it is, as the residual
            stream does. Computes every row, one layer at a time.

    Raises:
        TypeError: for another prompt.
        ValueError: if the document has fewer painted images (both numbers).
    """
    document = opening = as_document(prompt)
    painted = len(document.targets)
    if painted:
        if not -painted <= image < painted:
            raise ValueError(f"painted image {image} was asked for; the document has {painted}")
        opening = document.before(document.targets[image])
    elif image not in (0, -1):
        raise ValueError(
            f"painted image {image} was asked for; a document without targets has one query block, "
            "at its end"
        )
    layout = model.prompt_layout(opening)
    first = layout.queries[-1][1]
    batch = collate([layout], model.tokenizer.special.pad, device=model.device)
    embeddings = model.embed(batch, [document.images[number] for number, _ in layout.patches])
    weights = (
        rolled_out(model, embeddings)[:, :, first:]
        if rollout
        else query_rows(model, embeddings, first)
    )
    return Trace(weights, labels_of(layout, model), document.images)


def query_rows(model, embeddings: Tensor, first: int) -> Tensor:
    """Weights of the rows from `first` on, of one forward pass: shape (layers, heads, queries, inputs), float32 on the CPU."""
    with watch_input(model, torch.arange(first, embeddings.shape[1])) as recorded:
        model.llm(embeddings)
    if len(recorded) != len(model.llm.layers):
        raise RuntimeError(
            f"{len(recorded)} layers were recorded, the model has {len(model.llm.layers)}"
        )
    return torch.cat(recorded)


def rolled_out(model, embeddings: Tensor) -> Tensor:
    """Attention followed through all layers, of every row: shape (1, 1, inputs, inputs), float32 on the CPU."""
    stays = torch.eye(embeddings.shape[1], device=embeddings.device)
    joined = stays

    def follow(weights: Tensor) -> None:
        nonlocal joined
        joined = (
            (reduce(weights, "1 heads rows inputs -> rows inputs", "mean") + stays) / 2 @ joined
        )

    with each_layer(model, torch.arange(embeddings.shape[1]), follow):
        model.llm(embeddings)
    return rearrange(joined, "rows inputs -> 1 1 rows inputs").cpu()


def labels_of(layout, model) -> list:
    """What stands at each position: the token's text, (image, patch row, patch column), or a query's number."""
    labels: list = [model.tokenizer.label(token) for token in layout.ids]
    for number, first in layout.patches:
        for patch in range(model.vision.patches):
            labels[first + patch] = (number, patch // model.vision.grid, patch % model.vision.grid)
    for _, first in layout.queries:
        labels[first : first + model.queries] = range(model.queries)
    return labels
