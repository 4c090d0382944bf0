"""One command for all studies: `python -m minidream.studies STUDY [options]`."""

import argparse
import os
import sys

from . import (
    family_table,
    full_weights,
    probing,
    query_count,
    shipped_toy,
    speedrun,
    synergy,
)

# Name of the study -> (its command line, what `--help` says about it).
STUDIES = {
    "shipped_toy": (shipped_toy.main, "how much the shipped weights get right"),
    "speedrun": (speedrun.main, "how soon a model paints, from the parts that ship"),
    "query_count": (query_count.main, "what teaches dream queries best, and how many it takes"),
    "probing": (probing.main, "what causes what: traces, cuts, maps and their controls"),
    "families": (family_table.main, "the systems of related work on one budget"),
    "full_weights": (full_weights.main, "ten questions to the published 7B, or to any model"),
    "synergy": (synergy.main, "whether painting and seeing help each other"),
}


def main(arguments: list[str] | None = None) -> None:
    """Runs one study with the options that follow its name.

    Args:
        arguments: None takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    listed = "\n".join(f"  {name:12} {about}" for name, (_, about) in STUDIES.items())
    parser = argparse.ArgumentParser(
        prog="python -m minidream.studies",
        usage="%(prog)s STUDY [options]",
        description="The long runs whose results are committed under notebooks/results.",
        epilog=f"studies:\n{listed}\n\n%(prog)s STUDY --help lists the options of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help="which one")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        parser.error("studies run in one process: start them without torchrun")
    study = parser.parse_args(arguments[:1]).study  # the options after it are the study's own
    STUDIES[study][0](arguments[1:])


if __name__ == "__main__":
    main()
