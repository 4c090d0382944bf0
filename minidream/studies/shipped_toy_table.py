"""The tables of what the shipped toy gets right, and of what training took, in Markdown."""

from ..weights.layout import OTHER_RUNS
from ..world.questions import QUESTION_KINDS
from .intervals import wilson
from .tables import markdown_table
from .toy_categories import EDIT_CATEGORIES, MODES, PROMPT_CATEGORIES

KINDS = ("seen", "held_out")
# Row: (its name in the table, {mode: targets on seen and held-out combinations, in per cent}).
ROWS = {
    "judge": ("judge on fresh renders", {"direct": (99.5, 99)}),
    "analytic": ("analytic reader on fresh renders", {"direct": (99.5, 99)}),
    "vae": ("scenes after VAE encode-decode", {"direct": (99, 98)}),
    "unet": ("toy U-Net driven by toy CLIP text states", {"direct": (98, 90)}),
    "restating": ("captions said again in words", {"direct": (97, 95)}),
    "rewriting": ("edits in words", {"direct": None}),
    "telling": ("stories in words: what there is in the end", {"direct": (97, 95)}),
    "captions": ("captions of pictures: every fact but the background", {"direct": (98, 95)}),
    "questions": ("questions about pictures", {"direct": (97, 95)}),
    "placement": ("stories: `<dream>` exactly where a picture belongs", {"direct": (99, None)}),
    "dream": ("text to image", {"direct": (99, 98), "thinking": None, "oracle": None}),
    "prompts": (
        "text to image, prompts that leave out much",
        {"direct": None, "thinking": None, "oracle": None},
    ),
    "stories": (
        "stories: later pictures",
        {"direct": (92, 80), "thinking": (95, 90), "oracle": None},
    ),
    "edits": (
        'editing: "<picture> the same but …"',
        {"direct": (90, 75), "thinking": (96, 92), "oracle": None},
    ),
}
# The same, of scenes or pictures of two objects alone: (row, mode): targets.
OF_TWO = {
    ("rewriting", "direct"): (97, 95),
    ("edits", "direct"): (85, 70),
    ("edits", "thinking"): (95, 90),
    ("edits", "oracle"): (None, None),
}
# Rows that are also measured before these of the paper's stages: they show what a stage forgets.
WORDS_ROWS = ("restating", "rewriting", "telling")
EARLIER = {"stage1": "before stage I", "stage3": "after stage II"}
CATEGORIES = {
    "prompts": tuple(PROMPT_CATEGORIES),
    "edits": tuple(EDIT_CATEGORIES),
    "stories": ("second", "third"),
}


def share(measured: dict, objects: int | None = None, category: str | None = None) -> dict:
    """Trials and the share that is right, with its interval, in per cent.

    Args:
        measured: {run: what `counted` returned}.
        objects: of the wanted scenes; None takes all.
        category: None takes all.

    Returns:
        {"n", "right", "interval", "runs"}, the last with the share of each run; empty if there is
        no such trial.
    """
    of_runs = {}
    for run, counts in measured.items():
        cells = [
            cell
            for name, cell in counts.items()
            if objects in (None, int(name[0])) and category in (None, name[2:])
        ]
        of_runs[run] = [sum(cell[0] for cell in cells), sum(cell[1] for cell in cells)]
    right, n = (sum(cell[index] for cell in of_runs.values()) for index in range(2))
    if not n:
        return {}
    low, high = wilson(right, n)
    runs = [round(100 * cell[0] / cell[1], 1) for cell in of_runs.values() if cell[1]]
    interval = [round(100 * low, 1), round(100 * high, 1)]
    return {"n": n, "right": round(100 * right / n, 1), "interval": interval, "runs": runs}


def in_percent(scores: dict) -> str:
    """ "97.5 [96.3, 98.3]"; "" for what was not measured."""
    if not scores:
        return ""
    low, high = scores["interval"]
    return f"{scores['right']:.1f} [{low:.1f}, {high:.1f}]"


def skills_table(results: dict) -> str:
    """Every row and mode with its targets, as a Markdown table."""
    header = ["right, in % [95 % interval]", "seen", "target", "held out", "target", "n"]
    rows = []
    for row, (words, modes) in ROWS.items():
        for mode, targets in modes.items():
            name = words if len(modes) == 1 else f"{words}, {mode}"
            rows.append([name, *cells_with_targets(results, row, mode, targets or (None, None))])
    for (row, mode), targets in OF_TWO.items():
        name = "edits in words" if row == "rewriting" else f"edits, {mode}"
        cells = cells_with_targets(results, row, mode, targets, objects=2)
        rows.append([f"{name}, of two objects", *cells])
    return markdown_table(header, rows)


