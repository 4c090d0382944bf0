"""What can be read from the dream queries after each layer, by linear probes?

| question | chance |
|---|---|
| present: of two colours, which one occurs in the prompt (of either object)? | 1/2 |
| first: the colour of the object that is mentioned first, of all colours | the most frequent |
| left: the colour of the left or upper object, of all colours | the most frequent |
| first or second, left or right: the same probes, but only of the two colours that occur | 1/2 |
| order: is the left or upper object mentioned first? | the more frequent |
| axis: are they side by side, or one above the other? | the more frequent |

A probe that knows which colours occur, but not whose they are, passes the first three clearly above
chance, and gets half of "first or second" and "left or right". These leave out prompts whose
objects have one colour.
"""

from collections import Counter

import torch
from einops import rearrange
from torch import Tensor

from ..probe.linear_probes import fit_ridge, with_constant
from ..probe.residual_stream import query_stream
from ..world.language import Phrase, parse_caption
from ..world.scenes import COLOURS
from .probing_lab import Lab, with_new_queries
from .probing_pairs import slot_of

TIMES = 4  # as many prompts as in other parts: probes have to be trained
PENALTY = 0.01  # of squared weights, as in `linear_probes`
BINARY = ("order", "axis")
OF_TWO = ("first or second", "left or right")
STATES = ("own", "shuffled labels", "untrained queries")  # the last two are controls
QUESTIONS = ("present", "first", "left", *OF_TWO, *BINARY)
WORDS = list(COLOURS)


def readable(lab: Lab) -> dict:
    """Trains probes on half of the prompts, chooses queries on a quarter, tests on the last one.

    Returns:
        "chance" by question. Of every question and each of `STATES`: "counts", for each layer and
        test prompt, of how many queries the probe is right (None if the prompt is left out);
        "best", for each layer one string with 1 or 0 (or "-") for each test prompt, of the query
        that did best on the quarter for choosing, and "query", its index.
    """
    phrases = lab.prompts("readable", TIMES * lab.plan.prompts)
    texts = [phrase.text for phrase in phrases]
    batches = [texts[first : first + 50] for first in range(0, len(texts), 50)]

    def states_of(model) -> Tensor:
        return torch.cat([query_stream(model, batch) for batch in batches], dim=1)

    rng, facts = lab.rng("absent colours"), [facts_of(phrase) for phrase in phrases]
    absent = [rng.choice([c for c in range(len(WORDS)) if c not in fact[:2]]) for fact in facts]
    labels = {name: torch.tensor(column) for name, column in zip(NAMES, zip(*facts))}
    labels["absent"] = torch.tensor(absent)
    labels["either"] = torch.tensor([rng.choice(fact[:2]) for fact in facts])
    train, choose = len(texts) // 2, len(texts) * 3 // 4
    order = torch.randperm(train, generator=torch.Generator().manual_seed(lab.seed))
    taught = {name: each[:train] for name, each in labels.items()}
    shuffled = {name: each[order] for name, each in taught.items()}
    states = states_of(lab.model)
    right = {
        "own": answers(states, taught, labels),
        "shuffled labels": answers(states, shuffled, labels),
        "untrained queries": answers(
            states_of(with_new_queries(lab.model, lab.seed)), taught, labels
        ),
    }
    same = labels["first"] == labels["second"]
    return {
        "prompts": len(texts) - choose,
        "queries": states.shape[2],
        "chance": {name: chance_of(name, labels, choose) for name in QUESTIONS},
        "questions": {
            name: {
                which: summary(found[name], same if name in OF_TWO else None, train, choose)
                for which, found in right.items()
            }
            for name in QUESTIONS
        },
    }


def summary(right: Tensor, left_out: Tensor | None, train: int, choose: int) -> dict:
    """What `readable` says of one question.

    Args:
        right: shape (layers, queries, prompts).
        left_out: the prompts that do not count; None is none.
        train, choose: where the prompts for choosing, and those for testing, begin.
    """
    counted = torch.ones(right.shape[-1], dtype=torch.bool) if left_out is None else ~left_out
    chosen = right[..., train:choose][..., counted[train:choose]]
    best = chosen.float().mean(dim=-1).argmax(dim=1)
    kept = counted[choose:].tolist()

    def as_string(flags: Tensor) -> str:
        return "".join(str(int(flag)) if keep else "-" for flag, keep in zip(flags, kept))

    return {
        "counts": [
            [count if keep else None for count, keep in zip(layer, kept)]
            for layer in right[..., choose:].sum(dim=1).tolist()
        ],
        "best": [as_string(each[query, choose:]) for each, query in zip(right, best)],
        "query": best.tolist(),
    }


NAMES = ("first", "second", "left", "right", *BINARY)


def facts_of(phrase: Phrase) -> tuple[int, ...]:
    """`NAMES` of a prompt: colours as indices, the order and the axis as 0 or 1."""
    _, relation, looks = parse_caption(phrase.text)
    left, right = (WORDS.index(look[1]) for look in looks)
    leading = slot_of(phrase, 0) == 0
    first, second = (left, right) if leading else (right, left)
    return first, second, left, right, int(leading), int(relation == "above")


def answers(states: Tensor, taught: dict[str, Tensor], labels: dict[str, Tensor]) -> dict:
    """Whether probes of every query and layer are right about each prompt, by question.

    Args:
        states: shape (layers, prompts, queries, hidden).
        taught: what the probes of the first prompts are trained on, each of shape (trained,).
        labels: what is true, each of shape (prompts,).

    Returns:
        {question: bool, shape (layers, queries, prompts)}. Where both objects have one colour, no
        probe chooses rightly between theirs.
    """
    inputs = rearrange(
        states.float(), "layers prompts queries hidden -> (layers queries) prompts hidden"
    )
    train = len(taught["first"])

    def scores(name: str, classes: int) -> Tensor:
        """Of every class: (probes, prompts, classes)."""
        means, scale, weights = fit_ridge(inputs[:, :train], taught[name], classes, PENALTY)
        return with_constant((inputs - means) / scale) @ weights

    colours = {name: scores(name, len(WORDS)) for name in ("first", "second", "left")}
    # A ridge is linear in its targets: the sum of both is the probe for "occurs".
    occurs = colours["first"] + colours["second"]
    found = {
        "present": prefers(occurs, labels["either"], labels["absent"]),
        "first": colours["first"].argmax(dim=-1) == labels["first"],
        "left": colours["left"].argmax(dim=-1) == labels["left"],
        "first or second": prefers(colours["first"], labels["first"], labels["second"]),
        "left or right": prefers(colours["left"], labels["left"], labels["right"]),
    }
    for name in BINARY:
        found[name] = scores(name, 2).argmax(dim=-1) == labels[name]
    pattern = "(layers queries) prompts -> layers queries prompts"
    return {name: rearrange(each, pattern, layers=len(states)) for name, each in found.items()}


def prefers(scores: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Whether the score of one class exceeds that of another: bool, shape (probes, prompts)."""
    prompts = range(len(own))
    return scores[:, prompts, own] > scores[:, prompts, other]


def chance_of(name: str, labels: dict[str, Tensor], first: int) -> float:
    """What can be right without any knowledge of the states, from a prompt on."""
    if name not in labels:
        return 0.5
    ((_, most),) = Counter(labels[name][first:].tolist()).most_common(1)
    return round(most / (len(labels[name]) - first), 4)
