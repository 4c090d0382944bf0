"""The solved notebooks for teachers: whole, and right where their cells are run."""

import ast
import contextlib
import io
import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minidream.course import solutions
from minidream.course.references import FILES, exercises_of, find

STUB = """from minidream.course import check


def my_merged(weight, down, up):
    raise NotImplementedError


check("12.1", my_merged)"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the solved notebooks, made in a folder that did not exist."""
    target = tmp_path_factory.mktemp("teachers") / "solved"
    solutions.main([str(target)])
    return target


def test_every_notebook_is_written_and_only_its_exercises_change(folder):
    names = [path.name for path in sorted(solutions.NOTEBOOKS.glob("*.ipynb"))]
    assert [path.name for path in sorted(folder.iterdir())] == names
    for name in names:
        before = nbformat.read(solutions.NOTEBOOKS / name, as_version=4)
        after = nbformat.read(folder / name, as_version=4)
        nbformat.validate(after)
        solved = []
        for one, other in zip(before.cells[1:], after.cells[1:], strict=True):
            if one != other:
                assert one.id == other.id and not other.outputs
                ast.parse(other.source)
                assert "raise NotImplementedError" not in other.source
                solved.append(solutions.exercise_call(other.source)[0])
        title = after.cells[0].source.splitlines()[0]
        assert title.endswith("(with solutions)") == (name.split("_")[0] in FILES)
        assert solved == list(exercises_of(name.split("_")[0]))[: len(solved)]
        assert bool(solved) == (name.split("_")[0] in FILES)


def test_no_solution_is_left_in_the_notebooks():
    for path in solutions.NOTEBOOKS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert "<summary>Solution" not in cell.source, path.name


@pytest.mark.parametrize("name", ["01_toy_world", "12_families"])
def test_solved_cells_print_right_by_themselves(folder, name):
    book = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    ran = 0
    for cell in book.cells:
        if cell.cell_type == "code" and solutions.exercise_call(cell.source):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(cell.source, "cell", "exec"), {})
            assert printed.getvalue().startswith("Right: "), printed.getvalue()
            ran += 1
    assert ran >= 2


@pytest.mark.parametrize(
    "number", [number for notebook in FILES for number in exercises_of(notebook)]
)
def test_the_source_of_every_reference_is_a_solution_outside_of_its_module(number):
    stub = f'def my_answer(*case):\n    raise NotImplementedError\n\n\ncheck("{number}", my_answer)'
    source = solutions.solved(stub, find(number), "my_answer")
    space = {}
    exec(source.removesuffix(f'check("{number}", my_answer)'), space)
    from minidream.course.exercises import feedback

    assert feedback(find(number), space["my_answer"]).startswith("Right: ")


def test_a_solved_cell_keeps_its_other_lines_and_imports_what_it_needs():
    code = STUB.replace("def my", "size = 2\n\n\ndef my") + "\nprint(size)"
    solved = solutions.solved(code, find("12.1"), "my_merged")
    first, *_, last = solved.splitlines()
    assert first == "from torch import Tensor" and last == "print(size)"
    assert "size = 2\n\n\ndef my_merged(weight: Tensor," in solved
    assert solved.count("def ") == 1 and "return weight + up @ down" in solved
    # Names of other modules, under the names that they have there.
    assert solutions.imports_of(find("03.2").reference) == [
        "import torch",
        "from torch import Tensor",
        "from torch.nn import functional as F",
    ]
    assert "from minidream.documents import IGNORED" in solutions.imports_of(find("06.1").reference)


def test_a_notebook_without_exercises_stays_as_it_is():
    output = new_output("stream", text="hello")
    book = new_notebook(
        cells=[new_markdown_cell("# What?"), new_code_cell("%time 1", outputs=[output])]
    )
    assert solutions.with_solutions(book) == book


def test_only_the_solved_cell_loses_its_output():
    outputs = [new_output("stream", text="Not attempted yet")]
    cells = [
        new_markdown_cell("# What?\nmore"),
        new_code_cell(STUB, outputs=outputs, execution_count=1),
        new_code_cell("check_all()", outputs=outputs, execution_count=2),
    ]
    book = solutions.with_solutions(new_notebook(cells=cells))
    assert book.cells[0].source == "# What? (with solutions)\nmore"
    assert book.cells[1].outputs == [] and book.cells[1].execution_count is None
    assert book.cells[2] == cells[2] and cells[1].outputs == outputs


@pytest.mark.parametrize(
    "code, complaint",
    [
        (STUB.replace("def my_merged", "def other"), "defines my_merged 0 times"),
        (STUB.replace('"12.1"', '"12.99"'), "there is no exercise '12.99'"),
    ],
)
def test_a_cell_that_cannot_be_solved_is_refused(code, complaint):
    book = new_notebook(cells=[new_markdown_cell("# What?"), new_code_cell(code)])
    with pytest.raises(ValueError, match=complaint):
        solutions.with_solutions(book)


def test_nothing_is_overwritten_without_being_asked(folder, tmp_path, capsys):
    there = tmp_path / "01_toy_world.ipynb"
    there.write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit, match="01_toy_world.ipynb already; --overwrite") as caught:
        solutions.main([str(tmp_path)])
    assert caught.value.code != 0
    assert [path.name for path in tmp_path.iterdir()] == [there.name]
    assert there.read_text(encoding="utf-8") == "mine"
    solutions.main([str(tmp_path), "--overwrite"])
    assert "(1 replaced)" in capsys.readouterr().out
    assert there.read_bytes() == (folder / there.name).read_bytes()


def test_the_notebooks_themselves_are_safe(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="the notebooks themselves"):
        solutions.main([str(solutions.NOTEBOOKS), "--overwrite"])
    link = tmp_path / "link"
    os.symlink(solutions.NOTEBOOKS, link)
    with pytest.raises(SystemExit, match="the notebooks themselves"):
        solutions.main([str(link), "--overwrite"])
    monkeypatch.setattr(solutions, "NOTEBOOKS", tmp_path / "nothing")
    with pytest.raises(SystemExit, match="there are no notebooks in .*nothing"):
        solutions.main([str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit, match="file.*cannot be written"):
        solutions.main([str(file)])
    assert file.read_text(encoding="utf-8") == "mine"


def test_help_says_what_is_written(capsys):
    with pytest.raises(SystemExit) as caught:
        solutions.main(["--help"])
    said = capsys.readouterr().out
    assert caught.value.code == 0 and "python -m minidream.course.solutions" in said
    assert "FOLDER" in said and "--overwrite" in said
    with pytest.raises(SystemExit) as caught:
        solutions.main([])
    assert caught.value.code == 2
