"""The command line: `python -m minidream.studies families NAME` trains a family, `all` every one, `table` none; then the table is written."""

from pathlib import Path

from ..weights.files import write_atomically
from .family_runs import FAMILIES, RESULTS, parser_of, results_of, run
from .family_table import figure_of, text_of


def write_table(results: dict, out: Path) -> str:
    """Writes the table beside the JSON, as .md and .png, and returns its text."""
    text = text_of(results)
    write_atomically(lambda path: path.write_text(text), out.with_suffix(".md"))
    write_atomically(
        lambda path: figure_of(results).savefig(path, format="png"), out.with_suffix(".png")
    )
    return text


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = parser_of(
        "minidream.families",
        "Trains families of related work on one budget; finished runs are not repeated.",
        FAMILIES,
        [0, 1, 2],
        Path("runs/families"),
        RESULTS,
    )
    options = parser.parse_args(arguments)
    print(write_table(results_of(parser, options, run, FAMILIES), options.out))


if __name__ == "__main__":
    main()
