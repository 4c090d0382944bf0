"""Over the picture: which dream query each latent cell looks at while the picture is painted (the paper's figure 6)."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional as F


@dataclass
class ImageMaps:
    """Cross-attention of the U-Net while sampling, the conditional pass only.

    layers: {name of the layer: shape (steps, pictures, heads, queries, height, width)}, in the layer's own cells, float32 on
        the CPU. Every cell spreads one unit of attention over the queries. Steps and heads are 1, averaged, where
        `watch_image` was not told to keep them.
    """

    layers: dict[str, Tensor] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many steps were kept: 1 is their average."""
        return len(next(iter(self.layers.values())))

    def mean(
        self,
        picture: int = 0,
        step: int | None = None,
        layer: str | None = None,
        head: int | None = None,
    ) -> Tensor:
        """Of one picture, all that is not named averaged, on the finest grid: shape (queries, height, width); 1 in sum over the queries.

        Raises:
            ValueError: for a picture, step, layer or head that was not recorded (what there is).
        """
        if layer is not None and layer not in self.layers:
            raise ValueError(
                f"layer {layer!r} was not recorded; there are {', '.join(self.layers)}"
            )
        first = next(iter(self.layers.values()))
        for name, value, size in (
            ("step", step, len(first)),
            ("picture", picture, first.shape[1]),
            ("head", head, first.shape[2]),
        ):
            if value is not None and not -size <= value < size:
                raise ValueError(f"{name} {value} was asked for; {size} were kept")
        finest = max(
            (maps.shape[-2:] for maps in self.layers.values()), key=lambda size: size[0] * size[1]
        )
        chosen = []
        for maps in self.layers.values() if layer is None else [self.layers[layer]]:
            maps = maps[:, picture] if step is None else maps[[step], picture]
            maps = maps if head is None else maps[:, [head]]
            maps = reduce(
                maps, "steps heads queries height width -> 1 queries height width", "mean"
            )
            chosen.append(F.interpolate(maps, size=finest, mode="nearest")[0])
        return torch.stack(chosen).mean(dim=0)


class RecordingProcessor:
    """Does what diffusers' default attention processor does, by the same fused function, which forms no weights; these are
    formed beside it, from the same queries and keys, and handed to `record`. (diffusers' `get_attention_scores` gives weights,
    after softmax.) So what is painted stays the same bit for bit.

    Args:
        record: called with the weights of each pass, shape (batch, heads, cells, queries).
        before: the processor in whose place this one stands. One of these goes on recording.

    Raises:
        ValueError: for another processor than diffusers' default: what it computes cannot be told.
    """

    def __init__(self, record, before=None):
        self.records = [record]
        if isinstance(before, RecordingProcessor):
            self.records += before.records
        elif before is not None and type(before) not in (AttnProcessor, AttnProcessor2_0):
            raise ValueError(
                f"a layer has a {type(before).__name__}, whose weights cannot be seen from outside"
            )

    def __call__(
        self,
        attn,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb=None,
    ) -> Tensor:
        """Cross-attention of latent cells, shape (batch, cells, dim), to a condition, shape (batch, queries, dim)."""
        mask = attention_mask
        if mask is not None:
            mask = attn.prepare_attention_mask(
                mask, encoder_hidden_states.shape[1], len(hidden_states)
            )
        query, key, value = (
            attn.to_q(hidden_states),
            attn.to_k(encoder_hidden_states),
            attn.to_v(encoder_hidden_states),
        )
        weights = attn.get_attention_scores(
            attn.head_to_batch_dim(query), attn.head_to_batch_dim(key), mask
        )
        for record in self.records:
            record(
                rearrange(
                    weights,
                    "(batch heads) cells queries -> batch heads cells queries",
                    heads=attn.heads,
                )
            )
        query, key, value = (
            rearrange(
                states,
                "batch tokens (heads head_dim) -> batch heads tokens head_dim",
                heads=attn.heads,
            )
            for states in (query, key, value)
        )
        if mask is not None:
            mask = rearrange(
                mask, "(batch heads) cells queries -> batch heads cells queries", heads=attn.heads
            )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = attn.to_out[0](
            rearrange(mixed, "batch heads cells head_dim -> batch cells (heads head_dim)")
        )
        return attn.to_out[1](mixed)


@contextmanager
def watch_image(model, steps: bool = False, heads: bool = False):
    """Records where each latent cell looks among the queries while pictures are painted inside the `with` block.

    Args:
        model: a DreamLLM.
        steps, heads: whether to keep each of them, instead of their average: as many times the memory. Layers are kept always.

    Yields:
        `ImageMaps`, to be read after the block. If several times pictures are painted in it, as many at a time, what is
        averaged is averaged over all of them, and steps follow one another.

    Raises:
        RuntimeError: at the end, if nothing was painted, or if the U-Net has no cross-attention.
        ValueError: if somebody else's processor computes the cross-attention.
    """
    decoder, found = model.decoder, {}
    unet = decoder.unet
    before = dict(unet.attn_processors)
    names = [name for name in before if ".attn2." in name]
    if not names:
        raise RuntimeError("the U-Net has no cross-attention layer to watch")
    grids: dict[
        str, tuple[int, int]
    ] = {}  # of each block of layers, (height, width) in its own cells, in the running pass
    passes: dict[str, int] = {}

    def block_of(name: str) -> str:
        return name.split(".transformer_blocks.")[0]

    def recorder(name: str):
        def record(weights: Tensor) -> None:
            height, width = grids[block_of(name)]
            pattern = f"batch heads (height width) queries -> batch {'heads' if heads else '1'} queries height width"
            maps = reduce(
                weights[decoder.conditional].float(), pattern, "mean", height=height, width=width
            ).cpu()
            kept = found.setdefault(name, [])
            if kept and kept[-1].shape != maps.shape:
                raise RuntimeError(
                    f"one block watches pictures of one batch size: {len(kept[-1])} were painted, now {len(maps)}"
                )
            if steps or not kept:
                kept.append(maps)
            else:
                kept[0] += maps
            passes[name] = passes.get(name, 0) + 1

        return record

    unet_hooks = [
        unet.get_submodule(block).register_forward_pre_hook(
            lambda module, arguments, block=block: grids.update(
                {block: tuple(arguments[0].shape[-2:])}
            )
        )
        for block in {block_of(name) for name in names}
    ]
    maps = ImageMaps()
    try:
        unet.set_attn_processor(
            {
                name: RecordingProcessor(recorder(name), processor) if name in names else processor
                for name, processor in before.items()
            }
        )
        yield maps
    finally:
        unet.set_attn_processor(before)
        for hook in unet_hooks:
            hook.remove()
    if not found:
        raise RuntimeError("no picture was painted inside the `with` block")
    for name, kept in found.items():
        maps.layers[name] = torch.stack(kept) if steps else kept[0].unsqueeze(0) / passes[name]
