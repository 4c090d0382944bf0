"""Slides: which figures of a notebook they have, in which order, and under which headings."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minidream.course import slides
from minidream.course.notebooks import shipped


def drawn(figure, *tags):
    """A cell that has drawn a figure; the letters stand for its bytes."""
    outputs = [
        new_output("stream", text="also printed"),
        new_output("display_data", data={"image/png": figure, "text/plain": "<Figure>"}),
    ]
    return new_code_cell("draw()", outputs=outputs, metadata={"tags": list(tags)})


def notebook(*cells):
    return new_notebook(cells=[new_markdown_cell("# 07 · Why?\n\nmore"), *cells])


def test_tagged_figures_are_main_ones_or_else_the_first():
    code = "```bash\n# no heading\n```\n\n## How?\n\n### Where?"
    cells = [drawn("aa"), new_markdown_cell(code), drawn("bb", "slide"), drawn("cc", "hide-input")]
    assert slides.main_figures(notebook(*cells)) == [("Where?", "bb")]
    cells.append(drawn("dd", "thumbnail"))
    assert slides.main_figures(notebook(*cells)) == [("Where?", "bb"), ("Where?", "dd")]
    assert slides.main_figures(notebook(*cells[:2], drawn("ee"))) == [("07 · Why?", "aa")]
    assert slides.main_figures(notebook(new_code_cell("1"))) == []


def test_a_notebook_is_a_column_of_slides():
    cells = [drawn("aa", "slide"), new_markdown_cell("## How?"), drawn("bb", "slide")]
    book = slides.slides([notebook(*cells), notebook(drawn("cc"))])
    nbformat.validate(book)
    titles, shown = book.cells[::2], book.cells[1::2]
    assert [(cell.source, cell.metadata.slideshow.slide_type) for cell in titles] == [
        ("# 07 · Why?", "slide"),
        ("## How?", "subslide"),
        ("# 07 · Why?", "slide"),
    ]
    assert [cell.outputs[0].data for cell in shown] == [
        {"image/png": figure} for figure in ("aa", "bb", "cc")
    ]
    assert shown[1].outputs[0].metadata == {"image/png": {"alt": "How?"}}
    with pytest.raises(ValueError, match="without a title: 'no title'"):
        slides.slides([new_notebook(cells=[new_markdown_cell("no title")])])


def test_every_notebook_has_a_slide_and_nbconvert_presents_them(tmp_path):
    from nbconvert import SlidesExporter

    path = tmp_path / "out" / "slides.ipynb"
    slides.main([str(path)])
    book = nbformat.read(path, as_version=4)
    columns = [cell.source for cell in book.cells if cell.source.startswith("# ")]
    assert [title[2:].split()[0] for title in columns] == [
        each.name.split("_")[0] for each in shipped()
    ]
    page, _ = SlidesExporter(exclude_input=True).from_notebook_node(book)
    page = page.replace("\n", "")
    for cell in book.cells:
        for figure in slides.figures(cell):
            assert figure.replace("\n", "") in page
