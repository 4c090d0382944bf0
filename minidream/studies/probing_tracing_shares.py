"""Shares with intervals of the part about tracing; see `probing_shares`."""

import math
from collections.abc import Callable

from .intervals import ratio_interval
from .probing_shares import came_out, mean_of, of_kind, runs_of


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
    points = next(iter(runs_of(results, "tracing").values()))["points"]

    def at(point: int) -> tuple[float, float, float]:
        def patched(run: dict, index: int) -> int | None:
            losses = run["losses"][row][index]
            return losses and losses[point]

        return way_gone(results, patched, kind, mention)

    return [at(point) for point in range(len(points))]


def restored_by_head(
    results: dict, row: str, kind: str | None = None, half: int | None = None
) -> list[list[tuple]]:
    """As `restored`, with one head's output patched: a triple for each layer and head.

    Args:
        results, row, kind: as of `restored`.
        half: 0 takes prompts with even numbers, 1 those with odd ones: what is chosen on the one is
            to be measured on the other. None is all.
    """
    first = next(iter(runs_of(results, "tracing").values()))["heads"][row][0]

    def at(layer: int, head: int) -> tuple[float, float, float]:
        def patched(run: dict, index: int) -> int | None:
            chosen = half in (None, index % 2)
            return run["heads"][row][index][layer][head] if chosen else None

        return way_gone(results, patched, kind)

    return [[at(layer, head) for head in range(len(heads))] for layer, heads in enumerate(first)]


def restored_together(results: dict, which: str) -> list[tuple[float, float, float]]:
    """As `restored`, with several heads patched at once: a triple for each of their numbers.

    Args:
        results: of the study.
        which: "strongest", on the other half of the prompts, or "random" ones.
    """
    numbers = next(iter(runs_of(results, "tracing").values()))["numbers"]

    def at(place: int) -> tuple[float, float, float]:
        def patched(run: dict, index: int) -> int | None:
            losses = run["together"][which][index]
            return losses and losses[place]

        return way_gone(results, patched, None)

    return [at(place) for place in range(len(numbers))]


def way_gone(
    results: dict,
    patched: Callable[[dict, int], int | None],
    kind: str | None,
    mention: int | None = None,
) -> tuple[float, float, float]:
    """The sum of what patches gain, as a share of what the donors gain, with its interval.

    Kinds of words and runs count alike: what donors gain is scaled to the same mean for each. (Else
    the relation would decide, with which most pixels differ.)

    Args:
        results: of the study.
        patched: from a run and the index of a prompt, the loss; None leaves the prompt out.
        kind, mention: of the differing word; None is all.
    """
    gains, ways, clusters = [], [], []
    for run in runs_of(results, "tracing").values():
        right, losses = came_out(run), run["losses"]
        found: dict[str, list] = {}
        for index, chosen in enumerate(of_kind(run, kind, mention)):
            loss = patched(run, index) if chosen and right[index] else None
            if loss is not None:
                own, donor = losses["own"][index], losses["donor"][index]
                found.setdefault(run["kinds"][index], []).append((index, own - loss, own - donor))
        for each in found.values():
            mean = mean_of([way for *_, way in each]) or 1.0
            for index, gain, way in each:
                gains.append(gain / mean)
                ways.append(way / mean)
                clusters.append(index)
    if len(set(clusters)) < 2:
        return (math.nan,) * 3
    return ratio_interval(gains, ways, clusters)


def mean_losses(results: dict, kind: str) -> tuple[float, float]:
    """The mean loss of the donor's picture under the prompt itself, and under the donor.

    In units of 1e-4, of pairs that differ in a kind of word: what shares of the way are shares of.
    """
    own, donor = [], []
    for run in runs_of(results, "tracing").values():
        for index, chosen in enumerate(of_kind(run, kind, None)):
            if chosen and came_out(run)[index]:
                own.append(run["losses"]["own"][index])
                donor.append(run["losses"]["donor"][index])
    return mean_of(own), mean_of(donor)
