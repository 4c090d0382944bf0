"""What all figures share: a figure is closed even after an error, and colours keep their order."""

import matplotlib.pyplot as plt
import pytest

from minidream.plots.drawing import cycle_colour, figure_function, line_width


def test_a_figure_is_closed_and_others_stay_open():
    other = plt.figure()

    @figure_function
    def draw(fails: bool):
        figure = plt.figure()
        if fails:
            raise ValueError("unfinished")
        return figure

    figure = draw(fails=False)
    assert figure is not other and not plt.fignum_exists(figure.number)
    with pytest.raises(ValueError, match="unfinished"):
        draw(fails=True)
    assert plt.get_fignums() == [other.number]
    plt.close(other)


def test_figures_are_drawn_in_the_style_which_ends_with_them():
    @figure_function
    def draw():
        return plt.figure(label=plt.rcParams["image.cmap"] + cycle_colour(0) + cycle_colour(8))

    before = dict(plt.rcParams)
    assert draw().get_label() == "viridis#0072B2#0072B2"  # eight colours, then the first again
    assert dict(plt.rcParams) == before


def test_lines_between_cells_vanish_where_they_would_hide_them():
    assert line_width(cells=8, inches=1.0) > 0 == line_width(cells=16, inches=1.0)
