"""The running example: one scene in every kind of sample, and the replies kept of it."""

import torch
from families_shared import build

from minidream.families import boxes, samples
from minidream.images import to_tensor
from minidream.studies import family_example
from minidream.weights import toy
from minidream.world import is_held_out


def test_the_running_example_is_one_scene_in_every_kind():
    asked = {kind: family_example.running(kind) for kind in samples.SAMPLE_KINDS}
    assert (
        asked["paint"].given == ("a large green ring on a gray background",)
        and asked["caption"].reply == asked["paint"].given[0]
    )
    assert asked["edit"].given[1] == "the same but blue" and asked["story"].expected == asked[
        "edit"
    ].expected == ("gray", None, (("large", "blue", "ring"),))
    assert (
        asked["question"].given[1:] == ("what colour is the ring?",)
        and asked["question"].reply == "green"
    )
    assert asked["locate"].reply == boxes.words_of_box(samples.true_box(family_example.RUNNING))
    pair = asked["pair"]
    assert pair.given == (
        "a large green ring left of a small red star on a gray background",
    ) and pair.expected == (
        "gray",
        "left of",
        (("large", "green", "ring"), ("small", "red", "star")),
    )
    assert not is_held_out(family_example.RUNNING_PAIR)
    assert not is_held_out(family_example.RUNNING) and not any(
        is_held_out(scene) for scene in asked["edit"].scenes
    )
    back = family_example.of_png(family_example.as_png(asked["paint"].reply))
    assert torch.equal(to_tensor([back]), to_tensor([asked["paint"].reply]))
    system = build("dreamllm")
    replies = family_example.example_of(system)
    assert (
        set(replies) == set(system.kinds)
        and isinstance(replies["caption"], str)
        and family_example.of_png(replies["edit"]).size == (toy.IMAGE_SIZE, toy.IMAGE_SIZE)
    )
    seeds = [
        {"seed": seed, "example": {**replies, "caption": said, "paint": None}}
        for seed, said in ((3, "one"), (4, "two"), (5, "one"))
    ]
    assert (
        family_example.replies_of(seeds, "paint") == [None] * 3
        and family_example.replies_of(seeds, "locate") == []
        and family_example.replies_of(seeds, "edit")[2].size == (toy.IMAGE_SIZE, toy.IMAGE_SIZE)
    )
    assert "| a | one / two |" in family_example.table_of_replies({"a": seeds}, ("caption",)).data
    assert [
        axis.get_title() for axis in family_example.plot_replies({"a": seeds}, "edit").axes
    ] == ["given", "asked for", "seed 3", "seed 4", "seed 5"]
    assert len(family_example.plot_replies({"a": seeds, "b": seeds}, "paint").axes) == 2 * 4
