"""Interventions: does it matter what is at a point? Ablate it, swap it, patch it or steer it.

Each is a context manager around any use of the model, and never changes the null condition of
guidance. Without the name of a point (see `points`) it acts on the dream queries' states that enter
the projector; `layer=3` is short for `at="queries.3"`, the dream queries in the residual stream
after a layer. A change within the language model affects all layers above it and, through them,
later positions. Interventions can be nested.
"""

import random
from contextlib import contextmanager
from numbers import Real

import torch
from einops import rearrange
from torch import Tensor

from ..images import LARGEST, as_floats, as_index, as_number
from ..world.language import describe
from ..world.scenes import sample_scene
from .hooks import named, visits
from .indices import several
from .points import Point
from .visits import as_rows


@contextmanager
def patch(model, positions, states: Tensor, layer: int | None = None, at="queries", heads=None):
    """Replaces what is at a point by given values: activation patching.

    Args:
        model: a DreamLLM.
        positions: which to replace, as in `hooks`; at "queries", the indices of dream queries; None
            is all.
        states: what takes their place, such as `encode`, `query_stream(...)[layer]` or
            `run_with_cache` give it, of the named positions and heads; where the number of
            positions is fixed, as of dream queries, also of all of them. With a batch before, each
            prompt gets its own; one of shape (dim,) serves for all positions.
        layer: after which layer, -1 is the last: short for `at="queries.3"`.
        at: the name of a point.
        heads: which to replace; None is all.

    Raises:
        TypeError: for an index that is not a number, or states that are no tensor of floating-point
            numbers.
        ValueError: as `hooks`; for states of another shape (both), or nan or infinity among them.
        RuntimeError: at the end, if the point was not reached.

    Source: Vig et al. 2020; Meng et al. 2022.
    """
    point, states = the_point(model, at, layer), as_floats("states", states).to(model.device)
    values = Values(states, point, positions, heads)
    with visits(model, [(point.name, values.in_place_of)], values.positions, values.heads):
        yield


@contextmanager
def ablate(
    model, positions, means: Tensor | float | None = None, layer=None, at="queries", heads=None
):
    """Removes what is at a point: the mean over many prompts takes its place.

    The mean removes what is said about *this* prompt, and leaves what is said about every prompt.
    With zeros, whatever comes next gets states that it never saw in training.

    Args:
        means: as `states` of `patch`, such as `mean_at` gives them; a number, such as 0, for all;
            None is `mean_at` over captions of the toy world.
        model, positions, layer, at, heads, errors: as in `patch`.
    """
    point = the_point(model, at, layer)
    if means is None:
        means = mean_at(model, point.name)
    elif isinstance(means, Real):
        means = torch.tensor(float(as_number("means", means, -LARGEST, LARGEST)), device="cpu")
    with patch(model, positions, means, at=point.name, heads=heads):
        yield


@contextmanager
def swap(model, positions, layer: int | None = None, at="queries", heads=None):
    """Swaps values between prompts: the first and second, the third and fourth, and so on.

    Args:
        model, positions, layer, at, heads: as in `patch`.

    Raises:
        ValueError: as `patch`, and inside the block for an odd number of prompts.
    """
    point = the_point(model, at, layer)

    def partners(before: Tensor, columns) -> Tensor:
        if len(before) % 2:
            raise ValueError(f"prompts are swapped in pairs, and there are {len(before)}")
        pairs = rearrange(before, "(pairs two) ... -> pairs two ...", two=2).flip(1)
        return rearrange(pairs, "pairs two ... -> (pairs two) ...")

    with visits(model, [(point.name, partners)], positions, heads):
        yield


@contextmanager
def steer(
    model,
    direction: Tensor,
    strength: float | Tensor = 1.0,
    layer: int | None = None,
    at="queries",
    positions=None,
    heads=None,
):
    """Adds a direction to what is at a point: activation steering (Turner et al. 2023).

    Args:
        model: a DreamLLM.
        direction: as `states` of `patch`, such as the difference of two prompts' states, or one for
            all positions, shape (dim,). Where it is zero, nothing changes.
        strength: the factor by which the direction is multiplied: a number between -65504 and
            65504, or a tensor of one.
        layer, at, heads, errors: as in `patch`.
        positions: which to steer; None is all.
    """
    point, factor = the_point(model, at, layer), as_number("strength", strength, -LARGEST, LARGEST)
    factor = strength if isinstance(strength, Tensor) else factor  # which may have a gradient
    direction = as_floats("the numbers of a direction", direction).to(model.device)
    values = Values(direction, point, positions, heads)

    def steered(before: Tensor, columns) -> Tensor:
        return before + factor * values.in_place_of(before, columns)

    with visits(model, [(point.name, steered)], values.positions, values.heads):
        yield


