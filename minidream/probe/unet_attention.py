"""Over the picture: which dream query each latent cell looks at while the picture is painted.

These are the maps of the paper's figure 6.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import conditional_rows
from ..images import as_index
from .watch import hooked, named_modules, recording_mode

TOGETHER = 2**20  # numbers: queries of latent cells that wait until their weights are computed


@dataclass
class ImageMaps:
    """Cross-attention of the U-Net while it samples, of the conditional pass only.

    layers: {name of the layer: shape (steps, pictures, heads, queries, height, width)}, in the
        layer's own cells, float32 on the CPU. Every cell spreads one unit of attention over the
        queries. Steps and heads are averaged, so that there is 1 of each, unless `watch_image` was
        asked to keep them.
    """

    layers: dict[str, Tensor] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many steps were kept; 1 if they were averaged."""
        return len(next(iter(self.layers.values())))

    def mean(
        self,
        picture: int = 0,
        step: int | None = None,
        layer: str | None = None,
        head: int | None = None,
    ) -> Tensor:
        """The map of one picture, averaged over all steps, layers and heads that are not named.

        Returns:
            Shape (queries, height, width), on the grid of the finest layer; each cell sums to 1
            over the queries.

        Raises:
            TypeError: for a picture, step or head that is not a number; -1 is the last.
            ValueError: for a picture, step, layer or head that was not recorded (with what was).
        """
        if layer is not None and layer not in self.layers:
            raise ValueError(
                f"layer {layer!r} was not recorded; there are {', '.join(self.layers)}"
            )
        steps, pictures, heads = next(iter(self.layers.values())).shape[:3]
        picture = as_index("picture", picture, pictures, f"{pictures} were kept")
        if step is not None:
            step = as_index("step", step, steps, f"{steps} were kept")
        if head is not None:
            head = as_index("head", head, heads, f"{heads} were kept")
        grids = [maps.shape[-2:] for maps in self.layers.values()]
        finest = max(grids, key=lambda grid: grid[0] * grid[1])
        chosen = []
        for maps in self.layers.values() if layer is None else [self.layers[layer]]:
            maps = maps[:, picture] if step is None else maps[[step], picture]
            maps = maps if head is None else maps[:, [head]]
            maps = reduce(
                maps, "steps heads queries height width -> 1 queries height width", "mean"
            )
            chosen.append(F.interpolate(maps, size=finest, mode="nearest")[0])
        return torch.stack(chosen).mean(dim=0)


