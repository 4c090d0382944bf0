"""Attention knockout: what happens if some positions cannot see some others, in some layers?

Source: Geva et al. 2023, who cut edges of attention to find where an answer comes from.
"""

from contextlib import contextmanager
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from .hooks import named, visits
from .indices import several
from .points import Point
from .visits import as_rows, find


@contextmanager
def cut(model, readers, sources, at="llm.*", heads=None):
    """Cuts edges of attention: `readers` no longer attend to `sources`, and to all else the more.

        where = probe.positions(model, prompt)
        with probe.cut(model, where.queries, where.words("red"), at="llm.2"):
            model.dream(prompt)

    Args:
        model: a DreamLLM.
        readers: the positions that attend, as in `hooks`; None is all.
        sources: the positions that they no longer attend to, in the same way. In the U-Net's
            "cross" layers, readers are latent cells and sources are dream queries.
        at: layers of attention, one or several names: "llm.3", "llm.*", "clip.0", "unet.*.cross".
        heads: in which heads; None is all.

    Raises:
        TypeError, ValueError: as `hooks`.
        RuntimeError: at the end, if no pass had one of the readers.
    """
    rows = as_rows(sources)

    def without(point: Point, weights: Tensor, columns) -> Tensor:
        index, _ = find(rows, point, passes, weights, 3)
        index = rearrange(index, "batch sources -> batch 1 1 sources")
        left = weights.scatter(3, index.expand(*weights.shape[:3], -1), 0)
        # A reader that saw nothing else reads nothing.
        return left / left.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(left.dtype).tiny)

    known = named(model, [f"{name}.pattern" for name in several(at)])
    cuts = [(name, partial(without, point)) for name, point in known.items()]
    with visits(model, cuts, readers, heads) as passes:
        yield
