"""Scores by hand, linear probes on planted facts, and what the paper says of maps as numbers."""

import math
import random

import pytest
import torch
from einops import repeat
from torch.testing import assert_close

from minidream import probe
from minidream.weights import toy
from minidream.world.judge import HEADS
from minidream.world.render import render
from minidream.world.scenes import Scene, SceneObject, sample_scene


def test_the_pointing_game_by_hand():
    masks = torch.zeros(2, 2, 3)
    masks[0, 0, 1], masks[1, 0, 1], masks[1, 1, 2] = 0.3, 0.6, 1.0
    map_ = torch.zeros(2, 3)
    map_[0, 1] = 0.5
    assert probe.points_at(map_, masks) == 1  # both lie on that cell; the second covers more of it
    map_[1, 0] = 0.7
    assert probe.points_at(map_, masks) is None  # nothing there
    with pytest.raises(ValueError, match=r"map has \(3, 2\) cells, the masks have \(2, 3\)"):
        probe.points_at(map_.T, masks)


def test_mass_inside_by_hand():
    map_ = torch.tensor([[1.0, 3.0], [0.0, 4.0]])
    assert probe.mass_inside(map_, torch.tensor([[0.0, 0.5], [1.0, 1.0]])) == pytest.approx(5.5 / 8)
    assert probe.mass_inside(
        torch.ones(2, 5), torch.tensor([[1.0] * 5, [0.0] * 5])
    ) == pytest.approx(0.5)  # uniform: the area


def test_rank_correlation_by_hand_and_with_ties():
    up = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert probe.rank_correlation(up, up.exp()) == pytest.approx(1)  # only the order counts
    assert probe.rank_correlation(up, -up) == pytest.approx(-1)
    assert probe.rank_correlation(up, torch.tensor([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)
    # Ranks 2.5, 1, 2.5, 4 and 1, 2, 3, 4: sum of products 3, of squares 4.5 and 5.
    tied = probe.rank_correlation(torch.tensor([5.0, 1.0, 5.0, 7.0]), up)
    assert tied == pytest.approx(3 / math.sqrt(4.5 * 5))
    assert math.isnan(probe.rank_correlation(up, torch.ones(4)))
    with pytest.raises(ValueError, match=r"\(4,\) and \(3,\)"):
        probe.rank_correlation(up, up[:3])


def test_areas_of_curves_by_hand():
    assert probe.curve_area(torch.tensor([1.0, 0.5, 0.0])) == pytest.approx(0.5)
    assert probe.curve_area(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(0.25)


def test_things_are_found_in_pictures_where_they_were_drawn():
    rng = random.Random(3)
    scenes = [sample_scene(rng, count=2) for _ in range(20)]
    images, masks = render(scenes, 32)
    for scene, drawn, found in zip(scenes, masks, probe.true_masks(images)):
        wanted = (
            drawn if scene.facts[2][0] == scene.objects[0].appearance else drawn.flip(0)
        )  # the left or upper one first
        assert (found - wanted).abs().mean() < 0.02
    assert probe.true_masks(torch.zeros(1, 3, 32, 32)) == [None]
    coarse = probe.on_cells(masks[0], 8, 4)
    assert coarse.shape == (2, 8, 4) and coarse[0, 2, 1] == masks[0, 0, 8:12, 8:16].mean()


def test_pixel_change_by_hand():
    before, after = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    after[:, 0, 0], after[0, 1, 1] = 0.5, 0.3
    masks = torch.zeros(2, 2, 2)
    masks[0, 0, :] = 1
    masks[1, 1, 0] = 1
    assert_close(probe.pixel_change(before, after, masks), torch.tensor([0.25, 0.0, 0.1]))


def test_the_judge_says_what_changed_and_how_sure_it_is():
    judge = toy.pretrained_judge()
    scenes = [
        Scene(
            (
                SceneObject("circle", colour, "large", 0.3, 0.5),
                SceneObject("square", "blue", "small", 0.75, 0.5),
            )
        )
        for colour in ("red", "green")
    ]
    images, _ = render(scenes, 32)
    changes = probe.verdict_changes(judge, images[[0]], images)
    assert {head for head in HEADS if changes[head][1]} == {"first colour"} and not any(
        changes[head][0] for head in HEADS
    )
    sure = probe.judged(judge, images, [scenes[0].facts] * 2)
    assert (
        sure["first colour"][0] > -0.1
        and sure["first colour"][1] < -2
        and sure["second shape"].min() > -0.1
    )
    alone = Scene((SceneObject("circle", "red", "large"),))
    sure = probe.judged(judge, render([alone], 32)[0], [(None, *alone.facts[1:])])
    assert (
        math.isnan(sure["background"])
        and math.isnan(sure["second colour"])
        and math.isnan(sure["axis"])
    )
    changes = probe.verdict_changes(judge, render([alone], 32)[0], images)
    assert (
        changes["count"].all() and not changes["second shape"].any()
    )  # there was no second thing before


def test_a_linear_probe_reads_what_was_planted_and_only_there():
    generator = torch.Generator().manual_seed(1)
    layers, prompts, queries, hidden = 2, 300, 3, 7
    states = torch.randn(layers, prompts, queries, hidden, generator=generator)
    labels = torch.randint(3, (prompts,), generator=generator)
    directions = torch.eye(hidden)[:3] * 3
    states[1, :, 2] += directions[labels]
    words = [
        None if number % 50 == 0 else "abc"[label] for number, label in enumerate(labels.tolist())
    ]
    result = probe.linear_probes(states, words, held_out=120)
    assert result.accuracy.shape == result.control.shape == (2, 3)
    assert result.accuracy[1, 2] > 0.9 and result.control[1, 2] < 0.55
    result.accuracy[1, 2] = 0
    assert result.accuracy.max() < 0.55 and 0.3 < result.chance < 0.5


def test_a_probe_of_nothing_is_an_error():
    states = torch.randn(1, 4, 1, 2)
    with pytest.raises(ValueError, match="3 labels were given for 4 prompts"):
        probe.linear_probes(states, ["a"] * 3, 1)
    with pytest.raises(ValueError, match="1, 3 and 1"):
        probe.linear_probes(states, ["a"] * 4, 1)


def test_stability_compares_a_query_with_itself_and_with_others():
    generator = torch.Generator().manual_seed(0)
    fixed = torch.rand(4, 3, 5, generator=generator)
    table = torch.corrcoef(fixed.flatten(1))
    assert_close(
        probe.stability(repeat(fixed, "queries height width -> 3 queries height width")),
        (1 - (table.sum() - 4) / 12).expand(2),
    )
    chance = probe.stability(torch.rand(200, 4, 3, 5, generator=generator))
    assert chance.shape == (199,) and chance.mean().abs() < 0.03


def test_overlap_by_hand():
    one = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).reshape(1, 2, 2)
    assert_close(
        probe.overlap(torch.stack([torch.cat([one, 2 * one, 1 - one])])), torch.ones(1)
    )  # scale and sign do not count
    crossed = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    assert_close(probe.overlap(crossed[None]), torch.zeros(1))


def test_separation_by_hand():
    inside = torch.tensor([[True, True, False], [False, False, False]])
    maps = torch.tensor(
        [
            [[5.0, 4.0, 1.0], [0.0, 0.0, 2.0]],  # all inside are greater
            [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]],  # all inside are smaller
            [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],  # ties
            [[3.0, 0.0, 1.0], [1.0, 1.0, 1.0]],
        ]
    )  # one of each
    assert_close(probe.separation(maps, inside), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="6 of 6 cells are inside"):
        probe.separation(maps, torch.ones(2, 3, dtype=torch.bool))
