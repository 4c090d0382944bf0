"""Causal tracing: where is what a word says, after which layer, and which heads carry it?

Two prompts differ in one word. What is at some positions after a layer is replaced by what the
donor has there. If the picture then shows what the donor says, the difference was there.

Source: Vig et al. 2020; Meng et al. 2022.
"""

import random
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from ..probe.hooks import hooks, run_with_cache
from ..probe.positions import positions
from .probing_lab import Lab, across, joined
from .probing_pairs import Pair, words_of
from .probing_verdicts import Verdicts, encode_patched, mask_of

PAINTED = ("word", "other word", "queries")  # rows in which the picture is judged, too
OF_HEADS = ("words", "queries")  # rows in which single heads are patched
NUMBERS = (1, 2, 4, 8, 16)  # of heads that are patched together


def tracing(lab: Lab) -> dict:
    """Patches the donor's values in, by positions and layers, and by head.

    Returns:
        "points": what enters the first layer, and the residual stream after each layer. Then for
        each prompt, by name: which word differs, as in `WORDS`; "verdicts" with one letter on the
        prompt itself and on the donor and, of the first prompts, for each of `PAINTED` one letter
        for each point; "losses" of the donor's picture as from `Lab.losses`: of the prompt itself,
        of the donor, and for each row of positions one for each point; "heads", for each of
        `OF_HEADS` a loss for each layer and head; "together", for prompts with odd numbers, the
        losses with as many heads as `NUMBERS` says ("numbers") patched at the queries at once: the
        "strongest" on prompts with even numbers, and as many "random" ones that are not among them.

        The rows control one another: "other word" is a random other word, and "same phrase",
        "object" and "rest" are all others. They hold only words after the one that differs, since
        what comes before cannot know of it; where there are none, their entries are None, or "".
    """
    rng = lab.rng("other words")
    pairs = lab.pairs("tracing")
    others = [another_word(pair, rng) for pair in pairs]
    items, found = list(zip(pairs, others)), []
    for some, seeds, painted in lab.batches(items):
        pairs_here, others_here = zip(*some)
        found.append(trace_batch(lab, list(pairs_here), others_here, seeds, painted))
    whole = joined(found)
    sets = sets_of_heads(whole, rng)
    together = []
    for some, seeds, _ in lab.batches(items):
        pairs_here, _ = zip(*some)
        of_sets = {}
        for name, each in sets.items():
            of_sets[name] = heads_together(lab, list(pairs_here), seeds, each)
        together.append(of_sets)
    whole["together"] = {
        name: [losses if index % 2 else None for index, losses in enumerate(of_sets)]
        for name, of_sets in joined(together).items()
    }
    head = {"prompts": len(pairs), "points": points_of(lab.model), "numbers": [*NUMBERS]}
    return head | whole


def points_of(model) -> list[str]:
    """Of the residual stream, from the embeddings upwards."""
    return ["llm.embed", *(f"llm.{layer}.resid_post" for layer in range(len(model.llm.layers)))]


def another_word(pair: Pair, rng: random.Random) -> int | None:
    """A random word after the one that differs; None if that is the last one."""
    later = range(pair.word + 1, len(pair.own.words))
    return rng.choice(later) if later else None


def rows_of(pair: Pair, other: int | None, length: int, queries: int) -> dict[str, list[int]]:
    """The positions of each row of the table, of which "words" alone has those before the word.

    Args:
        pair: the prompts.
        other: index of the other word; None if there is none.
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
        "other word": [] if other is None else [other],
        "same phrase": own,
        "object": objects,
        "rest": [word for word in words if word not in (*own, *objects)],
    }
    for name in ("same phrase", "object", "rest"):
        found[name] = [word for word in found[name] if word > pair.word]
    found["words"] = list(words)
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
        found = torch.tensor([losses(states) for states in patched]).T.tolist()
        by_row[row] = [each if table[row] else None for each, table in zip(found, tables)]
        if row in PAINTED:
            at_points = across([verdicts.letters(states[:painted]) for states in patched])
            none = "-" * len(points)
            letters[row] = [each if table[row] else none for each, table in zip(at_points, tables)]
    return {
        "kinds": [pair.kind for pair in pairs],
        "mentions": [pair.mention for pair in pairs],
        "verdicts": {name: list(values) for name, values in letters.items()},
        "losses": by_row,
        "heads": {row: heads_of(model, own, cache, masks[row], losses) for row in OF_HEADS},
    }


def sets_of_heads(found: dict, rng: random.Random) -> dict[str, list[list[tuple[int, int]]]]:
    """Heads as (layer, head), as many as `NUMBERS` says: the strongest, and random others.

    Args:
        found: the results of all prompts; what is strongest is chosen on those with even numbers.
        rng: of the random ones.
    """
    losses = torch.tensor(found["heads"]["queries"][::2]).float()  # prompts layers heads
    layers, heads = losses.shape[1:]
    order = losses.mean(dim=0).flatten().argsort().tolist()
    every = [divmod(index, heads) for index in order]
    sets = {"strongest": [], "random": []}
    for number in NUMBERS:
        most = min(number, layers * heads // 2)
        sets["strongest"].append(every[:most])
        sets["random"].append(rng.sample(every[most:], most))
    return sets


def heads_together(lab: Lab, pairs: list[Pair], seeds: list[int], sets: list) -> list[list[int]]:
    """The losses with the donor's values in some heads at the queries: by prompt, one for each set.

    Args:
        lab: the model.
        pairs, seeds: the prompts, and of the noise.
        sets: of heads, as (layer, head).
    """
    model, verdicts = lab.model, Verdicts(lab, pairs, seeds)
    cache = run_with_cache(model, verdicts.texts["donor"], "llm.*.z")
    at_queries = torch.zeros(next(iter(cache.values())).shape[2], dtype=torch.bool)
    at_queries[-model.queries :] = True
    found = []
    for chosen in sets:
        functions = {}
        for layer in {layer for layer, _ in chosen}:
            donors = cache[f"llm.{layer}.z"]  # batch heads tokens head_dim
            where = torch.zeros(donors.shape[1:3], dtype=torch.bool, device=donors.device)
            where[[head for each, head in chosen if each == layer]] = at_queries.to(where.device)
            functions[f"llm.{layer}.z"] = partial(replaced_where, where[..., None], donors)
        with hooks(model, functions):
            states = model.encode(verdicts.texts["own"])
        found.append(lab.losses(verdicts.donor_latents, states, seeds))
    return torch.tensor(found).T.tolist()


def replaced_where(where: Tensor, others: Tensor, value: Tensor) -> Tensor:
    """A value with other values in some places."""
    return torch.where(where, others, value)


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