@torch.inference_mode(False)
@torch.no_grad()
def mean_at(model, at="queries", prompts=None) -> Tensor:
    """The mean of what is at a point, over many prompts.

    Args:
        model: a DreamLLM.
        at: the name of a point; not of a pattern.
        prompts: a str or Document, or a list of them; None is 32 captions of the toy world, or 4 at
            a point of the U-Net, which are painted. A point of the vision tower needs prompts with
            pictures.

    Returns:
        Float32. Where a position means the same in every prompt, as with dream queries, patches and
        latent cells, each has its own: shape (positions, dim), with heads (heads, positions,
        head_dim). In the language model the mean is over positions, too: shape (dim,), with heads
        (heads, 1, head_dim).

    Raises:
        TypeError, ValueError: as `hooks` and `encode`; for a pattern.
        RuntimeError: if no prompt reached the point.
    """
    (point,) = named(model, at).values()
    if point.name.endswith("pattern"):
        raise ValueError(f"the inputs of {point.name} differ from prompt to prompt: use `cut`")
    paints, total, count = point.part == "unet", 0, 0
    if prompts is None:
        rng = random.Random(0)
        prompts = [describe(sample_scene(rng), rng).text for _ in range(4 if paints else 32)]

    def add(value: Tensor, columns) -> None:
        nonlocal total, count
        value, axis = value.float(), point.position_axis
        if point.part != "llm":
            total, count = total + value.sum(dim=0), count + len(value)
            return
        real = passes.places[:, -value.shape[axis] :] >= 0
        shape = [1] * value.dim()
        shape[0], shape[axis] = real.shape
        total = total + (value * real.reshape(shape)).sum(dim=(0, axis))
        count = count + real.sum()

    with visits(model, [(point.name, add)]) as passes:
        if paints:
            model.dream(prompts, output_type="latent")
        else:
            model.encode(prompts)
    mean = total / count
    return mean[:, None] if point.part == "llm" and point.heads else mean


def the_point(model, at, layer: int | None) -> Point:
    """The one point that a user named, perhaps by a layer.

    Raises:
        TypeError, ValueError: for a layer that the model does not have (both numbers), a layer
            beside another point, an unknown point, or a name that matches several (how many).
    """
    if layer is not None:
        layers = len(model.llm.layers)
        there = f"the language model has {layers}, counted from 0"
        if at != "queries":
            raise ValueError(f"layer {layer} was named beside {at!r}: `layer` is for dream queries")
        at = f"queries.{as_index('layer', layer, layers, there)}"
    found = list(named(model, at).values())
    if len(found) > 1:
        raise ValueError(f"{at!r} names {len(found)} points: values belong to one")
    return found[0]


class Values:
    """Values that a user gave for the named positions and heads of a point, or for all of them."""

    def __init__(self, given: Tensor, point: Point, positions, heads):
        self.given, self.point = given, point
        self.heads = None if heads is None else several(heads)
        self.positions = None if positions is None else as_rows(positions, point)
        if given.dim() and given.shape[-1] != point.dim or given.dim() > point.dimensions:
            self.refuse("")

    def refuse(self, batch: str):
        """Raises an error with the shape of the values, and with the one that they should have."""
        count = self.point.size if self.positions is None else self.positions.shape[1]
        size = ("positions" if count is None else count, self.point.dim)
        if self.point.heads:
            size = (self.point.heads if self.heads is None else len(self.heads), *size)
        raise ValueError(
            f"states of shape {tuple(self.given.shape)} were given; {self.point.name} takes "
            f"({', '.join(map(str, size))}), with or without a batch{batch} before"
        )

    def in_place_of(self, before: Tensor, columns: list[int] | None) -> Tensor:
        """These values in the shape of what is visited.

        Args:
            before: shape (batch, positions, dim) or (batch, heads, positions, head_dim).
            columns: which of the named positions these are.

        Raises:
            ValueError: if the values do not have that shape (both).
        """
        values = self.given.to(before.dtype)
        if values.dim() > 1 and self.positions is not None:
            values = self.at_positions(values, columns)
        if self.heads is not None and values.dim() > 2 and values.shape[-3] == self.point.heads:
            values = values[..., self.heads, :, :]
        try:
            return values.expand_as(before)
        except RuntimeError:
            self.refuse(f" of {len(before)}")

    def at_positions(self, values: Tensor, columns: list[int]) -> Tensor:
        """The values of those of the named positions that are visited."""
        count = values.shape[-2]
        if count == self.positions.shape[1]:
            return values[..., columns, :]
        if count != self.point.size:
            return values
        if len(self.positions) == 1:
            return values[..., self.positions[0], :]
        rows = rearrange(self.positions, "batch positions -> batch positions 1").to(values.device)
        return values.expand(len(rows), *values.shape[-2:]).take_along_dim(rows, dim=-2)


def replaced(states: Tensor, queries: list[int], values: Tensor) -> Tensor:
    """Query states in which those of some queries are replaced: what `patch` does to `encode`.

    Args:
        states: shape (batch, queries, hidden).
        queries: the indices of those that are replaced.
        values: of all queries, shape (queries, hidden), or (batch, queries, hidden) with different
            ones for each prompt.

    Returns:
        A new tensor like `states`.
    """
    after = states.clone()
    after[:, queries] = values[..., queries, :].to(states.dtype)
    return after
