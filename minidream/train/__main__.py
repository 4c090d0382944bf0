"""The command line of training: `python -m minidream.train STAGE`."""

import argparse

from ..weights import parts
from . import stages


def main() -> None:
    """The command line: `python -m minidream.train STAGE`."""
    parser = argparse.ArgumentParser(
        prog="python -m minidream.train",
        description="Trains a part of the toy, or all of it, from nothing.",
    )
    parser.add_argument(
        "stage",
        choices=[*parts.ORDER, "all", "ship"],
        help="what to train; each needs the ones before it; 'all' runs every stage that has not finished; "
        "'ship' writes the finished parts into the package",
    )
    parser.add_argument(
        "--folder",
        default="runs/toy",
        help="where checkpoints, logs and finished parts go (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's number")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()
    if options.stage == "ship":
        return stages.ship(options.folder)
    for name in parts.ORDER if options.stage == "all" else [options.stage]:
        stages.run(
            name, options.folder, seed=options.seed, steps=options.steps, progress=not options.quiet
        )


if __name__ == "__main__":
    main()
