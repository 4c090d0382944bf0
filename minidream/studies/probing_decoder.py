"""Which cross-attention layers of the U-Net need the dream queries' states, and in which steps?

A picture is painted from the states of one prompt, but some layers, or some denoising steps, get
those of a donor that differs in one word. The verdict says whose word the picture shows.
"""

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from ..probe.hooks import hooks, record
from ..probe.points import points
from .probing_lab import Lab, across, joined
from .probing_pairs import Pair
from .probing_verdicts import Verdicts

KEYS = ("k", "v")  # of dream queries: all that a layer gets of their states


def decoder(lab: Lab) -> dict:
    """Gives the donor's states to parts of the U-Net, for the first prompts.

    Returns:
        "layers": the names of the points' layers. For each prompt: which word differs, as in
        `WORDS`, and letters: "own" and "donor", without a mixture; "alone", one for each layer
        that alone gets the donor's states; "all but", one for each layer that alone does not;
        "from", one for each step k >= 1 from which on all layers get the donor's.
    """
    pairs = lab.pairs("decoder", lab.plan.painted)
    found = [decoder_batch(lab, some, seeds) for some, seeds, _ in lab.batches(pairs)]
    layers = cross_layers(lab.model)
    return {"prompts": len(pairs), "layers": layers, "steps": lab.plan.steps, **joined(found)}


def cross_layers(model) -> list[str]:
    """The U-Net's cross-attention layers as points name them, "unet.0.cross" and so on."""
    return [name[:-2] for name in points(model) if name.endswith(".cross.k")]


def decoder_batch(lab: Lab, pairs: list[Pair], seeds: list[int]) -> dict:
    """`decoder` of some prompts."""
    verdicts, layers, steps = Verdicts(lab, pairs, seeds), cross_layers(lab.model), lab.plan.steps
    values = keys_of(lab.model, verdicts.donor)

    def letters(chosen: list[str], first: int = 0) -> list[str]:
        mixed = {name: each for name, each in values.items() if name[:-2] in chosen}
        return verdicts.of(latents_of_mixture(lab, verdicts.own, mixed, seeds, first))

    others = [[other for other in layers if other != layer] for layer in layers]
    return {
        "kinds": [pair.kind for pair in pairs],
        "mentions": [pair.mention for pair in pairs],
        "own": verdicts.own_letters,
        "donor": verdicts.donor_letters,
        "alone": across([letters([layer]) for layer in layers]),
        "all but": across([letters(most) for most in others]),
        "from": across([letters(layers, step) for step in range(1, steps)]),
    }


@torch.no_grad()
def keys_of(model, states: Tensor) -> dict[str, Tensor]:
    """Keys and values of the dream queries in every cross-attention layer, by name of the point.

    They depend on nothing else, so that they are the same in every step.
    """
    names = [f"{layer}.{each}" for layer in cross_layers(model) for each in KEYS]
    painter = model.decoder
    latents = torch.zeros(len(states), *painter.latent_shape, device=model.device)
    steps = torch.zeros(len(states), dtype=torch.long, device=model.device)
    with record(model, names) as cache:
        painter.predict(latents, steps, painter.projector(states))
    return {name: values for name, (values,) in cache.items()}


def latents_of_mixture(
    lab: Lab, states: Tensor, values: dict[str, Tensor], seeds: list[int], first: int = 0
) -> Tensor:
    """What is painted if keys and values of other states take the place of those at some points.

    Args:
        lab: the model.
        states: that are painted from, shape (batch, queries, hidden).
        values: as from `keys_of`, at those points.
        seeds: of the noise.
        first: the step from which on they do.
    """
    functions = {name: from_step(first, other) for name, other in values.items()}
    with hooks(lab.model, functions):
        return lab.latents(states, seeds)


def from_step(first: int, values: Tensor) -> Callable[[Tensor], Tensor | None]:
    """A function of a point that is visited once in each step: other values from a step on."""
    steps = count()

    def function(value: Tensor) -> Tensor | None:
        return values if next(steps) >= first else None

    return function
