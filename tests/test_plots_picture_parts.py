"""Pictures taken apart: the very numbers, at lopsided sizes, and errors that name both."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures import all_texts, closed, meshes, panels, shown, texts
from matplotlib.colors import to_hex
from PIL import Image

from minidream.plots import plot_distances, plot_latents, plot_patch_words, plot_patches, plot_scene
from minidream.plots.picture_parts import DESCRIBES, MARKERS
from minidream.world import COLOURS, SHAPES, Phrase

RED, BLUE, GREEN = (Image.new("RGB", (5, 7), colour) for colour in ("red", "blue", "green"))


def counting(height, width):
    """A picture whose every pixel differs from its neighbours."""
    return Image.fromarray(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3))


def test_latents_are_drawn_on_one_signed_scale_and_errors_on_one_from_zero():
    latents = (
        torch.arange(2 * 3 * 2 * 5, dtype=torch.float32).reshape(2, 3, 2, 5) - 40
    )  # three channels of 2 x 5 cells
    errors = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0))
    figure = plot_latents([RED, BLUE], latents, [GREEN, RED], errors, "Lost")
    drawn = meshes(figure)
    assert len(drawn) == 6
    for mesh, wanted in zip(drawn, latents.reshape(6, 2, 5)):
        np.testing.assert_array_equal(np.asarray(mesh).reshape(2, 5), wanted)
    limits = {mesh.get_clim() for axis in panels(figure) for mesh in axis.collections}
    assert limits == {(-40, 40)}
    pictures = shown(figure)
    for one, wanted in zip(pictures, [RED, GREEN, errors[0], BLUE, RED, errors[1]], strict=True):
        np.testing.assert_array_equal(one, np.asarray(wanted))
    assert {axis.images[0].get_clim() for axis in panels(figure)[5::6]} == {
        (0, errors.max().item())
    }
    assert "channel 2" in texts(figure) and closed(figure)
    with pytest.raises(ValueError, match="1 images, 2 latents, 2 decoded images, 3 maps"):
        plot_latents([RED], latents, [RED, RED], torch.zeros(3, 2, 2), "")


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
    figure.draw_without_rendering()


def test_patches_must_be_equal():
    with pytest.raises(ValueError, match="6x10 pixels cannot be cut into 4x5"):
        plot_patches(counting(6, 10), 4, 5, "cut")


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
    figure.draw_without_rendering()


def test_patch_words_must_fit():
    with pytest.raises(ValueError, match="2 images and 1 lists"):
        plot_patch_words([counting(4, 4)] * 2, [[None] * 4], 2, "read")
    with pytest.raises(ValueError, match="0 images"):
        plot_patch_words([], [], 2, "read")
    with pytest.raises(ValueError, match="5 patches do not fill rows of 3"):
        plot_patch_words([counting(4, 4)], [[None] * 5], 3, "read")


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
    said = all_texts(figure)
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
    figure.draw_without_rendering()


def test_a_scene_of_one_object_and_a_long_caption_stays_inside():
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
