"""Shares with intervals of the parts about maps, probes and edits; see `causes_shares`."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from .causes_pointing import KINDS, WORDS
from .causes_shares import Share, Values, compared, letters_as, runs_of, share_of

BOTH = (0, 1)  # the objects, in the order of the prompt


# --------------------------------------------------------------------------------------------------
# Roles


def favourites(run: dict, mention: int) -> list[int | None]:
    """The query that the cells of an object look at most, by prompt; None if not right."""
    return [None if looked is None else int(np.argmax(looked[mention])) for looked in run["looked"]]


def counts_of_queries(run: dict, mention: int) -> Counter:
    """How often each query is the favourite of the object that is mentioned first, or second."""
    return Counter(query for query in favourites(run, mention) if query is not None)


def follows_mention(
    results: dict, phrasing: str | None = None, relation: str | None = None
) -> list[Values]:
    """Whether both favourites are what the other half of the prompts says for their mention.

    Args:
        results: of the study.
        phrasing: where the relation is said: "between", "before" or "after"; None is all.
        relation: the word; None is all.

    Returns:
        By run and prompt, 1 or 0, or None.
    """
    return [
        predicted(run, lambda run, index, which: which, phrasing, relation)
        for run in runs_of(results, "roles").values()
    ]


def follows_side(
    results: dict, phrasing: str | None = None, relation: str | None = None
) -> list[Values]:
    """As `follows_mention`, with the side in the place of the mention: left or upper, or not."""

    def side(run: dict, index: int, which: int) -> int:
        return which if run["leading"][index] else 1 - which

    runs = runs_of(results, "roles").values()
    return [predicted(run, side, phrasing, relation) for run in runs]


def predicted(
    run: dict,
    role: Callable[[dict, int, int], int],
    phrasing: str | None = None,
    relation: str | None = None,
) -> Values:
    """Whether the most frequent queries of both roles, in the other half, are the favourites.

    Args:
        run: of the part "roles".
        role: from the run, a prompt and an object by mention to the role 0 or 1.
        phrasing, relation: which prompts count.

    Returns:
        For each prompt, whether they are so for both objects; None if it does not count.
    """
    chosen = [favourites(run, which) for which in BOTH]
    prompts = range(len(run["looked"]))
    rules = []
    for half in (0, 1):
        counts = (Counter(), Counter())
        for index in prompts[half::2]:
            for which in BOTH if chosen[0][index] is not None else ():
                counts[role(run, index, which)][chosen[which][index]] += 1
        rules.append([each.most_common(1)[0][0] if each else -1 for each in counts])
    found = []
    for index in prompts:
        counted = phrasing in (None, run["phrasing"][index])
        counted = counted and relation in (None, run["relation"][index])
        if chosen[0][index] is None or not counted:
            found.append(None)
            continue
        rule = rules[1 - index % 2]
        right = [rule[role(run, index, which)] == chosen[which][index] for which in BOTH]
        found.append(float(all(right)))
    return found


def profile_similarity(results: dict) -> dict[str, Share]:
    """How similar the profiles over queries are: Pearson's correlation with the next prompt's.

    Returns:
        "same mention": of the objects with the same mention; "other mention", as its control.
    """
    found = {"same mention": [], "other mention": []}
    for run in runs_of(results, "roles").values():
        looked = run["looked"]
        for name, turn in (("same mention", 0), ("other mention", 1)):
            values = []
            for one, other in zip(looked, looked[1:]):
                if one is None or other is None:
                    values.append(None)
                    continue
                pairs = [np.corrcoef(one[which], other[(which + turn) % 2])[0, 1] for which in BOTH]
                values.append(float(np.mean(pairs)))
            found[name].append(values)
    return {name: share_of(values) for name, values in found.items()}


# --------------------------------------------------------------------------------------------------
# Transfers


def transferred(results: dict, way: str, number: int = 1, wanted: str = "T") -> list[Values]:
    """Whether an exchange ends in one of some letters, by run and prompt: see `causes_roles`."""
    runs = runs_of(results, "transfers").values()
    return [letters_as(run["letters"][str(number)][way], wanted) for run in runs]


def map_against_controls(results: dict, number: int = 1, wanted: str = "T") -> dict:
    """The map's choice against every other way, as `compared` returns it."""
    first = next(iter(runs_of(results, "transfers").values()))["letters"][str(number)]
    others = {way: transferred(results, way, number, wanted) for way in first if way != "map"}
    return compared(transferred(results, "map", number, wanted), others)


# --------------------------------------------------------------------------------------------------
# Pointing


def hits(results: dict, name: str, kind: str | None = None) -> list[Values]:
    """The share of hits of a map, by run and prompt; None where the picture was not right.

    Args:
        results: of the study.
        name: of the map, or "uniform".
        kind: of words; None is all.
    """
    words = [place for place, (_, each) in enumerate(WORDS) if kind in (None, each)]
    found = []
    for run in runs_of(results, "pointing").values():
        if name == "uniform":
            values = [None if of is None else sum(of) / 2000 for of in run["uniform"]]
        else:
            values = [
                sum(string[word] == "1" for word in words) / len(words) if string else None
                for string in run["hits"].get(name, [])
            ]
        found.append(values)
    return found


def pointing_shares(results: dict) -> dict[str, dict[str, Share]]:
    """The hits of all maps and controls, by kind of word."""
    first = next(iter(runs_of(results, "pointing").values()))["hits"]
    return {
        name: {kind: share_of(hits(results, name, kind)) for kind in KINDS}
        for name in (*first, "uniform")
    }


# --------------------------------------------------------------------------------------------------
# Probes


def readable_curves(results: dict, question: str) -> dict[str, list[Share]]:
    """How well linear probes do after each layer.

    Returns:
        For each layer: "mean" over all queries; "control", the same with shuffled labels; "best",
        of the query that was chosen on other prompts.
    """
    runs = list(runs_of(results, "readable").values())
    asked = [run["questions"][question] for run in runs]
    queries = runs[0]["queries"]

    def mean(name: str, layer: int) -> Share:
        return share_of([[count / queries for count in each[name][layer]] for each in asked])

    def best(layer: int) -> Share:
        return share_of([list(map(int, each["best"][layer])) for each in asked])

    layers = range(len(asked[0]["counts"]))
    return {
        "mean": [mean("counts", layer) for layer in layers],
        "control": [mean("control", layer) for layer in layers],
        "best": [
            share_of([list(map(int, each["best"][layer])) for each in asked]) for layer in layers
        ],
    }


def chance(results: dict, question: str) -> float:
    """The chance level of a question, the same in all runs."""
    return next(iter(runs_of(results, "readable").values()))["chance"][question]


# --------------------------------------------------------------------------------------------------
# Edits


def edited(results: dict, mode: str, wanted: str, kinds: Sequence[str] | None = None):
    """Whether an edit ends in one of some letters, by run and prompt; letters in `causes_edits`.

    Args:
        results: of the study.
        mode: "direct", "thinking", "described" or "thought".
        wanted: letters.
        kinds: of edits; None is all.
    """
    return [
        letters_as(run[mode], wanted, [kinds is None or kind in kinds for kind in run["kinds"]])
        for run in runs_of(results, "edits").values()
    ]


def thinking_helps(results: dict, kinds: Sequence[str] | None = None) -> tuple[Share, float]:
    """By how much more often edits are right after thinking, and the largest p value of a run."""
    direct = {"direct": edited(results, "direct", "R", kinds)}
    return compared(edited(results, "thinking", "R", kinds), direct)["direct"]
