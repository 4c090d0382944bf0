"""Causal tracing: where is what a word says, after which layer, and which heads carry it?

Two prompts differ in one word. What is at some positions after a layer is replaced by what the
donor has there. If the picture then shows what the donor says, the difference was there.

Source: Vig et al. 2020; Meng et al. 2022.
"""

import random

import torch
from einops import rearrange
from torch import Tensor

from ..probe.hooks import run_with_cache
from ..probe.positions import positions
from .causes_lab import Lab, across, joined
from .causes_pairs import Pair, words_of
from .causes_verdicts import Verdicts, encode_patched, mask_of

PAINTED = ("word", "other word", "queries")  # rows in which the picture is judged, too
OF_HEADS = ("words", "queries")  # rows in which single heads are patched


def tracing(lab: Lab) -> dict:
    """Patches the donor's values in, by positions and layers, and by head.

    Returns:
        "points": what enters the first layer, and the residual stream after each layer. Then for
        each prompt, by name: which word differs, as in `WORDS`; "verdicts" with one letter on the
        prompt itself and on the donor and, of the first prompts, for each of `PAINTED` one letter
        for each point; "losses" of the donor's picture as from `Lab.losses`: of the prompt itself,
        of the donor, and for each row of positions one for each point; "heads", for each of
        `OF_HEADS` a loss for each layer and head.

        The rows control one another: "other word" is a random other word, and "same phrase",
        "object" and "rest" are all others.
    """
    rng = lab.rng("other words")
    pairs = lab.pairs("tracing")
    others = [another_word(pair, rng) for pair in pairs]
    found = []
    for some, seeds, painted in lab.batches(list(zip(pairs, others))):
        pairs_here, others_here = zip(*some)
        found.append(trace_batch(lab, list(pairs_here), others_here, seeds, painted))
    return {"prompts": len(pairs), "points": points_of(lab.model), **joined(found)}


def points_of(model) -> list[str]:
    """Of the residual stream, from the embeddings upwards."""
    return ["llm.embed", *(f"llm.{layer}.resid_post" for layer in range(len(model.llm.layers)))]


def another_word(pair: Pair, rng: random.Random) -> int:
    """A random word other than the one that differs, after it if there is one.

    Words before it cannot know of it, so that patching them would change nothing.
    """
    count = len(pair.own.words)
    return rng.choice(list(range(pair.word + 1, count)) or list(range(pair.word)))


def rows_of(pair: Pair, other: int, length: int, queries: int) -> dict[str, list[int]]:
    """The positions of each row of the table.

    Args:
        pair: the prompts.
        other: index of the other word.
        length: how many positions each prompt has, its dream queries included.
        queries: how many of these are dream queries.
    """
    words = range(len(pair.own.words))
    if pair.kind == "relation":
        own = [word for word in words if pair.own.roles[word] == ("relation", None)]
        objects = words_of(pair.own, 0) + words_of(pair.own, 1)
    else:
        own, objects = words_of(pair.own, pair.mention), words_of(pair.own, 1 - pair.mention)
    found = {
        "word": [pair.word],
        "other word": [other],
        "same phrase": [word for word in own if word != pair.word],
        "object": objects,
        "rest": [word for word in words if word not in (*own, *objects)],
        "words": list(words),
    }
    found = {name: [word + 1 for word in row] for name, row in found.items()}  # after <s>
    found["dream start"] = [length - queries - 1]
    found["queries"] = list(range(length - queries, length))
    return found


def trace_batch(lab: Lab, pairs: list[Pair], others, seeds: list[int], painted: int) -> dict:
    """`tracing` of some prompts, the first `painted` of them with pictures."""
    model, verdicts = lab.model, Verdicts(lab, pairs, seeds)
    own = verdicts.texts["own"]
    lengths = [len(positions(model, text).inputs) for text in own]
    tables = [rows_of(*each, model.queries) for each in zip(pairs, others, lengths)]
    masks = {
        name: mask_of([table[name] for table in tables], lengths, model.device)
        for name in tables[0]
    }
    points = points_of(model)
    cache = run_with_cache(model, verdicts.texts["donor"], [*points, "llm.*.z"])

    def losses(states: Tensor) -> list[int]:
        return lab.losses(verdicts.donor_latents, states, seeds)

    letters = {"own": verdicts.own_letters, "donor": verdicts.donor_letters}
    by_row = {"own": losses(verdicts.own), "donor": losses(verdicts.donor)}
    for row, mask in masks.items():
        patched = [encode_patched(model, own, cache[point], point, mask) for point in points]
        by_row[row] = torch.tensor([losses(states) for states in patched]).T.tolist()
        if row in PAINTED:
            at_points = [verdicts.letters(states[:painted]) for states in patched]
            letters[row] = across(at_points)
    return {
        "kinds": [pair.kind for pair in pairs],
        "mentions": [pair.mention for pair in pairs],
        "verdicts": {name: list(values) for name, values in letters.items()},
        "losses": by_row,
        "heads": {row: heads_of(model, own, cache, masks[row], losses) for row in OF_HEADS},
    }


def heads_of(model, own: list[str], cache: dict, mask: Tensor, losses) -> list:
    """Losses with one head's output patched, nested as (prompts, layers, heads)."""
    found = []
    for layer in range(len(model.llm.layers)):
        values = cache[f"llm.{layer}.z"]
        for head in range(values.shape[1]):
            patched = encode_patched(model, own, values, f"llm.{layer}.z", mask, [head])
            found.append(losses(patched))
    by_head = torch.tensor(found)
    layers = len(model.llm.layers)
    pattern = "(layers heads) prompts -> prompts layers heads"
    return rearrange(by_head, pattern, layers=layers).tolist()
