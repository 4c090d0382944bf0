"""The ten questions to the full weights: each a number in [0, 1] for one prompt, and its control.

A number says nothing by itself: it has to be compared with what it is without that which is asked
about, in the same model and for the same prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..images import to_pil
from ..world.scenes import COLOURS
from .full_weights_lab import Asked, drawn_queries

DESCRIBES = ("size", "colour", "shape")  # the roles of words that describe an object
PART = 8  # of the cells, one in so many is taken for those of an object's colour
Numbers = tuple[float, list[float]]  # of the model, and of its controls


def against(one: Tensor, other: Tensor) -> Tensor:
    """One amount as a share of two: 1/2 if they are equal."""
    return one / (one + other).clamp(min=1e-12)


def by_draws(asked: Asked, number: Callable[[Asked], Tensor]) -> Numbers:
    """A number with the model's own queries, and with several sets of drawn ones."""
    found = []
    for seed in (None, *range(asked.lab.draws)):
        with drawn_queries(asked.model, seed):
            found.append(number(asked))
    return found[0], found[1:]


# --------------------------------------------------------------------------------------------------
# The first hop: from the queries to the prompt


def sink(asked: Asked) -> Numbers:
    """The share of `<s>`; against that of uniform attention."""
    trace = asked.seen
    return trace.without_start().start.mean(), [trace.uniform()[:, 0].mean()]


def focus(asked: Asked) -> Numbers:
    """1 - evenness of the attention beyond `<s>`; against drawn queries."""
    return by_draws(asked, lambda asked: 1 - asked.trace().without_start().evenness().mean())


def division(asked: Asked) -> Numbers:
    """How often two queries of a head prefer different words; against drawn queries."""

    def number(asked: Asked) -> Tensor:
        chosen, queries = favourites(asked, asked.trace()), asked.model.queries
        counts = F.one_hot(chosen).sum(dim=2)  # (layers, heads, words)
        same = (counts * (counts - 1)).sum(dim=-1) / (queries * (queries - 1))
        return 1 - same.mean()

    return by_draws(asked, number)


def favourites(asked: Asked, trace) -> Tensor:
    """Which of the words that describe an object has most, shape (layers, heads, queries)."""
    parts = [trace.weights[..., word].sum(dim=-1) for word in asked.words(*DESCRIBES)]
    return torch.stack(parts).argmax(dim=0)


def heads(asked: Asked) -> Numbers:
    """How often a query in a head prefers the same role in two prompts; against other heads.

    The two prompts have no describing word in common, so that a head that prefers a certain word
    does not agree with itself. The control compares each head with another one at random.
    """
    one, other = (favourites(each, each.seen).flatten(0, 1) for each in (asked, asked.partner))
    orders = [torch.randperm(len(one), generator=draw) for draw in asked.draws]
    return agreement(one, other), [agreement(one, other[order]) for order in orders]


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """The share of equal entries."""
    return (one == other).float().mean()


def words(asked: Asked) -> Numbers:
    """The attention to a word that describes an object, against others; roles are shuffled."""
    looked = asked.seen.mean().mean(dim=0)
    text = list(range(1, asked.where.queries[0] - 1))  # between `<s>` and `<dream_start>`
    describing = sorted({place for word in asked.words(*DESCRIBES) for place in word})
    chosen = torch.tensor([place in describing for place in text])

    def number(chosen: Tensor) -> Tensor:
        return against(looked[text][chosen].mean(), looked[text][~chosen].mean())

    orders = [torch.randperm(len(text), generator=draw) for draw in asked.draws]
    return number(chosen), [number(chosen[order]) for order in orders]


def patches(asked: Asked) -> Numbers:
    """The attention to a patch of an object, against background; with objects of other scenes."""
    looked = asked.with_image.patch_maps().mean(dim=0)

    def number(covered: Tensor) -> Tensor:
        inside = (looked * covered).sum() / covered.sum()
        outside = (looked * (1 - covered)).sum() / (1 - covered).sum()
        return against(inside, outside)

    others = [asked.lab.covered(asked.prompt + 1 + draw) for draw in range(asked.lab.draws)]
    return number(asked.lab.covered(asked.prompt)), [number(other) for other in others]


# --------------------------------------------------------------------------------------------------
# The second hop: from the picture to the queries, and through them to the prompt


