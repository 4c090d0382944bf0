"""The race: how soon does a DreamLLM paint? `python -m minidream.studies speedrun`.

It starts from the frozen parts and the language model that ship, and trains dream queries,
condition projector and language model to paint. A run counts if it paints at least 95 % of 500
fresh prompts of two objects right. Its time is that of training, without the examination.
"""

import random
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

from ..train import batches
from ..trainer import Recipe, fit
from ..trainer.documents import TaskStage
from ..weights import parts, toy
from ..weights.commands import option, parse, parser_for
from ..world.language import describe, parse_caption
from ..world.scenes import sample_scene
from .intervals import wilson
from .results import COMMITTED, WRITTEN, ResultsFile, circumstances, load_results
from .tables import markdown_table

RESULTS = COMMITTED / "speedrun.json"
ENOUGH = 0.95
# What is learned, in turns: mostly plain captions, in which the order of names is that of places.
TASKS = (
    (batches.simple_text_to_image, 1.0),
    (batches.simple_text_to_image, 1.0),
    (batches.text_to_image, 1.0),
)
LEARNED = ("llm", "dream_queries", "condition_projector")  # vision is not used


@dataclass(frozen=True)
class SpeedrunPlan:
    """What all entries share: who paints enough of these right counts."""

    prompts: int = option(500, "fresh prompts of two objects that decide")


@dataclass(frozen=True)
class SpeedrunEntry:
    """What one entry of the race changes."""

    change: str = option("the first entry", "what was changed since the entry before, in words")
    steps: int = option(1200, "training steps")
    batch: int = option(48, "prompts per step")
    learning_rate: float = option(2e-3, "of the first steps after the warm-up")


def new_stage(entry: SpeedrunEntry, seed: int) -> TaskStage:
    """A model that has never painted from words, ready to be trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = parts.toy_before("stage1")
    if torch.cuda.is_available():
        model.to("cuda").llm.compile(dynamic=True)
    recipe = Recipe(entry.steps, entry.batch, entry.learning_rate, weight_decay=0.0)
    return TaskStage("speedrun", model, recipe, LEARNED, TASKS)


@torch.no_grad()
def painted_right(model, prompts: int, seed: int, batch: int = 50) -> int:
    """How many of so many fresh prompts of two objects, all in seen looks, are painted right."""
    rng, right = random.Random(f"speedrun {seed}"), 0
    texts = [describe(sample_scene(rng, count=2), rng).text for _ in range(prompts)]
    judge = toy.pretrained_judge().to(model.device)
    for first in range(0, prompts, batch):
        some = texts[first : first + batch]
        images = model.dream(some, seed=seed + first, output_type="pt")
        readings = judge.read(torch.stack(images))
        right += sum(reading.agrees(parse_caption(text)) for reading, text in zip(readings, some))
    return right


def run(entry: SpeedrunEntry, prompts: int, seed: int, progress: bool = True) -> dict:
    """Trains and examines one model.

    Returns:
        The entry, the seed, minutes of training, the number of right pictures, and whether they are
        enough; date and machine.
    """
    stage = new_stage(entry, seed)
    with tempfile.TemporaryDirectory() as folder:
        clock = time.perf_counter()
        fit(stage, folder, seed=seed, save_seconds=1e9, progress=progress)
        minutes = (time.perf_counter() - clock) / 60
    right = painted_right(stage.model, prompts, seed)
    return {
        **asdict(entry),
        "seed": seed,
        "minutes": round(minutes, 2),
        "right": right,
        "counts": right >= ENOUGH * prompts,
        "date": date.today().isoformat(),
        **circumstances(),
    }


def leaderboard(results: dict) -> str:
    """Entries as a Markdown table; an entry is a change with all its seeds.

    The quickest of those whose seeds all count comes first; those that do not count come last.

    Args:
        results: the content of the results file.
    """
    prompts, rows = results["plan"]["prompts"], []
    for change in dict.fromkeys(done["change"] for done in results["runs"]):
        runs = [done for done in results["runs"] if done["change"] == change]
        minutes = sum(done["minutes"] for done in runs) / len(runs)
        right, tried = sum(done["right"] for done in runs), prompts * len(runs)
        low, high = (100 * bound for bound in wilson(right, tried))
        share = f"{100 * right / tried:.1f} [{low:.1f}, {high:.1f}]"
        counting = sum(done["counts"] for done in runs)
        cells = [runs[0]["date"], change, f"{minutes:.1f}", share, f"{counting} of {len(runs)}"]
        rows.append((counting < len(runs), minutes, [*cells, runs[0]["machine"]]))
    header = ["date", "what was changed", "minutes", "right, in %", "seeds that count", "machine"]
    return markdown_table(header, [cells for *_, cells in sorted(rows)])


@dataclass(frozen=True)
class SpeedrunOptions:
    """What the command takes."""

    plan: SpeedrunPlan
    entry: SpeedrunEntry
    seeds: tuple[int, ...] = option((0, 1, 2), "of initial weights, batches and noise")
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write, and to resume from")
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self):
        if self.entry.steps < 1 or self.plan.prompts < 1 or not self.seeds:
            raise ValueError("--steps, --prompts and the number of --seeds are at least 1")
        load_results(self.out, self.plan)  # refuses another plan before any work starts


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        SpeedrunOptions,
        "python -m minidream.studies speedrun",
        "Trains a DreamLLM to paint, from the frozen parts and the language model that ship, and "
        "measures how long that takes. Finished runs are not repeated.",
    )
    options = parse(parser, SpeedrunOptions, arguments)
    plan, entry, progress = options.plan, options.entry, not options.quiet
    head = {"command": "python -m minidream.studies speedrun"}
    results = ResultsFile(options.out, plan, ("change", "seed")).complete(
        [(entry.change, seed) for seed in options.seeds],
        lambda _, seed: run(entry, plan.prompts, seed, progress),
        lambda runs: head,
        progress,
    )
    print(leaderboard(results))


if __name__ == "__main__":
    main()
