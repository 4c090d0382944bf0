"""All families, run after run into one JSON; a command that was killed goes on where it stopped."""

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..studies import as_text, circumstances, load_results
from ..train import fit, write_atomically
from . import adapter, alignment, discrete, dreamllm, encode_only, flamingo, lora, metaqueries, plugin, qformer, referring
from .exam import Exam
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
    "alignment-image": ("alignment: image states", alignment.image),
    "dreamllm": ("DreamLLM", dreamllm.dreamllm),
    "dreamllm-creation": ("DreamLLM, creation only", dreamllm.creation),
    "metaqueries": ("MetaQueries, causal", metaqueries.metaqueries),
    "metaqueries-bidirectional": ("MetaQueries, bidirectional", metaqueries.bidirectional),
}


def build(name: str, plan: Plan, seed: int) -> Family:
    """A family before training; what is new in it is drawn from the seed, and torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FAMILIES[name][1](plan)


def seen_by(family: Family) -> dict[str, int]:
    """How many samples of each kind the family learns from in all its phases; pictures alone are "picture"."""
    counts = Counter()
    for phase in family.phases:
        kinds = getattr(phase, "shown", ("picture",))
        counts.update(kinds[step % len(kinds)] for step in range(phase.recipe.steps))
    return {kind: steps * family.recipe.batch for kind, steps in counts.items()}


def run(name: str, seed: int, plan: Plan, folder: Path, progress: bool = True) -> dict:
    """Trains a family once and examines it.

    Args:
        name: of `FAMILIES`.
        seed: of all that is drawn: new weights, samples, noise.
        plan: how long, and how thorough the exam.
        folder: where checkpoints and logs of this run go.
        progress: show a bar.

    Returns:
        What the JSON holds of a run.
    """
    family, curves = build(name, plan, seed), {}
    trained, seen, recipes = learned_parameters(family.phases), seen_by(family), {phase.name: asdict(phase.recipe) for phase in family.phases}
    rates = []     # (steps, samples per second) of each line of the logs
    for phase in family.phases:
        log = fit(phase, folder / f"{name}-{seed}", seed=seed, progress=progress)
        curves[phase.name] = [{name: value for name, value in line.items() if name not in ("rate", "samples_per_second")} for line in log]
        rates += [(line["step"] - before, line["samples_per_second"]) for line, before in zip(log, [0, *(line["step"] for line in log)])]
    clock = time.perf_counter()
    marks = Exam(plan, seed, family.model.device).marks(family)
    return {"family": name, "seed": seed, "trained": trained, "samples": seen, "recipes": recipes, "curves": curves, "exam": marks,
            "cannot": [kind for kind in KINDS if kind not in family.kinds],
            "samples_per_second": round(sum(steps for steps, _ in rates) / sum(steps / rate for steps, rate in rates), 1),
            "exam_seconds": round(time.perf_counter() - clock, 1), **circumstances()}


def run_all(names: list[str], plan: Plan, seeds: list[int], folder: Path, out: Path, progress: bool = True) -> dict:
    """All runs of these families that are not in the JSON yet; it is written anew after each of them.

    It is read again before that, so that a second command may run other seeds or families beside this one.
    """
    finished = {(done["family"], done["seed"]) for done in load_results(out, plan)["runs"]}
    options = [] if plan == Plan() else [f"--{option} {value}" for option, value in asdict(plan).items()]
    out.parent.mkdir(parents=True, exist_ok=True)
    todo = [(name, seed) for seed in seeds for name in names if (name, seed) not in finished]
    for name, seed in (bar := tqdm(todo, disable=not progress)):
        bar.set_description(f"{name}, seed {seed}")
        done = run(name, seed, plan, folder, progress)
        runs = [*load_results(out, plan)["runs"], done]
        command = " ".join(["python -m minidream.families all --seeds", *map(str, sorted({done["seed"] for done in runs})), *options])
        write_atomically(lambda path: path.write_text(as_text({"plan": asdict(plan), "command": command, "runs": runs})), out)
    return load_results(out, plan)
