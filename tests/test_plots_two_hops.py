"""Maps over latent cells, for every word and cell, and the page to hover over."""

import html
import itertools
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures import checked, closed, image, meshes, panels, read, shown, texts
from PIL import Image

from minidream.plots import (
    groups,
    hover_two_hops,
    plot_cell_attention,
    plot_hop,
    plot_two_hop,
    sources,
    two_hop_page,
)
from minidream.plots.drawing import HIGHLIGHT as CHOSEN
from minidream.plots.tokens import TOKEN_COLOURS
from minidream.plots.two_hops import outlines

RED, BLUE, GREEN = (Image.new("RGB", (5, 7), colour) for colour in ("red", "blue", "green"))


# 2 x 3 cells. All of cell (0, 0) comes from <s>; inputs without another entry have a share of 0.
INPUTS = ["<s>", "red", (0, 0, 0), (0, 0, 1), "red", "<dream_start>", 0, 1]


HOPS = torch.zeros(len(INPUTS), 2, 3)
HOPS[0] = 1
HOPS[:, 1, 2] = torch.tensor([0.1, 0.05, 0.2, 0.15, 0.25, 0.05, 0.08, 0.12])
HOPS[:5, 0, 1] = torch.tensor([0.5, 0.3, 0.0, 0.1, 0.1])


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


def test_every_input_is_in_one_group():
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


def test_two_hop_draws_the_maps_of_the_chosen_words():
    inputs = ["<s>", "a", "red", "circle", "a", (0, 1, 2), 3]
    hops = torch.rand(len(inputs), 3, 5, generator=torch.Generator().manual_seed(1))  # not square
    figure = plot_two_hop(image(size=(20, 12)), hops, inputs, ["circle", "a", 4, 5, 6])
    for drawn, place in zip(meshes(figure), (3, 1, 4, 5, 6), strict=True):
        np.testing.assert_array_equal(drawn, hops[place])
    scales = [
        (mesh.norm.vmin, mesh.norm.vmax) for axis in panels(figure) for mesh in axis.collections
    ]
    places = (3, 1, 4, 5, 6)
    assert scales == [(0, pytest.approx(hops[place].max().item())) for place in places]
    assert not plt.fignum_exists(figure.number)
    with pytest.raises(ValueError, match="'green' is not among"):
        plot_two_hop(image(), hops, inputs, ["green"])
    with pytest.raises(ValueError, match="7 maps .* 6 inputs"):
        plot_two_hop(image(), hops, inputs[:6], ["a"])
    with pytest.raises(ValueError, match="no words"):
        plot_two_hop(image(), hops, inputs, [])


def test_outlines_are_where_neighbours_differ_and_large_pictures_are_made_small():
    picture = Image.new("RGB", (8, 6), (250, 250, 250))
    picture.paste((200, 30, 30), (2, 1, 5, 4))
    picture.paste((240, 240, 240), (6, 0, 8, 6))  # too similar to its surroundings
    found = outlines(picture)
    assert found.shape == (6, 8)
    inside = found[1:4, 2:5]
    assert inside[0].all() and inside[:, 0].all() and not inside[1:, 1:].any()
    assert found[4, 2:5].all() and found[1:4, 5].all()  # the first pixels outside
    assert found.sum() == 5 + 6
    assert outlines(picture.resize((800, 600))).shape == (72, 96)


def test_a_map_is_opaque_and_nothing_of_the_picture_but_its_outlines_lies_over_it():
    hops = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(2))
    figure = plot_two_hop(RED, hops, ["red"], ["red"])
    _, over, *_ = panels(figure)
    (mesh,), (lines,) = over.collections, over.images
    assert mesh.get_alpha() is None
    drawn = lines.get_array()
    assert drawn.shape[2] == 4 and (drawn[..., 3] == 0).all()  # a plain picture has no outlines


