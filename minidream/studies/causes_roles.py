"""Which dream query do an object's cells look at, and does that query bring the object along?

Roles go by the order in which a prompt mentions its objects. Transfers test whether they matter:
one query's state is exchanged for that of another prompt, and the judge says what became of the
object. The letters:

| letter | the judge reads |
|---|---|
| T | the other prompt's object in the place of this one; the second object is as it was |
| t | size, colour or shape of it, and no other change |
| N | no change |
| W | a change of the wrong object alone |
| x | anything else |
| - | not tried: the picture was not right before, or both prompts ask for the same there |
"""

import random
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ..probe.interventions import replaced
from ..world.judge import Reading
from ..world.language import Phrase, parse_caption
from .causes_lab import Lab, Painted
from .causes_pairs import phrasing_of, slot_of, word_of

WAYS = ("map", "other role", "rule", "another picture's map", "random")
COUNTS = (1, 4)  # how many queries are exchanged; several only for the first prompts


def roles(lab: Lab) -> dict:
    """How much the cells of both objects look at each query.

    Returns:
        For each prompt: "right", whether its picture was right, as 0 or 1; "phrasing" and
        "relation" word; "leading", whether the left or upper object is mentioned first; "looked",
        for both objects in the order of the prompt, the share of each query in per mille (None if
        the picture was not right).
    """
    done = lab.maps
    looked = [
        [per_mille(done.looked_at(index, mention)) for mention in (0, 1)]
        if mask is not None
        else None
        for index, mask in enumerate(done.masks)
    ]
    return {
        "prompts": len(done.phrases),
        "right": [int(mask is not None) for mask in done.masks],
        "phrasing": [phrasing_of(phrase) for phrase in done.phrases],
        "relation": [phrase.words[word_of(phrase, "relation", None)] for phrase in done.phrases],
        "leading": [int(slot_of(phrase, 0) == 0) for phrase in done.phrases],
        "looked": looked,
    }


def per_mille(shares: Tensor) -> list[int]:
    """Shares as integers."""
    return (1000 * shares).round().int().tolist()


def transfers(lab: Lab) -> dict:
    """Exchanges the queries of an object for those of another prompt, chosen in several ways.

    Returns:
        For each prompt, "mention", the object that is to be exchanged (they take turns);
        "queries", the first query that each of `WAYS` chooses (-1 if not tried); and "letters", by
        number of queries and way, one string with a letter for each prompt; with several queries
        those of the first prompts.

        The ways: those that the object's cells look at most; those that the *other* object's cells
        do; those that were most often looked at most by objects of the same mention in the other
        half of the prompts, without a map of this picture; those that a map of another picture
        names; and random ones, of which none is the map's choice.
    """
    done, rng = lab.maps, lab.rng("transfers")
    mentions = [index % 2 for index in range(len(done.phrases))]
    halves = [rule_of(done, range(half, len(done.phrases), 2)) for half in (0, 1)]
    tried = [
        index
        for index in done.right
        if look_of(done, index, mentions[index])
        != look_of(done, done.next_right(index), mentions[index])
    ]
    rankings = {
        index: rankings_of(done, index, mentions[index], halves[1 - index % 2], rng)
        for index in tried
    }
    letters = {}
    for number in COUNTS:
        count = len(done.phrases) if number == 1 else lab.plan.painted
        some = [index for index in tried if index < count]
        letters[str(number)] = {
            way: letters_of(lab, done, some, mentions, rankings, (way, number), count)
            for way in WAYS
        }
    chosen = [
        {way: rankings[index][way][0] if index in rankings else -1 for way in WAYS}
        for index in range(len(done.phrases))
    ]
    return {
        "prompts": len(done.phrases),
        "mention": mentions,
        "queries": {way: [each[way] for each in chosen] for way in WAYS},
        "letters": letters,
    }


def look_of(done: Painted, index: int, mention: int) -> tuple[str, str, str]:
    """(size, colour, shape) of an object, by the order of mention."""
    phrase = done.phrases[index]
    return parse_caption(phrase.text)[2][slot_of(phrase, mention)]


def rule_of(done: Painted, indices: Sequence[int]) -> list[list[int]]:
    """For each mention, the queries by how often they were looked at most, over some pictures."""
    found = []
    for mention in (0, 1):
        counts, total = Counter(), 0
        for index in indices:
            if done.masks[index] is not None:
                looked = done.looked_at(index, mention)
                counts[looked.argmax().item()] += 1
                total = total + looked
        average = total.tolist() if counts else [0.0] * done.states.shape[1]
        found.append(sorted(range(len(average)), key=lambda q: (-counts[q], -average[q])))
    return found


def rankings_of(
    done: Painted, index: int, mention: int, rule: list[list[int]], rng: random.Random
) -> dict[str, list[int]]:
    """The order in which each of `WAYS` would exchange queries."""

    def ranked(looked: Tensor) -> list[int]:
        return looked.argsort(descending=True).tolist()

    best = ranked(done.looked_at(index, mention))
    most = max(COUNTS)
    others, rest = best[most:], best[:most]
    rng.shuffle(others)
    another = done.next_right(index)
    return {
        "map": best,
        "other role": ranked(done.looked_at(index, 1 - mention)),
        "rule": rule[mention],
        "another picture's map": ranked(done.looked_at(index, mention, another)),
        "random": others + rest,
    }


def letters_of(lab: Lab, done: Painted, some, mentions, rankings, chosen, count: int) -> str:
    """One letter for each of the first `count` prompts.

    Args:
        lab, done: what was painted.
        some: the indices of the prompts that are tried.
        mentions: of each prompt, the object that is exchanged.
        rankings: by index, as from `rankings_of`.
        chosen: the way, and how many queries.
        count: how many letters.
    """
    (way, number), letters = chosen, ["-"] * count
    for first in range(0, len(some), lab.plan.batch):
        batch = some[first : first + lab.plan.batch]
        states = []
        for index in batch:
            donor = done.states[done.next_right(index)]
            states.append(replaced(done.states[[index]], rankings[index][way][:number], donor))
        seeds = [done.seeds[index] for index in batch]
        readings = lab.read(lab.latents(torch.cat(states), seeds))
        for index, reading in zip(batch, readings):
            phrases = done.phrases[index], done.phrases[done.next_right(index)]
            letters[index] = letter_of(reading, *phrases, mentions[index])
    return "".join(letters)


def letter_of(reading: Reading, own: Phrase, donor: Phrase, mention: int) -> str:
    """What became of an object, as one letter: see the top of this file.

    Args:
        reading: what the judge read.
        own, donor: the prompt, and the one that queries came from.
        mention: which object, in the order of both prompts.
    """
    slot, looks = slot_of(own, mention), parse_caption(own.text)[2]
    wanted = parse_caption(donor.text)[2][slot_of(donor, mention)]
    if reading.facts is None or len(reading.facts[2]) != 2:
        return "x"
    here, there = reading.facts[2][slot], reading.facts[2][1 - slot]
    if there != looks[1 - slot]:
        return "W" if here == looks[slot] else "x"
    if here == looks[slot]:
        return "N"
    if here == wanted:
        return "T"
    known = zip(here, looks[slot], wanted)
    return "t" if all(each in (before, other) for each, before, other in known) else "x"
