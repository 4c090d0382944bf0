"""Figures of pictures: all of them, at their places, and errors that name both counts."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures import checked, closed, image, meshes, panels, shown, texts
from PIL import Image

from minidream.documents import Document
from minidream.plots import (
    plot_ablation,
    plot_boxes,
    plot_choice,
    plot_denoising,
    plot_denoising_steps,
    plot_document,
    plot_film,
    plot_pictures,
)

RED, BLUE, GREEN = (Image.new("RGB", (5, 7), colour) for colour in ("red", "blue", "green"))


def test_pictures():
    figure = plot_pictures([image()] * 7, [f"number {number}" for number in range(7)], columns=3)
    assert sum(bool(axis.images) for axis in figure.axes) == 7 and len(figure.axes) == 9
    assert [axis.get_title(loc="left") for axis in figure.axes][:2] == ["number 0", "number 1"]
    assert not plt.fignum_exists(figure.number)
    np.testing.assert_array_equal(
        plot_pictures([image("blue")]).axes[0].images[0].get_array()[0, 0], (0, 0, 255)
    )
    with pytest.raises(ValueError, match="0 images"):
        plot_pictures([])
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        plot_pictures([image()] * 2, ["one"])


@pytest.mark.parametrize(
    "items, expected",
    [
        ([], [("", False)]),
        (
            ["a star.", image(), "it turns red.", image()],
            [("a star.", True), ("it turns red.", True)],
        ),
        ([image(), "the same but red", image()], [("", True), ("the same but red", True)]),
        ([image(), image()], [("", True), ("", True)]),
        (
            ["a star.", "it is red.", image(), "the end."],
            [("a star. it is red.", True), ("the end.", False)],
        ),
        (["word " * 200], [(("word " * 200).strip(), False)]),
    ],
)
def test_document_reads_in_order(items, expected):
    figure = plot_document(Document(items))
    assert not plt.fignum_exists(figure.number)
    drawn = []
    for axis in figure.axes[: len(expected)]:
        words = axis.get_title(loc="left") + "".join(text.get_text() for text in axis.texts)
        drawn.append((" ".join(words.split()), bool(axis.images)))
        assert all(len(line) <= 80 for line in words.splitlines())
    assert drawn == expected


def test_document_that_is_long_goes_on_in_the_next_row_without_cutting_words():
    figure = plot_document(
        Document(sum(([f"sentence {number} " * 8, image()] for number in range(9)), []))
    )
    figure.draw_without_rendering()
    bottom = [axis.get_window_extent().y0 for axis in figure.axes[:9]]
    assert bottom[0] > bottom[4] > bottom[8]
    for axis in figure.axes[:9]:
        assert (
            axis.title.get_window_extent().y1 <= figure.bbox.y1
            and axis._left_title.get_window_extent().y1 <= figure.bbox.y1 + 1
        )


def test_boxes_lie_where_they_are_said_to():
    figure = plot_boxes(
        [image(), image()],
        [
            {"true": (0.25, 0.5, 0.75, 1.0)},
            {"said": (0.0, 0.0, 0.5, 0.25), "true": (0.1, 0.1, 0.2, 0.3)},
        ],
        ["a", "b"],
        "T",
    )
    assert not plt.get_fignums()
    (true,), (said, again) = (axis.patches for axis in figure.axes)
    assert true.get_bbox().extents.tolist() == [
        0.25,
        0.5,
        0.75,
        1.0,
    ] and said.get_bbox().extents.tolist() == [0.0, 0.0, 0.5, 0.25]
    assert true.get_edgecolor() == again.get_edgecolor() != said.get_edgecolor() and figure.axes[
        0
    ].get_ylim() == (1, 0)
    with pytest.raises(ValueError, match="2 images, 1 sets of boxes, 2 titles"):
        plot_boxes([image(), image()], [{}], ["a", "b"], "T")


def test_film_shows_each_picture_in_its_row_and_column():
    figure = plot_film(
        {"latents": [RED, BLUE, GREEN], "guess": [GREEN, RED, BLUE]},
        ["1", "4", "done"],
        "It comes out",
        "steps taken",
    )
    for one, wanted in zip(shown(figure), [RED, BLUE, GREEN, GREEN, RED, BLUE], strict=True):
        np.testing.assert_array_equal(one, np.asarray(wanted))
    assert [axis.get_title() for axis in panels(figure)] == ["1", "4", "done", "", "", ""]
    assert [axis.get_ylabel() for axis in panels(figure)] == ["latents", "", "", "guess", "", ""]
    assert "It comes out" in texts(figure) and "steps taken" in texts(figure) and closed(figure)


def test_film_is_as_wide_as_its_title():
    title = "a finding that takes more words than two pictures have room for above them"
    figure = plot_film({"": [RED, BLUE]}, ["1", "2"], title)
    figure.draw_without_rendering()
    (text,) = [text for text in figure.findobj(plt.Text) if text.get_text() == title]
    assert text.get_window_extent().x1 <= figure.bbox.x1


def test_the_names_of_a_films_rows_are_level_and_inside_the_figure():
    names = ["a name that is longer than one picture is wide", "two\nlines"]
    figure = plot_film({name: [RED, BLUE] for name in names}, ["1", "2"], "T")
    figure.draw_without_rendering()
    for axis, name in zip(panels(figure)[::2], names, strict=True):
        label = axis.yaxis.label
        assert label.get_text() == name and label.get_rotation() == 0
        assert label.get_window_extent().x0 >= 0
    assert panels(figure)[0].get_window_extent().width > 60  # pixels: the picture keeps its size


def test_film_needs_an_image_for_every_column():
    with pytest.raises(ValueError, match="'guess' has 2 images for 3 columns"):
        plot_film({"latents": [RED] * 3, "guess": [RED] * 2}, ["1", "2", "3"], "")
    with pytest.raises(ValueError, match="at least one row"):
        plot_film({}, ["1"], "")


@pytest.mark.parametrize(
    "off",
    [
        [],
        ["3"],
        ["3", "7"],
        ["4–7"],
        [f"{number}" for number in range(16)],
        [f"{4 * number}–{4 * number + 3}" for number in range(16)],
    ],
)
def test_ablation_shows_both_pictures_and_what_changed(off):
    change = np.linspace(0, 0.5, 35).reshape(7, 5)
    figure = checked(
        plot_ablation(image("red", (5, 7)), image("blue", (5, 7)), off, change), axes=4
    )
    before, after, changed = (axis.images[0] for axis in figure.axes[:3])
    np.testing.assert_array_equal(before.get_array()[0, 0], (255, 0, 0))
    np.testing.assert_array_equal(after.get_array()[0, 0], (0, 0, 255))
    np.testing.assert_array_equal(changed.get_array(), change)
    assert changed.get_clim() == (0, 1)  # the same whatever is taken away
    said = texts(figure)
    assert all(name in said for name in off)
    assert ("by 0.250" in said) == bool(off) and ("Without query 3:" in said) == (off == ["3"])
    (title,) = figure.texts
    assert title.get_window_extent().x1 <= figure.bbox.x1


def test_ablation_refuses_pictures_of_two_sizes():
    with pytest.raises(ValueError, match=r"\(5, 7\) and \(7, 5\) and a change of \(5, 7\)"):
        plot_ablation(image(size=(5, 7)), image(size=(7, 5)), ["1"], np.zeros((7, 5)))


@pytest.mark.parametrize("queries, grid", [(2, (3, 5)), (5, (8, 8))])
def test_denoising_shows_every_step_and_query(queries, grid):
    steps = 3
    maps = torch.rand(steps, queries, *grid, generator=torch.Generator().manual_seed(1))
    for step, query in itertools.product(range(steps), range(queries)):
        figure = checked(
            plot_denoising(
                image("blue", (15, 9)),
                image("red", (15, 9)),
                maps[step, query],
                step,
                query,
                900 - step,
                top=2.0,
            ),
            axes=4,
        )
        np.testing.assert_array_equal(meshes(figure)[0], maps[step, query])
        assert [tuple(axis.images[0].get_array()[0, 0]) for axis in figure.axes[:2]] == [
            (0, 0, 255),
            (255, 0, 0),
        ]
        assert f"Step {step}, timestep {900 - step}" in texts(figure) and f"query {query}" in texts(
            figure
        )
        assert figure.axes[2].collections[0].get_clim() == (0, 2)
    assert plot_denoising(image(), image(), maps[0, 0], 0, 0, 999).axes[2].collections[
        0
    ].get_clim() == (0, pytest.approx(maps[0, 0].max()))


@pytest.mark.parametrize(
    "steps, shown", [(1, [0]), (3, [0, 1, 2]), (20, [0, 5, 10, 14, 19]), (50, [0, 12, 24, 37, 49])]
)
def test_steps_go_from_the_first_to_the_last(steps, shown):
    maps = torch.rand(steps, 2, 3, generator=torch.Generator().manual_seed(steps))
    noisy, guesses = (
        [Image.new("RGB", (6, 4), (number, colour, 0)) for number in range(steps)]
        for colour in (0, 1)
    )
    figure = checked(
        plot_denoising_steps(noisy, guesses, maps, list(range(900, 900 - steps, -1)), query=6)
    )
    rows = np.array(panels(figure)).reshape(3, len(shown))
    for column, step in zip(rows.T, shown):
        assert [tuple(axis.images[0].get_array()[0, 0][:2]) for axis in column[:2]] == [
            (step, 0),
            (step, 1),
        ]
        np.testing.assert_array_equal(column[2].collections[0].get_array(), maps[step])
        assert column[0].get_title(loc="left") == f"step {step}\ntimestep {900 - step}"
    assert len({axis.collections[0].get_clim() for axis in rows[2]}) == 1 and "query 6" in texts(
        figure
    )
    for wrong in (
        (noisy[1:], guesses, maps),
        (noisy, guesses + guesses, maps),
        (noisy, guesses, maps[1:]),
    ):
        with pytest.raises(
            ValueError,
            match=", ".join(["{} noisy pictures", "{} guesses", "{} maps"]).format(
                *map(len, wrong)
            ),
        ):
            plot_denoising_steps(*wrong, list(range(steps)), query=6)


@pytest.mark.parametrize(
    "prompt", ["", "a star.", "a large red circle to the left of a small blue square, " * 4]
)
def test_choice_wraps_its_prompt(prompt):
    figure = checked(
        plot_choice(image("green", (5, 7)), prompt, "seed 3, guidance scale 7.5"), axes=1
    )
    (axis,) = figure.axes
    assert axis.get_title(
        loc="left"
    ).split() == prompt.split() and "seed 3, guidance scale 7.5" in texts(figure)
    np.testing.assert_array_equal(axis.images[0].get_array()[0, 0], (0, 128, 0))
    assert axis._left_title.get_window_extent().x1 <= figure.bbox.x1