class LayerRecorder:
    """Computes the weights of one cross-attention layer from the queries and keys of the real pass.

    diffusers' processor calls a fused function that never forms the weights. So they are formed
    beside it, from what its two projections returned; what is painted stays the same bit for bit.

    Args:
        attention: the layer, a diffusers `Attention` with its default processor.
        block: the block of layers around it, which knows the grid.
        steps, heads: as in `watch_image`.

    passes: how many were recorded.

    Raises:
        ValueError: for another processor than diffusers' default, since it may compute its weights
            in another way.
    """

    def __init__(self, attention: nn.Module, block: nn.Module, steps: bool, heads: bool):
        if type(attention.processor) not in (AttnProcessor, AttnProcessor2_0):
            raise ValueError(
                f"a layer has a {type(attention.processor).__name__}, whose weights are unknown"
            )
        self.attention, self.block = attention, block
        self.keep_steps, self.keep_heads = steps, heads
        self.query = self.key = self.grid = None  # of the pass that runs
        # Of some passes, whose weights are computed together: for small layers, many times faster.
        self.queries, self.keys = [], []
        self.weights, self.passes = [], 0

    def hooks(self) -> list[tuple[Callable, Callable]]:
        """What records every pass, as `hooked` takes it."""
        return [
            (self.block.register_forward_pre_hook, self.see_grid),
            (self.attention.to_q.register_forward_hook, self.see_query),
            (self.attention.to_k.register_forward_hook, self.see_key),
            (partial(self.attention.register_forward_hook, with_kwargs=True), self.record),
        ]

    def see_grid(self, block: nn.Module, inputs: tuple[Tensor]) -> None:
        """The block's input has shape (batch, channels, height, width)."""
        self.grid = tuple(inputs[0].shape[-2:])

    def see_query(self, projection: nn.Module, inputs: tuple, output: Tensor) -> None:
        """Queries of the latent cells, shape (batch, cells, heads * head_dim)."""
        self.query = output

    def see_key(self, projection: nn.Module, inputs: tuple, output: Tensor) -> None:
        """Keys of the dream queries, shape (batch, queries, heads * head_dim)."""
        self.key = output

    def record(self, attention: nn.Module, inputs: tuple, options: dict, output: Tensor) -> None:
        """Adds this pass to those whose weights are to be computed."""
        if options.get("attention_mask") is not None:
            raise ValueError("the weights of a masked cross-attention are not recorded")
        if self.query is None or self.key is None or self.grid is None:
            return  # some hooks did not run: `watch_image` says so at its end
        query, key = (states[conditional_rows.get()].detach() for states in (self.query, self.key))
        self.query = self.key = None  # with which the graph of a training step is freed
        if self.passes and len(query) != self.pictures:
            raise RuntimeError(
                "one block watches pictures of one batch size: "
                f"{self.pictures} were painted, now {len(query)}"
            )
        size = f"{self.grid[0]} x {self.grid[1]} cells and {key.shape[1]} queries"
        if self.passes and size != self.size:
            raise RuntimeError(
                f"one block watches pictures of one size: a layer had {self.size}, now {size}"
            )
        self.pictures, self.size, self.passes = len(query), size, self.passes + 1
        self.queries.append(query)
        self.keys.append(key)
        if len(self.queries) * query.numel() > TOGETHER:
            self.compute()

    def compute(self) -> None:
        """Computes the weights of the passes that wait for it."""
        if not self.queries:
            return
        with recording_mode(self.queries[0].device):
            query, key = (
                rearrange(
                    torch.stack(states).float(),
                    "passes pictures tokens (heads head_dim)"
                    " -> passes pictures heads tokens head_dim",
                    heads=self.attention.heads,
                )
                for states in (self.queries, self.keys)
            )
            weights = (query * self.attention.scale @ key.transpose(-1, -2)).softmax(dim=-1)
            if not self.keep_heads:
                weights = weights.mean(dim=2, keepdim=True)
            if self.keep_steps:
                self.weights.append(weights.cpu())
            else:
                total = weights.sum(dim=0, keepdim=True)
                self.weights = [self.weights[0] + total if self.weights else total]
        self.queries, self.keys = [], []

    def maps(self) -> Tensor:
        """What was recorded, as in `ImageMaps.layers`."""
        self.compute()
        height, width = self.grid
        with recording_mode(self.weights[0].device):
            weights = torch.cat(self.weights)
            maps = rearrange(
                weights.cpu() if self.keep_steps else weights.cpu() / self.passes,
                "steps pictures heads (height width) queries"
                " -> steps pictures heads queries height width",
                height=height,
                width=width,
            )
            return maps.clone()  # a view made without gradients could not be changed in training


@contextmanager
def watch_image(model, steps: bool = False, heads: bool = False):
    """Records where each latent cell looks among the queries while pictures are painted.

    Args:
        model: a DreamLLM.
        steps, heads: whether to keep each step, or each head, instead of the average; this takes as
            many times the memory. Layers are always kept.

    Yields:
        `ImageMaps`, which are filled at the end of the `with` block. If pictures are painted more
        than once in it, as many at a time, the average is over all of them, and kept steps follow
        one another.

    Raises:
        RuntimeError: at once, if the U-Net has no cross-attention; during the pass, for pictures of
            another number or size than before; at the end, if nothing was painted, or if a layer
            did not run its hooks (its name).
        ValueError: if a layer's processor is not diffusers' default.
    """
    modules = named_modules(model.decoder.unet)
    names = [name for name in modules if name.endswith(".attn2")]
    if not names:
        raise RuntimeError("the U-Net has no cross-attention layer to watch")
    recorders, hooks, maps = {}, [], ImageMaps()
    for name in names:
        block = modules[name.split(".transformer_blocks.")[0]]
        recorder = LayerRecorder(modules[name], block, steps, heads)
        recorders[f"{name}.processor"] = recorder
        hooks += recorder.hooks()
    with hooked(hooks):
        yield maps
    silent = [name for name, recorder in recorders.items() if not recorder.passes]
    if len(silent) == len(recorders):
        raise RuntimeError("no picture was painted inside the `with` block")
    if silent:
        raise RuntimeError(
            f"pictures were painted, but {', '.join(silent)} did not run their hooks, so that "
            "nothing was recorded there"
        )
    maps.layers |= {name: recorder.maps() for name, recorder in recorders.items()}
