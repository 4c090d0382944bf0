"""Inputs of the tests of figures, and what they read off a figure."""

import warnings

import matplotlib.pyplot as plt
import torch
from matplotlib.collections import QuadMesh
from PIL import Image

from minidream.probe import Trace

GRID = 3  # patches along a side: not the toy's 8, which no function may assume


def image(colour="red", size=(12, 12)):
    return Image.new("RGB", size, colour)


def read(number, grid=GRID):
    """An image as it stands among the inputs."""
    return [
        "<im_start>",
        *((number, row, column) for row in range(grid) for column in range(grid)),
        "<im_end>",
    ]


def trace(inputs, queries=5, layers=2, heads=3, seed=0):
    inputs = [*inputs, "<dream_start>", *range(queries)]
    weights = torch.rand(
        layers, heads, queries, len(inputs), generator=torch.Generator().manual_seed(seed)
    )
    weights[..., 0] += 0.3 * len(inputs)  # as in trained models, <s> takes more than anything else
    images = [
        image()
        for number in range(
            1 + max([label[0] for label in inputs if isinstance(label, tuple)], default=-1)
        )
    ]
    return Trace(weights / weights.sum(dim=-1, keepdim=True), inputs, images)


def panels(figure):
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(plt.Text))


# Two words, a painted picture of two queries, which is read in three patches; a word, and another.
ROW = [
    *("<s>", "a", "star"),
    *("<dream_start>", 0, 1, "<dream_end>"),
    *("<im_start>", (0, 0, 0), (0, 0, 1), (0, 0, 2), "<im_end>"),
    "grows",
    *("<dream_start>", 0, 1, "<dream_end>"),
    *("<im_start>", (1, 0, 0), (1, 0, 1), (1, 0, 2), "<im_end>"),
    "</s>",
]
STORY = ["<s>", "a", "star", *read(0), "it", "turns", "red", *read(1)]


def checked(figure, axes=None):
    """A figure that is closed, not too wide, and in whose layout everything has a place."""
    assert not plt.fignum_exists(figure.number) and figure.get_figwidth() <= 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    assert axes is None or len(figure.axes) == axes
    return figure


def closed(figure):
    return not plt.fignum_exists(figure.number)


def all_texts(figure):
    """Every text of a figure that is not empty, as a list."""
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def texts_of(axis):
    """Texts within some axes."""
    return [text.get_text() for text in axis.texts]


def quad_meshes(figure):
    """Every heat map of a figure, in drawing order, without the colour bars."""
    collections = [mesh for axis in panels(figure) for mesh in axis.collections]
    return [mesh for mesh in collections if isinstance(mesh, QuadMesh)]


def meshes(figure):
    """The numbers of every heat map."""
    return [mesh.get_array().data for mesh in quad_meshes(figure)]


def masked_maps(figure):
    """The numbers of every heat map, and which of its cells are masked."""
    return [mesh.get_array() for mesh in quad_meshes(figure)]


def shown(figure):
    """Every image of a figure in drawing order, as arrays."""
    return [image.get_array() for axis in panels(figure) for image in axis.images]


def lines_of(axis):
    """(x values, y values, marker, width) of every line of a panel."""
    return [
        (list(line.get_xdata()), list(line.get_ydata()), line.get_marker(), line.get_linewidth())
        for line in axis.lines
    ]
