"""Shares with intervals of the parts about maps, probes and edits; see `probing_shares`."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from .intervals import clustered_interval
from .probing_pointing import KINDS, RULES, WORDS
from .probing_shares import (
    Share,
    Values,
    compared,
    difference_of,
    letters_as,
    p_value_of,
    runs_of,
    share_of,
)

BOTH = (0, 1)  # the objects, in the order of the prompt
SIDEWAYS = ("left", "right")  # relation words of objects side by side
# What tells which query an object's cells look at most: from a run, a prompt and an object by
# mention to a role. Those with one role look at what is most frequent, whatever the object.
ROLES: dict[str, Callable[[dict, int, int], Hashable]] = {
    "mention": lambda run, index, which: which,
    "side": lambda run, index, which: (
        run["relation"][index] in SIDEWAYS,
        which == (not run["leading"][index]),
    ),
    "nothing": lambda run, index, which: None,
}


# --------------------------------------------------------------------------------------------------
# Roles


def favourites(looked: list, mention: int) -> list[int | None]:
    """The query that the cells of an object look at most, by prompt; None if not right."""
    return [None if each is None else int(np.argmax(each[mention])) for each in looked]


def counts_of_queries(run: dict, mention: int) -> Counter:
    """How often each query is the favourite of the object that is mentioned first, or second."""
    return Counter(query for query in favourites(run["looked"], mention) if query is not None)


def told_by(
    results: dict, role: str, phrasing: str | None = None, relation: str | None = None
) -> list[Values]:
    """Of the two favourites, how many are what the other half of the prompts says for their roles.

    Args:
        results: of the study.
        role: of `ROLES`.
        phrasing: where the relation is said: "between", "before" or "after"; None is all.
        relation: the word; None is all.

    Returns:
        By run and prompt, 0, 1/2 or 1; None where it does not count.
    """
    found = []
    for run in runs_of(results, "roles").values():
        values = told(run, run["looked"], ROLES[role])
        pairs = zip(values, run["phrasing"], run["relation"])
        found.append(
            [
                value if phrasing in (None, where) and relation in (None, word) else None
                for value, where, word in pairs
            ]
        )
    return found


def looked_before(results: dict, stage: str) -> tuple[dict, list]:
    """The first run, of the part "roles", and what it "looked" at before one of its stages."""
    run = next(iter(runs_of(results, "roles").values()))
    (earlier,) = runs_of(results, "stages").values()
    return run, earlier["looked"][stage]


def told_before(results: dict, stage: str, role: str) -> list[Values]:
    """As `told_by`, of the first run before one of its stages."""
    return [told(*looked_before(results, stage), ROLES[role])]


def told(run: dict, looked: list, role: Callable[[dict, int, int], Hashable]) -> Values:
    """For each prompt, the share of its two favourites that a rule of the other half predicts.

    Args:
        run: of the part "roles".
        looked: as there.
        role: of `ROLES`.
    """
    chosen, prompts, rules = [favourites(looked, which) for which in BOTH], range(len(looked)), []
    for half in (0, 1):
        counts: dict[Hashable, Counter] = {}
        for index in prompts[half::2]:
            for which in BOTH if chosen[0][index] is not None else ():
                own = counts.setdefault(role(run, index, which), Counter())
                own[chosen[which][index]] += 1
        rules.append({name: each.most_common(1)[0][0] for name, each in counts.items()})
    found = []
    for index in prompts:
        if chosen[0][index] is None:
            found.append(None)
            continue
        rule = rules[1 - index % 2]
        hits = [rule.get(role(run, index, which)) == chosen[which][index] for which in BOTH]
        found.append(sum(hits) / len(hits))
    return found


def profile_values(results: dict, name: str) -> list[Values]:
    """How similar the profiles over queries are in two prompts that follow one another.

    Args:
        results: of the study.
        name: "same mention", of the objects with the same mention; "other mention", of those with
            another one; "text states", as the first, where the U-Net paints from text states.

    Returns:
        Pearson's correlations by run and pair of prompts; no prompt is in two pairs.
    """
    turn, which = int(name == "other mention"), "text states" if name == "text states" else "looked"
    found = []
    for run in runs_of(results, "roles").values():
        values = []
        for one, other in zip(run[which][::2], run[which][1::2]):
            if one is None or other is None:
                values.append(None)
                continue
            pairs = [np.corrcoef(one[mine], other[(mine + turn) % 2])[0, 1] for mine in BOTH]
            values.append(float(np.mean(pairs)))
        found.append(values)
    return found


def profile_similarity(results: dict) -> dict[str, Share]:
    """`profile_values` of each name, as means with intervals."""
    return {
        name: share_of(profile_values(results, name), interval=clustered_interval)
        for name in ("same mention", "other mention", "text states")
    }


# --------------------------------------------------------------------------------------------------
# Transfers


def transferred(results: dict, way: str, number: int = 1, wanted: str = "T") -> list[Values]:
    """Whether an exchange ends in one of some letters, by run and prompt: see `probing_roles`.

    Args:
        results: of the study.
        way: of `probing_roles.WAYS`; or "best rule", of the first prompts: for each mention the
            query that transfers most in the other half, without any map.
        number: how many queries are exchanged.
        wanted: letters.
    """
    runs = runs_of(results, "transfers").values()
    if way == "best rule":
        return [best_rule(run, wanted) for run in runs]
    return [letters_as(run["letters"][str(number)][way], wanted) for run in runs]


def best_rule(run: dict, wanted: str) -> Values:
    """As `transferred` says."""
    by_query, prompts = run["each"], range(len(run["each"][0]))
    role = [(index // 2 % 2, run["mention"][index]) for index in prompts]
    found = []
    for index in prompts:
        half, mention = role[index]
        others = [other for other in prompts if role[other] == (1 - half, mention)]
        counts = [sum(letters[other] in wanted for other in others) for letters in by_query]
        found.append(by_query[int(np.argmax(counts))][index])
    return letters_as(found, wanted)


def transfer_share(results: dict, way: str, number: int = 1, wanted: str = "T") -> Share:
    """The mean of `transferred`; prompt and donor are each other's, so that they count as one."""
    return share_of(transferred(results, way, number, wanted), together=2)


