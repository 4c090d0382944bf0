"""What can be read from the dream queries after each layer, by linear probes?

| question | chance |
|---|---|
| present: of two colours, which one occurs in the prompt? | 1/2 |
| first: the colour of the object that is mentioned first, of all colours | the most frequent |
| left: the colour of the left or upper object, of all colours | the most frequent |
| first or second, left or right: the same probes, but only of the two colours that occur | 1/2 |
| order: is the left or upper object mentioned first? | the more frequent |
| axis: are they side by side, or one above the other? | the more frequent |

A probe that knows which colours occur, but not whose they are, passes the first three clearly above
chance, and gets half of "first or second" and "left or right".
"""

from collections import Counter

import torch
from einops import rearrange
from torch import Tensor

from ..probe.linear_probes import fit_ridge, with_constant
from ..probe.residual_stream import query_stream
from ..world.language import Phrase, parse_caption
from ..world.scenes import COLOURS
from .causes_lab import Lab
from .causes_pairs import slot_of

TIMES = 4  # as many prompts as in other parts: probes have to be trained
PENALTY = 0.01  # of squared weights, as in `linear_probes`
BINARY = ("order", "axis")
QUESTIONS = ("present", "first", "left", "first or second", "left or right", *BINARY)
WORDS = list(COLOURS)


def readable(lab: Lab) -> dict:
    """Trains probes on half of the prompts, chooses queries on a quarter, tests on the last one.

    Returns:
        "chance" by question. Of every question: "counts", for each layer and test prompt, of how
        many queries the probe is right; "control", the same with probes that were trained on
        shuffled labels; "best", for each layer one string with 1 or 0 for each test prompt, of the
        query that did best on the quarter for choosing, and "query", its index.
    """
    phrases = lab.prompts("readable", TIMES * lab.plan.prompts)
    texts = [phrase.text for phrase in phrases]
    batches = [texts[first : first + 50] for first in range(0, len(texts), 50)]
    states = torch.cat([query_stream(lab.model, batch) for batch in batches], dim=1)
    rng = lab.rng("absent colours")
    facts = [facts_of(phrase) for phrase in phrases]
    absent = [rng.choice([c for c in range(len(WORDS)) if c not in fact[:2]]) for fact in facts]
    labels = {name: torch.tensor(column) for name, column in zip(NAMES, zip(*facts))}
    labels["absent"] = torch.tensor(absent)
    train, choose = len(texts) // 2, len(texts) * 3 // 4
    fresh = torch.Generator().manual_seed(lab.seed)
    order = torch.randperm(train, generator=fresh)
    own, control = (
        answers(states, {name: each[:train][shuffle] for name, each in labels.items()}, labels)
        for shuffle in (torch.arange(train), order)
    )
    found = {}
    for name in QUESTIONS:
        right = own[name]  # layers queries prompts
        best = right[..., train:choose].float().mean(dim=-1).argmax(dim=1)
        found[name] = {
            "counts": right[..., choose:].sum(dim=1).tolist(),
            "control": control[name][..., choose:].sum(dim=1).tolist(),
            "best": [as_string(each[query, choose:]) for each, query in zip(right, best)],
            "query": best.tolist(),
        }
    return {
        "prompts": len(texts) - choose,
        "queries": states.shape[2],
        "chance": {name: chance_of(name, labels, choose) for name in QUESTIONS},
        "questions": found,
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
        {question: bool, shape (layers, queries, prompts)}. Where both objects have one colour, a
        forced choice between theirs is drawn by lot, half for each query in turn.
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
        "present": prefers(occurs, labels["first"], labels["absent"]),
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
    """Whether the score of one class exceeds that of another: bool, shape (probes, prompts).

    Of two equal classes, every second probe is right.
    """
    prompts = range(len(own))
    better = scores[:, prompts, own] > scores[:, prompts, other]
    every_second = rearrange(torch.arange(len(scores)) % 2 == 0, "probes -> probes 1")
    return torch.where(own == other, every_second, better)


def chance_of(name: str, labels: dict[str, Tensor], first: int) -> float:
    """What can be right without any knowledge of the states, from a prompt on."""
    if name not in labels:
        return 0.5
    ((_, most),) = Counter(labels[name][first:].tolist()).most_common(1)
    return round(most / (len(labels[name]) - first), 4)


def as_string(flags: Tensor) -> str:
    """Flags as 1 and 0."""
    return "".join(str(int(flag)) for flag in flags)
