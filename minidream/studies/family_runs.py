"""The runs of all families, written into one JSON file that a stopped command resumes."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..families import (
    adapter,
    alignment,
    discrete,
    dreamllm,
    emu,
    encode_only,
    flamingo,
    lora,
    metaqueries,
    plugin,
    qformer,
    referring,
    seed,
)
from ..families.evaluation import FamilyEvaluation
from ..families.family import Family, FamilyPlan, trained_parameter_count
from ..families.samples import SAMPLE_KINDS
from ..trainer.loop import fit
from ..weights.building import single_precision
from ..weights.commands import option
from .family_example import example_of
from .results import (
    COMMITTED,
    WRITTEN,
    ResultsFile,
    circumstances,
    command_of,
    load_results,
    runs_where,
)

RESULTS = COMMITTED / "families.json"
# Name on the command line -> name in the table, and what builds it from a plan.
FAMILIES = {
    "plugin": ("plug-ins", plugin.plugin),
    "projector": ("encode only: projector", encode_only.projector),
    "captions": ("encode only: captions", encode_only.captions),
    "instructions": ("encode only: instructions", encode_only.instructions),
    "lora": ("light: LoRA", lora.lora),
    "adapter": ("light: LLaMA-Adapter", adapter.adapter),
    "flamingo": ("light: Flamingo", flamingo.flamingo),
    "qformer": ("light: query former", qformer.qformer),
    "referring": ("referring", referring.referring),
    "discrete": ("discrete tokens", discrete.discrete),
    "alignment-text": ("alignment: text states", alignment.text),
    "alignment-short": ("alignment: text states, less said", alignment.short),
    "alignment-image": ("alignment: image states", alignment.image),
    "seed": ("image states as codes: SEED", seed.seed),
    "emu": ("image states said: Emu", emu.emu),
    "emu2": ("image states said: Emu2", emu.emu2),
    "dreamllm": ("DreamLLM", dreamllm.dreamllm),
    "dreamllm-creation": ("DreamLLM, creation only", dreamllm.creation),
    "metaqueries": ("MetaQueries, causal", metaqueries.metaqueries),
    "metaqueries-bidirectional": ("MetaQueries, bidirectional", metaqueries.bidirectional),
}


@single_precision()
def build(builder: Callable[[FamilyPlan], Family], plan: FamilyPlan, seed: int) -> Family:
    """A family before training. What is new in it is drawn from the seed.

    The state of torch's global generator is restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return builder(plan)


def samples_by_kind(family: Family) -> dict[str, int]:
    """How many samples of each kind the family learns from in all its phases.

    Images without text count as the kind "picture".
    """
    counts = Counter()
    for phase in family.phases:
        kinds = phase.training_kinds
        counts.update(kinds[step % len(kinds)] for step in range(phase.recipe.steps))
    return {kind: steps * family.recipe.batch for kind, steps in counts.items()}


def trained(family: Family, name: str, seed: int, folder: Path, progress: bool = True) -> dict:
    """Trains a family in place.

    Args:
        family: before training; if it was trained in the same folder before, its weights are read.
        name: of this run, beside its seed.
        seed: of samples and noise.
        folder: where the checkpoints and logs of all runs go.
        progress: show a bar.

    Returns:
        What the JSON file holds of a run, except for its evaluation.
    """
    parameters = trained_parameter_count(family.phases)
    curves = {}
    for phase in family.phases:
        log = fit(phase, folder / f"{name}-{seed}", seed=seed, progress=progress)
        curves[phase.name] = [losses_of(line) for line in log]
    return {
        "family": name,
        "seed": seed,
        "trained": parameters,
        "samples": samples_by_kind(family),
        "recipes": {phase.name: asdict(phase.recipe) for phase in family.phases},
        "curves": curves,
        "cannot": [kind for kind in SAMPLE_KINDS if kind not in family.kinds],
        "samples_per_second": round(speed(family), 1),
        **circumstances(),
    }


def losses_of(line: dict) -> dict:
    """A line of a training log without what depends on the machine or repeats the recipe."""
    left_out = ("rate", "samples_per_second")
    return {name: value for name, value in line.items() if name not in left_out}


