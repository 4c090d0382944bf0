"""Figures of the explorers over the whole range of their controls, and the page to hover over: right numbers, nothing cut, closed."""

import html
import itertools
import json
import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from test_plots import image, meshes, panels, read, texts

from minidream.plots import (
    groups,
    hover_two_hops,
    plot_ablation,
    plot_choice,
    plot_denoising,
    plot_denoising_steps,
    plot_hop,
    sources,
)
from minidream.plots.drawing import HIGHLIGHT as CHOSEN
from minidream.plots.tokens import TOKEN_COLOURS

# Cells 2 x 3. Of the first, at (0, 0), all comes from <s>; where it is not said otherwise, an input has none of a cell.
INPUTS = ["<s>", "red", (0, 0, 0), (0, 0, 1), "red", "<dream_start>", 0, 1]
HOPS = torch.zeros(len(INPUTS), 2, 3)
HOPS[0] = 1
HOPS[:, 1, 2] = torch.tensor([0.1, 0.05, 0.2, 0.15, 0.25, 0.05, 0.08, 0.12])
HOPS[:5, 0, 1] = torch.tensor([0.5, 0.3, 0.0, 0.1, 0.1])


def checked(figure, axes=None):
    """A figure that is closed, not too wide, and in which constrained layout finds a place for everything."""
    assert not plt.fignum_exists(figure.number) and figure.get_figwidth() <= 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert axes is None or len(figure.axes) == axes
    return figure


def bars(figure):
    """{name: (share, colour)} of all columns of bars."""
    found = {}
    for axis in figure.axes[2:]:
        if axis.get_label() != "<colorbar>":
            found |= {
                label.get_text(): (bar.get_width(), bar.get_facecolor())
                for label, bar in zip(axis.get_yticklabels(), axis.patches)
            }
    return found


def test_every_input_stands_in_one_group():
    assert groups(INPUTS) == {
        "<s>": [0],
        "red": [1],
        "image 0": [2, 3],
        "red (2)": [4],
        "<dream_start>": [5],
        "the queries": [6, 7],
    }
    assert sources(INPUTS) == {"red": [1], "image 0": [2, 3], "red (2)": [4]}
    story = ["<s>", "a", "a", *read(0), "a", *range(3), *read(1), *range(3), "queries"]
    assert sorted(sum(groups(story).values(), [])) == list(range(len(story)))
    assert [name for name in groups(story) if "queries" in name] == ["the queries", "queries"]


def test_from_a_word_to_its_cells_and_from_a_cell_to_its_words():
    figure = checked(plot_hop(image(size=(30, 20)), HOPS, INPUTS, "image 0", (1, 2)), axes=4)
    np.testing.assert_allclose(meshes(figure)[0], [[0, 0.1, 0], [0, 0, 0.35]])  # two patches in sum
    assert {name: share for name, (share, _) in bars(figure).items()} == pytest.approx(
        {"red": 0.05, "image 0": 0.35, "red (2)": 0.25}
    )
    marked = {
        name
        for name, (_, colour) in bars(figure).items()
        if colour == plt.matplotlib.colors.to_rgba(CHOSEN)
    }
    assert marked == {"image 0"}
    for axis in figure.axes[:2]:
        (outline,) = axis.patches
        assert outline.get_xy() == (2, 1) and axis.images[0].get_extent() == [0, 3, 2, 0]
    assert "“image 0” more than from any other input: 35.0%" in texts(
        figure
    ) and "the other 35%" in texts(figure)
    other = plot_hop(image(size=(30, 20)), HOPS, INPUTS, "red (2)", (0, 1))
    np.testing.assert_allclose(meshes(other)[0], HOPS[4])
    assert bars(other)["red"][0] == pytest.approx(0.3) and bars(other)["image 0"] == (
        pytest.approx(0.1),
        plt.matplotlib.colors.to_rgba(TOKEN_COLOURS["patches"]),
    )
    assert (
        other.axes[2].get_xlim() == figure.axes[2].get_xlim() == (0, pytest.approx(0.35))
    )  # cells can be compared


def test_every_word_and_every_cell_has_its_figure():
    for word, row, column in itertools.product(sources(INPUTS), range(2), range(3)):
        figure = checked(plot_hop(image(size=(9, 6)), HOPS, INPUTS, word, (row, column)))
        np.testing.assert_allclose(meshes(figure)[0], HOPS[sources(INPUTS)[word]].sum(dim=0))
        for name, (share, _) in bars(figure).items():
            assert share == pytest.approx(HOPS[sources(INPUTS)[name], row, column].sum().item())


