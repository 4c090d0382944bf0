"""The promises of the course notebooks: their size, their parts, and their exercises.

An exercise is a code cell that holds a stub and calls `check`; the text cell after it holds a hint.
What is checked is in `minidream/course/references`, and tested in test_exercise_references.py.
"""

import ast
import contextlib
import inspect
import io
import json
import re
import statistics
import sys
from pathlib import Path

import pytest

from minidream.course.exercises import NOT_ATTEMPTED
from minidream.course.references import find
from minidream.course.solutions import exercise_call

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"]
    for path in sorted(FOLDER.glob("*.ipynb"))
}
COURSE = [name for name in NOTEBOOKS if name[:2] not in ("00", "11") and name[:3] != "07b"]


def number_of(name: str) -> str:
    return name.split("_")[0]


def source(cell) -> str:
    return "".join(cell["source"])


def code_cells(name):
    return [cell for cell in NOTEBOOKS[name] if cell["cell_type"] == "code"]


def open_cells(cells):
    """Those that are not folded away: such cells only assert."""
    return [cell for cell in cells if "hide-input" not in cell["metadata"].get("tags", [])]


def is_exercise(cell) -> bool:
    return cell["cell_type"] == "code" and exercise_call(source(cell)) is not None


EXERCISES = [
    (name, place)
    for name, cells in NOTEBOOKS.items()
    for place, cell in enumerate(cells)
    if is_exercise(cell)
]
every_exercise = pytest.mark.parametrize(
    "name, place", EXERCISES, ids=[f"{name}-{place}" for name, place in EXERCISES]
)


# --------------------------------------------------------------------------------------------------
# The shape of a sitting


@pytest.mark.parametrize("name", COURSE)
def test_a_sitting_has_a_sittings_size(name):
    # A cell shows one step, one statement a line: about fifteen lines, up to twenty in the median.
    # No cell takes more than forty lines. Cells that are folded away do not count as cells.
    lines = [len(source(cell).splitlines()) for cell in code_cells(name)]
    cells, of_code = len(open_cells(NOTEBOOKS[name])), len(open_cells(code_cells(name)))
    assert 20 <= cells <= 48 and 8 <= of_code <= 26, f"{cells} cells, {of_code} of code"
    assert max(lines) <= 40 and statistics.median(lines) <= 20, (
        f"longest {max(lines)}, median {statistics.median(lines)}"
    )


@pytest.mark.parametrize("name", COURSE)
def test_there_is_something_to_look_at_every_six_cells(name):
    shown = [
        any("image/png" in output.get("data", {}) for output in cell["outputs"])
        for cell in open_cells(code_cells(name))
    ]
    assert all(any(shown[first : first + 6]) for first in range(len(shown) - 5)), shown


@pytest.mark.parametrize("name", COURSE)
def test_it_begins_and_ends_as_all_do(name):
    first, last = source(NOTEBOOKS[name][0]), source(NOTEBOOKS[name][-1])
    assert re.match(rf"# {number_of(name)} · .+\?\n", first)
    assert all(f"**{part}" in first for part in ("After this", "Before this", "Budget:"))
    assert all(f"**{part}" in last for part in ("Learned", "Open", "Next:")) and re.search(
        r"\]\(\d\db?_\w+\.ipynb\)", last
    )
    text = "\n".join(source(cell) for cell in NOTEBOOKS[name] if cell["cell_type"] == "markdown")
    assert text.count("**Predict") >= 2
    for link in re.findall(r"\]\((\d\db?_\w+\.ipynb)[^)]*\)", text):
        assert (FOLDER / link).exists(), f"there is no {link}"


@pytest.mark.parametrize("name", COURSE)
def test_there_are_two_to_four_exercises_each_with_its_effort(name):
    places = [place for place, cell in enumerate(NOTEBOOKS[name]) if is_exercise(cell)]
    assert 2 <= len(places) <= 4
    text = "\n".join(source(cell) for cell in NOTEBOOKS[name])
    assert len(re.findall(r"\*\*Exercise \d\*\* \(\d+ minutes\)", text)) == len(places)


# --------------------------------------------------------------------------------------------------
# The README's table

sys.path.insert(0, str(FOLDER.parent / "tests" / "benchmarks"))
import notebooks as table_of_notebooks  # noqa: E402  (a script beside the package)


