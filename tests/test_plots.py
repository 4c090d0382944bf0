"""Figures over the whole range of what they may be given: closed, complete, and drawn from the very numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image

from minidream.documents import Document
from minidream.plots import (
    in_words,
    plot_boxes,
    plot_document,
    plot_heads,
    plot_losses,
    plot_patch_layers,
    plot_pictures,
    plot_sizes,
    plot_stacks,
    plot_table,
    plot_trace,
    plot_two_hop,
    plot_word_layers,
    text_table,
)
from minidream.plots.diagrams import plot_dream, plot_layout
from minidream.plots.tokens import (
    TOKEN_COLOURS,
    WORDS_PER_STRIP,
    kind_of,
    pieces_of,
    shares,
    strips_of,
)
from minidream.probe import Trace

GRID = 3  # patches along a side: not the toy's 8, which no function may assume


def image(colour="red", size=(12, 12)):
    return Image.new("RGB", size, colour)


def read(number, grid=GRID):
    """An image as it stands among the inputs."""
    return [
        "<im_start>",
        *((number, row, column) for row in range(grid) for column in range(grid)),
        "<im_end>",
    ]


def trace(inputs, queries=5, layers=2, heads=3, seed=0):
    inputs = [*inputs, "<dream_start>", *range(queries)]
    weights = torch.rand(
        layers, heads, queries, len(inputs), generator=torch.Generator().manual_seed(seed)
    )
    weights[..., 0] += 0.3 * len(inputs)  # as in trained models, <s> takes more than anything else
    images = [
        image()
        for number in range(
            1 + max([label[0] for label in inputs if isinstance(label, tuple)], default=-1)
        )
    ]
    return Trace(weights / weights.sum(dim=-1, keepdim=True), inputs, images)


def meshes(figure):
    """Every heat map of a figure as an array, in drawing order, without the colour bars."""
    return [
        mesh.get_array().data
        for axis in figure.axes
        if axis.get_label() != "<colorbar>"
        for mesh in axis.collections
        if isinstance(mesh, QuadMesh)
    ]


def panels(figure):
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(plt.Text))


STORY = ["<s>", "a", "star", *read(0), "it", "turns", "red", *read(1)]


def test_kinds():
    labels = ["<s>", "star", "<0x0A>", "<dream_start>", "<im_end>", (0, 1, 2), 7, "▁"]
    assert [kind_of(label) for label in labels] == [
        "<s>",
        "words",
        "words",
        "markers",
        "markers",
        "patches",
        "queries",
        "words",
    ]
    assert set(TOKEN_COLOURS) == {"<s>", "words", "markers", "patches", "queries"}


def test_shares_are_sums_by_kind():
    rows = torch.tensor([[0.5, 0.25, 0.0, 0.25], [0.25, 0.25, 0.5, 0.0]])
    assert shares(["<s>", "star", "<dream_start>", 0], rows) == {
        "<s>": 0.375,
        "words": 0.25,
        "patches": 0.0,
        "markers": 0.25,
        "queries": 0.125,
    }


def test_strips_break_at_images_and_lose_no_word():
    assert strips_of(STORY) == [[1, 2, 14, 15, 16]]  # both runs fit into one strip
    long = ["<s>", *["w"] * (WORDS_PER_STRIP - 1), *read(0), "it", "turns", "red"]
    assert [len(strip) for strip in strips_of(long)] == [WORDS_PER_STRIP - 1, 3]
    endless = ["<s>", *["w"] * (2 * WORDS_PER_STRIP + 5)]
    assert sum(strips_of(endless), []) == list(range(1, len(endless)))
    assert max(map(len, strips_of(endless))) == WORDS_PER_STRIP
    assert strips_of(["<s>", "<dream_start>", 0]) == []


@pytest.mark.parametrize("layer", [None, 0, 1])
@pytest.mark.parametrize("head", [None, 2])
@pytest.mark.parametrize("query", [None, 0, 4])
def test_trace_draws_the_very_numbers(layer, head, query):
    seen = trace(STORY)
    figure = plot_trace(seen, layer, head, query)
    rows = seen.mean(layer, head)[slice(None) if query is None else [query]]
    words, *maps = meshes(figure)
    if query is None:
        mean, *maps = maps
        np.testing.assert_allclose(
            mean, rows[:, strips_of(seen.inputs)[0]].mean(dim=0, keepdim=True), rtol=1e-5
        )
    np.testing.assert_array_equal(words, rows[:, [1, 2, 14, 15, 16]])
    for number, drawn in enumerate(maps):
        expected = seen.patch_maps(number, layer, head)
        np.testing.assert_allclose(
            drawn, expected.mean(dim=0) if query is None else expected[query], rtol=1e-5
        )
    assert len(maps) == 2
    said = texts(figure)
    assert ("mean of 2 layers" if layer is None else f"layer {layer}") in said
    assert ("mean of 3 heads" if head is None else f"head {head}") in said
    assert ("all 5 queries" if query is None else f"query {query}") in said


def test_trace_bar_adds_up_and_the_sink_does_not_dim_the_words():
    seen = trace(STORY)
    figure = plot_trace(seen)
    bar = panels(figure)[-1]
    widths = [patch.get_width() for patch in bar.patches]
    assert sum(widths) == pytest.approx(1, abs=1e-5) and len(widths) == len(TOKEN_COLOURS)
    np.testing.assert_allclose(widths, list(shares(seen.inputs, seen.mean()).values()), rtol=1e-5)
    brightest = max(
        mesh.norm.vmax
        for axis in figure.axes
        for mesh in axis.collections
        if isinstance(mesh, QuadMesh)
    )
    assert brightest < seen.mean()[:, 0].min()  # the scale ends far below what <s> has


@pytest.mark.parametrize(
    "inputs, queries, strips, images",
    [
        (["<s>"], 1, 0, 0),  # the empty prompt
        (["<s>", "star"], 1, 1, 0),
        (["<s>", *(["a", "word"] * 190)], 64, 16, 0),  # nearly 400 words
        (
            ["<s>", "incomprehensibilities" * 3, "."],
            16,
            1,
            0,
        ),  # a token that is too long to write out
        (["<s>", *read(0)], 2, 0, 1),  # no words at all
        (["<s>", *sum((["it", *read(number)] for number in range(6)), [])], 3, 1, 6),
        (
            ["<s>", "a", "$\\alpha", "$_^{$", "▁", "<0x0A>"],
            2,
            1,
            0,
        ),  # what mathematics mode would choke on
    ],
)
def test_trace_of_any_size(inputs, queries, strips, images):
    seen = trace(inputs, queries)
    for query in (None, queries - 1):
        figure = plot_trace(seen, query=query)
        assert isinstance(figure, Figure) and not plt.fignum_exists(figure.number)
        drawn = [axis for axis in panels(figure) if axis.images or axis.collections or axis.patches]
        assert len(drawn) == strips + 2 * images + 1
        assert sum(bool(axis.images) for axis in drawn) == images
        assert max(figure.get_size_inches()) < 40
        figure.canvas.draw()  # where an unreadable label or a layout without room would fail


def test_trace_refuses_what_it_does_not_have():
    seen = trace(STORY)
    for name, size in (("layer", 2), ("head", 3), ("query", 5)):
        for wrong in (size, -1):
            with pytest.raises(ValueError, match=f"{name} {wrong} .* has {size}"):
                plot_trace(seen, **{name: wrong})


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
    figure.canvas.draw()
    bottom = [axis.get_window_extent().y0 for axis in figure.axes[:9]]
    assert bottom[0] > bottom[4] > bottom[8]
    for axis in figure.axes[:9]:
        assert (
            axis.title.get_window_extent().y1 <= figure.bbox.y1
            and axis._left_title.get_window_extent().y1 <= figure.bbox.y1 + 1
        )


def test_two_hop_draws_the_maps_of_the_chosen_words():
    inputs = ["<s>", "a", "red", "circle", "a", (0, 1, 2), 3]
    hops = torch.rand(len(inputs), 3, 5, generator=torch.Generator().manual_seed(1))  # not square
    figure = plot_two_hop(image(size=(20, 12)), hops, inputs, ["circle", "a", 4, 5, 6])
    for drawn, place in zip(meshes(figure), (3, 1, 4, 5, 6), strict=True):
        np.testing.assert_array_equal(drawn, hops[place])
    assert (
        len(
            {
                (mesh.norm.vmin, mesh.norm.vmax)
                for axis in panels(figure)
                for mesh in axis.collections
            }
        )
        == 1
    )
    assert not plt.fignum_exists(figure.number)
    with pytest.raises(ValueError, match="'green' is not among"):
        plot_two_hop(image(), hops, inputs, ["green"])
    with pytest.raises(ValueError, match="7 maps .* 6 inputs"):
        plot_two_hop(image(), hops, inputs[:6], ["a"])
    with pytest.raises(ValueError, match="no words"):
        plot_two_hop(image(), hops, inputs, [])


@pytest.mark.parametrize("rows, columns", [(1, 1), (3, 16), (16, 3)])
def test_table_writes_every_number(rows, columns):
    values = torch.rand(rows, columns, generator=torch.Generator().manual_seed(0))
    figure = plot_table(
        values,
        [f"row {row}" for row in range(rows)],
        [str(column) for column in range(columns)],
        "title",
        "share",
    )
    np.testing.assert_array_equal(meshes(figure)[0], values)
    assert [text.get_text() for text in figure.axes[0].texts] == [
        f"{value:.0%}" if value >= 0.005 else "0" for value in values.flatten().tolist()
    ]
    assert not plt.fignum_exists(figure.number)
    assert (
        plot_table(torch.zeros(1, 1), ["a"], ["b"], "nothing", "share").axes[0].texts[0].get_text()
        == "0"
    )
    figure = plot_table(
        [[0.5, float("nan")]], ["a"], ["b", "c"], "one cannot", "share", [["50%\n40-60", "cannot"]]
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["50%\n40-60", "cannot"]
    assert figure.axes[0].collections[0].get_array().mask.ravel().tolist() == [
        False,
        True,
    ] and figure.axes[0].collections[0].get_clim() == (0, 0.5)
    with pytest.raises(ValueError, match=f"do not fit {rows + 1} rows and {columns}"):
        plot_table(values, ["row"] * (rows + 1), ["column"] * columns, "title", "share")


# As the tiny official checkpoint has it, and as the full weights do: 64 queries over some 370 inputs, 32 layers of 32 heads.
SIZES = pytest.mark.parametrize(
    "words, grid, queries, layers, heads", [(9, 4, 8, 4, 4), (40, 16, 64, 32, 32), (1, 3, 2, 1, 5)]
)


@SIZES
def test_layers_draw_the_very_numbers(words, grid, queries, layers, heads):
    seen = trace(["<s>", *read(0, grid), *["word"] * words], queries, layers, heads)
    figure = plot_word_layers(seen, title="what there is to see")
    for drawn, strip in zip(meshes(figure), strips_of(seen.inputs), strict=True):
        np.testing.assert_allclose(drawn, seen.weights[..., strip].mean(dim=(1, 2)), rtol=1e-5)
    maps = plot_patch_layers(seen)
    for layer, drawn in enumerate(meshes(maps)):
        np.testing.assert_allclose(drawn, seen.patch_maps(0, layer).mean(dim=0), rtol=1e-5)
    assert len(meshes(maps)) == layers and sum(bool(axis.images) for axis in maps.axes) == 1
    for drawn in (figure, maps):
        assert (
            len(
                {
                    (mesh.norm.vmin, mesh.norm.vmax)
                    for axis in panels(drawn)
                    for mesh in axis.collections
                }
            )
            == 1
        )
        (bar,) = [axis for axis in drawn.axes if axis.get_label() == "<colorbar>"]
        even = bar.lines[0].get_ydata()[0]
        assert even == pytest.approx((1 / seen.visible).mean()) and even <= bar.get_ylim()[1]
        assert (
            "uniform" in texts(drawn)
            and not plt.fignum_exists(drawn.number)
            and max(drawn.get_size_inches()) < 12
        )
        drawn.canvas.draw()
    with pytest.raises(ValueError, match="no patches of image 1"):
        plot_patch_layers(seen, image=1)
    with pytest.raises(ValueError, match="no word"):
        plot_word_layers(trace(["<s>", *read(0)]))


@SIZES
def test_heads_share_one_scale(words, grid, queries, layers, heads):
    values = {
        name: torch.rand(layers, heads, generator=torch.Generator().manual_seed(len(name)))
        for name in ("<s>", "words", "patches")
    }
    figure = plot_heads(values, "what there is to see", "share")
    for drawn, expected in zip(meshes(figure), values.values(), strict=True):
        np.testing.assert_array_equal(drawn, expected)
    assert {
        (mesh.norm.vmin, mesh.norm.vmax) for axis in panels(figure) for mesh in axis.collections
    } == {(0, max(map_.max().item() for map_ in values.values()))}
    assert [axis.get_title(loc="left") for axis in panels(figure)][:3] == list(values)
    (mesh,) = plot_heads({"one": values["words"]}, "", "", bottom=0.5, top=1.0).axes[0].collections
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0.5, 1)
    assert not plt.fignum_exists(figure.number) and max(figure.get_size_inches()) < 12
    with pytest.raises(ValueError, match="no values"):
        plot_heads({}, "", "")


def test_sizes_put_every_model_on_one_scale():
    sizes = {
        "small": {"queries": 512, "tower": 40_000},
        "large": {"queries": 262_144, "tower": 303_179_776},
    }
    figure = plot_sizes(sizes, "the same parts")
    dots = {
        line.get_label(): list(line.get_xdata())
        for line in figure.axes[0].lines
        if line.get_linestyle() == "None"
    }
    assert dots == {name: list(parts.values()) for name, parts in sizes.items()}
    assert (
        "262 thousand" in texts(figure)
        and "303 million" in texts(figure)
        and figure.axes[0].get_xscale() == "log"
    )
    assert not plt.fignum_exists(figure.number)
    for wrong in ({}, {"small": {}}, sizes | {"other": {"tower": 3}}):
        with pytest.raises(ValueError, match="same parts"):
            plot_sizes(wrong, "")
    assert [in_words(number) for number in (6_738_481_152, 83_653_863, 1500, 12)] == [
        "6.74 billion",
        "83.7 million",
        "1.5 thousand",
        "12",
    ]


def test_text_table_puts_numbers_on_the_right():
    table = text_table(
        ["file", "numbers", "share"], [("a.bin", 1234567, 0.12345), ("b.bin", 0, 16.0)]
    )
    assert table.data.splitlines() == [
        "| file | numbers | share |",
        "|---|--:|--:|",
        "| a.bin | 1,234,567 | 0.123 |",
        "| b.bin | 0 | 16 |",
    ]
    with pytest.raises(ValueError, match="2 values, the table 3 columns"):
        text_table(["file", "numbers", "share"], [("a.bin", 1)])


@pytest.mark.parametrize("marks", [None, {"8 GB": 8, "80 GB": 80}])
def test_stacks_add_up(marks):
    stacks = {
        "float32": {"writes": 27.0, "paints": 5.0},
        "bfloat16": {"writes": 13.5, "paints": 2.5},
    }
    figure = plot_stacks(stacks, "half the digits", "gigabytes", marks)
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0, 27), (0, 13.5), (27, 5), (13.5, 2.5)]
    assert (
        " 32" in texts(figure)
        and " 16" in texts(figure)
        and ("80 GB" in texts(figure)) == bool(marks)
    )
    assert figure.axes[0].get_xlim()[1] > (80 if marks else 32) and not plt.fignum_exists(
        figure.number
    )
    for wrong in ({}, stacks | {"int8": {"writes": 7.0}}):
        with pytest.raises(ValueError, match="same parts"):
            plot_stacks(wrong, "", "")


@pytest.mark.parametrize("lines", [1, 3, 400])
def test_losses(lines):
    log = [
        {
            "step": 20 * line,
            "total": 2.0 / line,
            "colour": 0.0,
            "rate": 1e-3,
            "samples_per_second": 9.0,
        }
        for line in range(1, lines + 1)
    ]
    figure = plot_losses(log, "vae")
    assert [axis.get_ylabel() for axis in figure.axes] == ["total", "colour"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [line["total"] for line in log])
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]  # 0 has no logarithm
    assert len(figure.axes[0].lines) == (2 if lines == 400 else 1)
    if lines == 400:
        smooth = figure.axes[0].lines[1]
        place = list(figure.axes[0].lines[0].get_xdata()).index(smooth.get_xdata()[50])
        assert smooth.get_ydata()[50] == pytest.approx(
            np.mean([line["total"] for line in log[place - 8 : place + 8]])
        )
    assert not plt.fignum_exists(figure.number)


def test_pieces_keep_every_position():
    inputs = [*STORY, "<dream_start>", *range(5)]
    pieces = pieces_of(inputs)
    assert sum((piece.labels for piece in pieces), []) == inputs
    for piece in pieces:
        assert inputs[piece.first : piece.last + 1] == piece.labels
    blocks = [(piece.kind, len(piece.labels)) for piece in pieces if len(piece.labels) > 1]
    assert blocks == [("patches", GRID**2), ("patches", GRID**2), ("queries", 5)]
    assert len(pieces_of([(0, 0, 0), (1, 0, 0)])) == 2


@pytest.mark.parametrize(
    "inputs, images, kept",
    [
        (["<s>", "star", "<dream_start>", *range(16)], 0, 0),
        (["<s>", *read(0), "green", "<dream_start>", *range(5)], 1, 1),
        (
            [*STORY, "<dream_start>", *range(5)],
            2,
            1,
        ),  # too long for the diagram: what is far from the queries is left out
        (["<s>", *["word"] * 300, *range(64)], 0, 0),
        ([0], 0, 0),
    ],
)
def test_layout_and_dream_show_what_stands_in_the_sequence(inputs, images, kept):
    pictures = [image("red"), image("blue")]
    figure = plot_layout(inputs, pictures)
    words = [label for label in inputs if kind_of(label) in ("words", "markers")]
    written = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in written if text in words] == words
    assert len(figure.axes[0].images) == images
    assert all(0 <= text.get_position()[0] <= 9 for text in figure.axes[0].texts)
    figure = plot_dream(inputs, image("green"), torch.randn(4, 8, 8), pictures)
    axis = figure.axes[0]
    assert len(axis.images) == kept + 2 and not plt.fignum_exists(figure.number)
    written = [text.get_text() for text in axis.texts]
    own = [number for number in inputs[-64:] if isinstance(number, int)]
    assert [str(number) for number in own] == [text for text in written if text.isdigit()][
        : len(own)
    ]
    assert any(f"{len(own)} dream queries" in text or text == "queries" for text in written)
    if (
        len(words) == 300
    ):  # what is left out is counted: everything but <s>, the words written and the queries
        (left,) = [text for text in written if text.endswith("more …")]
        assert int(left.split()[0]) == 300 - written.count("word")
    with pytest.raises(ValueError, match="dream quer"):
        plot_dream(["<s>", "star"], image(), torch.randn(4, 8, 8))


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
