"""Parts of the probing study that intervene: ablation, deletion curves, swaps, attribution.

Each part takes a `Lab` and returns numbers as JSON.
"""

import random

import torch
from einops import rearrange, repeat
from torch import Tensor

from ..images import to_pil
from ..probe.attribution import feature_ablation, integrated_gradients
from ..probe.effects import judged, pixel_change, verdict_changes
from ..probe.interventions import replaced
from ..probe.llm_attention import dream_attention
from ..probe.map_scores import curve_area, rank_correlation
from ..probe.targets import DenoisingTarget
from ..world.judge import HEADS
from ..world.language import parse_caption
from .probing_lab import Lab, Painted, rounded, word_positions

FOREIGN = ", another picture's map"  # the control of each agreement


def ablations(lab: Lab) -> dict:
    """What is lost with each query, and with each word; and whether the maps predict it."""
    done, means = lab.painted("ablations", lab.plan.ablated), lab.means()
    names = ("queries", f"queries{FOREIGN}", "words", f"words{FOREIGN}")
    changes, pixels, agreement = [], [], {name: [] for name in names}
    traces = [dream_attention(lab.model, phrase.text) for phrase in done.phrases]
    for index, (phrase, trace) in enumerate(zip(done.phrases, traces)):
        pictures = lab.paint(*without_each_query(done, index, means))
        changed = verdict_changes(lab.judge, done.pictures[[index]], pictures)
        changes.append(torch.stack([changed[head] for head in HEADS], dim=-1).float())
        lost = pixel_changes(done, index, pictures)
        pixels.append(lost)
        lost_words = pixel_changes(done, index, without_each_word(lab, done, index))
        positions = word_positions(trace, phrase)
        another = (index + 1) % len(done.phrases)
        for which in range(2):
            for name, map_index in (("", index), (FOREIGN, another)):
                attended = done.attention_of_object(index, which, map_index)
                by_word = trace.mean()[:, positions].T @ attended
                agreement[f"queries{name}"].append(rank_correlation(attended, lost[:, which]))
                agreement[f"words{name}"].append(rank_correlation(by_word, lost_words[:, which]))
    return {
        "scenes": len(done.phrases),
        "changes": rounded(torch.stack(changes).mean(dim=0)),
        "heads": list(HEADS),
        "pixels": rounded(torch.stack(pixels).mean(dim=0)),
        "agreement": {
            name: [round(value, 4) for value in values] for name, values in agreement.items()
        },
    }


def without_each_query(done: Painted, index: int, means: Tensor) -> tuple[Tensor, list[int]]:
    """States of a prompt in copies, each with one query set to its mean; and their noise seeds."""
    queries = len(means)
    pattern = "queries hidden -> copies queries hidden"
    states = repeat(done.states[index], pattern, copies=queries).clone()
    states[range(queries), range(queries)] = means
    return states, [done.seeds[index]] * queries


def without_each_word(lab: Lab, done: Painted, index: int) -> Tensor:
    """Pictures of a prompt in which one word at a time is replaced by "thing"."""
    words = list(done.phrases[index].words)
    texts = [
        " ".join([*words[:position], "thing", *words[position + 1 :]])
        for position in range(len(words))
    ]
    return lab.paint(lab.model.encode(texts), [done.seeds[index]] * len(texts))


def pixel_changes(done: Painted, index: int, pictures: Tensor) -> Tensor:
    """How much pictures differ from the unchanged one, inside its objects and outside."""
    before, masks = done.pictures[index], done.masks[index]
    return torch.stack([pixel_change(before, picture, masks) for picture in pictures])


def curves(lab: Lab) -> dict:
    """Deletion and insertion: queries are ablated, or restored, one after the other.

    Their order is that of an object's map, its reverse, or random.
    """
    done, means = lab.painted("curves", lab.plan.curves), lab.means()
    found = {
        direction: {order: [] for order in ("map", "random", "reverse")}
        for direction in ("deletion", "insertion")
    }
    steps = rearrange(torch.arange(lab.model.queries + 1), "steps -> steps 1")
    for index in range(len(done.phrases)):
        for which in range(2):
            for order, ranking in query_orders(lab, done, index, which).items():
                rank = ranking.argsort()
                ablated = rearrange(rank, "queries -> 1 queries") < steps
                for direction, absent in (("deletion", ablated), ("insertion", ~ablated)):
                    score = confidence(lab, done, index, which, absent, means)
                    found[direction][order].append(score)
    return {
        "things": len(found["deletion"]["map"]),
        "curves": {
            direction: {
                name: rounded(torch.stack(scores).mean(dim=0)) for name, scores in by.items()
            }
            for direction, by in found.items()
        },
        "areas": {
            direction: {name: areas_of(scores) for name, scores in by.items()}
            for direction, by in found.items()
        },
    }


def areas_of(scores: list[Tensor]) -> list[float]:
    """The area below each curve."""
    return [round(curve_area(score), 4) for score in scores]


