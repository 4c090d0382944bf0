"""Reading the results of the study of query counts: scores over seeds, and their differences."""

from collections.abc import Callable

from .intervals import difference_of_shares, mean_with_interval, seed_interval, wilson
from .query_evaluation import ATTRIBUTES, PROMPT_KINDS
from .results import runs_where


def values_of(results: dict, study: str, condition: str, value: Callable[[dict], object]) -> list:
    """`value(run)` for every run of a condition, by seed; ValueError if there is none."""
    return [value(run) for run in runs_where(results, study=study, condition=condition)]


def score_of(done: dict, kind: str, what: str) -> float:
    """One number of a run's evaluation.

    Args:
        done: the run.
        kind: of `PROMPT_KINDS`.
        what: "denoising" or "imitation"; or an attribute, for the share in [0, 1] of pictures that
            are right in it.
    """
    scores = done["exam"][kind]
    return scores[what] if what in scores else scores["right"][what] / scores["n"]


def table_of(results: dict, rows: dict[str, tuple[str, str]], columns: dict) -> dict:
    """Scores over seeds, as `plots.plot_spreads` and `plots.plot_by_count` take them.

    Args:
        results: of the study.
        rows: {name: (kind of prompt, what is scored)}.
        columns: {name: (study, condition)}.

    Returns:
        {row: {column: `mean_with_interval` of the seeds}}.
    """

    def cell(kind: str, what: str, study: str, condition: str):
        scores = values_of(results, study, condition, lambda done: score_of(done, kind, what))
        return mean_with_interval(scores)

    return {
        row: {column: cell(*scored, *condition) for column, condition in columns.items()}
        for row, scored in rows.items()
    }


def difference(
    results: dict,
    kind: str,
    what: str,
    one: tuple[str, str] = ("loss", "score"),
    other: tuple[str, str] = ("loss", "regression"),
) -> tuple[float, float, float]:
    """By how much the score of one (study, condition) is larger than another's, seed by seed.

    Returns:
        (mean, low, high), with the interval of `seed_interval`, or for shares that of
        `difference_of_shares`.

    Raises:
        ValueError: if they do not have the same seeds (both).
    """
    seeds, others = (
        values_of(results, *condition, lambda done: done["seed"]) for condition in (one, other)
    )
    if seeds != others:
        raise ValueError(f"{one} was run with the seeds {seeds}, {other} with {others}")
    first, second = (
        values_of(results, *condition, lambda done: done["exam"][kind])
        for condition in (one, other)
    )
    if what in ATTRIBUTES:
        counts = [[(run["right"][what], run["n"]) for run in runs] for runs in (first, second)]
        return difference_of_shares(*counts)[1:4]
    return seed_interval([run[what] - run_too[what] for run, run_too in zip(first, second)])


def difference_rows(results: dict) -> list[tuple[str, ...]]:
    """`difference` in words, for every kind of prompt and attribute, in percentage points.

    Returns:
        [("one, seen", "+12 [-3, +27]", ...), ...].
    """

    def in_words(kind: str, what: str) -> str:
        mean, low, high = (100 * number for number in difference(results, kind, what))
        return f"{mean:+.0f} [{low:+.0f}, {high:+.0f}]"

    return [(kind, *(in_words(kind, what) for what in ATTRIBUTES)) for kind in PROMPT_KINDS]


def summary(results: dict) -> str:
    """A line for each run: denoising loss and share of right pictures, for seen combinations."""
    return "\n".join(map(summary_line, results["runs"]))


def summary_line(done: dict) -> str:
    """The line of one run; of two numbers, the first is for one object, the second for two."""
    one, two = (done["exam"][kind] for kind in ("one, seen", "two, seen"))
    low, high = wilson(one["right"]["all"], one["n"])
    right, right_of_two = (score_of(done, kind, "all") for kind in ("one, seen", "two, seen"))
    return (
        f"{done['study']:8} {done['condition']:12} seed {done['seed']}  "
        f"denoising {one['denoising']:.4f} / {two['denoising']:.4f}  "
        f"right {right:.0%} [{low:.0%}, {high:.0%}] / {right_of_two:.0%}  "
        f"{sum(done['seconds'].values()):.0f} s"
    )
