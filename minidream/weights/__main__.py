"""The command line of the weights: `python -m minidream.weights fake-7b DIR`, and `fits`."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from .commands import option, parse, parser_for
from .fake import fake_7b
from .memory import USES, fits_table, needs_table, sizes_table


@dataclass(frozen=True)
class Options:
    """What the command takes."""

    command: str = option(
        help="fake-7b: write a random checkpoint of full size in the official layout; fits: print "
        "what the published weights take, and what fits on which card",
        positional=True,
        choices=["fake-7b", "fits"],
    )
    folder: Path | None = option(
        None, help="fake-7b: a folder that does not exist yet", positional=True, metavar="DIR"
    )

    def __post_init__(self):
        if (self.command == "fake-7b") != (self.folder is not None):
            raise ValueError("fake-7b takes a folder, DIR, and fits takes none")


def main(arguments: list[str] | None = None) -> None:
    """Writes the checkpoint, or prints the tables. Errors that the user can mend are one line.

    Args:
        arguments: None takes those of the process.
    """
    parser = parser_for(
        Options,
        "python -m minidream.weights",
        "fake-7b writes a random checkpoint with the sizes and the layout of the published 7B "
        "weights, in bfloat16: about 16 GB on disk, 5 GB of memory, some minutes. For dry runs and "
        "for measurements without the download. If it is stopped, it leaves nothing behind.",
    )
    options = parse(parser, Options, arguments)
    if options.command == "fits":
        return print_fits()
    # A scheduler's or `kill`'s signal ends the program like Ctrl-C, so that unfinished files are
    # removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; nothing was left behind"))
    try:
        fake_7b(options.folder)
    except OSError as error:
        sys.exit(f"{options.folder} was not written: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was left behind")


def print_fits() -> None:
    """Prints the tables of `memory`: sizes, needs, and what fits."""
    uses = "\n".join(f"{use}: {does}" for use, does in USES.items())
    print(sizes_table(), uses, needs_table(), fits_table(), sep="\n\n")


if __name__ == "__main__":
    main()
