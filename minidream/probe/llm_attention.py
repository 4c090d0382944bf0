"""Over the input: where each dream query looks among everything before it, by layer and head.

Neither the paper nor the official code has this picture. The paper's figure 6 is about the other
hop, see `unet_attention.py`.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from einops import rearrange, reduce
from PIL import Image
from torch import Tensor

from ..documents import Document, Layout, as_documents, collate, pictures_of
from ..images import as_index, as_integer
from .indices import as_indices
from .positions import labels_of
from .watch import hooked, recording_mode


@contextmanager
def watch_input(model, positions):
    """Records some rows of the attention of every LLM layer, from the real queries and keys.

    Only these rows are computed: memory is layers x heads x rows x inputs, never inputs squared.

    Args:
        model: a DreamLLM.
        positions: of the rows, among the tokens of one pass, each once: a tensor of shape (rows,),
            a list, a range, or one number.

    Yields:
        A list that grows by one tensor for each layer and pass: weights after softmax, shape
        (batch, heads, rows, inputs), float32 on the CPU, without gradients.

    Raises:
        TypeError: in the pass, for a position that is not a number.
        ValueError: in the pass, for none, for one named twice, or one that is not among its tokens.
        RuntimeError: at the end, if a layer was not seen.
    """
    recorded: list[Tensor] = []
    with each_layer(model, positions, lambda weights: recorded.append(weights.cpu())):
        yield recorded


def hidden_inputs(positions: Tensor, tokens: int, inputs: int, mask: Tensor | None) -> Tensor:
    """True where a row must not attend, shape (rows, inputs), or (batch, 1, rows, inputs).

    Args:
        positions: of the rows, among the tokens; shape (rows,).
        tokens, inputs: how many queries and keys there are; the tokens are the last inputs.
        mask: as in `llm.DotProductAttention`; None is causal attention.
    """
    if mask is not None:
        return ~mask[:, :, positions]
    last_visible = rearrange(positions + inputs - tokens, "rows -> rows 1")
    return torch.arange(inputs, device=positions.device) > last_visible


@contextmanager
def each_layer(model, positions, use: Callable[[Tensor], None]):
    """Calls `use` with some rows of the attention of every LLM layer, while the layer runs.

    The weights have the shape (batch, heads, rows, inputs), float32. Arguments and errors are as
    in `watch_input`.
    """
    seen, on_device, hidden, hidden_for = [0] * len(model.llm.layers), None, None, None

    def record(layer: int, module, arguments) -> None:
        seen[layer] += 1
        with recording_mode(arguments[0].device):
            use(weights_of(*arguments))

    def weights_of(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        nonlocal on_device, hidden, hidden_for
        (_, heads, tokens, head_dim), (_, shared, inputs, _) = query.shape, key.shape
        # All layers of one pass have the same mask, so that it is prepared once.
        if hidden is None or hidden_for[0] is not mask or hidden_for[1:] != (tokens, inputs):
            named = as_indices("position", positions, tokens)
            on_device = torch.tensor(named, device=query.device)
            hidden = hidden_inputs(on_device, tokens, inputs, mask)
            hidden_for = mask, tokens, inputs
        rows = query[:, :, on_device].float() * head_dim**-0.5
        # Consecutive groups of query heads share one key head.
        grouped = "batch (shared groups) rows head_dim -> batch shared (groups rows) head_dim"
        scores = rearrange(rows, grouped, shared=shared) @ key.float().transpose(-1, -2)
        apart = "batch shared (groups rows) inputs -> batch (shared groups) rows inputs"
        scores = rearrange(scores, apart, groups=heads // shared)
        return scores.masked_fill_(hidden, -torch.inf).softmax(dim=-1)

    with hooked(
        (layer.self_attn.attend.register_forward_pre_hook, partial(record, index))
        for index, layer in enumerate(model.llm.layers)
    ):
        yield
    if not any(seen):
        raise RuntimeError(
            "no attention layer was seen: did the model run inside the `with` block?"
        )
    silent = [str(layer) for layer, passes in enumerate(seen) if not passes]
    if silent:
        raise RuntimeError(
            f"the model ran, but layers {', '.join(silent)} of {len(seen)} did not run their "
            "hooks, so that nothing was recorded there"
        )


@dataclass
class Trace:
    """Where the queries of one picture looked.

    weights: shape (layers, heads, queries, inputs), in [0, 1]; every row sums to 1; float32 on the
        CPU. A rollout has one layer and one head.
    inputs: a label for each input: the token's text, (image, patch row, patch column), or a query's
        index.
    images: the images that the patches belong to, by index.
    start: the share of `<s>`, shape (layers, heads, queries), if `without_start` left it out: a row
        of the weights then sums to 1 - start. None if it is among the inputs, or never was.
    """

    weights: Tensor
    inputs: list
    images: list[Image.Image] = field(default_factory=list)
    start: Tensor | None = None

    def without_start(self) -> "Trace":
        """The same without `<s>`, on which trained models leave most of their attention.

        There it does little (an "attention sink", Xiao et al. 2023), but it drowns what the other
        inputs get. The weights stay as they are; `mean`, `patch_maps`, `uniform` and `evenness`
        then are about the remainder, which they scale to 1.

        Returns:
            A new trace with its `start`; the trace itself, if there is no `<s>` among its inputs.
        """
        if "<s>" not in self.inputs:
            return self
        column = self.inputs.index("<s>")
        rest = [position for position in range(len(self.inputs)) if position != column]
        return Trace(
            self.weights[..., rest],
            [self.inputs[position] for position in rest],
            self.images,
            self.weights[..., column],
        )

    def mean(self, layer: int | None = None, head: int | None = None) -> Tensor:
        """Weights of one layer or head, or the mean over all (None): shape (queries, inputs).

        Without `<s>`, layers and heads count by how much of their attention is not on it: one that
        leaves nearly everything there says little about the other inputs.

        Raises:
            TypeError, ValueError: for a layer or head that the trace does not have; -1 is the last.
        """
        weights, (layers, heads) = self.weights, self.weights.shape[:2]
        if layer is not None:
            weights = weights[[as_index("layer", layer, layers, f"the trace has {layers}")]]
        if head is not None:
            weights = weights[:, [as_index("head", head, heads, f"the trace has {heads}")]]
        rows = reduce(weights, "layers heads queries inputs -> queries inputs", "mean")
        return rows if self.start is None else rows / rows.sum(dim=-1, keepdim=True)

    def patch_maps(
        self, image: int = 0, layer: int | None = None, head: int | None = None
    ) -> Tensor:
        """The part of `mean` that falls on the patches of an image.

        Returns:
            Shape (queries, height, width), in patches.

        Raises:
            TypeError, ValueError: if the inputs hold no such image; -1 is the document's last.
        """
        image = as_integer("image", image)
        counted = image + len(self.images) if image < 0 else image
        positions = [
            position
            for position, label in enumerate(self.inputs)
            if isinstance(label, tuple) and label[0] == counted
        ]
        if not positions:
            raise ValueError(
                f"no patches of image {image} are among the inputs, "
                f"which hold {len(self.images)} images"
            )
        return rearrange(
            self.mean(layer, head)[:, positions],
            "queries (height width) -> queries height width",
            height=self.inputs[positions[-1]][1] + 1,
        )

    @property
    def visible(self) -> Tensor:
        """How many inputs each query can attend to, itself included: shape (queries,)."""
        _, _, queries, inputs = self.weights.shape
        return torch.arange(inputs - queries + 1, inputs + 1, device="cpu")

    def uniform(self) -> Tensor:
        """What `mean` would be if every query attended equally to all that it can see.

        Returns:
            Shape (queries, inputs).
        """
        visible = rearrange(self.visible, "queries -> queries 1")
        columns = torch.arange(len(self.inputs), device="cpu")
        return (columns < visible).float() / visible

    def evenness(self) -> Tensor:
        """How evenly each row is spread: its entropy divided by that of `uniform`.

        Returns:
            Shape (layers, heads, queries), in [0, 1]. At 1 a query attends equally to all that it
            can see; at 0 to one input alone. (It is nan for a query that sees only itself, or has
            nothing left without `<s>`.)
        """
        weights = self.weights
        if self.start is not None:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        entropy = reduce(
            torch.special.entr(weights),
            "layers heads queries inputs -> layers heads queries",
            "sum",
        )
        return entropy / self.visible.float().log()

    def plot(self, layer: int | None = None, head: int | None = None, query: int | None = None):
        """The figure: queries over words, and over the patches of every image.

        What is not named is averaged.
        """
        from ..plots import plot_trace

        return plot_trace(self, layer, head, query)

    def explore(self):
        """The same figure with controls for layer, head and query: a widget."""
        from ..plots.controls import explore_trace

        return explore_trace(self)


@torch.inference_mode(False)
@torch.no_grad()
def dream_attention(model, prompt, image: int = -1, rollout: bool = False) -> "Trace | list[Trace]":
    """Where the dream queries of one picture look, from one forward pass.

    Only the rows of the queries are recorded.

    Args:
        model: a DreamLLM.
        prompt: str or Document. Without a painted image it gets a query block at its end, as for
            `dream`. A list of prompts is read in one pass, and gives a list of traces.
        image: which of the document's painted images; -1 is the last.
        rollout: follow attention through all layers instead (Abnar & Zuidema 2020): the input that
            a query attends to in one layer has itself attended to others in the layer before. Heads
            are averaged, and half of every step stays at its position, as the residual stream does.
            This computes every row, one layer and one prompt at a time.

    Raises:
        TypeError: for another prompt, or an image that is not a number.
        ValueError: for an empty list; if a document has fewer painted images (both numbers).
    """
    several = isinstance(prompt, (list, tuple))
    documents = as_documents(prompt if several else [prompt])
    openings = [opening_of(document, image) for document in documents]
    layouts = [model.prompt_layout(opening) for opening in openings]
    follow = rolled_rows if rollout else query_rows
    traces = [
        Trace(weights, labels_of(layout, model), document.images)
        for weights, layout, document in zip(follow(model, documents, layouts), layouts, documents)
    ]
    return traces if several else traces[0]


def opening_of(document: Document, image: int) -> Document:
    """What comes before a painted image; errors as `dream_attention`."""
    image, painted = as_integer("painted image", image), len(document.targets)
    if painted:
        image = as_index("painted image", image, painted, f"the document has {painted}")
        return document.before(document.targets[image])
    if image not in (0, -1):
        raise ValueError(
            f"painted image {image} was asked for; a document without targets has one query block, "
            "at its end"
        )
    return document


def embedded(model, documents: list[Document], layouts: list[Layout]) -> tuple[Tensor, Tensor]:
    """The embeddings of layouts that are padded on the left, and what is no padding."""
    pad = model.tokenizer.special.pad
    batch = collate(layouts, pad, side="left", device=model.device)
    images = pictures_of(documents, [layout.patches for layout in layouts])
    return model.embed(batch, images), batch.mask


def query_rows(model, documents: list[Document], layouts: list[Layout]) -> list[Tensor]:
    """Weights of the rows of the last dream queries, of one forward pass.

    Returns:
        For each document, shape (layers, heads, queries, inputs), float32 on the CPU.
    """
    embeddings, mask = embedded(model, documents, layouts)
    tokens = embeddings.shape[1]
    rows = torch.arange(tokens - model.queries, tokens, device="cpu")
    with watch_input(model, rows) as recorded:
        model.llm(embeddings, None if mask.all() else mask)
    if len(layouts) == 1:
        return [torch.cat(recorded)]
    return [
        torch.stack([layer[row, ..., -len(layout.ids) :] for layer in recorded])
        for row, layout in enumerate(layouts)
    ]


def rolled_rows(model, documents: list[Document], layouts: list[Layout]) -> list[Tensor]:
    """As `query_rows`, with attention followed through all layers; one layer and one head."""
    return [
        # A view would keep every row.
        rolled_out(model, embedded(model, [document], [layout])[0])[:, :, -model.queries :].clone()
        for document, layout in zip(documents, layouts)
    ]


def rolled_out(model, embeddings: Tensor) -> Tensor:
    """Attention followed through all layers, of every row.

    Returns:
        Shape (1, 1, inputs, inputs), float32 on the CPU.
    """
    identity = torch.eye(embeddings.shape[1], device=embeddings.device, dtype=torch.float32)
    joined = identity

    def follow(weights: Tensor) -> None:
        nonlocal joined
        mean = reduce(weights, "1 heads rows inputs -> rows inputs", "mean")
        joined = (mean + identity) / 2 @ joined

    rows = torch.arange(embeddings.shape[1], device="cpu")
    with each_layer(model, rows, follow):
        model.llm(embeddings)
    return rearrange(joined, "rows inputs -> 1 1 rows inputs").cpu()
