"""Figures of notebook 03: the very numbers, at lopsided sizes, and errors that name both."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from PIL import Image

from minidream.plots import plot_losses, plot_patch_words, plot_patches, plot_scores
from minidream.plots.picture_parts import MARKERS
from minidream.world import COLOURS, SHAPES


def counting(height, width):
    """A picture whose every pixel differs from its neighbours."""
    return Image.fromarray(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3))


def panels(figure):
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def matrices(figure):
    return [
        mesh for axis in panels(figure) for mesh in axis.collections if isinstance(mesh, QuadMesh)
    ]


def test_patches_are_pulled_apart_row_by_row():
    image = counting(6, 10)
    figure = plot_patches(image, rows=3, columns=5, title="cut")
    whole, apart = panels(figure)
    np.testing.assert_array_equal(whole.images[0].get_array(), np.asarray(image))
    assert len(apart.images) == 15 and [text.get_text() for text in apart.texts] == [
        str(number) for number in range(15)
    ]
    np.testing.assert_array_equal(
        apart.images[7].get_array(), np.asarray(image)[2:4, 4:6]
    )  # row 1, column 2
    left, right, bottom, top = apart.images[7].get_extent()
    assert (
        2 < left < right < 4
        and 1 < top < bottom < 3
        and (right - left, bottom - top) == pytest.approx((1, 1))
    )
    assert not plt.fignum_exists(figure.number)
    figure.canvas.draw()


def test_patches_must_be_equal():
    with pytest.raises(ValueError, match="6x10 pixels cannot be cut into 4x5"):
        plot_patches(counting(6, 10), 4, 5, "cut")


def test_scores_are_drawn_beside_their_pictures_and_framed_where_they_belong():
    images, captions = [counting(4, 4), counting(5, 5)], ["a red star", "a ring", "two things"]
    before, after = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)[::-1] * 2
    figure = plot_scores(images, captions, {"before": before, "after": after}, "fits", "share")
    first, second = matrices(figure)
    np.testing.assert_array_equal(first.get_array(), before)
    np.testing.assert_array_equal(second.get_array(), after)
    assert (first.norm.vmin, first.norm.vmax) == (second.norm.vmin, second.norm.vmax) == (
        0,
        10,
    ) and first.cmap.name == "viridis"
    for axis, name in zip(panels(figure), ("before", "after")):
        assert (
            axis.get_title(loc="left") == name
            and [label.get_text() for label in axis.get_xticklabels()] == captions
        )
        for row, (inset, image) in enumerate(zip(axis.images, images, strict=True)):
            np.testing.assert_array_equal(inset.get_array(), np.asarray(image))
            assert row < min(inset.get_extent()[2:]) < max(inset.get_extent()[2:]) < row + 1
            assert (
                inset.get_extent()[3] < inset.get_extent()[2]
            )  # its upper edge lies above, where rows count downwards
        assert [frame.get_xy() for frame in axis.patches] == [(0, 0), (1, 1)]
    assert not plt.fignum_exists(figure.number)
    figure.canvas.draw()


def test_signed_scores_are_centred():
    (mesh,) = matrices(
        plot_scores([counting(4, 4)], ["a", "b"], {"cosine": [[-0.8, 0.3]]}, "fits", "cosine")
    )
    assert (mesh.norm.vmin, mesh.norm.vmax, mesh.cmap.name) == (-0.8, 0.8, "RdBu_r")


def test_scores_must_fit():
    with pytest.raises(ValueError, match=r"\(3, 2\) do not fit 2 images and 3 captions"):
        plot_scores(
            [counting(4, 4)] * 2, ["a", "b", "c"], {"turned": np.zeros((3, 2))}, "fits", "share"
        )
    with pytest.raises(ValueError, match="no scores"):
        plot_scores([counting(4, 4)], ["a"], {}, "fits", "share")


def test_every_patch_shows_what_it_names():
    words = [
        [None, ("red", "ring"), None, ("blue", "star"), None, None],
        [("green", "cross")] + [None] * 5,
    ]
    figure = plot_patch_words([counting(4, 6), counting(4, 6)], words, columns=3, title="read")
    bare, read, _, other = panels(figure)
    np.testing.assert_array_equal(bare.images[0].get_array(), np.asarray(counting(4, 6)))
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in read.lines] == [
        (1.5, 0.5),
        (0.5, 1.5),
    ]
    assert [line.get_color() for line in read.lines] == [COLOURS["red"], COLOURS["blue"]]
    assert [line.get_marker() for line in read.lines] == ["o", "*"] and read.lines[
        0
    ].get_markerfacecolor() == "none"
    assert [line.get_marker() for line in other.lines] == ["P"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(SHAPES) == list(MARKERS)
    assert len(set(MARKERS.values())) == len(SHAPES) and not plt.fignum_exists(figure.number)


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_patch_words_of_any_number_of_pictures(count):
    figure = plot_patch_words(
        [counting(4, 6)] * count, [[None] * 6] * count, columns=3, title="nothing"
    )
    assert sum(bool(axis.images) for axis in panels(figure)) == count
    figure.canvas.draw()


def test_patch_words_must_fit():
    with pytest.raises(ValueError, match="2 images and 1 lists"):
        plot_patch_words([counting(4, 4)] * 2, [[None] * 4], 2, "read")
    with pytest.raises(ValueError, match="0 images"):
        plot_patch_words([], [], 2, "read")
    with pytest.raises(ValueError, match="5 patches do not fill rows of 3"):
        plot_patch_words([counting(4, 4)], [[None] * 5], 3, "read")


@pytest.mark.parametrize("steps", [1, 24, 75])
def test_a_level_to_compare_with_is_drawn_in_every_panel_of_losses(steps):
    log = [{"step": step, "contrast": float(step), "other": 1.0} for step in range(steps)]
    figure = plot_losses(log, "learns", {"chance": np.log(7)})
    for axis in figure.axes:
        every, *smooth, level = axis.lines
        assert len(every.get_ydata()) == steps and list(level.get_ydata()) == [np.log(7)] * 2
        assert "chance" in [text.get_text() for text in axis.texts]
        assert len(smooth) == (steps == 75)
    if smooth:
        (line,) = figure.axes[0].lines[1:2]
        assert len(line.get_ydata()) == steps - 3 + 1  # only whole windows of three steps
        # On a straight line, the mean of a window is on the line.
        np.testing.assert_allclose(line.get_ydata(), line.get_xdata())
    with pytest.raises(ValueError, match="no losses"):
        plot_losses([], "learns")
