"""Shares with intervals, from the results of the probing study: what tables and figures show.

The unit is the prompt. All runs have the same prompts, so that a prompt in three runs is one
cluster. So an interval is about prompts, for these three runs; how much runs differ is shown by
the share of each, which stands beside it. Pictures count that were right before anything was
changed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .intervals import clustered_interval, clustered_share, holm, mcnemar, newcombe

KEPT = "Oos"  # verdicts on pictures that show the word of the prompt itself
Values = Sequence[float | None]  # of one run, one for each prompt; None is left out


@dataclass(frozen=True)
class Share:
    """A mean over prompts and runs.

    mean, low, high: with its 95 % interval, which is nan for fewer than 2 prompts.
    n: how many values.
    runs: the mean of each run; nan without values.
    """

    mean: float
    low: float
    high: float
    n: int
    runs: tuple[float, ...]

    def __str__(self) -> str:
        """In per cent: "57 [40, 70] (55/58/58)", the last of each run if there are several."""
        if not self.n:
            return "-"
        text = f"{100 * self.mean:.0f} [{100 * self.low:.0f}, {100 * self.high:.0f}]"
        runs = "/".join(f"{100 * each:.0f}" for each in self.runs)
        return f"{text} ({runs})" if len(self.runs) > 1 else text

    @property
    def triple(self) -> tuple[float, float, float]:
        """(mean, low, high), as figures take them."""
        return self.mean, self.low, self.high


def runs_of(results: dict, part: str) -> dict[str, dict]:
    """What the runs found in a part, by name.

    Raises:
        ValueError: if there is none.
    """
    found = {run["run"]: run for run in results["runs"] if run["part"] == part}
    if not found:
        present = sorted({run["part"] for run in results["runs"]})
        raise ValueError(f"no run of {part!r} in these results; there are {present}")
    return found


def mean_of(values: Sequence[float]) -> float:
    """The mean; nan of none."""
    return sum(values) / len(values) if values else math.nan


def share_of(by_run: Sequence[Values], together: int = 1, interval=clustered_share) -> Share:
    """The mean of values of several runs on the same prompts.

    Args:
        by_run: the values.
        together: how many prompts that follow one another depend on one another, such as 2 where
            each is the donor of the other: they are one cluster.
        interval: of values and clusters, as `clustered_interval`.
    """
    known = [
        [
            (index // together, float(value))
            for index, value in enumerate(values)
            if value is not None
        ]
        for values in by_run
    ]
    clusters, values = [], []
    for pairs in known:
        clusters += [cluster for cluster, _ in pairs]
        values += [value for _, value in pairs]
    runs = tuple(mean_of([value for _, value in pairs]) for pairs in known)
    if len(set(clusters)) < 2:
        return Share(mean_of(values), math.nan, math.nan, len(values), runs)
    return Share(*interval(values, clusters), len(values), runs)


def difference_of(first: Sequence[Values], second: Sequence[Values], together: int = 1) -> Share:
    """By how much the first of two ways exceeds the second on the same prompts, by runs.

    Where the two never differ, a bootstrap cannot say how far apart they may be: the interval is
    Newcombe's then, as if they were shares of unrelated prompts, which is too wide.
    """
    both = [
        [pair for pair in zip(one, other) if None not in pair] for one, other in zip(first, second)
    ]
    differences = [
        [None if None in pair else float(pair[0]) - float(pair[1]) for pair in zip(one, other)]
        for one, other in zip(first, second)
    ]

    def interval(values: Sequence[float], clusters: Sequence[int]):
        if len(set(values)) > 1:
            return clustered_interval(values, clusters)
        trials, pairs = len(set(clusters)), sum(both, [])
        shares = (sum(each) / len(pairs) * trials for each in zip(*pairs))
        return values[0], *newcombe(*((share, trials) for share in shares))

    return share_of(differences, together, interval)


def p_value_of(first: Sequence[Values], second: Sequence[Values]) -> float:
    """The largest p value of McNemar's test in any run: what holds has to hold in each.

    Args:
        first, second: right or wrong, by run and prompt.
    """
    tests = []
    for one, two in zip(first, second):
        known = [pair for pair in zip(one, two) if None not in pair]
        tests.append(mcnemar(*zip(*known)) if known else 1.0)
    return max(tests)


def compared(
    first: Sequence[Values], others: dict[str, Sequence[Values]], together: int = 1
) -> dict:
    """One way against several others on the same prompts.

    Args:
        first: right or wrong, by run and prompt.
        others: the same, by name of the other way.
        together: as of `share_of`.

    Returns:
        {name: (difference, p)}: a `Share`, and `p_value_of`, adjusted for the number of ways by
        Holm's method.
    """
    adjusted = holm({name: p_value_of(first, other) for name, other in others.items()})
    return {
        name: (difference_of(first, other, together), adjusted[name])
        for name, other in others.items()
    }


def letters_as(letters: Sequence[str], wanted: str, given: Sequence[bool] | None = None) -> Values:
    """1 for each prompt with one of the wanted letters, else 0; None where it does not count.

    Args:
        letters: one for each prompt; "" and "-" do not count.
        wanted: the letters.
        given: which prompts count; None is all. What is beyond the letters is ignored.
    """
    counts = [True] * len(letters) if given is None else given
    return [
        float(letter in wanted) if letter not in ("", "-") and count else None
        for letter, count in zip(letters, counts)
    ]


def of_kind(run: dict, kind: str | None, mention: int | None) -> list[bool]:
    """Which prompts differ in a word of a kind, of an object by the order of mention."""
    return [
        kind in (None, each) and mention in (None, which)
        for each, which in zip(run["kinds"], run["mentions"])
    ]


def came_out(run: dict) -> list[bool]:
    """Which prompts, and their donors if there are any, are painted right without intervention."""
    verdicts = run.get("verdicts", run)
    donors = verdicts.get("donor", ["D"] * len(verdicts["own"]))
    return [pair == ("O", "D") for pair in zip(verdicts["own"], donors)]


def shown(
    results: dict,
    part: str,
    letters: Callable[[dict], Sequence[str]],
    wanted: str,
    kind: str | None = None,
    mention: int | None = None,
) -> Share:
    """How often pictures that were right before show something after an intervention.

    Args:
        results: of the study.
        part: "tracing", "knockout" or "decoder".
        letters: from a run, one letter for each of its first prompts.
        wanted: letters that count.
        kind, mention: of the differing word; None is all.
    """
    return share_of(flags(results, part, letters, wanted, kind, mention))


def flags(results, part, letters, wanted, kind=None, mention=None) -> list[Values]:
    """What `shown` is the mean of, by run and prompt."""
    found = []
    for run in runs_of(results, part).values():
        pairs = zip(came_out(run), of_kind(run, kind, mention))
        found.append(letters_as(letters(run), wanted, [all(pair) for pair in pairs]))
    return found


def curve(
    results: dict,
    part: str,
    strings: Callable[[dict], Sequence[str]],
    wanted: str,
    kind: str | None = None,
) -> list[Share]:
    """As `shown`, for each place of strings, such as points, layers or steps."""
    first = next(iter(runs_of(results, part).values()))

    def at(place: int) -> Share:
        return shown(results, part, lambda run: [s[place] for s in strings(run)], wanted, kind)

    return [at(place) for place in range(len(strings(first)[0]))]


def kept(results: dict, kind: str | None = None) -> dict[str, Share]:
    """How often a picture still shows the differing word, by what is cut off in all layers.

    It counts on the object that it belongs to, wherever that is.
    """
    names = next(iter(runs_of(results, "knockout").values()))["all"]
    return {
        name: shown(results, "knockout", lambda run, name=name: run["all"][name], KEPT, kind)
        for name in names
    }
