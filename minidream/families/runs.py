"""All families, run after run into one JSON; a command that was killed goes on where it stopped."""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..studies import as_text, circumstances, load_results
from ..train import fit, write_atomically
from . import adapter, alignment, discrete, dreamllm, encode_only, flamingo, lora, metaqueries, plugin, qformer, referring
from .exam import Exam
from .example import example_of
from .family import Family, Plan, learned_parameters
from .samples import KINDS

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


def build(builder: Callable[[Plan], Family], plan: Plan, seed: int) -> Family:
    """A family before training; what is new in it is drawn from the seed, and torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return builder(plan)


def seen_by(family: Family) -> dict[str, int]:
    """How many samples of each kind the family learns from in all its phases; pictures alone are "picture"."""
    counts = Counter()
    for phase in family.phases:
        kinds = getattr(phase, "shown", ("picture",))
        counts.update(kinds[step % len(kinds)] for step in range(phase.recipe.steps))
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
    learned, seen, recipes, curves = learned_parameters(family.phases), seen_by(family), {phase.name: asdict(phase.recipe) for phase in family.phases}, {}
    rates = []     # (steps, samples per second) of each line of the logs
    for phase in family.phases:
        log = fit(phase, folder / f"{name}-{seed}", seed=seed, progress=progress)
        curves[phase.name] = [{name: value for name, value in line.items() if name not in ("rate", "samples_per_second")} for line in log]
        rates += [(line["step"] - before, line["samples_per_second"]) for line, before in zip(log, [0, *(line["step"] for line in log)])]
    return {"family": name, "seed": seed, "trained": learned, "samples": seen, "recipes": recipes, "curves": curves,
            "cannot": [kind for kind in KINDS if kind not in family.kinds],
            "samples_per_second": round(sum(steps for steps, _ in rates) / sum(steps / rate for steps, rate in rates), 1), **circumstances()}


def run(name: str, seed: int, plan: Plan, folder: Path, progress: bool = True) -> dict:
    """Trains and examines a family of `FAMILIES` once; returns what the JSON holds of a run."""
    family = build(FAMILIES[name][1], plan, seed)
    return {**trained(family, name, seed, folder, progress), "exam": Exam(plan, seed, family.model.device).marks(family), "example": example_of(family)}


def run_all(run, wanted: list[tuple[str, int]], plan: Plan, command: str, folder: Path, out: Path, progress: bool = True) -> dict:
    """All runs that are not in the JSON yet; it is written anew after each of them.

    It is read again before that, so that a second command may run other seeds or families beside this one.

    Args:
        run: as `run` above.
        wanted: (name, seed) of each.
        plan: of all of them.
        command: that makes such a JSON; its seeds and what is not usual of the plan are added.
        folder: where checkpoints and logs go.
        out: the JSON.
        progress: show bars.
    """
    finished = {(done["family"], done["seed"]) for done in load_results(out, plan)["runs"]}
    options = [f"--{option} {value}" for option, value in asdict(plan).items() if plan != Plan()]
    out.parent.mkdir(parents=True, exist_ok=True)
    todo = [one for one in wanted if one not in finished]
    for name, seed in (bar := tqdm(todo, disable=not progress)):
        bar.set_description(f"{name}, seed {seed}")
        done = run(name, seed, plan, folder, progress)
        runs = [*load_results(out, plan)["runs"], done]
        words = " ".join([command, "--seeds", *map(str, sorted({done["seed"] for done in runs})), *options])
        write_atomically(lambda path: path.write_text(as_text({"plan": asdict(plan), "command": words, "runs": runs})), out)
    return load_results(out, plan)


def runs_of(results: dict, family: str) -> list[dict]:
    """The runs of a family, by seed; ValueError if there is none."""
    chosen = sorted((done for done in results["runs"] if done["family"] == family), key=lambda done: done["seed"])
    if not chosen:
        raise ValueError(f"no run of {family!r} in these results; there are {sorted({done['family'] for done in results['runs']})}")
    return chosen


def parser_of(prog: str, description: str, names, seeds: list[int], folder: Path, out: Path) -> argparse.ArgumentParser:
    """What every command that makes such runs can be told."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*names, "all", "table"], metavar="NAME",
                        help=f"which: {', '.join(names)}; all; or table, which trains nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds, help="a run for each")
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help="see Plan")
    parser.add_argument("--folder", type=Path, default=folder, help="where checkpoints and logs go")
    parser.add_argument("--out", type=Path, default=out, help="JSON to write, and to go on with")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def results_of(parser: argparse.ArgumentParser, options: argparse.Namespace, run, names, few=()) -> dict:
    """Makes the runs that were asked for and are missing, those named in `few` for the first three seeds only.

    Results of another plan, or none to make a table of, end the command.
    """
    if options.names == ["table"]:
        if not options.out.exists():
            parser.error(f"{options.out} is missing: nothing was run yet")
        return load_results(options.out)
    try:
        plan = Plan(options.steps, options.batch, options.prompts)
        load_results(options.out, plan)
    except ValueError as error:
        parser.error(str(error))
    chosen = list(names) if "all" in options.names else [name for name in options.names if name != "table"]
    wanted = [(name, seed) for seed in options.seeds for name in chosen if name not in few or seed in options.seeds[:3]]
    return run_all(run, wanted, plan, f"{parser.prog} all", options.folder, options.out, progress=not options.quiet)