def query_orders(lab: Lab, done: Painted, index: int, which: int) -> dict[str, Tensor]:
    """Orders of queries: by how much an object's cells attend to them, reversed, and at random."""
    best = done.attention_of_object(index, which).argsort(descending=True)
    generator = torch.Generator().manual_seed(1000 * lab.seed + 2 * index + which)
    shuffled = torch.randperm(lab.model.queries, generator=generator, device="cpu")
    return {"map": best, "random": shuffled, "reverse": best.flip(0)}


def confidence(
    lab: Lab, done: Painted, index: int, which: int, absent: Tensor, means: Tensor
) -> Tensor:
    """How sure the judge is of an object's colour and shape while queries are ablated.

    Args:
        lab, done: what was painted.
        index, which: of the picture and of its object.
        absent: which queries are ablated in each step, shape (steps, queries).
        means: what replaces them.

    Returns:
        Mean probability of the true colour and shape, shape (steps,).
    """
    mask = rearrange(absent, "steps queries -> steps queries 1")
    states = torch.where(mask, means, done.states[index])
    pictures = lab.paint(states, [done.seeds[index]] * len(states))
    facts = parse_caption(done.phrases[index].text)
    logs = judged(lab.judge, pictures, [facts] * len(states))
    slot = ("first", "second")[which]
    heads = [logs[f"{slot} {kind}"].exp() for kind in ("colour", "shape")]
    return torch.stack(heads).mean(dim=0)


def swaps(lab: Lab) -> dict:
    """Does one query transfer an object to another picture?

    The query that the object's cells attend to most is compared with a random other one.
    """
    here, there = (lab.painted(f"exchanges {side}", lab.plan.pairs) for side in ("here", "there"))
    rng = random.Random(lab.seed)
    count = min(len(here.phrases), len(there.phrases))
    pairs = [(index, which) for index in range(count) for which in range(2)]
    chosen: dict[str, list[int]] = {"as the map says": [], "at random": []}
    for index, which in pairs:
        best = here.attention_of_object(index, which).argmax().item()
        others = [query for query in range(lab.model.queries) if query != best]
        chosen["as the map says"].append(best)
        chosen["at random"].append(rng.choice(others))
    outcomes = {
        name: swap_outcomes(lab, here, there, pairs, queries) for name, queries in chosen.items()
    }
    return {"things": len(pairs), **outcomes}


def swap_outcomes(
    lab: Lab, here: Painted, there: Painted, pairs: list[tuple[int, int]], queries: list[int]
) -> dict[str, float]:
    """How often the swap of one query transfers an object, and how often nothing changes.

    Args:
        lab: the model and the judge.
        here, there: the pictures that are changed, and those that the queries come from.
        pairs: (picture, object) of each swap.
        queries: the query of each swap.
    """
    states = [
        replaced(here.states[[index]], [query], there.states[index])
        for (index, _), query in zip(pairs, queries)
    ]
    pictures = lab.paint(torch.cat(states), [here.seeds[index] for index, _ in pairs])
    transferred = unchanged = 0
    for (index, which), reading in zip(pairs, lab.judge.read(pictures)):
        facts = [parse_caption(done.phrases[index].text)[2] for done in (here, there)]
        own, foreign = map(set, facts)
        objects = set(reading.facts[2]) if reading.facts else set()
        replaced_object = facts[0][which]
        unchanged += objects == own
        # The object is gone, the other one is still there, the new one is of the other prompt.
        transferred += (
            replaced_object not in objects
            and len(objects & own) == 1
            and bool(objects & (foreign - own))
        )
    return {
        "carried": round(transferred / len(pairs), 4),
        "nothing changed": round(unchanged / len(pairs), 4),
    }


def attributions(lab: Lab) -> dict:
    """Do integrated gradients and attention rank words as ablation does?

    What is attributed is the denoising loss of the painted picture.
    """
    done = lab.painted("attributions", lab.plan.attributed)
    ranks, deltas = {"integrated gradients": [], "attention": []}, []
    for index, phrase in enumerate(done.phrases):
        picture = to_pil(done.pictures[index : index + 1])[0]
        target = DenoisingTarget(lab.model, picture, seed=done.seeds[index])
        ablated = feature_ablation(lab.model, phrase.text, target)
        gradients = integrated_gradients(lab.model, phrase.text, target)
        trace = dream_attention(lab.model, phrase.text)
        positions = word_positions(trace, phrase)
        effects = ablated.values[positions]
        attention = trace.mean()[:, positions].mean(dim=0)
        by_gradients = rank_correlation(gradients.values[positions], effects)
        # The loss rises where a word is missing: what the word contributes to it is negative.
        by_attention = rank_correlation(attention, -effects)
        ranks["integrated gradients"].append(round(by_gradients, 4))
        ranks["attention"].append(round(by_attention, 4))
        deltas.append(round(abs(gradients.delta / (gradients.whole - gradients.nothing)), 4))
    return {"prompts": len(done.phrases), "ranks": ranks, "relative delta": deltas}
