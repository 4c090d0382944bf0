"""Figures of scenes and of rows of tokens: what stands beneath a position is what the loss asks of it, and nothing is lost."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from minidream.documents import IGNORED, Document, collate, lay_out
from minidream.plots import (
    TokenStrip,
    batch_strips,
    plot_distances,
    plot_scene,
    plot_strips,
    plot_token_strip,
    token_strip,
)
from minidream.plots.drawing import INK
from minidream.plots.picture_parts import DESCRIBES
from minidream.plots.tokens import TOKEN_COLOURS
from minidream.tokenizers import ToyTokenizer
from minidream.world import Phrase

TOY = ToyTokenizer(["a", "red", "star", "it", "turns", "blue", "."])
RED, BLUE = (Image.new("RGB", (6, 6), colour) for colour in ("red", "blue"))
QUERIES, GRID = 5, 3  # not the toy's 16 and 8


def strip_of(document, **options):
    return token_strip(lay_out(document, TOY, QUERIES, GRID**2, **options), TOY, QUERIES, GRID)


def texts(figure):
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def pictures(figure):
    return [
        tuple(int(value) for value in image.get_array()[0, 0])
        for axis in figure.axes
        for image in axis.images
    ]


# --------------------------------------------------------------------------------------------------
# Strips


def test_a_strip_worked_by_hand():
    layout = lay_out(Document(["a star", RED, "."]), TOY, queries=2, patches=4)
    strip = token_strip(layout, TOY, queries=2, grid=2)
    patches = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    assert strip.inputs == [
        "<s>",
        "a",
        "star",
        "<dream_start>",
        0,
        1,
        "<dream_end>",
        "<im_start>",
        *patches,
        "<im_end>",
        ".",
        "</s>",
    ]
    asked = {
        0: "a",
        1: "star",
        2: "<dream_start>",
        12: ".",
        13: "</s>",
    }  # each of the position before
    assert strip.predicts == [asked.get(place) for place in range(15)]
    assert strip.painted == [0]


def test_a_strip_asks_what_the_loss_asks():
    layout = lay_out(
        Document([BLUE, "a red star.", RED, "it turns blue.", BLUE]), TOY, QUERIES, GRID**2
    )
    strip = token_strip(layout, TOY, QUERIES, GRID)
    labels = torch.tensor(layout.labels)[1:]  # as `DreamLLM.loss_of_layouts` moves them
    assert [TOY.ids.get(token, IGNORED) for token in strip.predicts[:-1]] == labels.tolist()
    assert strip.predicts[-1] is None and strip.painted == [1, 2]
    assert len(strip.inputs) == len(layout.ids)


def test_what_is_not_learned_is_not_asked():
    strip = strip_of(Document(["a star", RED]), learn_text=False, read_last=False)
    assert (
        not any(strip.predicts)
        and strip.painted == [0]
        and len(strip.inputs) == 1 + 2 + 1 + QUERIES + 1 + 1
    )


@pytest.mark.parametrize("queries, grid, needed", [(4, 3, 13), (5, 2, 9)])
def test_blocks_of_another_size_are_refused(queries, grid, needed):
    layout = lay_out(Document(["a star", RED]), TOY, QUERIES, GRID**2)
    with pytest.raises(ValueError, match=f"reserves 14 positions .* need {needed}"):
        token_strip(layout, TOY, queries, grid)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_a_batch_are_their_layouts_and_padding(side):
    documents = [
        Document(["a red star", RED]),
        Document([BLUE]),
        Document(["it turns blue.", BLUE, "it", RED]),
    ]
    batch = collate(
        [lay_out(document, TOY, QUERIES, GRID**2) for document in documents], TOY.pad, side
    )
    rows = batch_strips(batch, TOY, QUERIES, GRID)
    shift = [0, 1, 2]  # images are numbered over the batch
    for row, document, offset in zip(rows, documents, shift, strict=True):
        alone = strip_of(document)
        filling = ["[PAD]"] * (batch.ids.shape[1] - len(alone.inputs))
        inputs = [
            (label[0] + offset, *label[1:]) if isinstance(label, tuple) else label
            for label in alone.inputs
        ]
        assert row.inputs == (filling + inputs if side == "left" else inputs + filling)
        nothing = [None] * len(filling)
        assert row.predicts == (
            nothing + alone.predicts if side == "left" else alone.predicts + nothing
        )
    assert [row.painted for row in rows] == [[0], [], [1, 2]]  # the second row paints nothing


# --------------------------------------------------------------------------------------------------
# A strip, drawn


def test_a_row_shows_every_token_its_position_and_what_it_predicts():
    document = Document(["a red star", RED, "."])
    figure = plot_token_strip(strip_of(document), document.images, "what there is to see")
    said = texts(figure)
    assert "what there is to see" in said and not plt.fignum_exists(figure.number)
    assert [text.get_text() for text in figure.axes[0].texts if text.get_fontsize() == 6.5] == [
        "0",
        "1",
        "…",
        "4",
    ]  # of five queries
    for text in ("5–9", "12–20", "21"):  # queries, patches, <im_end>
        assert text in said
    assert (
        said.count("star") == 2 and said.count("<dream_start>") == 2
    )  # it stands there, and is asked for
    assert said.count("<im_end>") == 1 and said.count("</s>") == 2
    assert pictures(figure) == [(255, 0, 0)] * 2  # painted, and read
    assert "9 patches" in said and "5 queries" in said and "beneath: to be painted (1)" in said
    asked = sum(token is not None for token in strip_of(document).predicts)
    assert f"beneath: language loss ({asked})" in said


def test_without_images_patches_are_counted():
    figure = plot_token_strip(strip_of(Document(["a star", RED])))
    assert (
        pictures(figure) == [] and texts(figure).count("9 patches") == 2
    )  # in the row, and in the legend


@pytest.mark.parametrize("width", [4.0, 9.0])
@pytest.mark.parametrize("images", [0, 1, 6])
def test_a_long_row_goes_on_in_the_next_and_stays_inside(images, width):
    document = Document(
        sum(
            (["a red star. it turns blue.", (RED, BLUE)[number % 2]] for number in range(images)),
            ["a"],
        )
        + ["star . " * 30]
    )
    layout = lay_out(document, TOY, 16, 64)
    strip = token_strip(layout, TOY, 16, 8)
    figure = plot_token_strip(strip, document.images, width=width)
    assert figure.get_size_inches()[0] == width
    (axis,) = figure.axes
    low, high = axis.get_ylim()
    for text in axis.texts:
        if text.get_position()[1] > 0.3:  # the legend has its own line
            assert 0 < text.get_position()[0] < width and low < text.get_position()[1] < high
    assert len(pictures(figure)) == 2 * images
    figure.canvas.draw()
    rows = {round(text.get_position()[1], 3) for text in axis.texts if text.get_fontsize() == 5.5}
    assert len(rows) > 2


def test_positions_are_counted_without_a_gap():
    document = Document(["a red star.", RED, "it turns blue.", BLUE])
    figure = plot_token_strip(strip_of(document), document.images)
    spans = [
        text.get_text().split("–") for text in figure.axes[0].texts if text.get_fontsize() == 5.5
    ]
    covered = sum((list(range(int(span[0]), int(span[-1]) + 1)) for span in spans), [])
    assert covered == list(range(len(strip_of(document).inputs)))


def test_padding_is_one_box():
    strip = TokenStrip(["<s>", "a", *["[PAD]"] * 40], ["a", *[None] * 41], [])
    figure = plot_token_strip(strip)
    assert (
        "[PAD] x 40" in texts(figure) and "2–41" in texts(figure) and "40 padding" in texts(figure)
    )


def test_a_row_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 inputs and 1 predictions"):
        plot_token_strip(TokenStrip(["<s>", "a"], [None], []))
    with pytest.raises(ValueError, match="1 blocks of queries and 2 painted"):
        plot_token_strip(TokenStrip(["<s>", 0, 1], [None] * 3, [0, 1]))


# --------------------------------------------------------------------------------------------------
# Several strips


def cells(figure):
    """{(row, place): colour} of the cells, and of what is marked beneath them."""
    above, beneath = {}, {}
    for patch in figure.axes[0].patches:
        place, y = patch.get_xy()
        (above if y == int(y) else beneath)[int(y), place] = to_hex(patch.get_facecolor())
    return above, beneath


def test_strips_draw_a_cell_per_position_and_mark_what_is_asked():
    strips = {
        "story": strip_of(Document(["a star", RED, "."])),
        "padded": TokenStrip(["<s>", "a", "[PAD]"], ["a", None, None], []),
    }
    figure = plot_strips(strips, "what there is to see")
    above, beneath = cells(figure)
    assert sorted(above) == [
        (row, place)
        for row, strip in enumerate(strips.values())
        for place in range(len(strip.inputs))
    ]
    first = strips["story"]
    for place, label in enumerate(first.inputs):
        queries = isinstance(label, int)
        expected = INK if first.predicts[place] else TOKEN_COLOURS["queries"] if queries else None
        assert beneath.get((0, place)) == (expected and to_hex(expected))
        if queries:
            assert above[0, place] == to_hex(TOKEN_COLOURS["queries"])
    assert (
        above[1, 1] == to_hex(TOKEN_COLOURS["words"])
        and above[1, 2] == "#ffffff"
        and (1, 2) not in beneath
    )
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["story", "padded"]
    assert {"padding", "beneath: paints", "patches"} <= set(texts(figure))
    assert not plt.fignum_exists(figure.number)
    figure.canvas.draw()
    with pytest.raises(ValueError, match="no strips"):
        plot_strips({}, "")


def test_the_legend_names_only_what_is_there():
    said = texts(plot_strips({"words": TokenStrip(["<s>", "a"], ["a", None], [])}, ""))
    assert "words" in said and not {"patches", "queries", "beneath: paints", "padding"} & set(said)


# --------------------------------------------------------------------------------------------------
# Scenes

PHRASE = Phrase(
    ("a", "red", "star", "above", "a", "blue", "ring", "on", "gray"),
    (
        None,
        ("colour", 0),
        ("shape", 0),
        ("relation", None),
        None,
        ("colour", 1),
        ("shape", 1),
        None,
        ("background", None),
    ),
)


def test_a_scene_shows_the_very_masks_and_the_words_in_their_colours():
    masks = torch.rand(2, 4, 7, generator=torch.Generator().manual_seed(0))  # not square
    figure = plot_scene(Image.new("RGB", (7, 4), "red"), masks, PHRASE, "what there is to see")
    shown = [
        axis.images[0].get_array()
        for axis in figure.axes
        if axis.images and axis.get_label() != "<colorbar>"
    ]
    for drawn, mask in zip(shown[1:], masks, strict=True):
        np.testing.assert_array_equal(drawn, mask)
    scales = {
        axis.images[0].get_clim()
        for axis in figure.axes
        if axis.images and axis.get_title(loc="left").startswith("mask")
    }
    assert scales == {(0, 1)}
    said = texts(figure)
    assert (
        all(word in said for word in PHRASE.words)
        and said.count("colour") == 2
        and said.count("relation") == 1
    )
    boxes = [to_hex(patch.get_facecolor(), keep_alpha=True) for patch in figure.axes[-1].patches]
    assert (
        boxes[1] == boxes[2] == DESCRIBES[0].lower() + "77"
        and boxes[5] == DESCRIBES[1].lower() + "77"
        and boxes[0] == boxes[4]
    )
    assert not plt.fignum_exists(figure.number)
    figure.canvas.draw()


def test_a_scene_of_one_thing_and_a_long_caption_stays_inside():
    words = ("word",) * 30
    figure = plot_scene(RED, torch.zeros(1, 6, 6), Phrase(words, (None,) * 30), "")
    assert max(text.get_position()[0] for text in figure.axes[-1].texts) < figure.get_figwidth()
    with pytest.raises(ValueError, match="names object 1, .* 1 masks"):
        plot_scene(RED, torch.zeros(1, 6, 6), PHRASE, "")


def test_distances_are_centred_on_zero_on_one_scale():
    distances = {
        "near": torch.tensor([[-0.25, 0.5, 0.1], [0.5, 0.75, 0.3]]),
        "far": torch.tensor([[-2.0, 1.0, 0.0], [1.0, 1.0, 0.2]]),
    }
    figure = plot_distances(distances, "what there is to see")
    panels = [axis for axis in figure.axes if axis.images and axis.get_label() != "<colorbar>"]
    for axis, values in zip(panels, distances.values(), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), values)
        assert axis.images[0].get_clim() == (-2, 2) and axis.images[0].get_cmap().name == "RdBu_r"
        assert axis.images[0].get_extent() == [-1.2, 1.2, 1.2, -1.2]  # y down
    assert [axis.get_title(loc="left") for axis in panels] == [
        "near",
        "far",
    ] and not plt.fignum_exists(figure.number)
    with pytest.raises(ValueError, match="no distances"):
        plot_distances({}, "")
