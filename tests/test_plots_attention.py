"""Figures of attention: drawn from the very numbers, at every size, and closed."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures import (
    STORY,
    all_texts,
    checked,
    meshes,
    panels,
    quad_meshes,
    read,
    texts,
    trace,
)
from matplotlib.figure import Figure

from minidream.plots import plot_heads, plot_patch_layers, plot_trace, plot_word_layers
from minidream.plots.tokens import TOKEN_COLOURS, shares, strips_of
from minidream.probe import Trace


@pytest.mark.parametrize("layer", [None, 0, 1])
@pytest.mark.parametrize("head", [None, 2])
@pytest.mark.parametrize("query", [None, 0, 4])
def test_trace_draws_the_very_numbers(layer, head, query):
    seen = trace(STORY)
    figure = plot_trace(seen, layer, head, query)
    seen = seen.without_start()
    rows = seen.mean(layer, head)[slice(None) if query is None else [query]]
    words, *maps = meshes(figure)
    if query is None:
        mean, *maps = maps
        np.testing.assert_allclose(
            mean, rows[:, strips_of(seen.inputs)[0]].mean(dim=0, keepdim=True), rtol=1e-5
        )
    np.testing.assert_array_equal(words, rows[:, [0, 1, 13, 14, 15]])
    for number, drawn in enumerate(maps):
        expected = seen.patch_maps(number, layer, head)
        np.testing.assert_allclose(
            drawn, expected.mean(dim=0) if query is None else expected[query], rtol=1e-5
        )
    assert len(maps) == 2
    said = texts(figure)
    assert ("mean of 2 layers" if layer is None else f"layer {layer}") in said
    assert ("mean of 3 heads" if head is None else f"head {head}") in said
    assert ("all 5 queries" if query is None else f"query {query}") in said


def test_trace_bar_adds_up_and_the_sink_does_not_dim_the_words():
    seen = trace(STORY)
    figure = plot_trace(seen)
    bar = panels(figure)[-1]
    widths = [patch.get_width() for patch in bar.patches]
    assert sum(widths) == pytest.approx(1, abs=1e-5) and len(widths) == len(TOKEN_COLOURS)
    np.testing.assert_allclose(widths, list(shares(seen.inputs, seen.mean()).values()), rtol=1e-5)
    words = seen.without_start().mean()[:, strips_of(seen.without_start().inputs)[0]]
    assert quad_meshes(figure)[0].norm.vmax == words.max()  # the scale ends at the highest word
    share = seen.weights[..., 0].mean()
    assert f"<s> has {share:.0%} of the attention and is left out" in texts(figure)
    # A trace that has been without <s> before gives the same figure.
    again = plot_trace(seen.without_start())
    assert texts(again) == texts(figure)
    np.testing.assert_array_equal(meshes(again)[0], meshes(figure)[0])


@pytest.mark.parametrize(
    "inputs, queries, strips, images",
    [
        (["<s>"], 1, 0, 0),  # the empty prompt
        (["<s>", "star"], 1, 1, 0),
        (["<s>", *(["a", "word"] * 190)], 64, 16, 0),  # nearly 400 words
        (
            ["<s>", "incomprehensibilities" * 3, "."],
            16,
            1,
            0,
        ),  # a token that is too long to write out
        (["<s>", *read(0)], 2, 0, 1),  # no words at all
        (["<s>", *sum((["it", *read(number)] for number in range(6)), [])], 3, 1, 6),
        (
            ["<s>", "a", "$\\alpha", "$_^{$", "▁", "<0x0A>"],
            2,
            1,
            0,
        ),  # what mathematics mode would choke on
    ],
)
def test_trace_of_any_size(inputs, queries, strips, images):
    seen = trace(inputs, queries)
    for query in (None, queries - 1):
        figure = plot_trace(seen, query=query)
        assert isinstance(figure, Figure) and not plt.fignum_exists(figure.number)
        drawn = [axis for axis in panels(figure) if axis.images or axis.collections or axis.patches]
        assert len(drawn) == strips + 2 * images + 1
        assert sum(bool(axis.images) for axis in drawn) == images
        assert max(figure.get_size_inches()) < 40
        figure.draw_without_rendering()  # an unreadable label or a layout without room fails here


def test_trace_refuses_what_it_does_not_have():
    seen = trace(STORY)
    for name, size in (("layer", 2), ("head", 3), ("query", 5)):
        for wrong in (size, -1):
            with pytest.raises(ValueError, match=f"{name} {wrong} .* has {size}"):
                plot_trace(seen, **{name: wrong})


# As in the tiny official checkpoint; as in the full weights: 64 queries, some 370 inputs; small.
SIZES = pytest.mark.parametrize(
    "words, grid, queries, layers, heads", [(9, 4, 8, 4, 4), (40, 16, 64, 32, 32), (1, 3, 2, 1, 5)]
)


@SIZES
def test_layers_draw_the_very_numbers(words, grid, queries, layers, heads):
    seen = trace(["<s>", *read(0, grid), *["word"] * words], queries, layers, heads)
    figure, maps = plot_word_layers(seen, title="what there is to see"), plot_patch_layers(seen)
    rest = seen.without_start()
    rows = torch.stack([rest.mean(layer).mean(dim=0) for layer in range(layers)])
    strips, uniform = strips_of(rest.inputs), (1 / rest.visible).mean()
    highest = rows[:, sum(strips, [])].amax(dim=1, keepdim=True)
    for drawn, strip in zip(meshes(figure), strips, strict=True):
        np.testing.assert_allclose(drawn, rows[:, strip] / highest, rtol=1e-5)
    bars = [[bar.get_width() for bar in axis.patches] for axis in figure.axes[1:3]]
    np.testing.assert_allclose(bars[0], highest[:, 0] / uniform, rtol=1e-5)
    np.testing.assert_allclose(bars[1], rest.start.mean(dim=(1, 2)), rtol=1e-5)
    named = all_texts(maps)
    for layer, drawn in enumerate(meshes(maps)):
        expected = rest.patch_maps(0, layer).mean(dim=0)
        np.testing.assert_allclose(drawn, expected / expected.max(), rtol=1e-5)
        assert f"layer {layer}: {expected.max() / uniform:.2g}x" in named
    assert len(meshes(maps)) == layers and sum(bool(axis.images) for axis in maps.axes) == 1
    for drawn in (figure, maps):
        assert {(mesh.norm.vmin, mesh.norm.vmax) for mesh in quad_meshes(drawn)} == {(0, 1)}
        assert "is left out" in texts(drawn)
        assert max(drawn.get_size_inches()) < 12
        checked(drawn)
    with pytest.raises(ValueError, match="no patches of image 1"):
        plot_patch_layers(seen, image=1)
    with pytest.raises(ValueError, match="no word"):
        plot_word_layers(trace(["<s>", *read(0)]))


def full_size():
    """A trace of the size of the full weights, with 64 % of the attention on `<s>`.

    Layers leave between 30 and 98 % on it. In each layer, one word has the most of the rest.
    """
    layers, heads, queries, words = 32, 32, 64, 38
    inputs = ["<s>", *[f"word{index}" for index in range(words)], "<dream_start>", *range(queries)]
    draw = torch.Generator().manual_seed(0)
    weights = torch.rand(layers, heads, queries, len(inputs), generator=draw) + 0.1
    for layer in range(layers):
        weights[layer, ..., 1 + layer] += 2
    weights[..., 0] = 0
    weights *= torch.arange(len(inputs)) <= torch.arange(queries)[:, None] + len(inputs) - queries
    start = torch.linspace(0.3, 0.98, layers)[:, None, None].expand(layers, heads, queries)
    weights *= ((1 - start) / weights.sum(dim=-1))[..., None]
    weights[..., 0] = start
    return Trace(weights, inputs)


def test_at_full_size_every_layer_can_be_read():
    seen = full_size()
    assert seen.weights.shape == (32, 32, 64, 104)
    assert seen.weights[..., 0].mean().item() == pytest.approx(0.64, abs=1e-4)
    figure = checked(plot_word_layers(seen))
    assert "<s> has 64% of the attention and is left out" in texts(figure)
    scaled = torch.tensor(np.concatenate(meshes(figure), axis=1))
    assert scaled.argmax(dim=1).tolist() == list(range(32)) and (scaled.amax(dim=1) == 1).all()
    # On one scale with <s>, the last layer would be drawn in the darkest thirtieth of the colours.
    assert seen.weights[-1, ..., 1:].mean(dim=(0, 1)).max() < seen.weights.max() / 30
    assert min(text.get_fontsize() for text in figure.findobj(plt.Text)) >= 8
    checked(plot_trace(seen))


@SIZES
def test_heads_share_one_scale(words, grid, queries, layers, heads):
    values = {
        name: torch.rand(layers, heads, generator=torch.Generator().manual_seed(len(name)))
        for name in ("<s>", "words", "patches")
    }
    figure = plot_heads(values, "what there is to see", "share")
    for drawn, expected in zip(meshes(figure), values.values(), strict=True):
        np.testing.assert_array_equal(drawn, expected)
    assert {
        (mesh.norm.vmin, mesh.norm.vmax) for axis in panels(figure) for mesh in axis.collections
    } == {(0, max(map_.max().item() for map_ in values.values()))}
    assert [axis.get_title(loc="left") for axis in panels(figure)][:3] == list(values)
    (mesh,) = plot_heads({"one": values["words"]}, "", "", bottom=0.5, top=1.0).axes[0].collections
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0.5, 1)
    assert not plt.fignum_exists(figure.number) and max(figure.get_size_inches()) < 12
    signed = {"one": torch.tensor([[0.1, -0.3]]), "two": torch.tensor([[0.2, 0.0]])}
    figure = plot_heads(signed, "", "")  # what is below 0 must not look like nothing
    limits = {mesh.get_clim() for axis in panels(figure) for mesh in axis.collections}
    assert [pytest.approx((-0.3, 0.3))] == list(limits)
    with pytest.raises(ValueError, match="no values"):
        plot_heads({}, "", "")


def test_a_map_of_queries_says_so():
    figure = plot_heads({"colour": torch.rand(2, 5)}, "Title", "right", across="query")
    assert figure.axes[0].get_xlabel() == "query"