def test_the_readme_has_the_table_that_the_notebooks_make():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    between = readme.split(table_of_notebooks.BEGIN)[1].split(table_of_notebooks.END)[0]
    assert between == table_of_notebooks.table(), "run `python tests/benchmarks/notebooks.py`"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_budgets_are_the_measured_ones(name):
    """The seconds in the first cell against the committed ones, never against this run."""
    seconds = json.loads(table_of_notebooks.TIMES.read_text(encoding="utf-8"))["seconds"][name]
    said = int(re.search(r"about (\d+) seconds", source(NOTEBOOKS[name][0]))[1])
    assert abs(said - seconds["cpu"]) <= max(5, 0.25 * seconds["cpu"]), (
        f"{said} s are said, {seconds['cpu']} s were measured"
    )
    assert seconds["ci"] <= 90
    assert (table_of_notebooks.THUMBNAILS / f"{name}.png").stat().st_size < 40_000


def test_links_to_hosts_wait_for_a_home():
    path = FOLDER / "00_quickstart.ipynb"
    assert (
        table_of_notebooks.links(None, path)
        == ""
        == table_of_notebooks.links("https://example.org/a/b", path)
    )
    assert table_of_notebooks.links("https://github.com/some-one/mini.dream", path) == (
        "[Colab](https://colab.research.google.com/github/some-one/mini.dream/blob/main/"
        "notebooks/00_quickstart.ipynb) "
        "[Binder](https://mybinder.org/v2/gh/some-one/mini.dream/main"
        "?labpath=notebooks%2F00_quickstart.ipynb)"
    )


# --------------------------------------------------------------------------------------------------
# Exercises: a stub and a check, and nothing of the answer


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_exercises_have_the_numbers_of_their_notebook_in_order(name):
    calls = [exercise_call(source(cell)) for cell in NOTEBOOKS[name] if is_exercise(cell)]
    numbers = [number for number, _ in calls]
    assert numbers == [f"{number_of(name)}.{index + 1}" for index in range(len(numbers))]
    text = "\n".join(source(cell) for cell in NOTEBOOKS[name])
    asked = re.findall(r"\*\*Exercise (\d)\*\* \(\d+ minutes\)", text)
    assert asked == [number[-1] for number in numbers]


def parts_of(code: str) -> tuple[list[str], list[ast.stmt]]:
    """The imports of a cell as text, and its other statements."""
    statements = ast.parse(code).body
    imports = [each for each in statements if isinstance(each, (ast.Import, ast.ImportFrom))]
    return [ast.unparse(each) for each in imports], [
        each for each in statements if each not in imports
    ]


@every_exercise
def test_a_cell_holds_the_stub_and_its_check_and_nothing_else(name, place):
    cell = NOTEBOOKS[name][place]
    imports, (stub, call) = parts_of(source(cell))
    assert "from minidream.course import check" in imports
    body = [line for line in stub.body if not isinstance(getattr(line, "value", 0), ast.Constant)]
    assert [ast.unparse(line) for line in body] == ["raise NotImplementedError"]
    number, answer = exercise_call(source(cell))
    assert ast.unparse(call) == f"check('{number}', {answer})" and stub.name == answer
    arguments = inspect.signature(find(number).reference).parameters.values()
    required = [each for each in arguments if each.default is inspect.Parameter.empty]
    assert len(stub.args.args) == len(required)


@every_exercise
def test_an_untouched_cell_prints_what_is_committed_and_needs_no_other_cell(name, place):
    cell = NOTEBOOKS[name][place]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source(cell), "cell", "exec"), {})
    (output,) = cell["outputs"]
    assert "".join(output["text"]) == printed.getvalue() == f"{NOT_ATTEMPTED}\n"


@every_exercise
def test_the_hint_is_that_of_the_exercise_and_no_answer_follows(name, place):
    following = source(NOTEBOOKS[name][place + 1])
    number, _ = exercise_call(source(NOTEBOOKS[name][place]))
    hint = re.match(r"<details><summary>Hint</summary>(.*?)</details>", following, re.DOTALL)[1]
    assert " ".join(hint.split()) == " ".join(find(number).hint.split())
    assert "```" not in following and "<summary>Solution" not in following
