"""A visit: a function at a point of the model, and the passes, positions and heads that it sees."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion import conditional_rows
from ..images import as_integer
from ..llm import causal_mask
from .attention import attention_weights, for_each_head
from .indices import as_indices, several
from .points import Point


class Passes:
    """Which pass of the language model runs, and at which positions its inputs are.

    places: the position of each input of this pass, cached ones first and counted without padding;
        -1 at padding; shape (batch, inputs).
    tokens: how many of the inputs are read in this pass; the others were before.
    null: how deep the pass is within the null condition; 0 outside of it.
    encoding: the same within `model.encode`, which `dream` calls, too.
    encoded: how often a prompt was encoded.
    """

    def __init__(self, model):
        self.model = model
        self.places, self.tokens = None, 0
        self.null = self.encoding = self.encoded = 0

    def hooks(self, visits: list) -> list[tuple[Callable, Callable]]:
        """What follows the passes and makes visits in them, as `hooked` takes it."""

        def begin_null(point, inputs):
            self.null += 1

        def end_null(point, inputs, output):
            self.null -= 1

        def begin(point, inputs):
            self.encoding, self.encoded = self.encoding + 1, self.encoded + 1

        def end(point, inputs, output):
            self.encoding -= 1

        null, encoding = self.model.null_query_states, self.model.query_states
        visit = [pair for each in visits for pair in each.point.hooks(each)]
        return [
            (null.register_forward_pre_hook, begin_null),
            (encoding.register_forward_pre_hook, begin),
            (partial(self.model.llm.register_forward_pre_hook, with_kwargs=True), self.locate),
            *visit,  # between both, since a pass ends after all that happens in it
            (partial(null.register_forward_hook, always_call=True), end_null),
            (partial(encoding.register_forward_hook, always_call=True), end),
        ]

    def locate(self, llm, inputs: tuple, options: dict) -> None:
        """Finds the position of each input from the arguments of `LLM.forward`."""
        given = dict(zip(("embeddings", "mask", "cache"), inputs)) | options
        embeddings, mask, cache = (given.get(name) for name in ("embeddings", "mask", "cache"))
        batch, self.tokens, _ = embeddings.shape
        held = 0 if cache is None else len(cache)
        real = torch.ones(batch, held + self.tokens, dtype=torch.bool, device=embeddings.device)
        if cache is not None and cache.mask is not None:
            real[:, :held] = cache.mask[:, :held]
        if mask is not None:
            real[:, held:] = mask
        self.places = (real.cumsum(dim=1) - 1).masked_fill(~real, -1)


class Visit:
    """One function at one point: it sees, and may change, some positions and heads of each value.

    Args:
        point: where.
        function: called with the value there, and with the indices, among the positions that were
            asked for, of those that this value has. Returns a tensor of that shape, or None.
        positions: None for all; else a row for each prompt, or one for all.
        heads: None for all.
        passes: what runs.

    count: how often the function was called.
    """

    def __init__(self, point: Point, function: Callable, positions, heads, passes: Passes):
        self.point, self.function, self.passes, self.count = point, function, passes, 0
        self.heads, self.positions = heads, positions
        if heads is not None:
            if point.heads is None:
                raise ValueError(f"heads {heads} were named, but {point.name} has no heads")
            self.heads = as_indices("head", heads, point.heads)
        if positions is not None:
            self.positions = as_rows(positions, point)

    @property
    def active(self) -> bool:
        """Whether the pass that runs is one to be visited."""
        if self.point.part == "queries" and not self.passes.encoding:
            return False
        return not (self.passes.null and self.point.part in ("llm", "queries"))

    def __call__(self, value: Tensor) -> Tensor | None:
        """Visits a value: what is to take its place, or None."""
        if not self.active:
            return None
        chosen, axis = self.choose(value), self.point.position_axis
        if chosen is None:
            return None
        after = self.call(chosen.take(value, axis), chosen.columns)
        return None if after is None else chosen.put(value, axis, after)

    def attention(self, query: Tensor, key: Tensor, value: Tensor, mask, gathered, before):
        """Visits the weights of an attention; only those of the named positions are computed.

        Args:
            query, key, value, mask: as in `llm.DotProductAttention`.
            gathered: what the heads gather, shape (batch, heads, rows, head_dim).
            before: the weights as an earlier visitor changed them, or None.

        Returns:
            What the heads gather with the changed weights, and all weights; or None.
        """
        chosen = self.choose(query) if self.active else None
        if chosen is None:
            return None
        heads = gathered.shape[1]
        key, value = for_each_head(key, heads), for_each_head(value, heads)
        if mask is None and self.point.part == "llm":
            real = torch.ones(1, key.shape[2], dtype=torch.bool, device=key.device)
            mask = causal_mask(real, query.shape[2])
        if before is not None:
            part = chosen.take(before, 2)
        else:
            allowed = mask if mask is None else mask.expand(len(key), heads, -1, -1)
            allowed = allowed if mask is None else chosen.take(allowed, 2)
            part = attention_weights(chosen.take(query, 2), chosen.part(key), allowed)
        after = self.call(part, chosen.columns)
        if after is None:
            return None
        whole = attention_weights(query, key, mask) if before is None else before
        mixed = (after.to(value) @ chosen.part(value)).to(gathered)
        return chosen.put(gathered, 2, mixed), chosen.put(whole, 2, after)

    def call(self, value: Tensor, columns: list[int] | None) -> Tensor | None:
        """Calls the function.

        Raises:
            ValueError: if it returns another shape (both).
        """
        self.count += 1
        after = self.function(value, columns)
        if after is not None and after.shape != value.shape:
            raise ValueError(
                f"{self.point.name} has the shape {tuple(value.shape)} here; the function returned "
                f"{tuple(after.shape)}"
            )
        return None if after is None else after.to(value)

    def choose(self, value: Tensor) -> "Chosen | None":
        """The part of a value that is visited; None if no named position is in this pass.

        Raises:
            ValueError: for a position that does not exist (both numbers), or that some prompts of
                a batch have and others have not.
        """
        rows = conditional_rows.get() if self.point.part == "unet" else slice(0, None)
        if self.positions is None:
            return Chosen(rows, self.heads, None, None)
        part, axis = value[rows], self.point.position_axis
        index, columns = find(self.positions, self.point, self.passes, part, axis)
        return Chosen(rows, self.heads, index, columns) if columns else None


def find(
    positions: Tensor, point: Point, passes: Passes, value: Tensor, axis: int
) -> tuple[Tensor, list[int]]:
    """Where positions are along an axis of a value.

    Args:
        positions: a row for each prompt, or one for all, as from `as_rows`.
        point, passes: where and when the value passes.
        value: of some prompts.
        axis: of tokens, inputs, queries, patches or cells.

    Returns:
        Indices, shape (batch, found), and which of the positions these are; none, if the pass has
        none of them.

    Raises:
        ValueError: for a position that does not exist (both numbers), or that some prompts of the
            batch have and others have not.
    """
    batch, length = len(value), value.shape[axis]
    if len(positions) not in (1, batch):
        raise ValueError(f"positions of {len(positions)} prompts were given, and there are {batch}")
    places = torch.arange(length, device=value.device).expand(batch, -1)
    if point.part == "llm":
        places = passes.places[:, -length:]
    asked = positions.to(value.device).expand(batch, -1)
    ends = rearrange(places.amax(dim=1), "batch -> batch 1") + 1
    counted = torch.where(asked < 0, asked + ends, asked)
    matches = rearrange(counted, "batch asked -> batch asked 1") == rearrange(
        places, "batch places -> batch 1 places"
    )
    found = matches.any(dim=-1)
    if point.part != "llm" and not found.all():
        row, column = (~found).nonzero()[0].tolist()
        raise ValueError(f"position {asked[row, column]} was asked for; {point.name} has {length}")
    if (found != found[:1]).any():
        row, column = (found != found[:1]).nonzero()[0].tolist()
        raise ValueError(
            f"position {asked[row, column]} was asked for in {batch} prompts, and "
            f"{found[:, column].sum()} of them have it: name the positions of each prompt"
        )
    columns = found[0].nonzero()[:, 0].tolist()
    return matches[:, columns].int().argmax(dim=-1), columns


@dataclass(frozen=True)
class Chosen:
    """A part of a value: of some rows, heads and positions.

    rows: of the batch.
    heads: their indices; None for all.
    index: of positions, shape (batch, positions); None for all.
    columns: which of the positions that were asked for these are; None for all.
    """

    rows: slice
    heads: list[int] | None
    index: Tensor | None
    columns: list[int] | None

    def part(self, value: Tensor) -> Tensor:
        """These rows and heads of a value, at all positions."""
        value = value[self.rows]
        return value if self.heads is None else value[:, self.heads]

    def take(self, value: Tensor, axis: int) -> Tensor:
        """This part of a value whose positions are along an axis."""
        value = self.part(value)
        return value if self.index is None else value.take_along_dim(self.along(value, axis), axis)

    def put(self, value: Tensor, axis: int, after: Tensor) -> Tensor:
        """A value with this part replaced."""
        whole, part = value.clone(), self.part(value)
        if self.index is not None:
            index = self.along(part, axis).expand_as(after)
            after = part.scatter(axis, index, after)
        if self.heads is None:
            whole[self.rows] = after
        else:
            whole[self.rows, self.heads] = after
        return whole

    def along(self, value: Tensor, axis: int) -> Tensor:
        """The index with as many dimensions as a value, for an operation along an axis."""
        shape = [1] * value.dim()
        shape[0], shape[axis] = self.index.shape
        return self.index.reshape(shape)


def as_rows(positions, point: Point | None = None) -> Tensor:
    """Positions that a user gave, as a tensor of shape (1 or prompts, positions).

    Raises:
        TypeError: for a position that is not a number.
        ValueError: for none, for one that is named twice, rows of several lengths (both), or one
            that does not exist, if that is known (both numbers).
    """
    given = several(positions)
    nested = bool(given) and all(isinstance(each, Iterable) for each in given)
    rows = [several(each) for each in given] if nested else [given]
    if len(lengths := {len(row) for row in rows}) > 1:
        raise ValueError(
            f"each prompt has as many positions; {min(lengths)} and {max(lengths)} were given"
        )
    if point is None or point.size is None:
        rows = [[as_integer("position", each) for each in row] for row in rows]
        if not rows[0]:
            raise ValueError("no position was named")
        for row in rows:
            if len(set(row)) < len(row):
                raise ValueError(f"a position was named twice: {row}")
    else:
        name = "query" if point.part == "queries" else "position"
        rows = [as_indices(name, row, point.size) for row in rows]
    return torch.tensor(rows, device="cpu")
