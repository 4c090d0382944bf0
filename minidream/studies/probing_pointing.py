"""Which map points best at the object that a word describes, and better than what controls?

Two hops: latent cells look at queries, and queries look at words (see `probing_hops`). What points
best is chosen on one half of the prompts, for each kind of word, and scored on the other half.
"""

import copy
from collections.abc import Callable

import torch
from einops import einsum, repeat
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..world.language import Phrase, parse_caption
from .probing_hops import first_hops, names_of_hops
from .probing_lab import Lab, Painted, with_new_queries
from .probing_pairs import mentions, slot_of

KINDS = ("size", "colour", "shape")
WORDS = tuple((mention, kind) for mention in (0, 1) for kind in KINDS)
# What is chosen among which ways: the first hop's names, and whether the U-Net's layers vary.
CHOICES: dict[str, tuple[Callable[[str], bool], bool]] = {
    "two hops": (lambda name: name == "mean", False),
    "best layer": (lambda name: name.startswith("layer") and "head" not in name, False),
    "best head": (lambda name: "head" in name, False),
    "values": (lambda name: name == "values", False),
    "best values": (lambda name: name.startswith("values of"), False),
    "output": (lambda name: name == "output", False),
    "best output": (lambda name: name.startswith("output of"), False),
    "best decoder layer": (lambda name: name == "mean", True),
    "best of all": (lambda name: True, True),
}
# What a rule without any map may know of a prompt, besides the kinds and mentions of its words.
RULES: dict[str, Callable[[Phrase], object]] = {
    "rule": lambda phrase: None,
    "rule by side": lambda phrase: (parse_caption(phrase.text)[1], slot_of(phrase, 0)),
}


def pointing(lab: Lab) -> dict:
    """The pointing game of all maps and of their controls.

    Returns:
        For each prompt and each way, a string with 1 or 0 for each of `WORDS`: whether the cell
        with the highest value is on the object; "" if the picture was not right. "uniform" has for
        both objects, in the order of the prompt, the share of cells that are on it, in per mille
        (None if not right). "chosen" says what the best of each kind are, by kind of word, on both
        halves; "counts" has the hits of every first hop (rows, "hops") with all layers of the
        U-Net and with each of them (columns), by kind of word, over all pictures that were right.

        Every control is searched for its best as the maps are. "rule": one query for each word, by
        its kind and mention, so that no map of the language model is looked at; "rule by side":
        also by the arrangement, which someone who reads the prompt knows; "kind means": the
        mean attention to words of this kind and mention in the other half, so that this prompt is
        not looked at; the map of another picture; the first hop of another run's queries, matched
        to these, and of untrained ones; chance.
    """
    done, model = lab.maps, lab.model
    hops = hops_of(lab, model, done)
    grids = [with_mean(cells) for cells in done.cells]
    names = names_of_hops(len(model.llm.layers), model.llm.config.num_attention_heads)
    own = {index: hits_of(done, index, hops[index], grids[index]) for index in done.right}
    found, chosen = {}, {}
    for prefix, hits in {"": own, **controls_of(lab, done, hops, grids)}.items():
        for name, (eligible, decoder_varies) in CHOICES.items():
            if prefix and name not in ("two hops", "best of all"):
                continue
            rows = [row for row, each in enumerate(names) if eligible(each)]
            columns = list(range(len(grids[0]))) if decoder_varies else [0]
            best = [best_of(hits, half, rows, columns) for half in (0, 1)]
            found[prefix + name] = strings(
                done, {i: scored(hits[i], best[1 - i % 2]) for i in hits}
            )
            chosen[prefix + name] = {
                kind: [[names[half[kind][0]], half[kind][1]] for half in best] for kind in KINDS
            }
    for name, group_of in RULES.items():
        groups = [group_of(phrase) for phrase in done.phrases]
        found[name] = strings(done, rule_hits(done, grids, model.queries, groups))
    return {
        "prompts": len(done.phrases),
        "hops": names,
        "hits": found,
        "uniform": [None if mask is None else owned(mask) for mask in done.masks],
        "chosen": chosen,
        "counts": {kind: counted(own, kind) for kind in KINDS},
    }


def hops_of(lab: Lab, model, done: Painted) -> list[Tensor]:
    """First hops to the words that describe objects: for each prompt, (ways, queries, words)."""
    found = []
    for some, _, _ in lab.batches(done.phrases):
        for phrase, hop in zip(some, first_hops(model, [phrase.text for phrase in some])):
            order = mentions(phrase)
            places = [phrase.roles.index((kind, order[mention])) + 1 for mention, kind in WORDS]
            found.append(hop[..., places])
    return found


def with_mean(cells: Tensor) -> Tensor:
    """The mean over the U-Net's layers, then each of them: (1 + layers, queries, height, width)."""
    return torch.cat([cells.mean(dim=0, keepdim=True), cells])


def hits_of(done: Painted, index: int, hops: Tensor, cells: Tensor) -> Tensor:
    """Whether maps point at the object that a word describes.

    Args:
        done, index: the picture.
        hops: shape (ways, queries, words).
        cells: shape (layers, queries, height, width).

    Returns:
        Bool, shape (ways, layers, words).
    """
    maps = einsum(
        hops, cells, "ways queries words, layers queries ... -> ways layers words ..."
    ).flatten(3)
    place = maps.argmax(dim=-1)
    wanted = torch.tensor([mention for mention, _ in WORDS])
    return owners(done.masks[index])[place] == wanted


