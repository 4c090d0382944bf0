"""The main figures of the notebooks as slides: `python -m minidream.course.slides FILE`.

The slides are a notebook themselves, so that a teacher can change them before `nbconvert --to
slides` makes a presentation of it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ..weights.commands import option, parse, parser_for
from ..weights.files import write_atomically
from .notebooks import shipped

TAGS = {"slide", "thumbnail"}


def headings(source: str) -> list[str]:
    """The headings of a text cell, without the lines of code in it."""
    prose = re.sub(r"^```.*?^```", "", source, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ (.+)$", prose, re.MULTILINE)


def figures(cell: nbformat.NotebookNode) -> list[str]:
    """The PNG figures that a cell shows, in base64; none for a text cell."""
    shown = [output.get("data", {}) for output in cell.get("outputs", [])]
    return [data["image/png"] for data in shown if "image/png" in data]


def main_figures(book: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """The figures of the cells tagged "slide" or "thumbnail", else the first of the notebook.

    Returns:
        (heading of the section, figure) of each, in the order of the notebook.
    """
    heading, every, tagged = "", [], []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *headings(cell.source)][-1]
        found = [(heading, figure) for figure in figures(cell)]
        every += found
        if TAGS & set(cell.metadata.get("tags", [])):
            tagged += found
    return tagged or every[:1]


def slides(books: list[nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """A notebook of slides: a column for each notebook, which begins with its title.

    Raises:
        ValueError: for a notebook without a title.
    """
    cells = []
    for book in books:
        title = headings(book.cells[0].source)[:1]
        if not title:
            raise ValueError(f"a notebook begins without a title: {book.cells[0].source[:60]!r}")
        for index, (heading, figure) in enumerate(main_figures(book)):
            kind, text = ("subslide", f"## {heading}") if index else ("slide", f"# {title[0]}")
            cells.append(new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}}))
            about = {"image/png": {"alt": heading}}
            shown = new_output("display_data", data={"image/png": figure}, metadata=about)
            cells.append(new_code_cell(outputs=[shown]))
    return new_notebook(cells=cells)


@dataclass(frozen=True)
class SlideOptions:
    """What the command takes."""

    file: Path = option(Path("slides.ipynb"), "the notebook of slides to write", positional=True)


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        SlideOptions,
        "python -m minidream.course.slides",
        "Writes a notebook with the main figures of the course, a slide each. "
        "`jupyter nbconvert --to slides --no-input FILE` makes a presentation of it.",
    )
    options = parse(parser, SlideOptions, arguments)
    book = slides([nbformat.read(path, as_version=4) for path in shipped()])
    options.file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(lambda temporary: nbformat.write(book, temporary), options.file)


if __name__ == "__main__":
    main()
