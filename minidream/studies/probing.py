"""The long run behind notebooks 09 and 10: `python -m minidream.studies probing`.

It scores the toy's maps and interventions. Each part asks one question with fresh prompts of two
objects and with several seeds of prompts and of noise; the weights are the shipped ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..weights import load
from ..weights.commands import option, parse, parser_for
from .intervals import wilson
from .probing_interventions import ablations, attributions, curves, swaps
from .probing_lab import Lab, ProbingPlan
from .probing_layers import patching, readable
from .probing_maps import claims, pointing
from .results import (
    COMMITTED,
    WRITTEN,
    ResultsFile,
    circumstances,
    command_of,
    load_results,
    runs_where,
)
from .tables import markdown_table

RESULTS = COMMITTED / "probing.json"
PARTS: dict[str, Callable[[Lab], dict]] = {
    "pointing": pointing,
    "ablations": ablations,
    "curves": curves,
    "readable": readable,
    "patching": patching,
    "claims": claims,
    "exchanges": swaps,
    "attributions": attributions,
}


def run_all(
    plan: ProbingPlan, seeds: list[int], out: Path, parts: list[str], progress: bool = True
) -> dict:
    """Makes all parts and seeds that are not in the JSON file yet."""
    model = load("toy")
    head = {"command": command_of("probing", seeds, plan), **circumstances()}

    def one(part: str, seed: int) -> dict:
        return {"part": part, "seed": seed, **PARTS[part](Lab(model, plan, seed))}

    wanted = [(part, seed) for seed in seeds for part in parts]
    return ResultsFile(out, plan, keys=("part", "seed")).complete(
        wanted, one, lambda runs: head, progress
    )


def runs_of(results: dict, part: str) -> list[dict]:
    """The runs of a part, by seed; ValueError if there is none."""
    return runs_where(results, part=part)


def table(results: dict) -> str:
    """The pointing game as the README's table: hits in per cent, over all seeds.

    Wilson's intervals count pictures, not words, as the words of one picture are not independent.
    """
    runs, kinds = runs_of(results, "pointing"), ("colour", "shape", "size")
    pictures = sum(run["scenes"] for run in runs)

    def cell(name: str, kind: str) -> str:
        hit = sum(run["hits"][name][kind] * run["scenes"] for run in runs) / pictures
        low, high = wilson(round(hit * pictures), pictures)
        return f"{100 * hit:.1f} [{100 * low:.1f}, {100 * high:.1f}]"

    return markdown_table(
        [
            f"hits, in % [95 % interval], {pictures:,} pictures",
            *(f"{kind} words" for kind in kinds),
        ],
        [[name, *(cell(name, kind) for kind in kinds)] for name in runs[0]["hits"]],
        ["left", *["right"] * len(kinds)],
    )


@dataclass(frozen=True)
class ProbingOptions:
    """What the command takes."""

    plan: ProbingPlan = ProbingPlan()
    seeds: tuple[int, ...] = option((0, 1, 2), "of prompts and noise")
    parts: tuple[str, ...] = option(
        tuple(PARTS), "which questions", choices=list(PARTS), metavar="PART"
    )
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write, and to resume from")
    quiet: bool = option(False, "no progress bar")
    table: bool = option(False, "run nothing, print the README's table of --out")

    def __post_init__(self):
        if not self.table:
            load_results(self.out, self.plan)  # refuses another plan before any work starts
        elif not self.out.exists():
            raise ValueError(f"{self.out} is missing: nothing was run yet")


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        ProbingOptions,
        "python -m minidream.studies probing",
        "Scores the toy's maps and interventions; finished parts are not repeated.",
    )
    options = parse(parser, ProbingOptions, arguments)
    if options.table:
        return print(table(load_results(options.out)))
    progress = not options.quiet
    results = run_all(options.plan, options.seeds, options.out, options.parts, progress)
    if "pointing" in options.parts:
        print(table(results))


if __name__ == "__main__":
    main()
