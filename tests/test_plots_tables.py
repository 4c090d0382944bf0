"""Tables and matrices: every number in its cell, one scale for all, and errors that name both."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures import ROW, closed, masked_maps, meshes, panels, quad_meshes, texts, texts_of
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from minidream.plots import (
    plot_changes,
    plot_matrices,
    plot_scores,
    plot_table,
    plot_visibility,
    text_table,
)
from minidream.plots.tokens import TOKEN_COLOURS


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


def written_cells(figure):
    """What stands in the cells of the first panel, row by row: {(row, column): texts}."""
    cells: dict = {}
    for text in panels(figure)[0].texts:
        x, y = text.get_position()
        cells.setdefault((int(y), int(x)), []).append(text.get_text())
    return cells


OWN, OTHER = np.array([[1.0, 0.5, 0.0], [0.25, 0.75, 1.0]]), np.zeros((2, 3))


def test_tables_side_by_side_share_a_scale_and_have_a_frame_in_every_row():
    figure = plot_table(
        {"own": OWN, "other": OTHER},
        ["paint it", "turn it"],
        ["size", "shape", "place"],
        "Kept",
        "right, of 4",
        framed=[2, 0],
    )
    for mesh, wanted in zip(quad_meshes(figure), (OWN, OTHER), strict=True):
        np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(2, 3), wanted)
        assert mesh.get_clim() == (
            0,
            1,
        )  # the second table is all zero, and still on the same scale
    assert written_cells(figure) == {
        (0, 0): ["100%"],
        (0, 1): ["50%"],
        (0, 2): ["0"],
        (1, 0): ["25%"],
        (1, 1): ["75%"],
        (1, 2): ["100%"],
    }
    for panel in panels(figure):
        frames = [
            patch
            for patch in panel.patches
            if isinstance(patch, Rectangle) and to_hex(patch.get_edgecolor()) == "#d55e00"
        ]
        assert [(int(frame.get_y()), int(frame.get_x())) for frame in frames] == [(0, 2), (1, 0)]
    assert (
        [panel.get_title(loc="left") for panel in panels(figure)] == ["own", "other"]
        and "turn it" in texts(figure)
        and closed(figure)
    )


def test_tables_need_one_shape_and_a_frame_for_every_row():
    with pytest.raises(ValueError, match=r"\(3, 2\) do not fit 2 rows and 3 columns in 'other'"):
        plot_table({"own": OWN, "other": OTHER.T}, list("ab"), list("cde"), "", "")
    for changed in ([0], [0, 3], [-1, 0]):
        with pytest.raises(
            ValueError, match="2 rows need as many of the columns 0 to 2, and .* were given"
        ):
            plot_table({"own": OWN}, list("ab"), list("cde"), "", "", framed=changed)


def test_changes_of_one_seed_worked_by_hand():
    figure = plot_changes(
        [[[2.0, 1.0, 0.25], [0.5, 1.1, 4.0]]],
        ["alone", "mixed"],
        ["words", "paint", "both"],
        "Lost",
        "loss, times that before",
    )
    (mesh,) = quad_meshes(figure)
    np.testing.assert_allclose(
        np.asarray(mesh.get_array()).reshape(2, 3), np.log2([[2, 1, 0.25], [0.5, 1.1, 4]])
    )
    assert (
        mesh.get_clim() == (-2, 2) and mesh.get_cmap().name == "RdBu_r"
    )  # centred: as far down as up
    assert written_cells(figure) == {
        (0, 0): ["+100%"],
        (0, 1): ["+0%"],
        (0, 2): ["-75%"],
        (1, 0): ["-50%"],
        (1, 1): ["+10%"],
        (1, 2): ["+300%"],
    }
    assert all(
        name in texts(figure)
        for name in ("alone", "mixed", "words", "paint", "both", "Lost", "loss, times that before")
    ) and closed(figure)


def test_changes_of_several_seeds_are_averaged_as_factors_and_their_ends_named():
    figure = plot_changes(
        [[[2.0, 1.0]], [[8.0, 1.0]], [[4.0, 1.0]]], ["alone"], ["words", "paint"], "", ""
    )
    assert written_cells(figure) == {
        (0, 0): ["+300%", "+100% to +700%"],
        (0, 1): ["+0%", "+0% to +0%"],
    }  # 4 times, as often 2 as 8 times


def test_no_change_at_all_is_drawn_white():
    figure = plot_changes(np.ones((1, 3, 2)), list("abc"), list("de"), "", "")
    low, high = quad_meshes(figure)[0].get_clim()
    assert low == -high and high > 0


def test_changes_need_a_name_for_each_row_and_column_and_numbers_above_zero():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\) do not fit 3 rows and 2 columns"):
        plot_changes(np.ones((1, 2, 3)), list("abc"), list("de"), "", "")
    with pytest.raises(
        ValueError,
        match=r"shape \(2, 3\) do not fit 2 rows and 3 columns, with the seeds as the first axis",
    ):
        plot_changes(np.ones((2, 3)), list("ab"), list("cde"), "", "")
    for least in (0.0, -0.5, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            plot_changes([[[1.0, least]]], ["a"], ["b", "c"], "", "")


def test_matrices_show_the_triangle_and_leave_the_rest_white():
    weights = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.125, 0.375]])
    ahead = torch.ones(3, 3).triu(1).bool()
    figure = plot_matrices(
        {"head 2": weights.masked_fill(ahead, torch.nan)},
        ["<s>", "red", "star"],
        "who looks at whom",
        "weight",
    )
    (mesh,) = masked_maps(figure)
    assert mesh.mask.tolist() == ahead.tolist()
    assert np.allclose(mesh.filled(0), weights)
    assert texts_of(panels(figure)[0]) == ["1", "0.25", "0.75", "0.5", "0.12", "0.38"]  # row by row
    assert [label.get_text() for label in panels(figure)[0].get_yticklabels()] == [
        "<s>",
        "red",
        "star",
    ]
    assert panels(figure)[0].get_ylim() == (3, 0), "the first token stands at the top"
    assert not plt.fignum_exists(figure.number)


def test_matrices_of_scores_are_centred_on_zero_and_minus_infinity_is_white():
    scores = {
        "before": torch.tensor([[1.0, -4.0], [2.0, 0.5]]),
        "after": torch.tensor([[1.0, -torch.inf], [2.0, 0.5]]),
    }
    figure = plot_matrices(scores, ["a", "b"], "scores", "score", signed=True)
    drawn = [mesh for axis in panels(figure) for mesh in axis.collections]
    assert [mesh.get_clim() for mesh in drawn] == [(-4, 4), (-4, 4)], "one scale for both"
    assert masked_maps(figure)[1].mask.tolist() == [[False, True], [False, False]]
    assert drawn[0].get_cmap().name == "RdBu_r"


@pytest.mark.parametrize("count, heads", [(1, 1), (8, 3), (9, 5), (25, 2)])
def test_matrices_of_any_size(count, heads):
    values = {f"head {head}": torch.rand(count, count) for head in range(heads)}
    figure = plot_matrices(values, ["word"] * count, "any", "weight")
    assert len(masked_maps(figure)) == heads
    assert bool(texts_of(panels(figure)[0])) == (count <= 8), (
        "numbers are written only where they can be read"
    )
    assert figure.get_figwidth() <= 12
    plot_matrices({"nothing to see": torch.zeros(2, 2)}, ["a", "b"], "zeros", "weight")


def test_matrices_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(2, 3\) does not fit 3 tokens"):
        plot_matrices({"a": torch.zeros(2, 3)}, ["x", "y", "z"], "t", "l")
    with pytest.raises(ValueError, match="no matrices"):
        plot_matrices({}, ["x"], "t", "l")


def test_a_cell_has_the_colour_of_its_key_position_or_is_white():
    inputs = ["<s>", "star", 0, (0, 0, 0), "<im_end>"]
    sees = np.zeros((5, 5), dtype=bool)
    sees[3, 1] = sees[0, 4] = sees[4, 2] = True  # not symmetric, so a transpose would show
    figure = plot_visibility(sees, inputs, "Sees")
    (image,) = panels(figure)[0].images
    drawn = np.asarray(image.get_array())
    assert drawn.shape == (5, 5, 3)
    np.testing.assert_allclose(drawn[3, 1], to_rgb(TOKEN_COLOURS["words"]))
    np.testing.assert_allclose(drawn[0, 4], to_rgb(TOKEN_COLOURS["markers"]))
    np.testing.assert_allclose(drawn[4, 2], to_rgb(TOKEN_COLOURS["queries"]))
    assert (drawn != 1).any(axis=-1).sum() == 3
    assert image.get_extent() == [0, 5, 5, 0]  # the first row is the upper one
    assert "Sees" in texts(figure) and closed(figure)


def test_positions_are_named_along_both_axes_and_blocks_are_outlined():
    count = len(ROW)
    figure = plot_visibility(np.tril(np.ones((count, count), dtype=bool)), ROW, "")
    (axis,) = panels(figure)
    for names in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [name.get_text() for name in names][:10] == [
            "<s>",
            "a",
            "star",
            "<dream_start>",
            "query 0",
            "query 1",
            "<dream_end>",
            "<im_start>",
            "patch 0, 0",
            "patch 0, 1",
        ]
    outlines = [line for line in axis.lines if line.get_color() == "#888888"]
    upright = sorted(
        line.get_xdata()[0] for line in outlines if line.get_xdata()[0] == line.get_xdata()[1]
    )
    assert upright == [4, 6, 8, 11, 14, 16, 18, 21]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(TOKEN_COLOURS)


def test_visibility_needs_a_row_and_a_column_for_each_input():
    with pytest.raises(ValueError, match=r"shape \(2, 3\); 3 inputs need \(3, 3\)"):
        plot_visibility(np.ones((2, 3)), ["<s>", "a", "star"], "")


def counting(height, width):
    """A picture whose every pixel differs from its neighbours."""
    return Image.fromarray(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3))


def test_scores_are_drawn_beside_their_pictures_and_framed_where_they_belong():
    images, captions = [counting(4, 4), counting(5, 5)], ["a red star", "a ring", "two objects"]
    before, after = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)[::-1] * 2
    figure = plot_scores(images, captions, {"before": before, "after": after}, "fits", "share")
    first, second = quad_meshes(figure)
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
    figure.draw_without_rendering()


def test_signed_scores_are_centred():
    (mesh,) = quad_meshes(
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
