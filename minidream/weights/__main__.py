"""The command line of the weights: `python -m minidream.weights fake-7b DIR`."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from .commands import option, parse, parser_for
from .fake import fake_7b


@dataclass(frozen=True)
class Options:
    """What the command takes."""

    command: str = option(
        help="write a random checkpoint of full size in the official layout",
        positional=True,
        choices=["fake-7b"],
    )
    folder: Path = option(help="a folder that does not exist yet", positional=True, metavar="DIR")


def main(arguments: list[str] | None = None) -> None:
    """Writes the checkpoint. An error that the user can do something about is one line.

    Args:
        arguments: None takes those of the process.
    """
    parser = parser_for(
        Options,
        "python -m minidream.weights",
        "Writes a random checkpoint with the sizes and the layout of the published 7B weights, in "
        "bfloat16: about 16 GB on disk, 5 GB of memory, some minutes. For dry runs and for "
        "measurements without the download. If it is stopped, it leaves nothing behind.",
    )
    options = parse(parser, Options, arguments)
    # A scheduler's or `kill`'s signal ends the program like Ctrl-C, so that unfinished files are
    # removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; nothing was left behind"))
    try:
        fake_7b(options.folder)
    except OSError as error:
        sys.exit(f"{options.folder} was not written: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was left behind")


if __name__ == "__main__":
    main()
