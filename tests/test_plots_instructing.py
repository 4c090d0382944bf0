"""Figures of what training on instructions changes: closed, drawn from the very numbers, and errors that name both."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from test_plots import panels, texts

from minidream.plots import plot_changes, plot_table


def closed(figure):
    return not plt.fignum_exists(figure.number)


def meshes(figure):
    return [
        mesh for axis in panels(figure) for mesh in axis.collections if isinstance(mesh, QuadMesh)
    ]


def written(figure):
    """What stands in the cells of the first panel, row by row: {(row, column): texts}."""
    cells: dict = {}
    for text in panels(figure)[0].texts:
        x, y = text.get_position()
        cells.setdefault((int(y), int(x)), []).append(text.get_text())
    return cells


def test_changes_of_one_seed_worked_by_hand():
    figure = plot_changes(
        [[[2.0, 1.0, 0.25], [0.5, 1.1, 4.0]]],
        ["alone", "mixed"],
        ["words", "paint", "both"],
        "Lost",
        "loss, times that before",
    )
    (mesh,) = meshes(figure)
    np.testing.assert_allclose(
        np.asarray(mesh.get_array()).reshape(2, 3), np.log2([[2, 1, 0.25], [0.5, 1.1, 4]])
    )
    assert (
        mesh.get_clim() == (-2, 2) and mesh.get_cmap().name == "RdBu_r"
    )  # centred: as far down as up
    assert written(figure) == {
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
    assert written(figure) == {
        (0, 0): ["+300%", "+100% to +700%"],
        (0, 1): ["+0%", "+0% to +0%"],
    }  # 4 times, as often 2 as 8 times


def test_no_change_at_all_is_drawn_white():
    figure = plot_changes(np.ones((1, 3, 2)), list("abc"), list("de"), "", "")
    low, high = meshes(figure)[0].get_clim()
    assert low == -high and high > 0


def test_changes_need_a_name_for_each_row_and_column_and_numbers_above_nothing():
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


OWN, OTHER = np.array([[1.0, 0.5, 0.0], [0.25, 0.75, 1.0]]), np.zeros((2, 3))


def test_what_is_kept_is_drawn_on_one_scale_with_a_frame_around_what_was_to_change():
    figure = plot_table(
        {"own": OWN, "other": OTHER},
        ["paint it", "turn it"],
        ["size", "shape", "place"],
        "Kept",
        "right, of 4",
        framed=[2, 0],
    )
    for mesh, wanted in zip(meshes(figure), (OWN, OTHER), strict=True):
        np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(2, 3), wanted)
        assert mesh.get_clim() == (
            0,
            1,
        )  # the second table is all zero, and still on the same scale
    assert written(figure) == {
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


def test_what_is_kept_needs_tables_of_one_shape_and_a_change_in_every_row():
    with pytest.raises(ValueError, match=r"\(3, 2\) do not fit 2 rows and 3 columns in 'other'"):
        plot_table({"own": OWN, "other": OTHER.T}, list("ab"), list("cde"), "", "")
    for changed in ([0], [0, 3], [-1, 0]):
        with pytest.raises(
            ValueError, match="2 rows need as many of the columns 0 to 2, and .* were given"
        ):
            plot_table({"own": OWN}, list("ab"), list("cde"), "", "", framed=changed)
