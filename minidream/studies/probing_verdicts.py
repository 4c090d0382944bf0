"""Verdicts on pictures of two prompts that differ in one word, and patching between the two.

What the judge says of a picture is one letter:

| letter | the judge reads |
|---|---|
| O | everything of the prompt itself |
| D | everything of the donor, which differs in one word |
| o, d | what differs is as in the prompt itself, or as in the donor, but something else is wrong |
| s | the object in which both prompts differ is as in the prompt itself, in the other place |
| x | what differs is as in neither |
"""

from functools import cached_property

import torch
from einops import rearrange
from torch import Tensor

from ..probe.hooks import hooks
from ..world.judge import Reading, answers_of
from .probing_lab import Lab
from .probing_pairs import Pair

SAME = 1e-5  # states that differ by less give the same picture


def verdict(reading: Reading, own: tuple, donor: tuple) -> str:
    """What a picture shows, as one letter: see the top of this file.

    Args:
        reading: what the judge read.
        own, donor: the facts of both prompts.
    """
    for facts, letter in ((own, "O"), (donor, "D")):
        if reading.agrees(facts):
            return letter
    if reading.facts is None or len(reading.facts[2]) != len(own[2]):
        return "x"
    read, mine, other = (answers_of(facts) for facts in (reading.facts, own, donor))
    differ = [head for head in range(len(read)) if mine[head] != other[head]]
    for answers, letter in ((mine, "o"), (other, "d")):
        if all(read[head] == answers[head] for head in differ):
            return letter
    places = [slot for slot in (0, 1) if own[2][slot] != donor[2][slot]]
    if len(places) == 1 and reading.facts[2][1 - places[0]] == own[2][places[0]]:
        return "s"
    return "x"


class Verdicts:
    """Verdicts on what states paint for some pairs, always with the same noise.

    Args:
        lab: the model and the judge.
        pairs: prompts and donors.
        seeds: of the noise of each.

    own, donor: the states of both prompts.
    """

    def __init__(self, lab: Lab, pairs: list[Pair], seeds: list[int]):
        self.lab, self.pairs, self.seeds = lab, pairs, seeds
        self.texts = {
            name: [getattr(pair, name).text for pair in pairs] for name in ("own", "donor")
        }
        self.own, self.donor = (lab.model.encode(texts) for texts in self.texts.values())

    def of(self, latents: Tensor) -> list[str]:
        """One letter for each of the first pictures."""
        pairs = zip(self.lab.read(latents), self.pairs)
        return [verdict(reading, *pair.facts) for reading, pair in pairs]

    @cached_property
    def own_latents(self) -> Tensor:
        """What is painted from the prompts themselves."""
        return self.lab.latents(self.own, self.seeds)

    @cached_property
    def donor_latents(self) -> Tensor:
        """What is painted from the donors."""
        return self.lab.latents(self.donor, self.seeds)

    @cached_property
    def own_letters(self) -> list[str]:
        """The verdicts on the prompts themselves."""
        return self.of(self.own_latents)

    @cached_property
    def donor_letters(self) -> list[str]:
        """The verdicts on the donors."""
        return self.of(self.donor_latents)

    def letters(self, states: Tensor) -> list[str]:
        """The verdicts on what states paint for the first pairs.

        States that are those of a prompt or of its donor are not painted again.
        """
        found, new = [], []
        for index, each in enumerate(states):
            if (each - self.own[index]).abs().max() < SAME:
                found.append(self.own_letters[index])
            elif (each - self.donor[index]).abs().max() < SAME:
                found.append(self.donor_letters[index])
            else:
                found.append("")
                new.append(index)
        if new:
            latents = self.lab.latents(states[new], [self.seeds[index] for index in new])
            for index, reading in zip(new, self.lab.read(latents)):
                found[index] = verdict(reading, *self.pairs[index].facts)
        return found


# --------------------------------------------------------------------------------------------------
# Patching at positions that differ in number from prompt to prompt


def mask_of(rows: list[list[int]], lengths: list[int], device=None) -> Tensor:
    """Where positions are in a batch that is padded on the left.

    Args:
        rows: the positions of each prompt, counted from `<s>`.
        lengths: how many positions each prompt has.
        device: of the result.

    Returns:
        Shape (batch, tokens), True at these positions.
    """
    longest = max(lengths)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=device)
    for row, (positions, length) in enumerate(zip(rows, lengths)):
        mask[row, [longest - length + position for position in positions]] = True
    return mask


def encode_patched(
    model, texts: list[str], donors: Tensor, at: str, mask: Tensor, heads: list[int] | None = None
) -> Tensor:
    """States of prompts in which values at some positions are those of donors.

    Args:
        model: a DreamLLM.
        texts: the prompts.
        donors: of the donors' pass in the same batch, as `run_with_cache` gives it.
        at: the name of the point.
        mask: where, as from `mask_of`.
        heads: in which heads, where the point has any; None is all.
    """
    donors = donors if heads is None else donors[:, heads]
    axes = "batch 1 tokens 1" if donors.dim() == 4 else "batch tokens 1"
    where = rearrange(mask, f"batch tokens -> {axes}")
    with hooks(model, {at: lambda value: torch.where(where, donors, value)}, heads=heads):
        return model.encode(texts)
