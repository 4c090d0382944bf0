"""Diagrams show exactly what is in the sequence."""

import matplotlib.pyplot as plt
import pytest
import torch
from figures import STORY, image, read

from minidream.plots.diagrams import plot_dream, plot_layout
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
