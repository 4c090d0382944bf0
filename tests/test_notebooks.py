"""Checks of the committed notebooks that nbval does not make; the files are read as JSON.

nbval compares the outputs of cells that carry an execution count, so a notebook that was never run,
or was run out of order, passes it.
"""

import json
import re
from pathlib import Path

import pytest
from nbval.plugin import comment_markers, get_sanitize_patterns

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PATTERNS = dict(get_sanitize_patterns((FOLDER / "sanitize.cfg").read_text(encoding="utf-8")))

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [
        cell
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]


def outputs(path):
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def texts(output):
    """All that an output says in words: printed, shown as text or HTML. Pictures are not read."""
    by_type = {"text": output.get("text", ""), **output.get("data", {})}
    return [
        "".join(content) for kind, content in by_type.items() if kind.startswith("text") and content
    ]


def keys(node):
    """Every key at every depth of a JSON document."""
    if isinstance(node, dict):
        yield from node
        for child in node.values():
            yield from keys(child)
    elif isinstance(node, list):
        for child in node:
            yield from keys(child)


def sanitize(text):
    for regex, replacement in PATTERNS.items():  # one after the other, as nbval does it
        text = re.sub(regex, replacement, text)
    return text


def test_the_notebook_that_make_opens_is_there():
    # Also keeps the tests below from passing because the folder is empty.
    assert FOLDER / "00_quickstart.ipynb" in NOTEBOOKS


@every_notebook
def test_was_run_in_order_from_a_fresh_kernel(path):
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), (
        "run `make notebooks` (empty code cells get no count: remove)"
    )


@every_notebook
def test_shows_no_error_and_no_warning(path):
    assert not [output for output in outputs(path) if output["output_type"] == "error"]
    # nbval compares stderr too, and warnings quote paths and versions: fix the cause instead.
    assert not [
        "".join(output["text"]) for output in outputs(path) if output.get("name") == "stderr"
    ]


@every_notebook
def test_carries_no_widget_state_and_no_clock(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    metadata = [book["metadata"]] + [cell["metadata"] for cell in book["cells"]]
    # GitHub does not render many notebooks that hold widget state, so each widget comes after a
    # static picture instead.
    assert "widgets" not in keys(metadata)
    # Times of execution would make every run a change of every cell.
    assert "execution" not in keys(metadata)


@every_notebook
def test_opens_in_any_jupyter_without_asking_for_a_kernel(path):
    # Every installation has a kernel named "python3"; the name of a private kernel exists on one
    # machine only.
    assert (
        json.loads(path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"] == "python3"
    )


@every_notebook
def test_is_small_enough_for_git_to_keep_for_ever(path):
    kilobytes = path.stat().st_size / 1000
    assert kilobytes <= 600, f"{kilobytes:.0f} KB: fewer or smaller figures"


@every_notebook
def test_names_no_path_of_the_machine_it_was_run_on(path):
    (is_path,) = [regex for regex, replacement in PATTERNS.items() if replacement == "PATH"]
    # Letters of an embedded picture may look like a path.
    said = [re.sub(r"base64,[\w+/=]+", "", t) for o in outputs(path) for t in texts(o)]
    assert not [match[0] for text in said for match in re.finditer(is_path, text)]


@every_notebook
def test_every_marker_is_one_that_nbval_sees(path):
    # nbval takes `# NBVAL_SKIP because it is slow` for an ordinary comment: a marker has to be
    # alone on its line.
    lines = [
        line.strip() for cell in code_cells(path) for line in "".join(cell["source"]).splitlines()
    ]
    for line in lines:
        if "NBVAL_" in line:
            assert line.lstrip("# ") in comment_markers and line.startswith("#"), (
                f"nbval does not see {line!r}"
            )


def test_sanitize_takes_what_differs_between_two_runs():
    assert sanitize("<object at 0x7f2a91c0d3f0>") == "<object at ADDRESS>"
    assert (
        sanitize("12.3 s, 45ms, 7 \u00b5s, 1.2e-05 s") == "DURATION, DURATION, DURATION, DURATION"
    )
    assert sanitize("Wall time: 1min 3s") == "Wall time: DURATION"
    assert sanitize("1.5 minutes of 2 hours") == "DURATION of DURATION"
    assert (
        sanitize("saved '/tmp/tmpx_1/a.png' and ~/toy/unet.safetensors") == "saved 'PATH' and PATH"
    )
    assert sanitize(r"saved C:\Users\me\a.png and file:///var/lib/a.png") == "saved PATH and PATH"


@pytest.mark.parametrize(
    "result",
    [
        "mean 0.93 min 0.85 max 0.99",  # a minimum, no minutes
        "accuracy 0.945 over 3 seeds, 64 samples, 20 steps",
        "1.5 std, 7 shapes, 3 squares, 2 heads, 5 h",
        "torch.Size([2, 64, 512])  tensor([0.2500, 0.7500])",
        "640x480, 8x8x4, 0x5",
        "1/2/3 of 8/8/4, 110 images/s",
        "out/quickstart/a.png, ../results/queries.json, https://example.org/a/b",
        "<table><tr><td>0.91</td><td>0.88</td></tr></table>",
        r"$\frac{1}{2}\alpha\beta$",
    ],
)
def test_sanitize_leaves_results_alone(result):
    assert sanitize(result) == result
