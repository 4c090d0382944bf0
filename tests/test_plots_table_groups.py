"""A large table in groups: every word in its cell, and letters that can be read on a page."""

import numpy as np
import pytest
from figures import closed, panels, quad_meshes, texts
from matplotlib.text import Text

from minidream.plots import plot_table_groups
from minidream.plots.table_groups import PAGE

NAN = float("nan")
ROWS = [f"a family with a name of length {row}" for row in range(20)]
WORDS = "100% (97-100)"  # as long as words get
GROUPS = {
    "painting": (
        np.linspace(0, 0.8, 120).reshape(20, 6),
        ROWS,
        [f"text to\nimage, held\nout {column}" for column in range(6)],
        [[WORDS] * 6] * 20,
    ),
    "pointing": (
        [[0.25, NAN], [0.5, 0.0]],
        ["referring", "chance"],
        ["one", "two"],
        [list("ab"), list("cd")],
    ),
}


def test_groups_are_below_one_another_on_one_scale_and_words_are_in_their_cells():
    figure = plot_table_groups(GROUPS, "The finding", "share of replies")
    painting, pointing = panels(figure)
    meshes = quad_meshes(figure)[:2]
    assert [mesh.get_clim() for mesh in meshes] == [(0, 0.8)] * 2
    np.testing.assert_array_equal(
        np.asarray(meshes[0].get_array()).reshape(20, 6), GROUPS["painting"][0]
    )
    assert np.ma.getmaskarray(meshes[1].get_array()).ravel().tolist() == [False, True, False, False]
    written = {text.get_text(): text.get_position() for text in pointing.texts}
    assert written == {"a": (0.5, 0.5), "b": (1.5, 0.5), "c": (0.5, 1.5), "d": (1.5, 1.5)}
    assert painting.get_xlim() == pointing.get_xlim() == (0, 6)
    names = ["The finding", "share of replies", "painting", "pointing", "referring", ROWS[7]]
    assert all(name in texts(figure) for name in names) and closed(figure)


def test_letters_can_be_read_at_the_width_of_a_page():
    figure = plot_table_groups(GROUPS, "The finding", "share of replies")
    figure.draw_without_rendering()
    assert figure.get_figwidth() == PAGE <= 9
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert min(text.get_fontsize() for text in shown) >= 8
    for axis in panels(figure):
        cell = axis.transData.transform([(1, 0), (0, 1)])
        wide, high = np.abs(cell[0] - cell[1])
        for text in axis.texts:
            box = text.get_window_extent()
            assert box.width < wide and box.height < high, text.get_text()
        left = min(label.get_window_extent().x0 for label in axis.get_yticklabels())
        assert left >= 0
        # The names of neighbouring columns do not touch.
        boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
        assert all(one.x1 < other.x0 for one, other in zip(boxes, boxes[1:]))


def test_values_must_fit_their_names():
    with pytest.raises(ValueError, match=r"\(1, 2\) do not fit 2 rows and 2 columns in 'one'"):
        plot_table_groups({"one": ([[0, 1]], ["a", "b"], ["c", "d"], [["", ""]] * 2)}, "", "")
    with pytest.raises(ValueError, match="no groups"):
        plot_table_groups({}, "", "")