def speed(family: Family) -> float:
    """Samples per second of the last phase's training step, without the optimizer.

    One batch of each kind is timed, after one of each kind that is not. On CPUs it counts
    processor time, so that other programs do not matter. The family is not changed.
    """
    clock = time.perf_counter if family.model.device.type == "cuda" else time.process_time
    weights = [parameter for parameter in family.parameters() if parameter.requires_grad]
    kinds, seconds = len(family.training_kinds), 0.0
    for step in range(2 * kinds):
        start = clock()
        loss = family(family.batch(0, step, 0), torch.Generator().manual_seed(step))["total"]
        torch.autograd.grad(loss, weights, allow_unused=True)
        if step >= kinds:
            seconds += clock() - start
    return kinds * family.recipe.batch / seconds


def run(name: str, seed: int, plan: FamilyPlan, folder: Path, progress: bool = True) -> dict:
    """Trains and evaluates a family of `FAMILIES` once; returns what the JSON file holds of it."""
    family = build(FAMILIES[name][1], plan, seed)
    done = trained(family, name, seed, folder, progress)
    evaluation = FamilyEvaluation(plan, seed, family.model.device)
    return {
        **done,
        "exam": evaluation.evaluate(family),
        **family.extra_results(evaluation),
        "chance": evaluation.chance(),
        "example": example_of(family),
    }


def run_all(
    run: Callable[..., dict],
    wanted: list[tuple[str, int]],
    plan: FamilyPlan,
    study: str,
    folder: Path,
    out: Path,
    progress: bool = True,
) -> dict:
    """Makes all runs that are missing.

    Every run also leaves a file of its own in the folder, so that a second command can run other
    seeds or families at the same time.

    Args:
        run: as `run` above.
        wanted: (name, seed) of each.
        plan: of all of them.
        study: the name of the study with its argument, "families all".
        folder: where checkpoints and logs go.
        out: the JSON file.
        progress: show bars.
    """

    def describe(runs: list[dict]) -> dict:
        return {"command": command_of(study, sorted({done["seed"] for done in runs}), plan)}

    def one(name: str, seed: int) -> dict:
        return run(name, seed, plan, folder, progress)

    file = ResultsFile(out, plan, keys=("family", "seed"), folder=folder)
    return file.complete(wanted, one, describe, progress)


def runs_of(results: dict, family: str) -> list[dict]:
    """The runs of a family, by seed; ValueError if there is none."""
    return runs_where(results, family=family)


def common_seeds(results: dict, *families: str) -> list[int]:
    """Seeds that all of these families were run with."""
    seeds = [
        {done["seed"] for done in results["runs"] if done["family"] == family}
        for family in families
    ]
    return sorted(set.intersection(*seeds))


NAMES_HELP = "what to train; 'all' is everything, 'table' trains nothing and prints the table"


@dataclass(frozen=True)
class FamilyOptions:
    """What the command takes."""

    names: tuple[str, ...] = option(
        help=f"{NAMES_HELP}: {', '.join(FAMILIES)}",
        positional=True,
        choices=[*FAMILIES, "all", "table"],
        metavar="NAME",
    )
    seeds: tuple[int, ...] = option((0, 1, 2), "a run for each")
    plan: FamilyPlan = FamilyPlan()
    folder: Path = option(Path("runs/families"), "where checkpoints and logs go")
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write, and to resume from")
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self):
        if self.names == ("table",):
            if not self.out.exists():
                raise ValueError(f"{self.out} is missing: nothing was run yet")
        else:
            load_results(self.out, self.plan)  # refuses another plan before any work starts


def results_of(options: FamilyOptions, study: str, run: Callable[..., dict], names, few=()) -> dict:
    """Makes the runs that were asked for and are missing.

    Args:
        options: of the command line.
        study: its name, "families".
        run: makes one run.
        names: everything that "all" means.
        few: names that only the first three seeds are for.
    """
    if options.names == ("table",):
        return load_results(options.out)
    chosen = [name for name in options.names if name != "table"]
    if "all" in chosen:
        chosen = list(names)
    wanted = [
        (name, seed)
        for seed in options.seeds
        for name in chosen
        if name not in few or seed in options.seeds[:3]
    ]
    progress = not options.quiet
    return run_all(run, wanted, options.plan, f"{study} all", options.folder, options.out, progress)
