"""Rows of tokens: every position is drawn once, with its target, its picture or its origin."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
from figures import ROW, all_texts, closed, shown, texts
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from minidream.documents import IGNORED, Document, collate, lay_out
from minidream.llm import rotary_angles
from minidream.plots import (
    TokenStrip,
    batch_strips,
    plot_origins,
    plot_strips,
    plot_token_strip,
    plot_turns,
    token_strip,
)
from minidream.plots.drawing import INK
from minidream.plots.sequences import ORIGINS
from minidream.plots.tokens import TOKEN_COLOURS
from minidream.tokenizers import ToyTokenizer

TOY = ToyTokenizer(["a", "red", "star", "it", "turns", "blue", "."])


RED, BLUE = (Image.new("RGB", (6, 6), colour) for colour in ("red", "blue"))


QUERIES, GRID = 5, 3  # not the toy's 16 and 8


def strip_of(document, **options):
    return token_strip(lay_out(document, TOY, QUERIES, GRID**2, **options), TOY, QUERIES, GRID)


def pictures(figure):
    """The first pixel of every image of a figure."""
    images = [image for axis in figure.axes for image in axis.images]
    return [tuple(image.get_array()[0, 0].tolist()) for image in images]


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


def test_the_targets_of_a_strip_are_those_of_the_loss():
    layout = lay_out(
        Document([BLUE, "a red star.", RED, "it turns blue.", BLUE]), TOY, QUERIES, GRID**2
    )
    strip = token_strip(layout, TOY, QUERIES, GRID)
    labels = torch.tensor(layout.labels)[1:]  # as `DreamLLM.loss_of_layouts` moves them
    assert [TOY.ids.get(token, IGNORED) for token in strip.predicts[:-1]] == labels.tolist()
    assert strip.predicts[-1] is None and strip.painted == [1, 2]
    assert len(strip.inputs) == len(layout.ids)


def test_what_is_not_learned_is_no_target():
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


def test_a_row_shows_every_token_its_position_and_what_it_predicts():
    document = Document(["a red star", RED, "."])
    figure = plot_token_strip(strip_of(document), document.images, "what there is to see")
    said = all_texts(figure)
    assert "what there is to see" in said and not plt.fignum_exists(figure.number)
    assert "".join(all_texts(figure)).count("01…4") == 1  # of five queries
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
        pictures(figure) == [] and all_texts(figure).count("9 patches") == 2
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
    figure.draw_without_rendering()
    rows = {
        round(text.get_position()[1], 3) for text in axis.texts if text.get_color() == "#777777"
    }
    assert len(rows) > 2


def test_positions_are_counted_without_a_gap():
    document = Document(["a red star.", RED, "it turns blue.", BLUE])
    figure = plot_token_strip(strip_of(document), document.images)
    spans = [
        text.get_text().split("–") for text in figure.axes[0].texts if text.get_color() == "#777777"
    ]
    covered = sum((list(range(int(span[0]), int(span[-1]) + 1)) for span in spans), [])
    assert covered == list(range(len(strip_of(document).inputs)))


def test_padding_is_one_box():
    strip = TokenStrip(["<s>", "a", *["[PAD]"] * 40], ["a", *[None] * 41], [])
    figure = plot_token_strip(strip)
    assert (
        "[PAD] x 40" in all_texts(figure)
        and "2–41" in all_texts(figure)
        and "40 padding" in all_texts(figure)
    )


def test_a_row_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 inputs and 1 predictions"):
        plot_token_strip(TokenStrip(["<s>", "a"], [None], []))
    with pytest.raises(ValueError, match="1 blocks of queries and 2 painted"):
        plot_token_strip(TokenStrip(["<s>", 0, 1], [None] * 3, [0, 1]))


def cells(figure):
    """{(row, place): colour} of the cells, and of what is marked beneath them."""
    above, beneath = {}, {}
    for patch in figure.axes[0].patches:
        place, y = patch.get_xy()
        (above if y == int(y) else beneath)[int(y), place] = to_hex(patch.get_facecolor())
    return above, beneath


def test_strips_draw_a_cell_per_position_and_mark_the_targets():
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
    assert {"padding", "beneath: paints", "patches"} <= set(all_texts(figure))
    assert not plt.fignum_exists(figure.number)
    figure.draw_without_rendering()
    with pytest.raises(ValueError, match="no strips"):
        plot_strips({}, "")


def test_the_legend_names_only_what_is_there():
    said = all_texts(plot_strips({"words": TokenStrip(["<s>", "a"], ["a", None], [])}, ""))
    assert "words" in said and not {"patches", "queries", "beneath: paints", "padding"} & set(said)


BY = (
    ["given"] * 3
    + ["written"]
    + ["by rule"] * 4
    + ["painted"] * 3
    + ["by rule"]
    + ["written"] * 2
    + ["by rule"] * 4
    + ["painted"] * 3
    + ["by rule", "written"]
)


def boxes(figure, colour):
    """How many boxes of a colour there are, without the legend's."""
    return sum(
        patch.get_facecolor()[:3] == to_rgb(colour)
        for patch in figure.axes[0].patches
        if not isinstance(patch, Rectangle)
    )


