"""The table of notebooks in the README, and the time that every notebook takes.

    python tests/benchmarks/notebooks.py            # thumbnails and table, from what is committed
    python tests/benchmarks/notebooks.py --time     # first runs and times every notebook
    python tests/benchmarks/notebooks.py --time 11  # or only those with these numbers
    python tests/benchmarks/notebooks.py --shrink NOTEBOOK ...      # the end of `make notebooks`

Leave the machine idle while it measures, or say --busy. Times go into notebooks/results/times.json:
seconds of a fresh kernel, from its start to its end, under the budget "cpu" (how long a reader on a
laptop waits) and "ci" (how long the tests wait).
"""

import argparse
import base64
import io
import json
import os
import re
import resource
import tempfile
import time
import tomllib
from functools import partial
from pathlib import Path

from PIL import Image

from minidream.studies.tables import markdown_table
from minidream.weights.files import as_path, write_atomically

HOUSE = Path(__file__).parents[2]
NOTEBOOKS = sorted((HOUSE / "notebooks").glob("[0-9][0-9]*_*.ipynb"))
TIMES = HOUSE / "notebooks" / "results" / "times.json"
THUMBNAILS = HOUSE / "notebooks" / "results" / "thumbnails"
WIDTH, HEIGHT = 240, 150  # image pixels of a thumbnail at most
# What is between these in the README is written by this file.
BEGIN, END = "<!-- notebooks -->\n", "<!-- /notebooks -->"


def measure(threads: int, numbers: list[str], busy: bool) -> dict:
    """Seconds of notebooks from a fresh kernel under both budgets, in whole seconds.

    Args:
        threads: of torch.
        numbers: of the notebooks, such as "11"; none takes all. The others keep their seconds.
        busy: count the seconds of the processor, as other processes make the clock meaningless.
    """
    import nbformat
    from nbclient import NotebookClient

    os.environ |= {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    os.environ.pop("MINIDREAM_7B", None)
    seconds: dict[str, dict[str, int]] = {}
    if numbers:
        before = json.loads(TIMES.read_bytes())
        seconds, threads = before["seconds"], before["threads"]
    now = of_processor if busy else time.perf_counter
    for path in [path for path in NOTEBOOKS if not numbers or path.stem.split("_")[0] in numbers]:
        for budget in ("cpu", "ci"):
            os.environ["MINIDREAM_BUDGET"] = budget
            start = now()
            NotebookClient(
                nbformat.read(path, as_version=4),
                resources={"metadata": {"path": str(path.parent)}},
            ).execute()
            seconds.setdefault(path.stem, {})[budget] = round(now() - start)
            print(f"{path.stem}, {budget}: {seconds[path.stem][budget]} s", flush=True)
    return {"threads": threads, "seconds": seconds}


def of_processor() -> float:
    """Seconds that finished processes, such as the kernels of notebooks, had the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def figures(path: Path) -> list[bytes]:
    """The figures of a notebook as PNG: of the cells that are tagged "thumbnail", else of all."""
    cells = [cell for cell in json.loads(path.read_bytes())["cells"] if cell["cell_type"] == "code"]
    chosen = [cell for cell in cells if "thumbnail" in cell["metadata"].get("tags", [])] or cells
    return [
        base64.b64decode(output["data"]["image/png"])
        for cell in chosen
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]


def thumbnail(figure: bytes) -> bytes:
    """A figure, small: some kilobytes."""
    image = on_white(figure)
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return in_colours(image, 64)


def on_white(figure: bytes) -> Image.Image:
    """A PNG as RGB."""
    image = Image.open(io.BytesIO(figure)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def in_colours(image: Image.Image, colours: int) -> bytes:
    """A PNG with a palette of so many colours."""
    image.quantize(colours, dither=Image.Dither.NONE).save(
        small := io.BytesIO(), format="PNG", optimize=True
    )
    return small.getvalue()


def shrink(path: Path) -> None:
    """Gives every figure of a notebook a palette of 256 colours, which halves its bytes."""
    import nbformat

    book = nbformat.read(path, as_version=4)
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                figure = base64.b64decode(output["data"]["image/png"])
                output["data"]["image/png"] = base64.b64encode(
                    in_colours(on_white(figure), 256)
                ).decode()
    write_atomically(lambda temporary: nbformat.write(book, temporary), path)


def question(path: Path) -> str:
    """The question in a notebook's title: "# 02 · How does it work?" asks "How does it work?"."""
    first = "".join(json.loads(path.read_bytes())["cells"][0]["source"])
    return re.match(r"# \d\db? · (.+)", first)[1]


def links(url: str | None, path: Path) -> str:
    """Links that open a notebook on Colab and on Binder; "" without a home on GitHub."""
    home = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(\.git)?/?", url or "")
    if not home:
        return ""
    owner, name = home[1], home[2]
    colab = f"https://colab.research.google.com/github/{owner}/{name}/blob/main/notebooks"
    return (
        f"[Colab]({colab}/{path.name}) "
        f"[Binder](https://mybinder.org/v2/gh/{owner}/{name}/main?labpath=notebooks%2F{path.name})"
    )


def table() -> str:
    """The README's table: a row per notebook."""
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url = project.get("urls", {}).get("Repository")
    seconds = json.loads(TIMES.read_bytes())["seconds"] if TIMES.exists() else {}
    rows = []
    for path in NOTEBOOKS:
        lasts = f"{seconds[path.stem]['cpu']} s" if path.stem in seconds else ""
        source, asked = f"notebooks/results/thumbnails/{path.stem}.png", question(path)
        image = f'<img src="{source}" width="{WIDTH // 2}" alt="{asked}">'
        link = f"[{path.stem.split('_')[0]}](notebooks/{path.name})"
        rows.append([link, f"{asked} {links(url, path)}".rstrip(), lasts, image])
    header = [None, "question", "two CPU cores", None]
    return markdown_table(header, rows, ["left", "left", "right", "left"]) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--time",
        nargs="*",
        metavar="NUMBER",
        help="run every notebook, or those named, under both budgets and write down the seconds",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch, while measuring (default: %(default)s)"
    )
    parser.add_argument(
        "--busy",
        action="store_true",
        help="the machine is not idle: count seconds of the processor, with one thread",
    )
    parser.add_argument(
        "--shrink",
        type=as_path,
        nargs="+",
        metavar="NOTEBOOK",
        help="only make the figures of these smaller",
    )
    options = parser.parse_args()
    if options.shrink:
        for path in options.shrink:
            shrink(path)
        return
    if options.time is not None:
        with tempfile.TemporaryDirectory() as folder:  # for what notebooks train
            os.environ["TMPDIR"] = folder
            result = measure(options.threads, options.time, options.busy)
        write_atomically(
            lambda path: path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8"),
            TIMES,
        )
    THUMBNAILS.mkdir(exist_ok=True)
    for path in NOTEBOOKS:
        target = THUMBNAILS / f"{path.stem}.png"
        write_atomically(partial(Path.write_bytes, data=thumbnail(figures(path)[0])), target)
    readme = HOUSE / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    write_atomically(
        lambda path: path.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8"),
        readme,
    )


if __name__ == "__main__":
    main()