@pytest.mark.parametrize(
    "words, cells, columns",
    [(1, (8, 8), 1), (24, (1, 1), 1), (25, (16, 16), 2), (60, (3, 5), 3), (400, (64, 64), 3)],
)
def test_hops_of_any_size(words, cells, columns):
    inputs = [
        "<s>",
        *[f"word{number}" for number in range(words - 1)],
        "incomprehensibilities" * 3,
        *range(7),
    ]
    hops = torch.rand(len(inputs), *cells, generator=torch.Generator().manual_seed(words))
    for word in list(sources(inputs))[:: max(1, words // 3)]:
        figure = checked(
            plot_hop(image(size=(24, 40)), hops / hops.sum(dim=0), inputs, word, (cells[0] - 1, 0)),
            axes=3 + columns,
        )
        assert len(bars(figure)) == min(words, 72) and (
            f"72 of {words} words" in texts(figure)
        ) == (words > 72)
        assert CHOSEN in {
            plt.matplotlib.colors.to_hex(colour).upper() for _, colour in bars(figure).values()
        }  # the chosen is never left out
        assert figure.get_figheight() < 6


def test_hops_refuse_what_is_not_there():
    for wrong, message in (
        (("blue", (0, 0)), "'blue' is not among the inputs: red, image 0, red"),
        (("red", (2, 0)), "2 rows and 3 columns, counted from 0"),
        (("red", (0, -1)), r"cell \(0, -1\)"),
        (("<s>", (0, 0)), "'<s>' is not among"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_hop(image(), HOPS, INPUTS, *wrong)
    for draw in (hover_two_hops, lambda *arguments: plot_hop(*arguments, "red", (0, 0))):
        with pytest.raises(ValueError, match="8 maps were given for 7 inputs"):
            draw(image(), HOPS, INPUTS[:-1])
        with pytest.raises(ValueError, match="neither a word nor a patch"):
            draw(image(), HOPS[:2], ["<s>", 0])


def test_the_page_to_hover_over_holds_every_share():
    page = hover_two_hops(image(size=(30, 20)), HOPS, INPUTS).data
    assert (
        page.count("<span data-input") == len(groups(INPUTS))
        and page.count("<span data-cell") == 2 * 3
    )
    numbers = json.loads(html.unescape(re.search(r'data-hops="([^"]*)"', page)[1]))
    maps = np.array(numbers["maps"]).reshape(-1, 2, 3)
    np.testing.assert_allclose(maps.sum(axis=0), 1000, atol=0.5)
    for map_, places in zip(maps, groups(INPUTS).values(), strict=True):
        np.testing.assert_allclose(map_, 1000 * HOPS[places].sum(dim=0), atol=0.051)
    assert (
        numbers["top"] == 350 and numbers["columns"] == 3
    )  # the most that a word or an image has of any cell, not <s>
    assert (
        'tabindex="0"' in page and page.count('data-cell tabindex="0"') == 1
    )  # arrows go on from the first cell


def test_the_page_escapes_what_it_writes_and_fetches_nothing():
    evil = [
        "<s>",
        "<script>alert(1)</script>",
        "\"'><img src=x onerror=alert(2)>",
        "&amp;",
        "</div>",
    ]
    page = hover_two_hops(image(), torch.full((5, 2, 3), 0.2), evil).data
    shown = [
        html.unescape(word) for word in re.findall(r"<span data-input[^>]*>([^<]*)</span>", page)
    ]
    assert shown == evil
    assert page.count("<script>") == 1 and page.count("<img") == 1 and page.count("</div>") == 4
    assert not re.search(
        r"https?:|<[^>]*\b(href=|id=|src=(?!\"data:image/png;base64,))", page
    )  # an id would stand twice on one page


def test_the_page_is_small_at_the_toys_size():
    inputs = ["<s>", *["background"] * 40, *read(0, 8), *read(1, 8), *range(16)]
    hops = torch.rand(len(inputs), 8, 8, generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    )
    assert len(hover_two_hops(picture, hops / hops.sum(dim=0), inputs).data) < 60_000


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
