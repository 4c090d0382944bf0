"""The promises of the course notebooks: their size, their parts, and exercises that check answers.

An exercise is a code cell that holds a stub and calls `check_exercise`; the text cell after it
holds the solution. Only the cells that an exercise depends on run here, so that nothing is trained.
"""

import ast
import contextlib
import io
import json
import re
import statistics
import sys
from pathlib import Path

import pytest
import torch

from minidream.course import exercises

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"]
    for path in sorted(FOLDER.glob("*.ipynb"))
}
COURSE = [name for name in NOTEBOOKS if name[:2] not in ("00", "11")]


def source(cell) -> str:
    return "".join(cell["source"])


def code_cells(name):
    return [cell for cell in NOTEBOOKS[name] if cell["cell_type"] == "code"]


def open_cells(cells):
    """Those that are not folded away: such cells only assert, or hold what exercises check with."""
    return [cell for cell in cells if "hide-input" not in cell["metadata"].get("tags", [])]


def is_exercise(cell) -> bool:
    return cell["cell_type"] == "code" and "check_exercise(" in source(cell)


EXERCISES = [
    (name, place)
    for name, cells in NOTEBOOKS.items()
    for place, cell in enumerate(cells)
    if is_exercise(cell)
]


# --------------------------------------------------------------------------------------------------
# The shape of a sitting


@pytest.mark.parametrize("name", COURSE)
def test_a_sitting_has_a_sittings_size(name):
    # A cell shows one step, one statement a line: about fifteen lines, up to twenty in the median.
    # Exercises hold a stub, the usual mistakes and cases, and may take forty lines.
    # Cells that are folded away do not count as cells.
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
    assert re.match(rf"# {name[:2]} · .+\?\n", first)
    assert all(f"**{part}" in first for part in ("After this", "Before this", "Budget:"))
    assert all(f"**{part}" in last for part in ("Learned", "Open", "Next:")) and re.search(
        r"\]\(\d\d_\w+\.ipynb\)", last
    )
    text = "\n".join(source(cell) for cell in NOTEBOOKS[name] if cell["cell_type"] == "markdown")
    assert text.count("**Predict") >= 2
    for link in re.findall(r"\]\((\d\d_\w+\.ipynb)[^)]*\)", text):
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
# Exercises


def names(code: str) -> tuple[set[str], set[str]]:
    """Names that a cell defines at its top level or inside, and names that it uses."""
    defined, used = set(), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return defined, used


def leaned_on(name: str, place: int) -> list[str]:
    """Earlier cells that define what an exercise uses and does not define, and what those use."""
    exercise = source(NOTEBOOKS[name][place])
    own, used = names(exercise)
    arguments = {node.arg for node in ast.walk(ast.parse(exercise)) if isinstance(node, ast.arg)}
    chosen, needed = [], used - own - arguments
    for cell in reversed(NOTEBOOKS[name][:place]):
        if cell["cell_type"] == "code":
            defined, used = names(source(cell))
            if defined & needed:
                chosen.insert(0, source(cell))
                needed |= used
    return chosen


def run(code: str, space: dict) -> str:
    """Runs a cell; gives what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "cell", "exec"), space)
    return printed.getvalue()


def without_stub(code: str) -> tuple[str, str]:
    """The cell without its stub, and the stub's name."""
    tree = ast.parse(code)
    stubs = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and "raise NotImplementedError" in ast.unparse(node)
    ]
    assert len(stubs) == 1, "an exercise holds one stub, which raises NotImplementedError"
    tree.body.remove(stubs[0])
    return ast.unparse(tree), stubs[0].name


def test_what_a_cell_leans_on_is_found(monkeypatch):
    monkeypatch.setitem(
        NOTEBOOKS,
        "made up",
        [
            {"cell_type": "code", "source": text}
            for text in (
                "import math",
                "a = 1",
                "b = train_for_hours()",
                "def twice(x):\n    return 2 * x * a",
                "check_exercise(my_x, twice, (2,))",
            )
        ],
    )
    assert leaned_on("made up", 4) == ["a = 1", "def twice(x):\n    return 2 * x * a"]


@pytest.fixture
def gradients_come_back():
    """A notebook may switch gradients off for good; here its cells share a process with others."""
    with torch.enable_grad():
        yield


@pytest.mark.usefixtures("gradients_come_back")
@pytest.mark.parametrize(
    "name, place", EXERCISES, ids=[f"{name}-{place}" for name, place in EXERCISES]
)
def test_exercises_know_right_from_wrong(name, place, monkeypatch):
    monkeypatch.setenv("MINIDREAM_BUDGET", "ci")
    monkeypatch.delenv("MINIDREAM_7B", raising=False)
    monkeypatch.chdir(FOLDER)
    exercise, following = source(NOTEBOOKS[name][place]), source(NOTEBOOKS[name][place + 1])
    space: dict = {}
    for cell in leaned_on(name, place):
        run(cell, space)
    assert run(exercise, space).startswith("Not attempted yet")

    rest, stub = without_stub(exercise)
    assert following.count("<details>") >= 2 and "Hint" in following
    solution = re.search(
        r"```python\n(.*?)```", following[following.index("Solution") :], re.DOTALL
    )[1]
    run(solution, space)
    assert run(rest, space).startswith("Right"), f"the solution of {stub} is not accepted"

    asked = []
    with monkeypatch.context() as context:
        context.setattr(
            exercises, "check_exercise", None
        )  # what the cell imports anew must not undo the next line
        space["check_exercise"] = lambda attempt, reference, *cases, mistakes=None: asked.append(
            (reference, cases, mistakes or {})
        )
        run(
            re.sub(
                r"^from minidream\.course\.exercises import check_exercise$",
                "",
                rest,
                flags=re.MULTILINE,
            ),
            space,
        )
    ((reference, cases, mistakes),) = asked
    assert len(mistakes) >= 2
    for sentence, mistake in mistakes.items():
        assert exercises.feedback(mistake, reference, cases, mistakes) == f"Not yet: {sentence}"
        assert sentence.endswith((".", "?"))
