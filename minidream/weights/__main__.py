"""`python -m minidream.weights fake-7b DIR`: the command line of the weights."""

import argparse
import signal
import sys
from pathlib import Path

from .fake import fake_7b


def main() -> None:
    """Reads the command line; errors that a user can do something about are one line."""
    parser = argparse.ArgumentParser(
        prog="python -m minidream.weights", description="Checkpoints of full size."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fake = commands.add_parser(
        "fake-7b",
        help="write a random checkpoint of full size in the official layout",
        description="Writes a random checkpoint with the sizes and the layout of the published 7B weights, in "
        "bfloat16: about 16 GB on disk, 5 GB of memory, some minutes. For dry runs and measurements without the "
        "download. If it is stopped, it leaves nothing behind.",
    )
    fake.add_argument("folder", type=Path, metavar="DIR", help="a folder that does not exist yet")
    options = parser.parse_args()
    # Stopped by a scheduler or by `kill`, as by Ctrl-C: the unfinished files are taken away on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; nothing was left behind"))
    try:
        fake_7b(options.folder)
    except OSError as error:
        sys.exit(f"{options.folder} was not written: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was left behind")


if __name__ == "__main__":
    main()
