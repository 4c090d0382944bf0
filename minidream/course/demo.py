"""The demo: runs notebook 00 without a browser, and saves its page and its pictures in a folder.

`make demo` calls `minidream demo`. The notebook is executed in memory; its file is not changed.
"""

import argparse
import ast
import base64
import logging
import statistics
import time
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

from ..weights.files import as_path, data_folder, write_atomically

NOTEBOOK = data_folder("notebooks", "notebooks") / "00_quickstart.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(notebook: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh run; the file stays as it is.

    Raises:
        FileNotFoundError: if there is no such notebook.
        nbclient.exceptions.CellExecutionError: if a cell fails; it shows the cell and its error.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"{notebook} is not there")
    book = nbformat.read(notebook, as_version=4)
    ExecutePreprocessor(kernel_name="python3", timeout=300).preprocess(
        book, {"metadata": {"path": str(notebook.parent)}}
    )
    return book


def first_prompt(book: nbformat.NotebookNode) -> str:
    """The text that the notebook first assigns to `prompt`; ValueError if it assigns none."""
    for cell in book.cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if (
                    isinstance(node, ast.Assign)
                    and getattr(node.targets[0], "id", None) == "prompt"
                    and isinstance(node.value, ast.Constant)
                ):
                    return node.value.value
    raise ValueError('the notebook has no line like prompt = "a red circle"')


def figures_of(book: nbformat.NotebookNode) -> list[bytes]:
    """Every figure that the cells show, in order, as the bytes of a PNG file."""
    return [
        base64.b64decode(output["data"]["image/png"])
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def page_of(book: nbformat.NotebookNode) -> str:
    """The notebook as one HTML file with its pictures inside.

    Widgets need a kernel, which a page does not have, so only their text is kept.
    """
    book = nbformat.from_dict(book)
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    log = logging.getLogger(f"{__name__}.page")
    # Without this it warns that every figure lacks a text, which a notebook cannot provide.
    log.setLevel(logging.ERROR)
    page, _ = HTMLExporter(embed_images=True, log=log).from_notebook_node(
        book, {"metadata": {"name": "minidream: what is a dream?"}}
    )
    return page


def save(book: nbformat.NotebookNode, folder: Path) -> tuple[Path, list[Path]]:
    """Writes quickstart.html and figure-01.png, ...; files of an earlier run are replaced.

    Returns:
        The paths of the page and of the figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, figures = folder / "quickstart.html", figures_of(book)
    write_atomically(lambda path: path.write_text(page_of(book), encoding="utf-8"), page)
    paths = [folder / f"figure-{number:02}.png" for number in range(1, len(figures) + 1)]
    for path, figure in zip(paths, figures):
        write_atomically(lambda temporary, png=figure: temporary.write_bytes(png), path)
    for left_over in set(folder.glob("figure-[0-9][0-9].png")) - set(paths):
        left_over.unlink()
    return page, paths


def seconds_per_picture(model, prompt: str, times: int = 3) -> float:
    """How long one picture takes, in seconds: the median of `times`, after one to warm up."""
    taken = []
    for seed in range(times + 1):
        start = time.perf_counter()
        model.dream(prompt, seed=seed)  # returns pixels on the CPU, so all work is finished
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = argparse.ArgumentParser(
        prog="minidream demo",
        description="Runs notebook 00 on the shipped weights, without a "
        "browser; writes it as a page, and its figures as PNG.",
    )
    parser.add_argument(
        "--out",
        type=as_path,
        default=Path("out"),
        help="folder for quickstart.html and figure-01.png, ... (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    book = execute(NOTEBOOK)
    page, figures = save(book, options.out)
    prompt = first_prompt(book)
    import minidream

    model = minidream.load("toy")
    seconds = seconds_per_picture(model, prompt)
    steps = model.decoder.config.num_inference_steps
    print(f"prompt:   {prompt}\npage:     {page}")
    if figures:
        print(f"figures:  {figures[0]} to {figures[-1].name}")
    print(
        f"a picture takes {seconds:.2f} seconds "
        f"({steps} steps, one picture at a time, on {model.device})"
    )


if __name__ == "__main__":
    main()