@pytest.mark.parametrize("words", [1, 6, 9])
def test_cell_attention_has_a_scale_for_each_map_from_zero(words):
    maps = torch.rand(
        words, 2, 5, generator=torch.Generator().manual_seed(1)
    )  # lopsided, so that a transpose shows
    figure = plot_cell_attention(RED, maps, [f"word {number}" for number in range(words)], "Where")
    for mesh, wanted in zip(meshes(figure), maps, strict=True):
        np.testing.assert_array_equal(np.asarray(mesh).reshape(2, 5), wanted)
    limits = [mesh.get_clim() for axis in panels(figure) for mesh in axis.collections]
    assert limits == [(0, map_.max().item()) for map_ in maps]
    assert f"up to {maps[0].max().item():.0%}" in texts(figure)
    np.testing.assert_array_equal(shown(figure)[0], np.asarray(RED))
    assert f"word {words - 1}" in texts(figure) and closed(figure)


def test_cell_attention_needs_a_word_for_each_map():
    with pytest.raises(ValueError, match="3 maps and 2 words"):
        plot_cell_attention(RED, torch.zeros(3, 2, 2), ["a", "b"], "")


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
    assert page.count("<script>") == 1 and page.count("<img") == 3 and page.count("</div>") == 4
    assert not re.search(
        r"https?:|<[^>]*\b(href=|id=|src=(?!\"data:image/png;base64,))", page
    )  # an id would stand twice on one page


def data_of(page):
    """What the script of a page reads."""
    return [json.loads(html.unescape(data)) for data in re.findall(r'data-hops="([^"]*)"', page)]


def test_both_hops_apart_are_in_the_page_too():
    generator = torch.Generator().manual_seed(0)
    looks = torch.rand(4, 2, 3, generator=generator)
    reads = torch.rand(4, len(INPUTS), generator=generator) / 3
    reads[:, [0, -1]] = 0.9
    page = hover_two_hops(image(), HOPS, INPUTS, (looks, reads)).data
    (numbers,) = data_of(page)
    assert page.count("<span data-query") == 4
    np.testing.assert_allclose(numbers["looks"], 1000 * looks.flatten(1), atol=0.051)
    by_group = torch.stack([reads[:, group].sum(1) for group in groups(INPUTS).values()], 1)
    np.testing.assert_allclose(numbers["reads"], 1000 * by_group, atol=0.051)
    # The most that a query attends to a word or an image, not to <s> or to the queries.
    shown = [reads[:, group].sum(1).max().item() for group in sources(INPUTS).values()]
    assert numbers["most"] == pytest.approx(1000 * max(shown), abs=0.051)
    for wrong in ((looks[:, 1:], reads), (looks, reads[1:]), (looks, reads[:, 1:])):
        with pytest.raises(ValueError, match=r"with 8 inputs they should have \(n, 2, 3\) and"):
            hover_two_hops(image(), HOPS, INPUTS, wrong)


def test_a_page_of_several_dreams_stands_by_itself():
    evil = "</option><script>alert(1)</script>"
    dreams = [(evil, (image(), HOPS, INPUTS)), ("two", (image(), HOPS.flip(1), INPUTS))]
    page = two_hop_page(dreams, "<Hops>", "How & why.")
    assert page.startswith("<!doctype html>") and page.count("<script>") == 1
    options = re.findall("<option>(.*?)</option>", page)
    assert list(map(html.unescape, options)) == [evil, "two"]
    assert page.count("&lt;Hops&gt;") == 2 and "How &amp; why." in page
    alone = [data_of(hover_two_hops(*arguments).data)[0] for _, arguments in dreams]
    assert data_of(page) == alone
    assert not re.search(r"https?:|<[^>]*\b(href=|src=(?!\"data:image/png;base64,))", page)
    with pytest.raises(ValueError, match="no dreams were given"):
        two_hop_page([], "", "")


def test_the_page_is_small_at_the_toys_size():
    inputs = ["<s>", *["background"] * 40, *read(0, 8), *read(1, 8), *range(16)]
    hops = torch.rand(len(inputs), 8, 8, generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    )
    assert len(hover_two_hops(picture, hops / hops.sum(dim=0), inputs).data) < 60_000
