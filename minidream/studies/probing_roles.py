"""Which dream query do an object's cells look at, and does that query bring the object along?

Roles go by the order in which a prompt mentions its objects. Transfers test whether they matter:
one query's state is exchanged for that of another prompt, and the judge says what became of the
object. The letters:

| letter | the judge reads |
|---|---|
| T | the donor's object of the same mention in this place; everything else as it was |
| t | size, colour or shape of it, and no other change |
| S | the donor's other object in this place; everything else as it was |
| N | no change |
| W | a change of the wrong object alone |
| x | anything else |
| - | not tried: a picture was not right before, or both prompts ask for the same there |
"""

import random
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ..probe.interventions import replaced
from ..weights.parts import toy_before
from ..world.judge import Reading
from ..world.language import Phrase, parse_caption
from .probing_lab import Lab, Painted
from .probing_pairs import phrasing_of, slot_of, word_of

WAYS = ("map", "other role", "rule", "another picture's map", "difference", "random")
COUNTS = (1, 4)  # how many queries are exchanged; several only for the first prompts
STAGES = ("stage2", "stage3")  # before which roles are looked at, too


def roles(lab: Lab) -> dict:
    """How much the cells of both objects look at each query.

    Returns:
        For each prompt: "right", whether its picture was right, as 0 or 1; "phrasing" and
        "relation" word; "leading", whether the left or upper object is mentioned first; "looked",
        for both objects in the order of the prompt, the share of each query in per mille (None if
        the picture was not right); "text states", the same where the U-Net paints from these.
    """
    done = lab.maps
    return {
        "prompts": len(done.phrases),
        "right": [int(mask is not None) for mask in done.masks],
        "phrasing": [phrasing_of(phrase) for phrase in done.phrases],
        "relation": [phrase.words[word_of(phrase, "relation", None)] for phrase in done.phrases],
        "leading": [int(slot_of(phrase, 0) == 0) for phrase in done.phrases],
        "looked": looks_of(done),
        "text states": looks_of(lab.painted_from_text_states(done.phrases)),
    }


def stages(lab: Lab) -> dict:
    """Roles before some of the paper's stages, of the run "toy": when do they come about?

    Returns:
        For each prompt, by the stage before which it is: "looked", as of `roles`.
    """
    phrases = lab.prompts("maps")
    looked = {name: looks_of(lab.painted(toy_before(name), phrases)) for name in STAGES}
    return {"prompts": len(phrases), "looked": looked}


def looks_of(done: Painted) -> list:
    """For each prompt and both objects, the share of each query; None if it was not right."""
    return [
        [per_mille(done.looked_at(index, mention)) for mention in (0, 1)]
        if mask is not None
        else None
        for index, mask in enumerate(done.masks)
    ]


def per_mille(shares: Tensor) -> list[int]:
    """Shares as integers."""
    return (1000 * shares).round().int().tolist()


