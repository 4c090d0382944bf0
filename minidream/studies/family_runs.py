"""All families, run after run into one JSON; a command that was killed goes on where it stopped."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..families import (
    adapter,
    alignment,
    discrete,
    dreamllm,
    encode_only,
    flamingo,
    lora,
    metaqueries,
    plugin,
    qformer,
    referring,
)
from ..families.evaluation import FamilyEvaluation
from ..families.family import Family, FamilyPlan, trained_parameter_count
from ..families.samples import SAMPLE_KINDS
from ..train.loop import fit
from ..weights.files import write_atomically
from .family_example import example_of
from .results import as_text, circumstances, load_results

RESULTS = Path(__file__).parents[2] / "notebooks" / "results" / "families.json"
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
    "dreamllm": ("DreamLLM", dreamllm.dreamllm),
    "dreamllm-creation": ("DreamLLM, creation only", dreamllm.creation),
    "metaqueries": ("MetaQueries, causal", metaqueries.metaqueries),
    "metaqueries-bidirectional": ("MetaQueries, bidirectional", metaqueries.bidirectional),
}


def build(builder: Callable[[FamilyPlan], Family], plan: FamilyPlan, seed: int) -> Family:
    """A family before training; what is new in it is drawn from the seed, and torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return builder(plan)


def seen_by(family: Family) -> dict[str, int]:
    """How many samples of each kind the family learns from in all its phases; pictures alone are "picture"."""
    counts = Counter()
    for phase in family.phases:
        counts.update(
            phase.training_kinds[step % len(phase.training_kinds)]
            for step in range(phase.recipe.steps)
        )
    return {kind: steps * family.recipe.batch for kind, steps in counts.items()}


def trained(family: Family, name: str, seed: int, folder: Path, progress: bool = True) -> dict:
    """Trains a family in place.

    Args:
        family: before training; one that was trained in the same folder before is read again.
        name: of this run, beside its seed.
        seed: of samples and noise.
        folder: where checkpoints and logs of all runs go.
        progress: show a bar.

    Returns:
        What the JSON holds of a run, but for the exam.
    """
    learned, seen, recipes, curves = (
        trained_parameter_count(family.phases),
        seen_by(family),
        {phase.name: asdict(phase.recipe) for phase in family.phases},
        {},
    )
    for phase in family.phases:
        log = fit(phase, folder / f"{name}-{seed}", seed=seed, progress=progress)
        curves[phase.name] = [
            {
                name: value
                for name, value in line.items()
                if name not in ("rate", "samples_per_second")
            }
            for line in log
        ]
    return {
        "family": name,
        "seed": seed,
        "trained": learned,
        "samples": seen,
        "recipes": recipes,
        "curves": curves,
        "cannot": [kind for kind in SAMPLE_KINDS if kind not in family.kinds],
        "samples_per_second": round(speed(family), 1),
        **circumstances(),
    }


def speed(family: Family) -> float:
    """Samples per second of the last phase's training step, without the optimizer: two of each kind, the first not counted.

    On CPUs seconds of the processor, so that what else runs there does not matter; nothing is changed by it.
    """
    clock = time.perf_counter if family.model.device.type == "cuda" else time.process_time
    seconds, learned = (
        0.0,
        [parameter for parameter in family.parameters() if parameter.requires_grad],
    )
    for step in range(2 * len(family.training_kinds)):
        start = clock()
        torch.autograd.grad(
            family(family.batch(0, step, 0), torch.Generator().manual_seed(step))["total"],
            learned,
            allow_unused=True,
        )
        seconds += (clock() - start) * (step >= len(family.training_kinds))
    return len(family.training_kinds) * family.recipe.batch / seconds


def run(name: str, seed: int, plan: FamilyPlan, folder: Path, progress: bool = True) -> dict:
    """Trains and examines a family of `FAMILIES` once; returns what the JSON holds of a run."""
    family = build(FAMILIES[name][1], plan, seed)
    done, evaluation = (
        trained(family, name, seed, folder, progress),
        FamilyEvaluation(plan, seed, family.model.device),
    )
    return {
        **done,
        "exam": evaluation.evaluate(family),
        **family.extra_results(evaluation),
        "chance": evaluation.chance(),
        "example": example_of(family),
    }


