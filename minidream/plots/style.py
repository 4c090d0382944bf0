"""The package's style: a figure looks the same whatever style the user has chosen.

matplotlib reads some settings when a figure is created, others when it is drawn or saved. Jupyter
draws a figure after the function that made it has returned, so `Figure` sets the style then, too.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.figure
import matplotlib.pyplot as plt
from matplotlib import rc_params_from_file

from .letters import configured_families

STYLE = Path(__file__).with_name("minidream.mplstyle")
_lock = threading.RLock()  # settings belong to the process: one thread at a time sets the style
_families: list[str] | None = None  # the user's, while the style is in force


@functools.cache
def _changes() -> dict:
    """What the style changes of matplotlib's defaults."""
    return dict(rc_params_from_file(STYLE, use_default_template=False))


@contextmanager
def package_style() -> Iterator[list[str]]:
    """Replaces the user's settings by matplotlib's defaults with the changes of the package.

    The user's are restored at the end of the `with` block. Settings that matplotlib keeps out of
    styles, such as the backend, stay the user's.

    Yields:
        The font families of the user's settings.
    """
    global _families
    with _lock:
        if _families is not None:  # inside of another one: saving a figure draws it
            yield _families
            return
        families = configured_families()
        with plt.style.context(["default", _changes()]):
            _families = families
            try:
                yield families
            finally:
                _families = None


def in_package_style(function: Callable) -> Callable:
    """The same function, called in the package's style."""

    @functools.wraps(function)
    def styled(*arguments, **options):
        with package_style():
            return function(*arguments, **options)

    return styled


class Figure(matplotlib.figure.Figure):
    """A figure that is drawn and saved in the package's style."""

    draw = in_package_style(matplotlib.figure.Figure.draw)
    savefig = in_package_style(matplotlib.figure.Figure.savefig)

    def set_canvas(self, canvas) -> None:
        """As in matplotlib; but what Jupyter calls to show a figure works in the style as well."""
        super().set_canvas(canvas)
        canvas.print_figure = in_package_style(canvas.print_figure)


def keep_style(figure: matplotlib.figure.Figure) -> Figure:
    """Makes a figure one that is drawn and saved in the package's style, and returns it."""
    figure.__class__ = Figure  # nothing else changes: it only draws differently
    figure.set_canvas(figure.canvas)
    return figure
