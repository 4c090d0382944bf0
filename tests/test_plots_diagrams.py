"""Diagrams show exactly what is in the sequence."""

import matplotlib.pyplot as plt
import pytest
import torch
from figure_examples import UNET
from figures import STORY, image, read

from minidream.plots.diagrams import plot_dream, plot_layout, plot_unet
from minidream.plots.tokens import kind_of


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
def test_layout_and_dream_show_what_is_in_the_sequence(inputs, images, kept):
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


def boxes(axis, names):
    """{name: (left, right, bottom, top)} of the squares of a U-Net, in the order of its parts."""
    squares = [patch for patch in axis.patches if patch.get_edgecolor()[:3] == (0.6, 0.6, 0.6)]
    found = [square.get_bbox() for square in squares]
    return {name: (box.x0, box.x1, box.y0, box.y1) for name, box in zip(names, found, strict=True)}


def test_unet_is_a_u_whose_skip_connections_are_level():
    names = [name for name, _ in UNET]
    figure = plot_unet(UNET, skips=[(1, 5), (2, 4)], listening=[1, 3], title="A U")
    axis = figure.axes[0]
    drawn = boxes(axis, names)
    centres = {name: ((x0 + x1) / 2, (y0 + y1) / 2) for name, (x0, x1, y0, y1) in drawn.items()}
    left, middle, right = (centres[name][0] for name in ("in", "c", "out"))
    assert left == centres["a"][0] == centres["b"][0] < middle < right
    assert right == centres["d"][0] == centres["e"][0]
    for start, end in (("a", "e"), ("b", "d")):
        assert centres[start][1] == centres[end][1]
    heights = [centres[name][1] for name in names]
    assert heights[:4] == sorted(heights[:4], reverse=True) and heights[3:] == sorted(heights[3:])
    widths = {name: round(box[1] - box[0], 6) for name, box in drawn.items()}
    assert widths["in"] == widths["e"] == 2 * widths["b"] == 2 * widths["c"]
    written = [text.get_text() for text in axis.texts]
    assert [f"{name}  {' × '.join(map(str, shape))}" for name, shape in UNET] == written[:7]
    # Parts that read the condition have a colour of their own.
    colours = [patch.get_facecolor() for patch in axis.patches][: len(UNET)]
    assert {colours[1], colours[3]}.isdisjoint(colours[index] for index in (0, 2, 4, 5, 6))
    assert not plt.fignum_exists(figure.number)


def test_the_names_of_a_unets_parts_are_inside_the_figure():
    long = [(f"{name} with a longer name", shape) for name, shape in UNET]
    figure = plot_unet(long, skips=[(1, 5), (2, 4)], listening=[], title="A U")
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()


def test_unet_needs_skip_connections_between_its_parts():
    with pytest.raises(ValueError, match="without skip connections"):
        plot_unet(UNET, [], [], "A U")
    with pytest.raises(ValueError, match="no part 7 among 7"):
        plot_unet(UNET, [(1, 7)], [], "A U")
    with pytest.raises(ValueError, match="no part -1 among 7"):
        plot_unet(UNET, [(1, 5)], [-1], "A U")
