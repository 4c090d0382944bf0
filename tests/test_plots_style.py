"""A figure looks the same whatever style the user has chosen, and the user's style stays."""

import importlib
import io
import pickle
import pkgutil
import threading
import warnings

import matplotlib
import matplotlib.pyplot as plt
import pytest
from figure_examples import EXAMPLES
from figures import STORY, trace
from IPython.core.pylabtools import print_figure
from PIL import Image

from minidream import plots
from minidream.plots import plot_curves, plot_pictures
from minidream.plots.controls import explore_trace

CURVES = EXAMPLES[plot_curves]
WORDS = {
    "axes.prop_cycle": matplotlib.cycler("color", ["red"]),
    "figure.hooks": ["no_such_module:hook"],
    "font.family": ["serif"],
    "image.aspect": "auto",
    "image.cmap": "jet",
    "image.interpolation": "bicubic",
    "image.origin": "lower",
    "legend.loc": "center",
    "lines.marker": "x",
    "savefig.bbox": "tight",
    "savefig.facecolor": "red",
    "text.hinting": "none",
}


def pngs(figure):
    """What Jupyter shows, and what `savefig` writes."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return print_figure(figure), file.getvalue()


@pytest.fixture(scope="module")
def other_settings():
    """Settings unlike matplotlib's: a dark style, every switch the other way, every number larger.

    Those that matplotlib refuses in a style, such as the backend, are not among them.
    """
    changed = {}
    with plt.style.context(["default", "dark_background", WORDS]), warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, value in matplotlib.rcParamsDefault.items():
            if name in WORDS or not isinstance(value, bool | int | float):
                continue
            try:
                plt.style.use({name: not value if isinstance(value, bool) else 2 * value + 1})
            except (ValueError, RuntimeError, UserWarning):
                continue
            changed[name] = matplotlib.rcParams[name]
    assert changed["text.usetex"] and changed["font.size"] == 21 and len(changed) > 100
    return ["dark_background", WORDS, changed]


def test_there_is_an_example_of_every_figure():
    modules = [
        importlib.import_module(f"minidream.plots.{module.name}")
        for module in pkgutil.iter_modules(plots.__path__)
    ]
    drawing = {
        function
        for module in modules
        for name, function in vars(module).items()
        if name.startswith("plot_")
    }
    assert drawing == set(EXAMPLES)


@pytest.mark.parametrize("draw", EXAMPLES, ids=lambda draw: draw.__name__)
def test_a_figure_is_the_same_under_every_style(draw, other_settings):
    with plt.style.context("default"):
        expected = print_figure(draw(*EXAMPLES[draw]))
    with plt.style.context(other_settings):
        before = dict(matplotlib.rcParams)
        figure = draw(*EXAMPLES[draw])
        assert print_figure(figure) == expected
        assert dict(matplotlib.rcParams) == before
    assert not any("$" in text.get_text() for text in figure.findobj(plt.Text))  # no raw mathtext


@pytest.mark.parametrize("style", ["dark_background", "ggplot", "seaborn-v0_8-dark", "classic"])
def test_a_named_style_changes_nothing_when_it_is_chosen_after_the_figure_was_made(style):
    with plt.style.context("default"):
        figure = plot_curves(*CURVES)
        expected = pngs(figure)
    with plt.style.context(style):
        assert pngs(figure) == expected == pngs(plot_curves(*CURVES))


def test_an_explorer_is_the_same_under_every_style(other_settings):
    with plt.style.context("default"):
        expected = explore_trace(trace(STORY)).picture.value
    with plt.style.context(other_settings):
        assert explore_trace(trace(STORY)).picture.value == expected


def test_a_figure_read_from_a_pickle_has_the_style_too(other_settings):
    figure = plot_curves(*CURVES)
    with plt.style.context(other_settings):
        assert pngs(pickle.loads(pickle.dumps(figure))) == pngs(figure)


def test_what_the_caller_asks_for_when_saving_is_done():
    figure, file = plot_curves(*CURVES), io.BytesIO()
    figure.savefig(file, format="png", dpi=46, transparent=True)
    width, height = figure.get_size_inches()
    picture = Image.open(file)
    assert picture.size == (int(46 * width), int(46 * height))
    assert picture.getpixel((picture.width - 1, 0))[3] == 0


def test_an_error_and_a_second_thread_leave_the_settings_as_they_were():
    before = dict(matplotlib.rcParams)
    failed = []

    def draw():
        for _ in range(3):
            try:
                plot_pictures([])
            except ValueError as error:
                failed.append(str(error))
            plot_curves(*CURVES)

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 9 and dict(matplotlib.rcParams) == before and not plt.get_fignums()
