"""The table of the families: what each gets right, as text and as a figure, with intervals.

It also says whether learning from the denoising loss beats aligning. The command is
`python -m minidream.studies families NAME`.
"""

import math
from pathlib import Path
from textwrap import fill

from ..families.samples import PAINTED_KINDS
from ..plots import plot_table_groups
from ..weights.commands import parse, parser_for
from ..weights.files import write_atomically, write_figure
from . import family_runs
from .family_runs import FAMILIES, FamilyOptions, common_seeds, results_of, runs_of
from .intervals import conclusion, difference_of_shares, seed_interval, wilson
from .tables import markdown_table

# Group of columns -> {column: (kind of sample, combination)}.
GROUPS = {
    "painting": {
        "text to image": ("paint", "seen"),
        "text to image, held out": ("paint", "held out"),
        "two objects": ("pair", "seen"),
        "stories": ("story", "seen"),
        "editing": ("edit", "seen"),
        "editing, in place": ("edit", "seen"),
    },
    "reading": {
        "captions": ("caption", "seen"),
        "captions, held out": ("caption", "held out"),
        "questions": ("question", "seen"),
    },
    "pointing": {"locate": ("locate", "seen"), "verify a box": ("verify", "seen")},
}
COLUMNS = {name: asked for group in GROUPS.values() for name, asked in group.items()}
# The share of replies whose object stays where it was, instead of the share that is right.
IN_PLACE = "editing, in place"
CHANCE = "without looking"  # the row of `FamilyEvaluation.chance`
# Claim -> (this family, scores higher than that one, on these kinds).
CLAIMS = {
    f"learning from the score beats {way}": ("dreamllm", other, PAINTED_KINDS)
    for way, other in {
        "aligning to text states": "alignment-text",
        "aligning to text states that say less": "alignment-short",
        "aligning to image states": "alignment-image",
        "saying image states as codes": "seed",
        "saying image states to a painter that knows them": "emu",
        "saying image states to a painter of true ones": "emu2",
    }.items()
}


def rows_of(results: dict) -> list[str]:
    """The families that were run, in the order of the tree."""
    return [name for name in FAMILIES if any(done["family"] == name for done in results["runs"])]


def cell(
    results: dict, family: str, column: str, what: str = "right"
) -> tuple[list[float], float, float, float] | None:
    """A share over all seeds, with its 95 % interval.

    Args:
        results: of the runs.
        family: of `FAMILIES`, or `CHANCE`.
        column: of `COLUMNS`.
        what: "right", replies right in everything; or "facts", the share of facts that are right.

    Returns:
        (shares of the seeds, mean, low, high) in [0, 1]; None if the family cannot do it at all.
    """
    kind, combination = COLUMNS[column]
    if family == CHANCE:
        evaluations = {done["seed"]: done["chance"] for done in results["runs"]}.values()
    elif kind in runs_of(results, family)[0]["cannot"]:
        return None
    else:
        evaluations = [done["exam"] for done in runs_of(results, family)]
    score = "in place" if column == IN_PLACE else what
    prompts = results["plan"]["prompts"]
    return share_of([score_of(scores[kind][combination], score, prompts) for scores in evaluations])


def score_of(scores: dict, what: str, prompts: int) -> tuple[float, int]:
    """One score of an evaluation: (how many, of how many)."""
    if what == "in place":
        return scores["in place"], scores["stay"]
    return (scores["right"] if what == "right" else scores["facts"] * prompts), prompts


def share_of(counts: list[tuple[float, int]]) -> tuple[list[float], float, float, float]:
    """The share over all seeds, with its 95 % interval.

    The interval is the wider of two, as each alone can be too narrow: Student's over the seeds, and
    Wilson's over all replies. For facts, Wilson's is wider than necessary, since the share of
    facts varies less between replies than right or wrong does.

    Args:
        counts: (how many, of how many) of each seed.

    Returns:
        (shares of the seeds, mean, low, high) in [0, 1]; all nan if there were no replies.
    """
    successes, n = map(sum, zip(*counts))
    if not n:
        return [], math.nan, math.nan, math.nan
    shares = [one / of for one, of in counts if of]
    low, high = wilson(successes, n)
    if len(shares) > 1:
        _, lower, higher = seed_interval(shares)
        low, high = min(low, max(0.0, lower)), max(high, min(1.0, higher))
    return shares, successes / n, low, high


def family_difference(
    results: dict, one: str, other: str, kind: str, combination: str = "seen", what: str = "facts"
) -> tuple[list[float], float, float, float, float]:
    """By how much one family's share is larger than another's, over their common seeds.

    Returns:
        As `intervals.difference_of_shares`.

    Raises:
        ValueError: with fewer than two common seeds.
    """
    seeds, prompts = common_seeds(results, one, other), results["plan"]["prompts"]
    counts = []
    for family in (one, other):
        scores = {done["seed"]: done["exam"] for done in runs_of(results, family)}
        counts.append([score_of(scores[seed][kind][combination], what, prompts) for seed in seeds])
    return difference_of_shares(*counts)


def in_percent(share: tuple | None) -> str:
    """ "72 [60, 84]"; "cannot" for None, and "-" where there were no replies."""
    if share is None:
        return "cannot"
    if math.isnan(share[1]):
        return "-"
    return "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * number for number in share[1:]))


