"""How much the toy gets right: `python -m minidream.studies shipped_toy`.

It measures the numbers in the README. A trial is right if every stated attribute and relation is,
as the judge reads them. Each row is measured on fresh scenes of seen and of held-out combinations.
The trials are divided among the shipped runs, each with prompts of its own; intervals are Wilson's,
95 %, over prompts.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ..weights import PRETRAINED, load
from ..weights.commands import option, parse, parser_for
from ..weights.files import check_writable, read_json, write_atomically
from ..weights.layout import OTHER_RUNS
from ..weights.parts import toy_before
from .intervals import wilson
from .results import COMMITTED, WRITTEN, machine, torch_version
from .tables import markdown_table
from .toy_evaluation import (
    EDIT_CATEGORIES,
    MODES,
    PROMPT_CATEGORIES,
    ToyEvaluation,
    Trial,
)

RESULTS = COMMITTED / "toy_metrics.json"
KINDS = ("seen", "held_out")
# Row: (its name in the table, {mode: targets on seen and held-out combinations, in per cent}).
ROWS = {
    "judge": ("judge on fresh renders", {"direct": (99.5, 99)}),
    "analytic": ("analytic reader on fresh renders", {"direct": (99.5, 99)}),
    "vae": ("scenes after VAE encode-decode", {"direct": (99, 98)}),
    "unet": ("toy U-Net driven by toy CLIP text states", {"direct": (98, 90)}),
    "restating": ("captions said again in words", {"direct": (97, 95)}),
    "rewriting": ("edits in words", {"direct": (97, 95)}),
    "captions": ("captions of pictures: every fact", {"direct": (98, 95)}),
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
# Rows that are also measured before these of the paper's stages: they show what a stage forgets.
WORDS_ROWS = ("restating", "rewriting")
EARLIER = {"stage1": "before stage I", "stage3": "after stage II"}
FROZEN_ROWS = ("judge", "analytic", "vae", "unet")  # the same in all runs
RUNS = ("toy", "toy-1", "toy-2")


def counted(trials: list[Trial]) -> dict[str, list[int]]:
    """[right, trials] for each number of objects and category, under "objects category"."""
    counts = defaultdict(lambda: [0, 0])
    for trial in trials:
        cell = counts[f"{trial.objects} {trial.category}".strip()]
        cell[0] += trial.right
        cell[1] += 1
    return dict(sorted(counts.items()))


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
    header = ["right, in % [95 % interval]", "seen", "target", "held out", "target"]
    rows = []
    for row, (words, modes) in ROWS.items():
        for mode, targets in modes.items():
            name = words if len(modes) == 1 else f"{words}, {mode}"
            cells = [name]
            for kind, target in zip(KINDS, targets or (None, None)):
                measured = results["rows"].get(row, {}).get(kind, {}).get(mode, {})
                cells += [in_percent(share(measured)), f">= {target:g}" if target else ""]
            rows.append(cells)
    two = "edits of two objects"
    for mode, *targets in (("direct", 85, 70), ("thinking", 95, 90), ("oracle", None, None)):
        cells = [f"{two}, {mode}"]
        for kind, target in zip(KINDS, targets):
            measured = results["rows"].get("edits", {}).get(kind, {}).get(mode, {})
            cells += [in_percent(share(measured, objects=2)), f">= {target:g}" if target else ""]
        rows.append(cells)
    return markdown_table(header, rows)


def categories_table(results: dict, row: str) -> str:
    """A row of the first table by category, as a Markdown table: seen, then held out, by mode."""
    categories = PROMPT_CATEGORIES if row == "prompts" else EDIT_CATEGORIES
    header = [
        "right, in %",
        *(f"{kind.replace('_', ' ')}, {mode}" for kind in KINDS for mode in MODES),
    ]
    columns = [(kind, mode) for kind in KINDS for mode in MODES]
    rows = [
        [category, *(cell_of(results, row, *column, category) for column in columns)]
        for category in categories
    ]
    return markdown_table(header, rows)


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


def cell_of(results: dict, row: str, kind: str, mode: str, category: str) -> str:
    """One cell of `categories_table`."""
    measured = results["rows"].get(row, {}).get(kind, {}).get(mode, {})
    return in_percent(share(measured, category=category))


# What each stage trains, for the README's table.
WHAT_LEARNS = {
    "judge": "the judge",
    "vae": "VAE",
    "text": "CLIP's text tower, from captions alone",
    "unet": "U-Net on frozen CLIP text states",
    "clip": "CLIP's vision tower, from pictures and captions",
    "llm": "language model, from words alone",
    "lookup": "the same: whose an attribute is",
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
    return markdown_table(header, rows)


def tables(results: dict) -> str:
    """The tables of results in the README."""
    found = [
        skills_table(results),
        categories_table(results, "prompts"),
        categories_table(results, "edits"),
    ]
    return "\n\n".join([*found, *([forgetting_table(results)] if "earlier" in results else [])])


@dataclass(frozen=True)
class ShippedToyOptions:
    """What the command takes."""

    weights: tuple[str, ...] = option(RUNS, "what minidream.load takes", metavar="NAME")
    n: int = option(1000, "trials per row, kind of combination and mode, over all weights")
    batch: int = option(50, "pictures painted at once")
    seed: int = option(0, "of scenes, phrasings and noise")
    rows: tuple[str, ...] = option(tuple(ROWS), "which rows", choices=tuple(ROWS), metavar="ROW")
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write; what it has is kept")
    table: bool = option(False, "measure nothing, print the tables of --out")

    def __post_init__(self):
        if self.n < 1 or self.batch < 1:
            raise ValueError(f"--n and --batch are at least 1, not {self.n} and {self.batch}")
        if self.table and not self.out.exists():
            raise ValueError(f"{self.out} is missing: nothing was measured yet")
        if not self.table and self.out.exists():
            before = read_json(self.out).get("command")
            if before != self.command:
                raise ValueError(
                    f"{self.out} holds rows of another command ({before}, not {self.command}): "
                    "delete it, or choose another --out"
                )

    @property
    def command(self) -> str:
        """What all rows of a file share."""
        weights = "" if self.weights == RUNS else f" --weights {' '.join(self.weights)}"
        return f"python -m minidream.studies shipped_toy --n {self.n} --seed {self.seed}{weights}"


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        ShippedToyOptions,
        "python -m minidream.studies shipped_toy",
        "Measures the shipped toy, or other weights, against the targets. It goes on where an "
        "earlier call was stopped.",
    )
    options = parse(parser, ShippedToyOptions, arguments)
    results = read_json(options.out) if options.out.exists() else {"rows": {}}
    if options.table:
        training = read_json(PRETRAINED / "toy" / "training.json")
        return print(f"{tables(results)}\n\n{training_table(training)}")
    check_writable(options.out)
    models = {name: load(name) for name in options.weights}
    sampler = models[options.weights[0]].decoder.config
    results |= {
        "n": options.n,
        "seed": options.seed,
        "command": options.command,
        "steps": sampler.num_inference_steps,
        "guidance_scale": sampler.guidance_scale,
        "machine": f"{machine()}, torch {torch_version()}",
    }
    for row, kind, mode in cells_of(options.rows):
        of_runs = results["rows"].setdefault(row, {}).setdefault(kind, {}).setdefault(mode, {})
        runs = options.weights[:1] if row in FROZEN_ROWS else options.weights
        own = (options.n + len(runs) - 1) // len(runs)
        for index, run in enumerate(runs):
            if run not in of_runs:
                # Every run has other prompts and other noise.
                seed = options.seed + 1_000_000 * index
                evaluation = ToyEvaluation(models[run], own, options.batch, seed)
                of_runs[run] = counted(evaluation.measure(row, kind == "held_out", mode))
                write(results, options.out)
        print(f"{row:10} {kind:9} {mode:9} {in_percent(share(of_runs))}", flush=True)
    if options.weights[0] == "toy":
        measure_earlier(results, options)


def measure_earlier(results: dict, options: ShippedToyOptions) -> None:
    """The rows in words, of the toy before some of the paper's stages; on the same prompts."""
    own = (options.n + len(options.weights) - 1) // len(options.weights)
    for row in (row for row in WORDS_ROWS if row in options.rows):
        for stage, kind in ((stage, kind) for stage in EARLIER for kind in KINDS):
            of_kinds = results.setdefault("earlier", {}).setdefault(stage, {}).setdefault(row, {})
            if kind not in of_kinds:
                evaluation = ToyEvaluation(toy_before(stage), own, options.batch, options.seed)
                of_kinds[kind] = {
                    "toy": counted(evaluation.measure(row, kind == "held_out", "direct"))
                }
                write(results, options.out)
            print(f"{row:10} {kind:9} {EARLIER[stage]} {in_percent(share(of_kinds[kind]))}")


def cells_of(rows: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(row, kind, mode) of everything that is measured in these rows."""
    cells = []
    for row in rows:
        for mode, targets in ROWS[row][1].items():
            pairs = zip(KINDS, targets or (0, 0))
            cells += [(row, kind, mode) for kind, target in pairs if target is not None]
    return cells


def write(results: dict, path: Path) -> None:
    """Writes the JSON file, a line for each run."""
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(lambda place: place.write_text(text, encoding="utf-8"), path)


if __name__ == "__main__":
    main()