def cells_with_targets(results: dict, row: str, mode: str, targets, objects=None) -> list[str]:
    """Share and target of both kinds of combinations, and the number of trials of either."""
    cells, counts = [], []
    for kind, target in zip(KINDS, targets):
        found = share(measured_of(results, row, kind, mode), objects)
        cells += [in_percent(found), f">= {target:g}" if target else ""]
        counts += [f"{found['n']:,}"] if found else []
    return [*cells, " / ".join(dict.fromkeys(counts))]


def measured_of(results: dict, row: str, kind: str, mode: str) -> dict:
    """{run: counts} of a row; empty if it was not measured."""
    return results["rows"].get(row, {}).get(kind, {}).get(mode, {})


def categories_table(results: dict, row: str) -> str:
    """A row of the first table by category, as a Markdown table: seen, then held out, by mode.

    Edits are told apart by the number of objects in the picture that is given.
    """
    columns = [(kind, mode) for kind in KINDS for mode in MODES]
    header = ["right, in %", *(f"{kind.replace('_', ' ')}, {mode}" for kind, mode in columns), "n"]
    groups = {category: (None, category) for category in CATEGORIES[row]}
    if row == "edits":
        groups = {
            f"{category}, {('one object', 'two objects')[count - 1]}": (count, category)
            for category in EDIT_CATEGORIES
            for count in (1, 2)
        }
    rows = []
    for name, group in groups.items():
        found = [share(measured_of(results, row, *column), *group) for column in columns]
        counts = dict.fromkeys(f"{each['n']:,}" for each in found if each)
        if counts:
            rows.append([name, *map(in_percent, found), " / ".join(counts)])
    return markdown_table(header, rows)


def questions_table(results: dict) -> str:
    """Questions about pictures by kind, as a Markdown table."""
    found = {
        kind: [
            share(measured_of(results, "questions", each, "direct"), None, kind) for each in KINDS
        ]
        for kind in QUESTION_KINDS
    }
    rows = [
        [kind, *map(in_percent, shares), " / ".join(f"{each['n']:,}" for each in shares if each)]
        for kind, shares in found.items()
    ]
    return markdown_table(["questions, right, in %", "seen", "held out", "n"], rows)


def forgetting_table(results: dict) -> str:
    """What the toy does in words alone, before, between and after the paper's stages."""
    header = ["right, in %", "seen", "held out"]
    rows = []
    for row in WORDS_ROWS:
        measured = [(words, results["earlier"][stage][row]) for stage, words in EARLIER.items()]
        kinds = results["rows"][row]
        finished = {kind: {"toy": kinds[kind]["direct"]["toy"]} for kind in KINDS}
        for words, of_kinds in [*measured, ("after stage III", finished)]:
            cells = [in_percent(share(of_kinds[kind])) for kind in KINDS]
            rows.append([f"{ROWS[row][0]}, {words}", *cells])
    return markdown_table(header, rows)


# What each stage trains, for the README's table.
WHAT_LEARNS = {
    "judge": "the judge",
    "vae": "VAE",
    "text": "CLIP's text tower, from captions alone",
    "unet": "U-Net on frozen CLIP text states",
    "clip": "CLIP's vision tower, from captions and what each patch shows",
    "llm": "language model, from words alone",
    "lookup": "the same, which then looks up whose an attribute is",
    "stage1": "I: dream queries, both projectors",
    "stage2": "II: these and the language model, interleaved",
    "stage3": "III: the same, instructions",
}


def training_table(training: dict) -> str:
    """What training took, as a Markdown table: each stage, and stages I to III of other runs.

    Args:
        training: the content of `training.json`.
    """
    header = ["stage", "what learns", "steps x batch", "minutes"]
    rows = [
        [f"`{name}`", words, f"{entry['steps']:,} x {entry['batch']}", f"{entry['minutes']:.0f}"]
        for name, words in WHAT_LEARNS.items()
        for entry in [training[name]]
    ]
    for name in OTHER_RUNS:
        if name in training:
            minutes = sum(entry["minutes"] for entry in training[name].values())
            rows.append([f'`"{name}"`', "I to III once more, from another seed", "the same"])
            rows[-1].append(f"{minutes:.0f}")
    total = sum(training[name]["minutes"] for name in WHAT_LEARNS)
    rows.append(["all of the first run", "", "", f"{total:.0f}"])
    return markdown_table(header, rows)


def tables(results: dict) -> str:
    """The tables of results in the README."""
    found = [
        skills_table(results),
        *(categories_table(results, row) for row in CATEGORIES),
        questions_table(results),
    ]
    return "\n\n".join([*found, *([forgetting_table(results)] if "earlier" in results else [])])