def scores_table(results: dict, what: str, words: str) -> str:
    """One table in Markdown: a row for each family that was run, and one for chance.

    Args:
        results: of the runs.
        what: "right" or "facts", as in `cell`.
        words: its name in the table.
    """
    columns = [column for column in COLUMNS if what == "right" or column != IN_PLACE]
    numbers = ["learned parameters", "samples/s", "seeds"]
    rows = []
    for family in rows_of(results):
        runs = runs_of(results, family)
        speed = sum(done["samples_per_second"] for done in runs) / len(runs)
        cells = [in_percent(cell(results, family, column, what)) for column in columns]
        costs = [f"{runs[0]['trained']:,}", f"{speed:.0f}", str(len(runs))]
        rows.append([FAMILIES[family][0], *cells, *costs])
    chances = [cell(results, CHANCE, column, what)[1] for column in columns]
    rows.append([CHANCE, *(f"{100 * chance:.0f}" for chance in chances), None, None, None])
    header = [f"{words}, in % [95 % interval]", *columns, *numbers]
    align = ["left"] * (1 + len(columns)) + ["right"] * len(numbers)
    return markdown_table(header, rows, align)


def text_of(results: dict) -> str:
    """Tables in Markdown, of replies right in everything, of facts and of teachers; the claims."""
    paragraphs = [
        scores_table(results, "right", "right in everything"),
        scores_table(results, "facts", "facts right"),
    ]
    if teachers := teachers_table(results):
        paragraphs.append(teachers)
    if claims := claims_of(results):
        paragraphs += [
            f"Facts painted right, after {results['plan']['steps']} steps, in points "
            f"[95 % interval] ({len(claims)} comparisons: of twenty, one is expected to miss 0 by "
            "chance):",
            "\n".join(f"- {claim}" for claim in claims),
        ]
    return "\n\n".join(paragraphs) + "\n"


def teachers_table(results: dict) -> str:
    """A table in Markdown of pictures painted from what a family's painter is taught to paint from.

    Those are the true states ("teacher"), and SEED's true codes ("codes"). It is empty without any.
    """
    prompts, rows = results["plan"]["prompts"], []
    for family in rows_of(results):
        runs = runs_of(results, family)
        for source in ("teacher", "codes"):
            if source in runs[0]:
                counts = [
                    [(done[source][kind]["right"], prompts) for done in runs]
                    for kind in PAINTED_KINDS
                ]
                name = FAMILIES[family][0] + (", true codes" if source == "codes" else "")
                rows.append([name, *(in_percent(share_of(kind)) for kind in counts)])
    header = ["right from true states, in % [95 % interval]", *PAINTED_KINDS]
    return markdown_table(header, rows) if rows else ""


def claims_of(results: dict) -> list[str]:
    """For each claim and kind, by how many points of facts one family is ahead.

    Claims about families with fewer than two common seeds are left out.
    """
    lines = []
    for claim, (one, other, kinds) in CLAIMS.items():
        for kind in kinds if len(common_seeds(results, one, other)) > 1 else ():
            _, *difference, _ = family_difference(results, one, other, kind)
            mean, low, high = (100 * number for number in difference)
            found = conclusion(difference, "It does here", "The opposite, here")
            lines.append(f"{claim}, {kind}: {mean:+.0f} [{low:+.0f}, {high:+.0f}]. {found}.")
    return lines


def figure_of(results: dict, groups: tuple[str, ...] = tuple(GROUPS)):
    """The table as heat maps, one for each group of columns, with the families that can do it.

    Args:
        results: of the runs.
        groups: of `GROUPS`; those that no family of the results can do are left out.
    """
    drawn = {name: group_of(results, name) for name in groups}
    return plot_table_groups(
        {name: group for name, group in drawn.items() if len(group[1]) > 1},
        "What each family gets right in everything, from one budget",
        "share of replies, with its 95 % interval",
    )


def group_of(results: dict, group: str) -> tuple[list, list[str], list[str], list[list[str]]]:
    """A group of columns as `plots.plot_table_groups` takes it; the last row is `CHANCE`."""
    cells = {
        name: [cell(results, name, column) for column in GROUPS[group]]
        for name in [*rows_of(results), CHANCE]
    }
    cells = {name: row for name, row in cells.items() if any(share is not None for share in row)}
    return (
        [[math.nan if share is None else share[1] for share in row] for row in cells.values()],
        [FAMILIES[name][0] if name in FAMILIES else name for name in cells],
        [fill(column, 11) for column in GROUPS[group]],
        [list(map(cell_words, row)) for row in cells.values()],
    )


def cell_words(share: tuple | None) -> str:
    """What the heat map says in one cell: the share, and the limits of its interval in per cent."""
    if share is None:
        return "cannot"
    if math.isnan(share[1]):
        return "-"
    return f"{share[1]:.0%} ({100 * share[2]:.0f}-{100 * share[3]:.0f})"


def write_table(results: dict, out: Path) -> str:
    """Writes the table beside the JSON file, as .md and .png, and returns its text."""
    text = text_of(results)
    write_atomically(lambda path: path.write_text(text, encoding="utf-8"), out.with_suffix(".md"))
    write_figure(lambda: figure_of(results), out.with_suffix(".png"))
    return text


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        FamilyOptions,
        "python -m minidream.studies families",
        "Trains the families of related work on one budget; finished runs are not repeated.",
    )
    options = parse(parser, FamilyOptions, arguments)
    print(write_table(results_of(options, "families", family_runs.run, FAMILIES), options.out))
