"""The book's sources, without Sphinx: links and what they point at, the syllabus, the API pages.

`make book` builds the book and opens every page of it in a browser
(tests/campaigns/test_book_pages.py).
"""

import re
import sys
from pathlib import Path

import nbformat
import pytest

from minidream.course.references import FILES, exercises_of
from minidream.course.slides import headings

HOUSE = Path(__file__).parents[1]
BOOK = HOUSE / "notebooks" / "book"
NOTEBOOKS = sorted((HOUSE / "notebooks").glob("*.ipynb"))
PAGES = [HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", *sorted(BOOK.glob("*.md")), *NOTEBOOKS]

sys.path.insert(0, str(BOOK))
import reference  # noqa: E402  (it makes the pages of the API reference)


def text_of(path) -> str:
    """What a page says in Markdown."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def anchors(text) -> list[str]:
    """The names under which the headings of a page are linked to, as on GitHub."""
    kept = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings(text)]
    return [heading.replace(" ", "-") for heading in kept]


def broken_links(path, text) -> list[str]:
    """The links of a page to files that are not there, or to headings that they do not have."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", text):
        file, _, anchor = "".join(link).partition("#")
        if re.match(r"\w+:", file):
            continue
        target = path.parent / file if file else path
        if not target.exists():
            broken.append(f"{path.name} links to {file}, which is not there")
        elif anchor and anchor not in (known := anchors(text_of(target))):
            names = ", ".join(known)
            broken.append(f"{path.name} points at #{anchor} in {target.name}, which has: {names}")
    return broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(path):
    assert not broken_links(path, text_of(path))


def test_broken_links_are_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One `word`, two: *three*?\n```\n# no heading\n```\n[a](page.md#one-word-two-three)\n"
        "[b](https://example.org/x#y)\n[c](gone.md)\n[d](#no-heading)\n",
        encoding="utf-8",
    )
    assert broken_links(page, text_of(page)) == [
        "page.md links to gone.md, which is not there",
        "page.md points at #no-heading in page.md, which has: one-word-two-three",
    ]


def jumps(text) -> list[str]:
    """Headings that lie two levels below the one before, which Sphinx warns of."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^(#+) (.+)$", prose, re.MULTILINE)
    return [
        heading
        for (above, _), (marks, heading) in zip([("#", ""), *found], found)
        if len(marks) > len(above) + 1
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_headings_go_down_one_level_at_a_time(path):
    assert not jumps(text_of(path))


def test_a_jump_is_noticed():
    assert jumps("# One\n## Two\n### Three\n# Four\n### Five") == ["Five"]


def formulas(text) -> list[str]:
    """What is between dollars on a page, outside of code."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", prose, re.DOTALL)
    return ["".join(formula) for formula in found]


def test_the_book_can_show_every_formula():
    """A command that docutils does not know is an error here, as it is in `make book`."""
    math = pytest.importorskip(
        "docutils.utils.math.latex2mathml",
        reason="docutils, which comes with the extra `book`, is not installed",
    )
    assert formulas("a $x$ `$y$`\n$$z\n+1$$") == ["x", "z\n+1"]
    for path in PAGES:
        for formula in formulas(text_of(path)):
            assert "<math" in math.tex2mathml(formula), f"{path.name}: {formula}"


def test_the_syllabus_has_every_notebook_and_every_exercise_once():
    syllabus = (BOOK / "syllabus.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \|.*$", syllabus, re.MULTILINE)
    assert len(rows) == 8
    linked = re.findall(r"\(\.\./(\w+\.ipynb)\)", "\n".join(rows))
    assert sorted(linked) == [path.name for path in NOTEBOOKS]
    for row in rows:
        of_week = {name.split("_")[0] for name in re.findall(r"(\w+)\.ipynb", row)}
        assert {number[:-2] for number in re.findall(r"\d\db?\.\d", row)} <= of_week, row
    assigned = re.findall(r"\d\db?\.\d", "\n".join(rows))
    assert sorted(assigned) == [number for name in FILES for number in exercises_of(name)]


# --------------------------------------------------------------------------------------------------
# The API reference


def test_a_docstring_by_hand():
    docstring = """Tokens such as <s>: how they cost $.

    weights: shape (rows,),
        in [0, 1].
    names: `<s>` and others.

    A paragraph: it says more.

    Args:
        one, **two: of a kind
            that goes on.
        three: `a: b`.

    Returns:
        (rows,), and a
        second line.

    Raises:
        ValueError: for <s>.
    """
    assert reference.markdown(docstring).split("\n\n") == [
        r"Tokens such as \<s>: how they cost \$.",
        "**Attributes**",
        "- `weights`: shape (rows,),\n  in [0, 1].\n- `names`: `<s>` and others.",
        "A paragraph: it says more.",
        "**Args**",
        "- `one`, `**two`: of a kind\n  that goes on.\n- `three`: `a: b`.",
        "**Returns**",
        "(rows,), and a\nsecond line.",
        "**Raises**",
        r"- `ValueError`: for \<s>.",
    ]


def test_a_file_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "PACKAGE", tmp_path)
    (tmp_path / "shapes.py").write_text('class Shape:\n    """One."""\n', encoding="utf-8")
    (tmp_path / "here.py").write_text(
        '"""What is here."""\nfrom .shapes import Shape as Form\n\n'
        "@dataclass\nclass Two(Form):\n"
        '    """A pair."""\n    one: int\n    two: list = field(default_factory=list)\n\n'
        "    @property\n    def both(self) -> Form:\n" + '        """Both."""\n\n'
        '    def _own(self):\n        """Hidden."""\n\n'
        'def draw(form: Form, size: int = 3) -> "Two":\n    """A shape, drawn."""\n\n'
        "def undocumented():\n    pass\n",
        encoding="utf-8",
    )
    name = tmp_path.name
    assert reference.module_of(tmp_path / "here.py") == (
        f"## `{name}.here`\n\n```{{py:module}} {name}.here\n\n```\n\nWhat is here.\n\n"
        "`````{py:class} Two(one: int, two: list=list())\nA pair.\n\n"
        "````{py:property} both\n:type: Form\n\nBoth.\n````\n`````\n\n"
        f"````{{py:function}} draw(form: {name}.shapes.Shape, size: int=3) -> {name}.here.Two\n"
        "A shape, drawn.\n````"
    )


def test_the_reference_has_what_the_readme_shows_and_no_solutions():
    pages = reference.pages()
    rooms = {path.parent.name for path in (HOUSE / "minidream").glob("*/__init__.py")}
    assert pages.keys() == {"model", *rooms}
    everything = "\n".join(pages.values())
    for line in (
        "{py:function} load(name: str",
        "{py:function} dream_attention(model, prompt",
        "{py:function} dream(model, prompts",
        "{py:class} Document(",
        "{py:function} documents(path",
    ):
        assert line in everything, line
    assert "course.references" not in everything