def transfers(lab: Lab) -> dict:
    """Exchanges the queries of an object for those of another prompt, chosen in several ways.

    The first two prompts are each other's donors, and so on.

    Returns:
        For each prompt, "mention", the object that is to be exchanged (they take turns from donors
        to donors); "queries", the first query that each of `WAYS` chooses (-1 if not tried);
        "letters", by number of queries and way, one string with a letter for each prompt; with
        several queries those of the first prompts; and "each", for each query the letters of the
        first prompts if it alone is exchanged.

        The ways: those that the object's cells look at most; those that the *other* object's cells
        do; those that were most often looked at most by objects of the same mention in the other
        half of the prompts, without a map of this picture; those that a map of a third picture
        names; those in which prompt and donor differ most; and random ones, of which none is the
        map's choice.
    """
    done, rng, count = lab.maps, lab.rng("transfers"), len(lab.maps.phrases)
    mentions = [index // 2 % 2 for index in range(count)]
    halves = [rule_of(done, half_of(count, half)) for half in (0, 1)]
    right = set(done.right)
    tried = [
        index
        for index in range(count - count % 2)
        if {index, partner(index)} <= right
        and look_of(done, index, mentions[index]) != look_of(done, partner(index), mentions[index])
    ]
    rankings = {
        index: rankings_of(done, index, mentions[index], halves[1 - index // 2 % 2], rng)
        for index in tried
    }
    letters, painted = {}, lab.plan.painted
    for number in COUNTS:
        most = count if number == 1 else painted
        some = [index for index in tried if index < most]
        letters[str(number)] = {
            way: letters_of(
                lab,
                done,
                mentions,
                {index: chosen(rankings[index], way, number) for index in some},
                most,
            )
            for way in WAYS
        }
    few = [index for index in tried if index < painted]
    chosen_first = [
        {way: chosen(rankings[index], way, 1)[0] if index in rankings else -1 for way in WAYS}
        for index in range(count)
    ]
    return {
        "prompts": count,
        "mention": mentions,
        "queries": {way: [each[way] for each in chosen_first] for way in WAYS},
        "letters": letters,
        "each": [
            letters_of(lab, done, mentions, {index: [query] for index in few}, painted)
            for query in range(lab.model.queries)
        ],
    }


def partner(index: int) -> int:
    """The prompt that is the donor of another one."""
    return index ^ 1


def half_of(count: int, half: int) -> list[int]:
    """The prompts of one half; donors are in the same one."""
    return [index for index in range(count) if index // 2 % 2 == half]


def chosen(rankings: dict[str, list[int]], way: str, number: int) -> list[int]:
    """The queries that a way exchanges. Random ones are not among the map's."""
    if way != "random":
        return rankings[way][:number]
    taken = rankings["map"][:number]
    return [query for query in rankings["random"] if query not in taken][:number]


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

    def ranked(amounts: Tensor) -> list[int]:
        return amounts.argsort(descending=True).tolist()

    third = done.another_right(index)
    difference = (done.states[index] - done.states[partner(index)]).norm(dim=-1)
    return {
        "map": ranked(done.looked_at(index, mention)),
        "other role": ranked(done.looked_at(index, 1 - mention)),
        "rule": rule[mention],
        "another picture's map": ranked(done.looked_at(index, mention, third)),
        "difference": ranked(difference),
        "random": rng.sample(range(len(difference)), len(difference)),
    }


def letters_of(
    lab: Lab, done: Painted, mentions: list[int], exchanged: dict[int, list[int]], count: int
) -> str:
    """One letter for each of the first `count` prompts.

    Args:
        lab, done: what was painted.
        mentions: of each prompt, the object that is exchanged.
        exchanged: the queries that are exchanged, by index of a prompt that is tried.
        count: how many letters.
    """
    letters, some = ["-"] * count, list(exchanged)
    for first in range(0, len(some), lab.plan.batch):
        batch = some[first : first + lab.plan.batch]
        states = [
            replaced(done.states[[index]], exchanged[index], done.states[partner(index)])
            for index in batch
        ]
        seeds = [done.seeds[index] for index in batch]
        readings = lab.read(lab.latents(torch.cat(states), seeds))
        for index, reading in zip(batch, readings):
            phrases = done.phrases[index], done.phrases[partner(index)]
            letters[index] = letter_of(reading, *phrases, mentions[index])
    return "".join(letters)


def letter_of(reading: Reading, own: Phrase, donor: Phrase, mention: int) -> str:
    """What became of an object, as one letter: see the top of this file.

    Args:
        reading: what the judge read. The background, which prompts do not name, may be any.
        own, donor: the prompt, and the one that queries came from.
        mention: which object, in the order of both prompts.
    """
    _, relation, looks = parse_caption(own.text)
    slot = slot_of(own, mention)
    others = parse_caption(donor.text)[2]
    wanted, side = (others[slot_of(donor, each)] for each in (mention, 1 - mention))
    if reading.facts is None or reading.facts[1] != relation:
        return "x"
    here, there = reading.facts[2][slot], reading.facts[2][1 - slot]
    if there != looks[1 - slot]:
        return "W" if here == looks[slot] else "x"
    for letter, look in (("N", looks[slot]), ("T", wanted), ("S", side)):
        if here == look:
            return letter
    known = zip(here, looks[slot], wanted)
    return "t" if all(each in (before, other) for each, before, other in known) else "x"
