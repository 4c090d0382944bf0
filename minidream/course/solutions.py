"""The notebooks with their exercises solved, for teachers: `python -m minidream.course.solutions`.

A cell with a stub gets the source of the exercise's reference in its place, so that running it
prints "Right". Nothing is executed here.
"""

import ast
import copy
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat

from ..weights.commands import option, parse, parser_for
from ..weights.files import check_writable, write_atomically
from .exercises import Exercise
from .references import find

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def exercise_call(code: str) -> tuple[str, str] | None:
    """The number and the function in a cell's `check("04.2", my_function)`; None without one."""
    if 'check("' not in code:  # a cell with a magic is no Python
        return None
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "check":
            number, answer = node.args
            return number.value, answer.id
    return None


def imports_of(function: Callable) -> list[str]:
    """The lines that import what the source of a function takes from its module."""
    module, tree = inspect.getmodule(function), ast.parse(inspect.getsource(function))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    lines = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines |= {each.asname or each.name: absolute(node, each, module) for each in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            lines[node.name] = f"from {module.__name__} import {node.name}"
        elif isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
            lines[name] = f"from {module.__name__} import {name}"
    used = {node.id for node in names} - own
    found = {lines[name] for name in used & lines.keys()}
    return sorted(found, key=lambda line: (line.startswith("from"), line))


def absolute(node: ast.Import | ast.ImportFrom, alias: ast.alias, module) -> str:
    """An import of one name, as a line that can stand outside of its package."""
    name = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
    if isinstance(node, ast.Import):
        return f"import {name}"
    package = ".".join(module.__name__.split(".")[: -node.level]) if node.level else ""
    source = ".".join(part for part in (package, node.module) if part)
    return f"from {source} import {name}"


def solved(code: str, exercise: Exercise, name: str) -> str:
    """The source of a cell in which the stub is replaced by the reference.

    Args:
        code: of the cell.
        exercise: that it checks.
        name: of the stub, which the solution keeps.

    Raises:
        ValueError: if the cell does not define the stub.
    """
    stubs = [
        node
        for node in ast.parse(code).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    if len(stubs) != 1:
        raise ValueError(f"the cell defines {name} {len(stubs)} times, and should once:\n{code}")
    lines = code.splitlines()
    before, after = lines[: stubs[0].lineno - 1], lines[stubs[0].end_lineno :]
    reference = exercise.reference
    source = inspect.getsource(reference).rstrip()
    source = re.sub(rf"^def {reference.__name__}\b", f"def {name}", source)
    imports = [line for line in imports_of(reference) if line not in lines]
    return "\n".join([*imports, *before, *source.splitlines(), *after])


def with_solutions(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of a notebook in which every exercise is solved, as its title says.

    Solved cells have no output, since nothing is executed.

    Raises:
        ValueError: for an exercise that does not exist, or a cell without its stub.
    """
    book = copy.deepcopy(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    calls = [(cell, call) for cell in cells if (call := exercise_call(cell.source))]
    for cell, (number, name) in calls:
        cell.source = solved(cell.source, find(number), name)
        cell.outputs, cell.execution_count = [], None
    if calls:
        title, *rest = book.cells[0].source.split("\n")
        book.cells[0].source = "\n".join([f"{title} (with solutions)", *rest])
    return book


@dataclass(frozen=True)
class Options:
    """What the command takes."""

    folder: Path = option(help="where the solved notebooks go", positional=True, metavar="FOLDER")
    overwrite: bool = option(False, help="replace notebooks that are in the folder already")


def main(arguments: list[str] | None = None) -> None:
    """Writes a solved copy of every notebook. An error that the user can mend is one line.

    Args:
        arguments: None takes those of the process.
    """
    parser = parser_for(
        Options,
        "python -m minidream.course.solutions",
        "Writes every notebook of the course with the exercises solved, for teachers. The files "
        "have the names of the notebooks, so that links between them work.",
    )
    options = parse(parser, Options, arguments)
    paths = {path: options.folder / path.name for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    if not paths:
        sys.exit(f"there are no notebooks in {NOTEBOOKS}: the command runs from a clone")
    if options.folder.resolve() == NOTEBOOKS.resolve():
        sys.exit(f"{options.folder} has the notebooks themselves: choose another folder")
    there = [path.name for path in paths.values() if path.exists()]
    if there and not options.overwrite:
        sys.exit(
            f"{options.folder} has {', '.join(there)} already; --overwrite replaces them. Nothing "
            "was written"
        )
    books = {
        target: with_solutions(nbformat.read(path, as_version=4)) for path, target in paths.items()
    }
    try:
        for target, book in books.items():
            check_writable(target)
            write_atomically(lambda temporary, book=book: nbformat.write(book, temporary), target)
    except OSError as error:
        sys.exit(str(error))
    replaced = f" ({len(there)} replaced)" if there else ""
    print(f"{len(books)} notebooks with solutions are in {options.folder}{replaced}")


if __name__ == "__main__":
    main()
