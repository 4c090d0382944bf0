"""The command line of training: `python -m minidream.train STAGE`."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..weights import parts
from ..weights.commands import option, parse, parser_for
from . import stages


@dataclass(frozen=True)
class Options:
    """What the command takes."""

    stage: str = option(
        help="what to train; each stage needs those before it. 'all' runs every stage that has not "
        "finished; 'ship' writes the finished parts into the package",
        positional=True,
        choices=[*parts.ORDER, "all", "ship"],
    )
    folder: Path = option(Path("runs/toy"), "where checkpoints, logs and finished parts go")
    seed: int = option(0, "of initial weights, batches and noise")
    steps: int | None = option(None, "number of steps, instead of the recipe's")
    quiet: bool = option(False, "no progress bar")
    compile: bool = option(False, "compile the language model (on a GPU this is always done)")

    def __post_init__(self):
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"--steps is at least 1, not {self.steps}")
        for name in self.names:  # refuses what was trained otherwise before any work starts
            stages.is_finished(name, self.folder, self.seed, self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """The stages to train, in order."""
        if self.stage == "ship":
            return ()
        return parts.ORDER if self.stage == "all" else (self.stage,)


def main(arguments: list[str] | None = None) -> None:
    """Trains one stage or all of them, or ships the result.

    Args:
        arguments: None takes those of the process.
    """
    parser = parser_for(
        Options,
        "python -m minidream.train",
        "Trains one stage of the toy, or all of them, from random weights.",
    )
    options = parse(parser, Options, arguments)
    if options.stage == "ship":
        return stages.ship(options.folder)
    for name in options.names:
        stages.run(
            name,
            options.folder,
            options.seed,
            options.steps,
            progress=not options.quiet,
            compiled=options.compile or torch.cuda.is_available(),
        )


if __name__ == "__main__":
    main()