def run_all(
    run,
    wanted: list[tuple[str, int]],
    plan: FamilyPlan,
    command: str,
    folder: Path,
    out: Path,
    progress: bool = True,
) -> dict:
    """All runs that are not there yet; the JSON is written anew after each of them, from a small file that every run leaves in its folder.

    So a second command may run other seeds or families beside this one, and whoever writes last writes all.

    Args:
        run: as `run` above.
        wanted: (name, seed) of each.
        plan: of all of them.
        command: that makes such a JSON; its seeds and what is not usual of the plan are added.
        folder: where checkpoints and logs go.
        out: the JSON.
        progress: show bars.
    """
    finished = {(done["family"], done["seed"]) for done in gathered(plan, folder, out)}
    options = [
        f"--{option} {value}" for option, value in asdict(plan).items() if plan != FamilyPlan()
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    todo = [one for one in wanted if one not in finished]
    for name, seed in (bar := tqdm(todo, disable=not progress)):
        bar.set_description(f"{name}, seed {seed}")
        done = {"plan": asdict(plan), "run": run(name, seed, plan, folder, progress)}
        (folder / f"{name}-{seed}").mkdir(parents=True, exist_ok=True)
        write_atomically(
            lambda path: path.write_text(json.dumps(done)), folder / f"{name}-{seed}" / out.name
        )
        runs = gathered(plan, folder, out)
        words = " ".join(
            [command, "--seeds", *map(str, sorted({done["seed"] for done in runs})), *options]
        )
        write_atomically(
            lambda path: path.write_text(
                as_text({"plan": asdict(plan), "command": words, "runs": runs})
            ),
            out,
        )
    return load_results(out, plan)


def gathered(plan: FamilyPlan, folder: Path, out: Path) -> list[dict]:
    """All runs of a plan, by family and seed: those in the JSON, and those that left a file of its name in the folder."""
    files = [json.loads(path.read_text()) for path in folder.glob(f"*/{out.name}")]
    runs = load_results(out, plan)["runs"] + [
        file["run"] for file in files if file["plan"] == asdict(plan)
    ]
    return [
        done for _, done in sorted({(done["family"], done["seed"]): done for done in runs}.items())
    ]


def runs_of(results: dict, family: str) -> list[dict]:
    """The runs of a family, by seed; ValueError if there is none."""
    chosen = sorted(
        (done for done in results["runs"] if done["family"] == family),
        key=lambda done: done["seed"],
    )
    if not chosen:
        raise ValueError(
            f"no run of {family!r} in these results; there are {sorted({done['family'] for done in results['runs']})}"
        )
    return chosen


def common_seeds(results: dict, *families: str) -> list[int]:
    """Seeds that all of these families were run with."""
    return sorted(
        set.intersection(
            *(
                {done["seed"] for done in results["runs"] if done["family"] == family}
                for family in families
            )
        )
    )


def parser_of(
    prog: str, description: str, names, seeds: list[int], folder: Path, out: Path
) -> argparse.ArgumentParser:
    """What every command that makes such runs can be told."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {prog}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="+",
        choices=[*names, "all", "table"],
        metavar="NAME",
        help=f"which: {', '.join(names)}; all; or table, which trains nothing",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds, help="a run for each")
    for name, value in asdict(FamilyPlan()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help="see FamilyPlan")
    parser.add_argument("--folder", type=Path, default=folder, help="where checkpoints and logs go")
    parser.add_argument("--out", type=Path, default=out, help="JSON to write, and to go on with")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def results_of(
    parser: argparse.ArgumentParser, options: argparse.Namespace, run, names, few=()
) -> dict:
    """Makes the runs that were asked for and are missing, those named in `few` for the first three seeds only.

    Results of another plan, or none to make a table of, end the command.
    """
    if options.names == ["table"]:
        if not options.out.exists():
            parser.error(f"{options.out} is missing: nothing was run yet")
        return load_results(options.out)
    if len(options.seeds) > 10:
        parser.error(f"at most 10 seeds have an interval, not {len(options.seeds)}")
    try:
        plan = FamilyPlan(options.steps, options.batch, options.prompts)
        load_results(options.out, plan)
    except ValueError as error:
        parser.error(str(error))
    chosen = (
        list(names)
        if "all" in options.names
        else [name for name in options.names if name != "table"]
    )
    wanted = [
        (name, seed)
        for seed in options.seeds
        for name in chosen
        if name not in few or seed in options.seeds[:3]
    ]
    return run_all(
        run,
        wanted,
        plan,
        f"{parser.prog} all",
        options.folder,
        options.out,
        progress=not options.quiet,
    )