def owners(masks: Tensor) -> Tensor:
    """Which object covers most of each cell; -1 if none does. Shape (cells,)."""
    flat = masks.flatten(1)
    return torch.where(flat.amax(dim=0) > 0, flat.argmax(dim=0), -1)


def owned(masks: Tensor) -> list[int]:
    """The share of cells that are each object's, in per mille."""
    of_cells = owners(masks)
    return [round(1000 * (of_cells == each).float().mean().item()) for each in (0, 1)]


def means_of(done: Painted, hops: list[Tensor], half: int) -> Tensor:
    """The mean first hop to each of `WORDS` over one half of the prompts."""
    return torch.stack([hops[index] for index in range(half, len(done.phrases), 2)]).mean(dim=0)


def best_of(hits: dict[int, Tensor], half: int, rows: list[int], columns: list[int]) -> dict:
    """By kind of word, the row and column with the most hits on one half; the first of several."""
    some = [each[rows][:, columns] for index, each in hits.items() if index % 2 == half]
    best = {}
    for kind in KINDS:
        words = [place for place, (_, each) in enumerate(WORDS) if each == kind]
        total = sum(each[..., words].sum(dim=-1) for each in some)
        place = int(total.argmax()) if some else 0
        row, column = divmod(place, len(columns))
        best[kind] = (rows[row], columns[column])
    return best


def scored(hits: Tensor, best: dict) -> list[bool]:
    """The hits on each of `WORDS` of what is best for its kind."""
    return [bool(hits[(*best[kind], word)]) for word, (_, kind) in enumerate(WORDS)]


def strings(done: Painted, hits: dict[int, list[bool]]) -> list[str]:
    """Hits as one string for each prompt, empty where there are none."""
    return [
        "".join(str(int(hit)) for hit in hits.get(index, [])) for index in range(len(done.phrases))
    ]


def counted(hits: dict[int, Tensor], kind: str) -> list:
    """The hits on words of a kind over all pictures, as nested lists (ways, layers)."""
    words = [place for place, (_, each) in enumerate(WORDS) if each == kind]
    return sum(each[..., words].sum(dim=-1) for each in hits.values()).tolist() if hits else []


def controls_of(lab: Lab, done: Painted, hops: list[Tensor], grids: list[Tensor]) -> dict:
    """The hits of the controls that have as many maps; see `pointing`."""
    models = {"untrained queries, ": with_new_queries(lab.model, lab.seed)}
    if lab.other is not None:
        models["another run's queries, "] = with_queries(lab.model, lab.other)
    first = {name: hops_of(lab, model, done) for name, model in models.items()}
    if lab.other is not None:
        first["another run's queries, "] = matched(first["another run's queries, "], hops)
    means = [means_of(done, hops, half) for half in (0, 1)]

    def hits(hops_at: Callable[[int], Tensor], grid_at: Callable[[int], int] = int) -> dict:
        return {
            index: hits_of(done, index, hops_at(index), grids[grid_at(index)])
            for index in done.right
        }

    return {
        "kind means, ": hits(lambda index: means[1 - index % 2]),
        "another picture's map, ": hits(hops.__getitem__, done.another_right),
        **{name: hits(each.__getitem__) for name, each in first.items()},
    }


def matched(other: list[Tensor], own: list[Tensor]) -> list[Tensor]:
    """First hops of another run, its queries in the order in which they are most like those of own.

    The numbers of queries mean nothing beyond a run: without an order, only chance would be left.

    Args:
        other, own: for each prompt, (ways, queries, words); the first way counts, over all prompts.
    """
    one, two = (torch.stack([each[0] for each in hops]).mean(dim=0) for hops in (own, other))
    distance = torch.cdist(one, two)
    _, order = linear_sum_assignment(distance.numpy())
    return [each[:, order] for each in other]


def rule_hits(
    done: Painted, grids: list[Tensor], queries: int, groups: list
) -> dict[int, list[bool]]:
    """The hits of one query in one layer of the U-Net for each word, chosen on the other half.

    Args:
        done: pictures.
        grids: where the cells of each look.
        queries: their number.
        groups: what is known of each prompt; queries are chosen for each group by itself.
    """
    each_query = repeat(torch.eye(queries), "ways queries -> ways queries words", words=len(WORDS))
    hits = {index: hits_of(done, index, each_query, grids[index]) for index in done.right}
    totals = {}
    for index, one in hits.items():
        key = (index % 2, groups[index])
        totals[key] = totals.get(key, 0) + one.flatten(0, 1)
    nothing = torch.zeros(1, len(WORDS))  # of a group that the other half does not have
    best = {index: totals.get((1 - index % 2, groups[index]), nothing) for index in hits}
    return {
        index: one.flatten(0, 1)[best[index].argmax(dim=0), range(len(WORDS))].tolist()
        for index, one in hits.items()
    }


def with_queries(model, queries: Tensor):
    """The same model with other dream queries."""
    control = copy.deepcopy(model)
    control.dream_queries.data = queries.detach().to(model.dream_queries)
    return control
