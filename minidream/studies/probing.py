"""What causes what in the toy: `python -m minidream.studies probing`.

Nine parts ask what the dream queries divide among themselves, by interventions and with controls,
in each of the three shipped runs. All runs get the same prompts and noise. The results file holds
what was found for each prompt; `probing_shares` makes shares and intervals of it.

| part | file | question |
|---|---|---|
| tracing | `probing_tracing` | where is what a word says, after which layer, in which heads? |
| knockout | `probing_knockout` | which attention carries it there? |
| decoder | `probing_decoder` | which layers and steps of the U-Net need it? |
| roles | `probing_roles` | which query do an object's cells look at, by order of mention? |
| stages | `probing_roles` | when do these roles come about? (one run) |
| transfers | `probing_roles` | does that query bring the object along? |
| pointing | `probing_pointing` | which map points best, and better than what? |
| readable | `probing_readable` | what can linear probes read? |
| edits | `probing_edits` | why do direct edits fail, and what does thinking change? |
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from ..weights import load
from ..weights.commands import option, parse, parser_for
from .probing_decoder import decoder
from .probing_edits import edits
from .probing_knockout import knockout
from .probing_lab import Lab, Part, ProbingPlan
from .probing_pointing import pointing
from .probing_readable import readable
from .probing_roles import roles, stages, transfers
from .probing_table import tables
from .probing_tracing import tracing
from .results import COMMITTED, WRITTEN, ResultsFile, circumstances, load_results
from .shipped_toy import RUNS

RESULTS = COMMITTED / "probing.json"
PARTS: dict[str, Part] = {
    "tracing": tracing,
    "knockout": knockout,
    "decoder": decoder,
    "roles": roles,
    "stages": stages,
    "transfers": transfers,
    "pointing": pointing,
    "readable": readable,
    "edits": edits,
}


def run_all(
    plan: ProbingPlan, runs: list[str], out: Path, parts: list[str], progress: bool = True
) -> dict:
    """Makes all parts of all runs that are not in the JSON file yet.

    Args:
        plan: how much.
        runs: names of shipped weights.
        out: the JSON file.
        parts: which questions.
        progress: show a bar.

    Returns:
        The results as they are in the file.
    """
    options = [f"--{name} {value}" for name, value in asdict(plan).items() if plan != ProbingPlan()]
    command = " ".join(["python -m minidream.studies probing --runs", *runs, *options])
    head, labs = {"command": command, **circumstances()}, {}

    def one(part: str, run: str) -> dict:
        if run not in labs:  # one at a time: its pictures are shared by several parts
            labs.clear()
            labs[run] = Lab(load(run), plan, other=queries_of_next(run))
        return {"part": part, "run": run, **PARTS[part](labs[run])}

    # Only the first run's weights before its last stages are shipped.
    wanted = [(part, run) for run in runs for part in parts if part != "stages" or run == RUNS[0]]
    return ResultsFile(out, plan, keys=("part", "run")).complete(
        wanted, one, lambda runs: head, progress
    )


def queries_of_next(run: str) -> Tensor:
    """The dream queries of the run after this one; after the last, of the first."""
    return load(RUNS[(RUNS.index(run) + 1) % len(RUNS)]).dream_queries


@dataclass(frozen=True)
class ProbingOptions:
    """What the command takes."""

    plan: ProbingPlan = ProbingPlan()
    runs: tuple[str, ...] = option(RUNS, "which weights", choices=list(RUNS), metavar="RUN")
    parts: tuple[str, ...] = option(
        tuple(PARTS), "which questions", choices=list(PARTS), metavar="PART"
    )
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write, and to resume from")
    quiet: bool = option(False, "no progress bar")
    table: bool = option(False, "run nothing, print the tables of --out")

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
        "Asks what causes what in the toy; finished parts are not repeated.",
    )
    options = parse(parser, ProbingOptions, arguments)
    if options.table:
        return print(tables(load_results(options.out)))
    progress = not options.quiet
    results = run_all(options.plan, options.runs, options.out, options.parts, progress)
    if progress:
        print(tables(results))


if __name__ == "__main__":
    main()
