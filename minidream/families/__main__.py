"""The command line: `python -m minidream.families NAME` trains a family, `all` every one, `table` none; then the table is written."""

import argparse
from dataclasses import asdict
from pathlib import Path

from ..studies import load_results
from ..train import write_atomically
from .family import Plan
from .runs import FAMILIES, RESULTS, run_all
from .table import figure_of, text_of


def write_table(results: dict, out: Path) -> str:
    """Writes the table beside the JSON, as .md and .png, and returns its text."""
    text = text_of(results)
    write_atomically(lambda path: path.write_text(text), out.with_suffix(".md"))
    write_atomically(lambda path: figure_of(results).savefig(path, format="png"), out.with_suffix(".png"))
    return text


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m minidream.families", description="Trains families of related work on one budget; finished runs are not repeated.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*FAMILIES, "all", "table"], metavar="NAME",
                        help=f"which: {', '.join(FAMILIES)}; all; or table, which trains nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a run of every family for each")
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help="see Plan")
    parser.add_argument("--folder", type=Path, default=Path("runs/families"), help="where checkpoints and logs go")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON to write, and to go on with; the table goes beside it")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    if options.names == ["table"]:
        if not options.out.exists():
            parser.error(f"{options.out} is missing: nothing was run yet")
        return print(write_table(load_results(options.out), options.out))
    try:
        plan = Plan(options.steps, options.batch, options.prompts)
        load_results(options.out, plan)
    except ValueError as error:
        parser.error(str(error))
    names = list(FAMILIES) if "all" in options.names else [name for name in options.names if name != "table"]
    print(write_table(run_all(names, plan, options.seeds, options.folder, options.out, progress=not options.quiet), options.out))


if __name__ == "__main__":
    main()
