"""Shares with intervals, from the results of the study of causes: what tables and figures show.

The unit is the prompt. All runs have the same prompts, so that a prompt in three runs is one
cluster; what each run says by itself is beside it. Pictures count that were right before anything
was changed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .intervals import clustered_interval, holm, mcnemar, ratio_interval

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
        """In per cent."""
        if not self.n:
            return "-"
        return f"{100 * self.mean:.0f} [{100 * self.low:.0f}, {100 * self.high:.0f}]"


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


def share_of(by_run: Sequence[Values]) -> Share:
    """The mean of values of several runs on the same prompts."""
    known = [
        [(index, float(value)) for index, value in enumerate(values) if value is not None]
        for values in by_run
    ]
    clusters, values = [], []
    for pairs in known:
        clusters += [index for index, _ in pairs]
        values += [value for _, value in pairs]
    runs = tuple(mean_of([value for _, value in pairs]) for pairs in known)
    if len(set(clusters)) < 2:
        return Share(mean_of(values), math.nan, math.nan, len(values), runs)
    return Share(*clustered_interval(values, clusters), len(values), runs)


def difference_of(first: Sequence[Values], second: Sequence[Values]) -> Share:
    """By how much the first of two ways exceeds the second on the same prompts, by runs."""
    pairs = [list(zip(one, other)) for one, other in zip(first, second)]
    return share_of(
        [
            [None if None in (one, other) else float(one) - float(other) for one, other in each]
            for each in pairs
        ]
    )


def compared(first: Sequence[Values], others: dict[str, Sequence[Values]]) -> dict:
    """One way against several others on the same prompts.

    Args:
        first: right or wrong, by run and prompt.
        others: the same, by name of the other way.

    Returns:
        {name: (difference, p)}: a `Share`, and the largest p value of McNemar's test in any run,
        adjusted for the number of ways by Holm's method.
    """
    p_values = {}
    for name, other in others.items():
        tests = []
        for one, two in zip(first, other):
            known = [pair for pair in zip(one, two) if None not in pair]
            tests.append(mcnemar(*zip(*known)) if known else 1.0)
        p_values[name] = max(tests)
    adjusted = holm(p_values)
    return {name: (difference_of(first, other), adjusted[name]) for name, other in others.items()}


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


# --------------------------------------------------------------------------------------------------
# Tracing


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


def restored(
    results: dict, row: str, kind: str | None = None, mention: int | None = None
) -> list[tuple[float, float, float]]:
    """How much of the way from the prompt's loss to the donor's a patch goes, at each point.

    Args:
        results: of the study.
        row: of positions.
        kind, mention: of the differing word; None is all.

    Returns:
        (share, low, high) for each point: 0 is no effect, 1 all of the donor's.
    """
    first = next(iter(runs_of(results, "tracing").values()))["losses"][row][0]

    def triple(point: int) -> tuple[float, float, float]:
        return way_gone(results, lambda run, i: run["losses"][row][i][point], kind, mention)

    return [triple(point) for point in range(len(first))]


def restored_by_head(results: dict, row: str, kind: str | None = None) -> list[list[tuple]]:
    """As `restored`, with one head's output patched: a triple for each layer and head."""
    first = next(iter(runs_of(results, "tracing").values()))["heads"][row][0]

    def triple(layer: int, head: int) -> tuple[float, float, float]:
        return way_gone(results, lambda run, index: run["heads"][row][index][layer][head], kind)

    return [
        [triple(layer, head) for head in range(len(values))] for layer, values in enumerate(first)
    ]


def way_gone(
    results: dict, patched: Callable[[dict, int], int], kind: str | None, mention: int | None = None
) -> tuple[float, float, float]:
    """The sum of what patches gain, as a share of what the donors gain, with its interval."""
    gains, ways, clusters = [], [], []
    for run in runs_of(results, "tracing").values():
        right, losses = came_out(run), run["losses"]
        for index, chosen in enumerate(of_kind(run, kind, mention)):
            if chosen and right[index]:
                gains.append(losses["own"][index] - patched(run, index))
                ways.append(losses["own"][index] - losses["donor"][index])
                clusters.append(index)
    if len(set(clusters)) < 2:
        return (math.nan,) * 3
    return ratio_interval(gains, ways, clusters)


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
    """How often a picture still shows the differing word, by what is cut off in all layers."""
    names = next(iter(runs_of(results, "knockout").values()))["all"]
    return {
        name: shown(results, "knockout", lambda run, name=name: run["all"][name], "Oo", kind)
        for name in names
    }
