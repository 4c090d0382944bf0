"""The command line of training: `python -m minidream.train STAGE`, and `... tune`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ..trainer import shipping
from ..trainer.runs import has_finished
from ..trainer.side_by_side import command_of, run_side_by_side
from ..tuning import command as tuning
from ..weights import parts
from ..weights.commands import option, parse, parser_for
from . import batches, stages, words

# What is measured of a toy that is fine-tuned, on fresh samples.
TOY_TASKS = {
    "toy captions": batches.captions,
    "toy prompts": batches.text_to_image,
    "toy questions": batches.questions,
    "toy changes in words": words.restated,
}


@dataclass(frozen=True)
class Options:
    """What the command takes."""

    stage: str = option(
        help="what to train; each stage needs those before it. 'all' runs every stage that has not "
        "finished; 'ship' writes the finished parts into the package; 'tune', which has options of "
        "its own (tune --help), fine-tunes a model on your own data",
        positional=True,
        choices=[*parts.ORDER, "all", "ship"],
    )
    folder: Path = option(Path("runs/toy"), "where checkpoints, logs and finished parts go")
    seed: int = option(0, "of initial weights, batches and noise")
    steps: int | None = option(None, "number of steps, instead of the recipe's")
    pretrained: Path | None = option(
        None, "a folder whose parts stages I to III start from; 'all' then means these three"
    )
    others: tuple[Path, ...] = option(
        (), "for 'ship': folders of other runs of stages I to III", metavar="FOLDER"
    )
    jobs: int = option(1, "for 'all': how many stages run at once, each in a process of its own")
    quiet: bool = option(False, "no progress bar")
    compile: bool = option(False, "compile the language model (on a GPU this is always done)")

    def __post_init__(self):
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"--steps is at least 1, not {self.steps}")
        if self.jobs != 1 and (self.jobs < 1 or self.stage != "all"):
            raise ValueError(f"--jobs is at least 1, and for 'all', not {self.jobs}: {self.stage}")
        if self.pretrained and self.stage not in ("all", *parts.PAPERS_STAGES):
            raise ValueError(f"--pretrained is for stages I to III, not for {self.stage}")
        if self.others and self.stage != "ship":
            raise ValueError(f"--others is for 'ship', not for {self.stage}")
        self.left()  # refuses what was trained otherwise before any work starts

    @property
    def names(self) -> tuple[str, ...]:
        """The stages to train, in order."""
        if self.stage == "ship":
            return ()
        every = parts.PAPERS_STAGES if self.pretrained else parts.ORDER
        return every if self.stage == "all" else (self.stage,)

    def left(self) -> tuple[str, ...]:
        """Those of them that have not left all their parts in the folder."""
        plans = {name: (stages.RECIPES[name], self.seed, self.steps) for name in self.names}
        return tuple(name for name in plans if not has_finished(name, self.folder, *plans[name]))


def main(arguments: list[str] | None = None) -> None:
    """Trains one stage or all of them, or ships the result.

    Args:
        arguments: None takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["tune"]:
        return tuning.main(arguments[1:], TOY_TASKS)
    parser = parser_for(
        Options,
        "python -m minidream.train",
        "Trains one stage of the toy, or all of them, from random weights.",
    )
    options = parse(parser, Options, arguments)
    if options.stage == "ship":
        return shipping.ship(options.folder, options.others)
    if options.pretrained:
        shipping.take_pretrained(options.pretrained, options.folder)
    of_run, progress = (options.folder, options.seed, options.steps), not options.quiet
    if options.jobs > 1:
        steps = {name: options.steps or stages.RECIPES[name].steps for name in options.left()}
        command = command_of(*of_run, options.compile)
        run_side_by_side(tuple(steps), options.jobs, command, options.folder, steps, progress)
    for name in options.names:
        stages.run(name, *of_run, progress, options.compile or torch.cuda.is_available())


if __name__ == "__main__":
    main()
