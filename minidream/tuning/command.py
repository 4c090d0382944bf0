"""The command line of fine-tuning: `python -m minidream.train tune`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from ..images import LEAST_SEED, MOST_SEED, as_integer
from ..trainer.loop import Recipe
from ..trainer.processes import state
from ..weights.commands import option, parse, parser_for
from .choices import CHOICES, check_choices
from .forgetting import Task


@dataclass(frozen=True)
class Options:
    """What the command takes."""

    model: str = option(help="what `minidream.load` takes: a name, or a folder of weights")
    data: Path = option(help="a folder in a format that `minidream.data` reads")
    folder: Path = option(
        Path("runs/tuned"),
        "where the log and the checkpoint go, and the tuned model, into its folder model",
    )
    learn: tuple[str, ...] = option(
        ("lora",),
        "what learns: a LoRA on the language model; the projectors and the dream queries; the "
        "language model; the U-Net",
        choices=CHOICES,
    )
    words: tuple[str, ...] = option((), "new words for a toy's tokenizer", metavar="WORD")
    both_ways: bool = option(
        False, "also learn to describe the pictures: every other caption comes after its picture"
    )
    old: Path | None = option(
        None, "a folder of data from before, on which is measured what is forgotten"
    )
    steps: int = option(200, "length of the run")
    batch: int = option(8, "documents in a step")
    learning_rate: float = option(1e-4, "after the warm-up")
    rank: int = option(8, "of the LoRA")
    seed: int = option(0, "of the order of the data, the noise and new weights")
    dtype: str | None = option(None, "of what is frozen; default: as it is stored")
    component_configs: Path | None = option(None, "as in `minidream.load`", metavar="FOLDER")
    checkpointing: bool = option(
        False,
        "compute each layer again in the backward pass, which takes less memory and more time (on "
        "a GPU this is done by itself where nothing else fits)",
    )
    save_seconds: float = option(60.0, "time between two checkpoints")
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self):
        check_choices(self.learn)
        as_integer("--rank", self.rank, least=1)
        as_integer("--seed", self.seed, LEAST_SEED, MOST_SEED)
        if not self.model:
            raise ValueError("--model is a name or a folder, and it is empty")
        if (processes := state().num_processes) > self.batch:
            raise ValueError(f"{processes} processes cannot share a --batch of {self.batch}")
        self.recipe  # noqa: B018  (refuses what no recipe has)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run, with a warm-up that is at most a tenth of it."""
        as_integer("--steps", self.steps, least=1)
        warmup = min(100, self.steps // 10)
        return Recipe(self.steps, self.batch, self.learning_rate, weight_decay=0.0, warmup=warmup)


def main(arguments: list[str] | None = None, tasks: dict[str, Task] | None = None) -> None:
    """Fine-tunes a model. Errors that the user can mend are one line.

    Args:
        arguments: None takes those of the process.
        tasks: of the toy, by name, on which is measured what a toy forgets.
    """
    from .running import tune

    parser = parser_for(
        Options,
        "python -m minidream.train tune",
        "Fine-tunes a model on your own data, and saves it in the official layout. A run that was "
        "stopped goes on if the same command is given again. Several processes share the work: "
        "torchrun --nproc-per-node 2 -m minidream.train tune, or accelerate launch.",
    )
    try:
        options = parse(parser, Options, arguments)
        tune(options, tasks or {})
    except (ValueError, TypeError, OSError, MemoryError, ImportError) as error:
        sys.exit(f"minidream train tune: {error}")
