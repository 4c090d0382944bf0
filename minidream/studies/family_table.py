"""The table: what each family gets right, as text and as figure, with intervals; and whether learning from the score beats aligning."""

import math
from textwrap import fill

from .family_runs import FAMILIES, common_seeds, runs_of
from .intervals import lead_in_shares, seed_interval, verdict, wilson

# Column -> (kind of sample, combination).
COLUMNS = {
    "text to image": ("paint", "seen"),
    "text to image, held out": ("paint", "held out"),
    "captions": ("caption", "seen"),
    "captions, held out": ("caption", "held out"),
    "questions": ("question", "seen"),
    "stories": ("story", "seen"),
    "editing": ("edit", "seen"),
    "editing, in place": ("edit", "seen"),
    "locate": ("locate", "seen"),
    "verify a box": ("verify", "seen"),
}
IN_PLACE = "editing, in place"  # its share is not of what is right, but of what is where it was
CHANCE = "without looking"  # the row of `FamilyEvaluation.chance`
# Claim -> (this family, has more than that one, of these kinds).
CLAIMS = {
    "learning from the score beats aligning to text states": (
        "dreamllm",
        "alignment-text",
        ("paint", "story", "edit"),
    ),
    "learning from the score beats aligning to text states that say less": (
        "dreamllm",
        "alignment-short",
        ("paint", "story", "edit"),
    ),
    "learning from the score beats aligning to image states": (
        "dreamllm",
        "alignment-image",
        ("paint", "story", "edit"),
    ),
}


def rows_of(results: dict) -> list[str]:
    """The families that were run, in the order of the tree."""
    return [name for name in FAMILIES if any(done["family"] == name for done in results["runs"])]


def cell(
    results: dict, family: str, column: str, what: str = "right"
) -> tuple[list[float], float, float, float] | None:
    """A share over all seeds, and its 95 % interval: (shares of the seeds, mean, low, high) in [0, 1]; None for what the family cannot do at all.

    Args:
        family: of `FAMILIES`; or `CHANCE`.
        what: "right", replies right in everything; or "facts", the share of facts that are right.
    """
    kind, combination = COLUMNS[column]
    if family == CHANCE:
        exams = {done["seed"]: done["chance"] for done in results["runs"]}.values()
    elif kind in runs_of(results, family)[0]["cannot"]:
        return None
    else:
        exams = [done["exam"] for done in runs_of(results, family)]
    return share_of(
        [
            mark_of(
                exam[kind][combination],
                "in place" if column == IN_PLACE else what,
                results["plan"]["prompts"],
            )
            for exam in exams
        ]
    )


def mark_of(marks: dict, what: str, prompts: int) -> tuple[float, int]:
    """One mark of an exam: (how many, of how many)."""
    if what == "in place":
        return marks["in place"], marks["stay"]
    return (marks["right"] if what == "right" else marks["facts"] * prompts), prompts


def share_of(marks: list[tuple[float, int]]) -> tuple[list[float], float, float, float]:
    """(shares of the seeds, mean, low, high) of what was marked with each seed; all nan if nothing was asked.

    The interval is the wider of two, as each alone can be too narrow: Student's over the seeds, and Wilson's over all replies
    (which for facts is wider than it need be, since no reply's share varies more than a right or wrong).
    """
    right, n = map(sum, zip(*marks))
    if not n:
        return [], math.nan, math.nan, math.nan
    shares, (low, high) = [one / of for one, of in marks if of], wilson(right, n)
    if len(shares) > 1:
        _, lower, higher = seed_interval(shares)
        low, high = min(low, max(0.0, lower)), max(high, min(1.0, higher))
    return shares, right / n, low, high


def lead_of(
    results: dict, one: str, other: str, kind: str, combination: str = "seen", what: str = "facts"
) -> tuple[list[float], float, float, float, float]:
    """By how much one family's share is larger than another's, over their common seeds, as `studies.lead_in_shares`.

    Raises:
        ValueError: with fewer than two common seeds.
    """
    exams = [
        {done["seed"]: done["exam"][kind][combination] for done in runs_of(results, family)}
        for family in (one, other)
    ]
    seeds = common_seeds(results, one, other)
    return lead_in_shares(
        *(
            [mark_of(exam[seed], what, results["plan"]["prompts"]) for seed in seeds]
            for exam in exams
        )
    )


def in_percent(share: tuple | None) -> str:
    """ "72 [60, 84]", or that it cannot, or was not asked."""
    if share is None:
        return "cannot"
    return (
        "-"
        if math.isnan(share[1])
        else "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * number for number in share[1:]))
    )


def text_of(results: dict) -> str:
    """Two tables in Markdown, of what is right in everything and of facts, then the claims; a row that was not run does not appear."""
    lines = []
    for what, words in (("right", "right in everything"), ("facts", "facts right")):
        columns = [column for column in COLUMNS if what == "right" or column != IN_PLACE]
        lines += [
            f"| {words}, in % [95 % interval] | "
            + " | ".join(columns)
            + " | learned parameters | samples/s | seeds |",
            "|---|" + "---|" * len(columns) + "--:|--:|--:|",
        ]
        for family in rows_of(results):
            runs = runs_of(results, family)
            speed = sum(done["samples_per_second"] for done in runs) / len(runs)
            cells = [in_percent(cell(results, family, column, what)) for column in columns]
            lines.append(
                f"| {FAMILIES[family][0]} | {' | '.join(cells)} | {runs[0]['trained']:,} | {speed:.0f} | {len(runs)} |"
            )
        lines += [
            f"| {CHANCE} | {' | '.join(f'{100 * cell(results, CHANCE, column, what)[1]:.0f}' for column in columns)} | | | |",
            "",
        ]
    if claims := claims_of(results):
        lines += [
            f"Facts painted right, after {results['plan']['steps']} steps, in points [95 % interval] ({len(claims)} comparisons: of twenty, one is expected to miss 0 by chance):",
            "",
        ]
    return "\n".join(lines + [f"- {claim}" for claim in claims]).rstrip("\n") + "\n"


def claims_of(results: dict) -> list[str]:
    """For each claim and kind, by how many points of facts one family leads; nothing with fewer than two common seeds."""
    lines = []
    for claim, (one, other, kinds) in CLAIMS.items():
        for kind in kinds if len(common_seeds(results, one, other)) > 1 else ():
            _, *lead, _ = lead_of(results, one, other, kind)
            mean, low, high = (100 * number for number in lead)
            lines.append(
                f"{claim}, {kind}: {mean:+.0f} [{low:+.0f}, {high:+.0f}]. {verdict(lead, 'It does here', 'The opposite, here')}."
            )
    return lines


def figure_of(results: dict):
    """The table as a heat map; what a family cannot do is left empty."""
    from ..plots import plot_table

    families = [*rows_of(results), CHANCE]
    cells = [[cell(results, family, column) for column in COLUMNS] for family in families]
    words = [
        [
            "cannot"
            if share is None
            else f"{share[1]:.0%}\n{100 * share[2]:.0f}-{100 * share[3]:.0f}"
            for share in row
        ]
        for row in cells
    ]
    return plot_table(
        [[math.nan if share is None else share[1] for share in row] for row in cells],
        [fill(FAMILIES[family][0] if family in FAMILIES else family, 20) for family in families],
        [fill(column, 9) for column in COLUMNS],
        "What each family gets right in everything, from one budget",
        "share of replies, with its 95 % interval",
        words,
    )
