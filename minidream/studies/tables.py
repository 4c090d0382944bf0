"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

RULES = {"left": "---", "right": "--:"}


def markdown_table(
    header: Sequence[str | None], rows: Iterable[Sequence[str | None]], align: Sequence[str] = ()
) -> str:
    """A table in Markdown, without a newline at its end.

    Args:
        header: names of the columns; None for a column without a name.
        rows: cells, as many in each row as there are columns; None leaves one out.
        align: "left" or "right" for each column; left for all if not given.

    Raises:
        ValueError: for a row, or alignments, of another length than the header (both numbers).
    """
    align = align or ["left"] * len(header)
    lines = [header, *rows]
    for cells in (*lines, align):
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} cells in a table of {len(header)} columns: {cells}")
    texts = ["|" + "".join(map(framed, cells)) for cells in lines]
    rule = "".join(f"|{RULES[side]}" for side in align) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def framed(cell: str | None) -> str:
    """A cell with the bar on its right."""
    return " |" if cell is None else f" {cell} |"
