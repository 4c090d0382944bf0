"""What goes wrong in direct edits of two objects, and what does thinking change?

A picture of two objects and an instruction, "the same but the circle is red", ask for a picture.
What the judge reads there, and what a thought says, is one letter:

| letter | what it shows |
|---|---|
| R | everything as it was asked for |
| N | the picture as it was before |
| W | the edit of the other object instead |
| B | the edit of both objects |
| e | what was to change is as asked for, but something else is wrong |
| n | what was to change is as before, and something else is wrong |
| x | anything else |
| ? | a thought that does not name a scene |
"""

from collections.abc import Iterator

import torch

from ..documents import THOUGHTS, Document
from ..images import to_pil
from ..probe.positions import positions
from ..world.judge import Reading
from ..world.language import description, parse_caption
from ..world.render import render
from ..world.scenes import Scene, is_held_out, sample_scene
from ..world.stories import NAMING, edit_of
from .probing_knockout import encode_cut
from .probing_lab import Lab, joined
from .probing_verdicts import mask_of

KINDS = (*NAMING, "swap", "exchange", "background")
# What the dream queries cannot see: in which way of editing, and which inputs.
CUTS = {
    "direct, without the picture": ("direct", "picture"),
    "direct, without the instruction": ("direct", "instruction"),
    "thinking, without the picture": ("thinking", "picture"),
    "thinking, without the instruction": ("thinking", "instruction"),
    "thinking, without the thought": ("thinking", "thought"),
}


def edits(lab: Lab) -> dict:
    """Edits each picture directly, after thinking, and from the plain description of the result.

    Returns:
        For each prompt: "kinds", of the edit; "direct", "thinking" and "described", a letter on
        the picture; "thought", a letter on what was thought; "follows", whether the picture shows
        what was thought, as 0 or 1; and "cut", by name of `CUTS`, a letter on the picture if the
        dream queries cannot see some inputs. All pictures of a prompt have the same noise.
    """
    found = []
    for some, seeds, _ in lab.batches(list(tasks(lab))):
        found.append(edit_batch(lab, some, seeds))
    return {"prompts": sum(len(each["kinds"]) for each in found), **joined(found)}


def tasks(lab: Lab) -> Iterator[tuple[Scene, Scene, str, str]]:
    """(before, after, instruction, kind) for each prompt; kinds take turns, nothing is held out."""
    rng, made = lab.rng("edits"), 0
    while made < lab.plan.prompts:
        kind = KINDS[made % len(KINDS)]
        scene = sample_scene(rng, count=2)
        edit = edit_of(scene, kind, rng)
        if edit is not None and not is_held_out(edit[0]):
            made += 1
            yield scene, edit[0], edit[2], kind


def edit_batch(lab: Lab, some: list[tuple], seeds: list[int]) -> dict:
    """`edits` of some prompts."""
    model, size = lab.model, lab.model.decoder.image_size
    befores, afters, instructions, kinds = map(list, zip(*some))
    pictures = to_pil(render(befores, size)[0])
    prompts = [Document(list(pair), targets=[]) for pair in zip(pictures, instructions)]
    options = dict(seed=seeds, num_inference_steps=lab.plan.steps, output_type="pt")
    direct = model.dream(prompts, **options)
    thinking, thoughts = model.dream(prompts, think=True, return_thought=True, **options)
    described = model.dream([description(scene) for scene in afters], **options)
    found = {"kinds": kinds}
    readings = {}
    named = {"direct": direct, "thinking": thinking, "described": described}
    for name, images in named.items():
        readings[name] = lab.judge.read(torch.stack(images).to(model.device))
        found[name] = [
            letter_of(reading, before, after)
            for reading, before, after in zip(readings[name], befores, afters)
        ]
    stated = [parse_caption(thought) for thought in thoughts]
    found["thought"] = [
        "?" if facts is None else letter_of(spoken(facts, before), before, after)
        for facts, before, after in zip(stated, befores, afters)
    ]
    found["follows"] = [
        int(facts is not None and reading.agrees(facts))
        for facts, reading in zip(stated, readings["thinking"])
    ]
    opening = THOUGHTS[model.config.template]
    thinking = [prompt.with_thought(opening, each) for prompt, each in zip(prompts, thoughts)]
    found["cut"] = {}
    for name, (mode, source) in CUTS.items():
        documents = prompts if mode == "direct" else thinking
        edges = edges_to_queries(model, prompts, documents, source)
        states = encode_cut(model, documents, edges, range(len(model.llm.layers)))
        pairs = zip(lab.read(lab.latents(states, seeds)), befores, afters)
        found["cut"][name] = [letter_of(*each) for each in pairs]
    return found


