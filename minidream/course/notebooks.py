"""`minidream notebooks FOLDER`: a copy of the notebooks to work in, opened in JupyterLab."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import nbformat

from ..weights.commands import option, parse, parser_for
from ..weights.files import data_folder

FIRST = "00_quickstart.ipynb"


def shipped() -> list[Path]:
    """The notebooks of the package, in their order.

    Raises:
        FileNotFoundError: if there are none.
    """
    folder = data_folder("notebooks", "notebooks")
    found = sorted(folder.glob("[0-9][0-9]*_*.ipynb"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no notebooks")
    return found


def copy_to(folder: Path, outputs: bool = True) -> list[Path]:
    """Copies the notebooks into a folder; what is there already is left as it is.

    Args:
        folder: is made if it is not there.
        outputs: False leaves out what the cells have printed and drawn.

    Returns:
        The paths of those that were copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [path for path in shipped() if not (folder / path.name).exists()]
    for path in missing:
        if outputs:
            copyfile(path, folder / path.name)
        else:
            nbformat.write(without_outputs(path), folder / path.name)
    return [folder / path.name for path in missing]


def without_outputs(path: Path) -> nbformat.NotebookNode:
    """A notebook as if none of its cells had been run."""
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return book


@dataclass(frozen=True)
class NotebookOptions:
    """What the command takes."""

    folder: Path = option(Path("minidream-notebooks"), "where the copy goes", positional=True)
    student: bool = option(False, "leave out the outputs, which give away what to predict")
    no_lab: bool = option(False, "copy only, do not open JupyterLab")


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        NotebookOptions,
        "minidream notebooks",
        "Copies the notebooks into a folder of your own, and opens the first of them in "
        "JupyterLab. Notebooks that are there already, with your changes, are left as they are.",
    )
    options = parse(parser, NotebookOptions, arguments)
    copied = copy_to(options.folder, outputs=not options.student)
    kept = len(shipped()) - len(copied)
    print(f"{len(copied)} notebooks copied to {options.folder}, {kept} left as they were")
    if not options.no_lab:
        lab = [sys.executable, "-m", "jupyterlab", str(options.folder / FIRST)]
        sys.exit(subprocess.run(lab).returncode)