def test_each_position_has_the_colour_of_its_origin():
    figure = plot_origins(ROW, BY, [RED, BLUE], "Who")
    assert boxes(figure, ORIGINS["given"]) == 3 and boxes(figure, ORIGINS["written"]) == 4
    assert boxes(figure, ORIGINS["by rule"]) == 10  # six markers and four queries
    frames = [
        patch
        for patch in figure.axes[0].patches
        if isinstance(patch, Rectangle) and patch.get_edgecolor()[:3] == to_rgb(ORIGINS["painted"])
    ]
    assert len(frames) == 2
    for text in (
        "Who",
        "given (3)",
        "written (4)",
        "by rule (10)",
        "painted (6)",
        "8–10",
        "18–20",
        "star",
        "grows",
    ):
        assert text in texts(figure), text
    assert closed(figure)


def test_queries_lead_to_the_picture_that_is_read_next():
    figure = plot_origins(ROW, BY, [RED, BLUE], "")
    colours = [picture[0, 0].tolist() for picture in shown(figure)]
    assert colours == [[255, 0, 0]] * 2 + [[0, 0, 255]] * 2  # each painted, then read
    # Queries at the end, whose picture is not read yet, lead to none.
    assert len(shown(plot_origins(ROW[:16], BY[:16], [RED, BLUE], ""))) == 2


def test_a_long_row_goes_on_below_and_many_queries_are_abbreviated():
    short, long = (
        plot_origins(["<s>", *["star"] * words], ["given"] * (words + 1), [], "")
        for words in (3, 60)
    )
    assert (
        long.get_figheight() > 2 * short.get_figheight()
        and long.get_figwidth() == short.get_figwidth()
    )
    right = max(
        patch.get_x() + patch.get_width()
        for patch in long.axes[0].patches
        if not isinstance(patch, Rectangle)
    )
    assert right < long.get_figwidth()
    queries = plot_origins([*range(16)], ["by rule"] * 16, [], "")
    assert "".join(all_texts(queries)).count("01…15") == 1


def test_origins_are_one_for_each_input_and_known():
    with pytest.raises(ValueError, match="2 inputs and 3 origins"):
        plot_origins(["<s>", "a"], ["given"] * 3, [], "")
    with pytest.raises(
        ValueError, match="'guessed' is no origin; there are given, written, by rule, painted"
    ):
        plot_origins(["<s>", "a"], ["given", "guessed"], [], "")


def test_turns_draw_a_hand_at_each_angle():
    angles = rotary_angles(torch.arange(5)[None], 6, 50.0)[0]
    figure = plot_turns(angles, "clocks")
    hands = figure.axes[0].lines
    assert len(hands) == 5 * 3
    x, y = hands[4 * 3 + 1].get_data()  # position 4, pair 1; up is a smaller y here
    assert math.atan2(y[0] - y[1], x[1] - x[0]) == pytest.approx(angles[4, 1].item(), abs=1e-5)
    with pytest.raises(ValueError, match="3 dimensions"):
        plot_turns(angles[None], "t")