def edges_to_queries(model, prompts: list[Document], documents: list[Document], source: str):
    """The edges from some inputs to the dream queries: shape (batch, tokens, inputs), bool.

    Args:
        model: a DreamLLM.
        prompts: a picture and an instruction each.
        documents: the same, or continued by a thought.
        source: "picture", "instruction" or "thought".
    """
    sources, queries, lengths = [], [], []
    for prompt, document in zip(prompts, documents):
        where = positions(model, document)
        picture, end = where.patches(), where.queries[0] - 1  # the last is <dream_start>
        said = range(picture[-1] + 1, len(positions(model, prompt).inputs) - model.queries - 1)
        there = {"picture": picture, "instruction": said, "thought": range(said.stop, end)}
        sources.append(list(there[source]))
        queries.append(where.queries)
        lengths.append(len(where.inputs))
    seen, seeing = (mask_of(each, lengths, model.device) for each in (sources, queries))
    return seeing[:, :, None] & seen[:, None]


def spoken(facts: tuple, before: Scene) -> Reading:
    """What a thought says; a background that it does not name is taken to stay as it was."""
    background, *rest = facts
    return Reading((background or before.background, *rest))


def letter_of(reading: Reading, before: Scene, after: Scene) -> str:
    """What a picture, or a thought, shows of an edit: see the top of this file.

    Args:
        reading: of the picture.
        before, after: the scenes that were given and asked for.
    """
    wanted, given = after.facts, before.facts
    if reading.agrees(wanted):
        return "R"
    if reading.agrees(given):
        return "N"
    for letter, facts in zip("WB", mistaken(before, after)):
        if facts is not None and reading.agrees(facts):
            return letter
    if reading.facts is None:
        return "x"
    for facts, letter in ((wanted, "e"), (given, "n")):
        if partly(reading.facts, facts, wanted, given):
            return letter
    return "x"


def mistaken(before: Scene, after: Scene) -> tuple[tuple | None, tuple | None]:
    """The facts if the other object, or both, were edited; None where there is no such edit."""
    (background, relation, given), (_, _, wanted) = before.facts, after.facts
    if len(wanted) == 1:  # the named one was to vanish
        lost = 1 - given.index(wanted[0])
        return (background, None, (given[lost],)), None
    changed = [slot for slot in (0, 1) if given[slot] != wanted[slot]]
    if len(changed) != 1 or before.relation != after.relation:
        return None, None
    (slot,) = changed
    other = 1 - slot
    edited = tuple(
        (new if mine != new else old)
        for mine, new, old in zip(given[slot], wanted[slot], given[other])
    )
    if edited == given[other]:  # it was like that before
        return None, None
    wrong, both = list(given), list(wanted)
    wrong[other] = both[other] = edited
    return (background, relation, tuple(wrong)), (background, relation, tuple(both))


def partly(found: tuple, facts: tuple, wanted: tuple, given: tuple) -> bool:
    """Whether everything that an edit changes is, in a picture, as some facts say.

    Args:
        found: the facts of the picture.
        facts: those that are asked about: `wanted` or `given`.
        wanted, given: the facts after and before the edit.
    """
    if len(found[2]) != len(facts[2]):
        return False
    if len(wanted[2]) != len(given[2]):
        return True  # what was to change is the number of objects
    triples = [(found[0], facts[0], wanted[0] != given[0])]
    for slot in range(len(facts[2])):
        pairs = zip(found[2][slot], facts[2][slot], wanted[2][slot], given[2][slot])
        triples += [(seen, asked, new != old) for seen, asked, new, old in pairs]
    return all(seen == asked for seen, asked, changes in triples if changes)