def map_against_controls(results: dict, number: int = 1, wanted: str = "T") -> dict:
    """The map's choice against every other way: {name: (difference, adjusted p)}."""
    first = next(iter(runs_of(results, "transfers").values()))["letters"][str(number)]
    own = transferred(results, "map", number, wanted)
    ways = [way for way in first if way != "map"] + (["best rule"] if number == 1 else [])
    others = {way: transferred(results, way, number, wanted) for way in ways}
    return compared(own, others, together=2)


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


def pointing_differences(results: dict, kind: str, way: str = "best of all") -> dict[str, Share]:
    """By how much a map has more hits than each control on the same prompts.

    Args:
        results: of the study.
        kind: of words.
        way: what map; controls are searched in the same way, where there is a search.
    """
    first = next(iter(runs_of(results, "pointing").values()))["hits"]
    controls = [name for name in first if name.endswith(f", {way}") or name in RULES]
    own = hits(results, way, kind)
    return {name: difference_of(own, hits(results, name, kind)) for name in controls}


# --------------------------------------------------------------------------------------------------
# Probes


def readable_curves(results: dict, question: str) -> dict[str, list[Share]]:
    """How well linear probes do after each layer.

    Returns:
        By name, for each layer: "mean", of all queries; "best", of the query that was chosen on
        other prompts; and both of each control of `probing_readable.STATES`.
    """
    runs = list(runs_of(results, "readable").values())
    asked = [run["questions"][question] for run in runs]
    queries, layers = runs[0]["queries"], range(len(asked[0]["own"]["counts"]))

    def mean(name: str, layer: int) -> Share:
        values = [
            [None if count is None else count / queries for count in each[name]["counts"][layer]]
            for each in asked
        ]
        return share_of(values)

    def best(name: str, layer: int) -> Share:
        return share_of([letters_as(each[name]["best"][layer], "1") for each in asked])

    found = {}
    for name in asked[0]:
        prefix = "" if name == "own" else f"{name}, "
        found[f"{prefix}mean"] = [mean(name, layer) for layer in layers]
        found[f"{prefix}best"] = [best(name, layer) for layer in layers]
    return found


def chance(results: dict, question: str) -> float:
    """The chance level of a question, the same in all runs."""
    return next(iter(runs_of(results, "readable").values()))["chance"][question]


# --------------------------------------------------------------------------------------------------
# Edits


def edited(results: dict, mode: str, wanted: str, kinds: Sequence[str] | None = None):
    """Whether an edit ends in one of some letters, by run and prompt; letters in `probing_edits`.

    Args:
        results: of the study.
        mode: "direct", "thinking", "described" or "thought"; or what is cut.
        wanted: letters.
        kinds: of edits; None is all.
    """
    return [
        letters_as(
            run["cut"][mode] if mode in run["cut"] else run[mode],
            wanted,
            [kinds is None or kind in kinds for kind in run["kinds"]],
        )
        for run in runs_of(results, "edits").values()
    ]


def painted_as_thought(results: dict, right: bool, kinds: Sequence[str] | None = None) -> Share:
    """How often pictures show what was thought, where the thought is right, or where it is not."""
    thoughts, found = edited(results, "thought", "R", kinds), []
    for run, values in zip(runs_of(results, "edits").values(), thoughts):
        pairs = zip(run["follows"], values)
        found.append([float(follows) if value == right else None for follows, value in pairs])
    return share_of(found)


def thinking_helps(results: dict, kinds: Sequence[str] | None = None) -> tuple[Share, float]:
    """By how much more often edits are right after thinking, and the p value, not adjusted."""
    ways = [edited(results, mode, "R", kinds) for mode in ("thinking", "direct")]
    return difference_of(*ways), p_value_of(*ways)
