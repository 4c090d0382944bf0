"""How much the toy gets right: `python -m minidream.studies shipped_toy`.

It measures the numbers in the README. A trial is right if every stated attribute and relation is,
as the judge reads them. Each row is measured on fresh scenes of seen and of held-out combinations.
The trials are divided among the shipped runs, each with prompts of its own; intervals are Wilson's,
95 %, over prompts.
"""

import hashlib
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ..trainer.plans import hash_of_tensors
from ..weights import PRETRAINED, load
from ..weights.commands import option, parse, parser_for
from ..weights.files import check_writable, read_json, write_atomically
from ..weights.parts import toy_before
from .results import COMMITTED, WRITTEN, machine, torch_version
from .shipped_toy_table import (
    EARLIER,
    KINDS,
    OF_TWO,
    ROWS,
    WORDS_ROWS,
    in_percent,
    share,
    tables,
    training_table,
)
from .toy_evaluation import (
    ToyEvaluation,
    Trial,
)

RESULTS = COMMITTED / "toy_metrics.json"

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


@dataclass(frozen=True)
class ShippedToyOptions:
    """What the command takes."""

    weights: tuple[str, ...] = option(RUNS, "what minidream.load takes", metavar="NAME")
    n: int = option(1000, "trials per row, kind and mode, over all weights; half more of edits")
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
            found = read_json(self.out)
            pairs = {"command": (found.get("command"), self.command)}
            for run, own in weights_of(self.weights).items():
                pairs[f"weights of {run!r}"] = (found.get("weights", {}).get(run, own), own)
            for what, (before, now) in pairs.items():
                if before != now:
                    raise ValueError(
                        f"{self.out} holds rows of another {what} ({before}, not {now}): "
                        "delete it, or choose another --out"
                    )

    @property
    def command(self) -> str:
        """What all rows of a file share."""
        weights = "" if self.weights == RUNS else f" --weights {' '.join(self.weights)}"
        return f"python -m minidream.studies shipped_toy --n {self.n} --seed {self.seed}{weights}"


def weights_of(runs: tuple[str, ...]) -> dict[str, str]:
    """A hash of the weights of each shipped run; none of what is loaded from elsewhere."""
    found = {}
    for run in runs:
        files = sorted((PRETRAINED / run).glob("**/*.safetensors"))
        if run in RUNS and files:
            hashes = "".join(map(hash_of_tensors, files))
            found[run] = hashlib.sha256(hashes.encode()).hexdigest()[:12]
    return found


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
        "weights": results.get("weights", {}) | weights_of(options.weights),
        "steps": sampler.num_inference_steps,
        "guidance_scale": sampler.guidance_scale,
        "machine": f"{machine()}, torch {torch_version()}",
    }
    for row, kind, mode in cells_of(options.rows):
        of_runs = results["rows"].setdefault(row, {}).setdefault(kind, {}).setdefault(mode, {})
        runs = options.weights[:1] if row in FROZEN_ROWS else options.weights
        # Two in three scenes have two objects, and of these alone as many trials are wanted.
        n = math.ceil(1.5 * options.n) if row in {row for row, _ in OF_TWO} else options.n
        own = math.ceil(n / len(runs))
        for index, run in enumerate(runs):
            if run not in of_runs:
                # Every run has other prompts and other noise.
                seed = options.seed + 1_000_000 * index
                evaluation = ToyEvaluation(models[run], own, options.batch, seed)
                of_runs[run] = counted(evaluation.measure(row, kind == "held_out", mode))
                agree = evaluation.readers_agree
                if agree:  # the judge, and the reader that has learned nothing
                    readers = results.setdefault("readers_agree", {})
                    readers[f"{row} {kind} {mode} {run}"] = [sum(agree), len(agree)]
                write(results, options.out)
        print(f"{row:10} {kind:9} {mode:9} {in_percent(share(of_runs))}", flush=True)
    if options.weights[0] == "toy":
        measure_earlier(results, options)


def measure_earlier(results: dict, options: ShippedToyOptions) -> None:
    """The rows in words, of the toy before some of the paper's stages; on the same prompts."""
    own = math.ceil(options.n / len(options.weights))
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
