"""How much the toy gets right: `python -m minidream.studies shipped_toy`.

It measures the numbers in the README. A trial is right if every stated attribute and relation is,
as the judge reads them. Each row is measured on fresh scenes of seen and of held-out combinations,
with separate numbers for scenes with one and with two objects; intervals are Wilson's, 95 %, over
prompts.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from ..weights import load
from ..weights.commands import option, parse, parser_for
from ..weights.files import check_writable, read_json, write_atomically
from .intervals import wilson
from .results import COMMITTED, WRITTEN, machine, torch_version
from .tables import markdown_table
from .toy_evaluation import ToyEvaluation

RESULTS = COMMITTED / "toy_metrics.json"
# (row, its name in the table, target on seen and on held-out combinations, in per cent)
ROWS = (
    ("judge", "judge on fresh renders", 99.5, 99.0),
    ("analytic", "analytic reader on fresh renders", 99.5, 99.0),
    ("vae", "scenes after VAE encode-decode", 99.0, 98.0),
    ("unet", "toy U-Net driven by toy CLIP text states", 98.0, 90.0),
    ("dream", "DreamLLM, text to image", 97.0, 90.0),
    ("captions", "captions: every fact true, the scene identified", 97.0, 90.0),
    ("questions", "questions", 97.0, 93.0),
    ("placement", "stories: `<dream>` exactly where a picture belongs", 99.0, None),
    ("stories", "stories: later pictures right", 90.0, 75.0),
    ("edits", 'editing: "<picture> the same but …"', 90.0, 75.0),
)
KINDS_OF_SCENES = ("seen", "held_out")
ROW_NAMES = tuple(row for row, *_ in ROWS)


def summary(results: list[tuple[int, bool]]) -> dict:
    """Trials and the share that is right with its interval; the same for one and for two objects.

    Args:
        results: (objects in the scene, right or not) of every trial.
    """

    def part(chosen: list[bool]) -> dict:
        low, high = wilson(sum(chosen), len(chosen))
        return {
            "n": len(chosen),
            "right": round(100 * sum(chosen) / len(chosen), 2),
            "interval": [round(100 * low, 2), round(100 * high, 2)],
        }

    found = part([right for _, right in results])
    for count, name in ((1, "one"), (2, "two")):
        if chosen := [right for objects, right in results if objects == count]:
            found[name] = part(chosen)
    return found


def table(results: dict) -> str:
    """The results as a Markdown table, as it is in the README."""
    header = [
        "right, in % [95 % interval]",
        *("seen", "target", "held out", "target"),
        *("seen, one thing / two", "held out, one / two"),
    ]
    return markdown_table(header, [table_row(results, *row) for row in ROWS])


def table_row(results: dict, row: str, words: str, *targets: float | None) -> list[str]:
    """The cells of one row; what was not measured is left empty."""
    measured = [results["rows"].get(row, {}).get(kind, {}) for kind in KINDS_OF_SCENES]
    cells = [words]
    for scores, target in zip(measured, targets):
        cells.append(in_percent(scores) if scores else "")
        cells.append(f">= {target:g}" if target else "")
    for scores in measured:
        parts = [f"{scores[name]['right']:.1f}" for name in ("one", "two") if name in scores]
        cells.append(" / ".join(parts))
    return cells


def in_percent(scores: dict) -> str:
    """ "97.5 [96.3, 98.3]"."""
    low, high = scores["interval"]
    return f"{scores['right']:.1f} [{low:.1f}, {high:.1f}]"


def measure(evaluation: ToyEvaluation, row: str, kind: str) -> dict:
    """One row on one kind of scenes, as the JSON file holds it."""
    clock = time.perf_counter()
    scores = summary(evaluation.measure(row, held_out=kind == "held_out"))
    if agree := evaluation.readers_agree:
        scores["readers_agree"] = round(100 * sum(agree) / len(agree), 2)
    return scores | {"seconds": round(time.perf_counter() - clock, 1)}


@dataclass(frozen=True)
class ShippedToyOptions:
    """What the command takes."""

    weights: str = option("toy", "what minidream.load takes")
    n: int = option(1000, "scenes per row and kind of combination")
    batch: int = option(50, "pictures painted at once")
    seed: int = option(0, "of scenes, phrasings and noise")
    rows: tuple[str, ...] = option(ROW_NAMES, "which rows", choices=ROW_NAMES, metavar="ROW")
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write; rows measured before are kept")
    table: bool = option(False, "measure nothing, print the table of --out")

    def __post_init__(self):
        if self.n < 1 or self.batch < 1:
            raise ValueError(f"--n and --batch are at least 1, not {self.n} and {self.batch}")
        if self.table and not self.out.exists():
            raise ValueError(f"{self.out} is missing: nothing was measured yet")
        if not self.table and self.out.exists():
            before = read_json(self.out)
            kept = [row for row in before.get("rows", ()) if row not in self.rows]
            if kept and before.get("command") != self.command:
                raise ValueError(
                    f"{self.out} holds rows of another command ({before.get('command')}, not "
                    f"{self.command}): measure {', '.join(kept)} too, or choose another --out"
                )

    @property
    def command(self) -> str:
        """What all rows of a file share."""
        weights = "" if self.weights == "toy" else f" --weights {self.weights}"
        return f"python -m minidream.studies shipped_toy --n {self.n} --seed {self.seed}{weights}"


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        ShippedToyOptions,
        "python -m minidream.studies shipped_toy",
        "Measures the shipped toy, or other weights, against the targets.",
    )
    options = parse(parser, ShippedToyOptions, arguments)
    results = read_json(options.out) if options.out.exists() else {"rows": {}}
    if options.table:
        return print(table(results))
    check_writable(options.out)
    if results.get("command") != options.command:
        results = {"rows": {}}  # all of them are measured anew
    evaluation = ToyEvaluation(load(options.weights), options.n, options.batch, options.seed)
    sampler = evaluation.model.decoder.config
    results |= {
        "n": options.n,
        "seed": options.seed,
        "command": options.command,
        "steps": sampler.num_inference_steps,
        "guidance_scale": sampler.guidance_scale,
        "machine": f"{machine()}, torch {torch_version()}",
    }
    for row, _, *targets in ROWS:
        if row not in options.rows:
            continue
        scores = results["rows"][row] = {}
        for kind, target in zip(KINDS_OF_SCENES, targets):
            if target is None:
                continue
            scores[kind] = measure(evaluation, row, kind)
            print(f"{row:10} {kind:9} {in_percent(scores[kind])}", flush=True)
            text = json.dumps(results, indent=1) + "\n"
            write_atomically(
                lambda path, text=text: path.write_text(text, encoding="utf-8"), options.out
            )


if __name__ == "__main__":
    main()
