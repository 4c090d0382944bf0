"""The demo, on small notebooks that are made here; `make demo` runs it on notebook 00."""

import base64
import io

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import minidream
from minidream.course import demo


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, format="PNG")
    return file.getvalue()


def shows(data):
    return new_output(
        "display_data",
        data={
            kind: base64.b64encode(content).decode() if kind == "image/png" else content
            for kind, content in data.items()
        },
    )


@pytest.fixture
def book():
    return new_notebook(
        metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}},
        cells=[
            new_markdown_cell("# What is a dream?"),
            new_code_cell(
                "x, y = 1, 2\nprompt = 'a red star'\nprompt = 'later'",
                outputs=[shows({"image/png": png("red")})],
            ),
            new_code_cell(
                "prompt = other()",
                outputs=[
                    shows({"text/plain": "Controls for layer", demo.WIDGET: {"model_id": "7"}}),
                    new_output("stream", text="hello"),
                    shows({"image/png": png("blue")}),
                ],
            ),
        ],
    )


def test_first_prompt_is_the_first_text_assigned_to_prompt(book):
    assert demo.first_prompt(book) == "a red star"
    with pytest.raises(ValueError, match="prompt ="):
        demo.first_prompt(
            new_notebook(
                cells=[
                    new_code_cell("prompts = ['a']\nprompt = 1 + 1"),
                    new_markdown_cell("prompt = 'a'"),
                ]
            )
        )


def test_figures_are_in_the_order_of_the_cells(book):
    assert demo.figures_of(book) == [png("red"), png("blue")]


def test_page_contains_pictures_and_the_text_of_widgets(book, caplog):
    page = demo.page_of(book)
    for colour in ("red", "blue"):
        assert base64.b64encode(png(colour)).decode() in page
    assert "Controls for layer" in page and "model_id" not in page and "widget-state" not in page
    assert not caplog.records
    assert (
        "widgets" in book.metadata and demo.WIDGET in book.cells[2].outputs[0]["data"]
    )  # the book is left as it was


def test_save_replaces_files_of_an_earlier_run(book, tmp_path):
    (tmp_path / "figure-07.png").write_bytes(b"old")
    (tmp_path / "figure-of-mine.png").write_bytes(b"mine")
    page, figures = demo.save(book, tmp_path)
    assert [path.name for path in figures] == ["figure-01.png", "figure-02.png"]
    assert [Image.open(path).getpixel((0, 0)) for path in figures] == [(255, 0, 0), (0, 0, 255)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "figure-01.png",
        "figure-02.png",
        "figure-of-mine.png",
        "quickstart.html",
    ]
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_execute_runs_in_the_notebooks_folder_and_leaves_the_file_alone(tmp_path):
    path = tmp_path / "little.ipynb"
    nbformat.write(
        new_notebook(cells=[new_code_cell("import os; os.path.basename(os.getcwd())")]), path
    )
    before = path.read_bytes()
    book = demo.execute(path)
    assert book.cells[0].outputs[0]["data"]["text/plain"] == repr(tmp_path.name)
    assert path.read_bytes() == before
    nbformat.write(new_notebook(cells=[new_code_cell("raise KeyError('here')")]), path)
    with pytest.raises(CellExecutionError, match="here"):
        demo.execute(path)
    with pytest.raises(FileNotFoundError, match="nowhere.ipynb is not there"):
        demo.execute(tmp_path / "nowhere.ipynb")


def test_seconds_per_picture_are_a_median_without_the_first(monkeypatch):
    durations, seeds, clock = [90.0, 4.0, 1.0, 2.0], [], [0.0]
    monkeypatch.setattr(demo.time, "perf_counter", lambda: clock[0])

    class Painter:
        """Each picture moves the clock on, and no real time passes."""

        def dream(self, prompt, seed):
            assert prompt == "a red star"
            seeds.append(seed)
            clock[0] += durations[seed]

    assert demo.seconds_per_picture(Painter(), "a red star") == 2
    assert seeds == [0, 1, 2, 3]


def test_the_command_saves_a_page_and_says_how_long_a_picture_takes(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "little.ipynb", tmp_path / "out"
    cells = ["prompt = 'a red star'", "from PIL import Image\nImage.new('RGB', (4, 3), 'red')"]
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    monkeypatch.setattr(demo, "NOTEBOOK", path)
    model, asked = minidream.load("toy", device="cpu"), []
    monkeypatch.setattr(minidream, "load", lambda name: model if name == "toy" else None)
    monkeypatch.setattr(
        demo, "seconds_per_picture", lambda model, prompt: asked.append((model, prompt)) or 0.125
    )
    demo.main(["--out", str(out)])
    assert asked == [(model, "a red star")]
    assert capsys.readouterr().out.splitlines() == [
        "prompt:   a red star",
        f"page:     {out / 'quickstart.html'}",
        f"figures:  {out / 'figure-01.png'} to figure-01.png",
        f"a picture takes 0.12 seconds ({model.decoder.config.num_inference_steps} steps, "
        "one picture at a time, on cpu)",
    ]
    assert Image.open(out / "figure-01.png").getpixel((0, 0)) == (255, 0, 0)
    nbformat.write(new_notebook(cells=[new_code_cell(cells[0])]), path)
    demo.main(["--out", str(out)])
    assert "figures" not in capsys.readouterr().out and not list(out.glob("figure-*"))


def test_help_names_the_files_that_are_written(capsys):
    with pytest.raises(SystemExit) as done:
        demo.main(["--help"])
    assert done.value.code == 0 and "quickstart.html" in capsys.readouterr().out
