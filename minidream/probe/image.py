"""Over the picture: which dream query each latent cell looks at while the picture is painted (the paper's figure 6)."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional as F


@dataclass
class ImageMaps:
    """Cross-attention of the U-Net, averaged while sampling over steps and heads, the conditional pass only.

    layers: {name of the layer: shape (pictures, queries, height, width)}, in the layer's own cells. Every cell spreads
        one unit of attention over the queries.
    """
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def layers(self) -> dict[str, Tensor]:
        """Averages over steps and heads, by layer."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def mean(self, picture: int = 0) -> Tensor:
        """All layers together, on the finest grid: shape (queries, height, width); 1 in sum over the queries."""
        layers = [maps[picture:picture + 1] for maps in self.layers.values()]
        finest = max((maps.shape[-2:] for maps in layers), key=lambda size: size[0] * size[1])
        return torch.stack([F.interpolate(maps, size=finest, mode="nearest")[0] for maps in layers]).mean(dim=0)


class RecordingProcessor:
    """Does what diffusers' default attention processor does, with the weights formed and handed to `record`.

    The default one is fused and forms none. diffusers' `get_attention_scores` gives weights, after softmax.
    """

    def __init__(self, record):
        self.record = record

    def __call__(self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: Tensor | None = None, temb=None) -> Tensor:
        """Cross-attention of latent cells, shape (batch, cells, dim), to a condition, shape (batch, queries, dim)."""
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, encoder_hidden_states.shape[1], len(hidden_states))
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        weights = attn.get_attention_scores(query, key, attention_mask)
        self.record(rearrange(weights, "(batch heads) cells queries -> batch heads cells queries", heads=attn.heads))
        mixed = attn.to_out[0](attn.batch_to_head_dim(weights @ value))
        return attn.to_out[1](mixed)


@contextmanager
def watch_image(model):
    """Records where each latent cell looks among the queries while pictures are painted inside the `with` block.

    Yields:
        `ImageMaps`, to be read after the block.

    Raises:
        RuntimeError: at the end, if nothing was painted, or if the U-Net has no cross-attention.
    """
    decoder, maps = model.decoder, ImageMaps()
    before = dict(decoder.unet.attn_processors)
    names = [name for name in before if ".attn2." in name]
    if not names:
        raise RuntimeError("the U-Net has no cross-attention layer to watch")

    def recorder(name: str):
        def record(weights: Tensor) -> None:
            conditional = weights[decoder.conditional].float()
            height, width = decoder.latent_shape[1:]
            scale = round((height * width / conditional.shape[2]) ** 0.5)       # this layer's cells are coarser by so much
            averaged = reduce(conditional, "batch heads (height width) queries -> batch queries height width", "mean",
                              height=height // scale, width=width // scale).cpu()
            if name in maps.sums and maps.sums[name].shape != averaged.shape:
                raise RuntimeError(f"one block watches pictures of one batch size: {len(maps.sums[name])} were painted, now {len(averaged)}")
            maps.sums[name] = maps.sums.get(name, 0) + averaged
            maps.counts[name] = maps.counts.get(name, 0) + 1
        return record

    decoder.unet.set_attn_processor({name: RecordingProcessor(recorder(name)) if name in names else processor
                                     for name, processor in before.items()})
    try:
        yield maps
    finally:
        decoder.unet.set_attn_processor(before)
    if not maps.sums:
        raise RuntimeError("no picture was painted inside the `with` block")