def influence(asked: Asked) -> Numbers:
    """What another prompt changes in the picture, against what other noise changes."""
    picture, _ = asked.painted
    others = (asked.partner.painted[0], asked.painted_anew)
    return against(*((picture - other).abs().mean() for other in others)), [0.5]


def cells_by_colour(asked: Asked) -> list[tuple[Tensor, Tensor]]:
    """For each object, indices of the latent cells most like its colour, and like the other's."""
    (picture, maps), names = asked.painted, [item.colour for item in asked.scene.objects]
    colours = [torch.tensor(COLOURS[name]).float()[:, None, None] for name in names]
    cells = F.adaptive_avg_pool2d(picture, maps.mean().shape[1:])
    unlike = [(cells - colour).norm(dim=0).flatten() for colour in colours]
    order = (unlike[1] - unlike[0]).argsort()  # from the second colour to the first
    part = max(1, len(order) // PART)
    first, second = order[-part:], order[:part]
    return [(first, second), (second, first)]


def two_hops(asked: Asked) -> Numbers:
    """How often a cell in one object's colour looks more at its words than one in the other's."""
    (first, second), _ = cells_by_colour(asked)
    colours = asked.words("colour")  # in reading order, as the objects of the scene
    looked = [asked.hops[word].sum(dim=0).flatten() for word in colours]
    difference = looked[0] - looked[1]
    apart = difference[first][:, None] - difference[second]
    return (apart > 0).float().mean() + (apart == 0).float().mean() / 2, [0.5]


def queries_of_objects(asked: Asked) -> list[list[int]]:
    """For each object, the quarter of the queries that its cells attend to most.

    They are ranked by what its cells attend to more than the cells of the other object do.
    """
    looked = asked.painted[1].mean().flatten(1)  # (queries, cells)
    count = max(1, len(looked) // 4)
    pairs = cells_by_colour(asked)
    preferred = [looked[:, own].mean(dim=1) - looked[:, other].mean(dim=1) for own, other in pairs]
    return [values.argsort()[-count:].tolist() for values in preferred]


def ablation(asked: Asked) -> Numbers:
    """How much an object changes, against the other, without the queries that its cells look at."""
    (picture, maps), groups = asked.painted, queries_of_objects(asked)
    changes = (asked.without(*groups) - picture).abs().mean(dim=1, keepdim=True)
    changes = F.adaptive_avg_pool2d(changes, maps.mean().shape[1:]).flatten(1)
    shares = [
        against(change[own].mean(), change[other].mean())
        for change, (own, other) in zip(changes, cells_by_colour(asked))
    ]
    return sum(shares) / len(shares), [0.5]


def recognition(asked: Asked) -> Numbers:
    """How often the model names the colours in its picture; asked about another picture of its."""

    def number(picture: Tensor) -> float:
        image, right = to_pil(picture[None])[0], []
        for item in asked.scene.objects:
            answer = asked.model.chat([image, f"what color is the {item.shape}?"], 8)
            right.append(item.colour in answer.lower().replace(".", " ").split())
        return sum(right) / len(right)

    return number(asked.painted[0]), [number(asked.partner.painted[0])]


# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """ask: the question, in a line; control: what it is compared with; numbers: computes both."""

    ask: str
    control: str
    numbers: Callable[[Asked], Numbers]


QUESTIONS = {
    "sink": Question(
        "Do the queries leave more attention on `<s>` than a uniform share?", "uniform", sink
    ),
    "focus": Question(
        "Is the rest of their attention concentrated on a few inputs?", "drawn queries", focus
    ),
    "words": Question(
        "Do they attend to the words that describe the objects?", "words at random", words
    ),
    "heads": Question(
        "Does each head have a role that it prefers in every prompt?", "another head", heads
    ),
    "division": Question(
        "Do the queries divide the words among themselves?", "drawn queries", division
    ),
    "patches": Question(
        "In an image of the prompt, do they attend to the objects?", "other objects", patches
    ),
    "influence": Question(
        "Does another prompt change the picture more than other noise does?", "as much", influence
    ),
    "two hops": Question(
        "Do cells painted in a colour attend, through the queries, to its word?", "chance", two_hops
    ),
    "ablation": Question(
        "Does an object change if the queries that its cells attend to are ablated?",
        "the other object",
        ablation,
    ),
    "recognition": Question(
        "Does the model recognize the colours in the picture that it has painted?",
        "another picture",
        recognition,
    ),
}
